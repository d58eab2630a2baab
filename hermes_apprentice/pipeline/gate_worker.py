"""The gate's child process: ``python -m hermes_apprentice.pipeline.gate_worker GATE.json``.

Loads an artefact from the disk as the sidecar would, lets it answer the frozen test split, and
leaves the figures, the report and ``verdict.json`` in the training's output folder, each whole or
not at all. ``verdict.json`` is written last: where it is,
everything is. Writes nothing else; what becomes of the specialist is decided by who started it.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from hermes_apprentice.dataset.reader import read_dataset
from hermes_apprentice.domain.evaluation import Verdict
from hermes_apprentice.errors import ApprenticeError, EvaluationError
from hermes_apprentice.pipeline.generators import open_for_gate
from hermes_apprentice.pipeline.judging import VERDICT, VERDICT_FILE, Order
from hermes_apprentice.pipeline.past import contender
from hermes_apprentice.pipeline.text_judging import open_judging
from hermes_apprentice.pipeline.workshop import Workshop
from hermes_apprentice.serving.guard import SERVED_BY
from hermes_apprentice.settings import with_keys
from hermes_apprentice.storage.database import Database
from hermes_apprentice.storage.files import write_atomically
from hermes_apprentice.storage.parentage import die_with_parent
from hermes_apprentice.validator.gate import Check
from hermes_apprentice.validator.regression import Contender, regress, with_checks
from hermes_apprentice.validator.report import write_report
from hermes_apprentice.validator.risk_coverage import Curve, as_svg, risk_coverage
from hermes_apprentice.validator.validation import examine

REPORT_FILE = "verdict.md"
CURVE_FILE = "risk_coverage.json"
DRAWING_FILE = "risk_coverage.svg"

_CURVE = TypeAdapter(Curve)


def run(order: Order) -> Verdict:
    """Judge an artefact in this process.

    Raises:
        ApprenticeError: It cannot be loaded or judged; there is no verdict.
    """
    report(0.0, "loading")
    settings = with_keys(order.settings)
    with Database(settings.database_path) as database:
        shop = Workshop(settings, database)
        folder = shop.run_dir(order.run_id)
        output = folder / str(order.kind)
        dataset = read_dataset(folder / "dataset")
        artefact = output / "artefact"
        with (
            open_for_gate(shop, order.kind, artefact, dataset) as judged,
            open_judging(shop, order.slug, dataset) as judging,
        ):
            report(0.2, "answering the test")
            verdict, rows = examine(
                dataset,
                judged.answer_many,
                output / "out_of_fold.jsonl",
                shop.settings.gate,
                size_bytes=sum(file.stat().st_size for file in artefact.rglob("*")),
                seed=shop.settings.trainer.seed,
                rival=judged.rival,
                embed=shop.embedder.embed,
                served_by=judged.served_by,
                review=judging.judge.review if judging else None,
            )
            if judging:
                verdict = replace(verdict, reasons=(*verdict.reasons, judging.in_words()))
            if order.parents:
                report(0.7, "answering the tests of the parents")
                new = Contender(
                    name=order.slug,
                    dataset=dataset,
                    answer_many=judged.answer_many,
                    out_of_fold=output / "out_of_fold.jsonl",
                    threshold=verdict.threshold,
                )
                verdict = with_checks(verdict, _against_parents(shop, new, order.parents))
    report(0.9, "writing the report")
    if judged.served_by:
        write_atomically(output / SERVED_BY, judged.served_by.encode())
    curve = risk_coverage(rows, verdict.threshold)
    write_atomically(output / CURVE_FILE, _CURVE.dump_json(curve, indent=1))
    write_atomically(output / DRAWING_FILE, as_svg(curve, order.slug).encode())
    write_report(output / REPORT_FILE, order.slug, order.kind, dataset, verdict, rows)
    write_atomically(output / VERDICT_FILE, VERDICT.dump_json(verdict, indent=1))
    report(1.0, "done")
    return verdict


def report(share: float, doing: str) -> None:
    """Tell the parent process how far the work is."""
    print(json.dumps({"progress": share, "doing": doing}), flush=True)


def _against_parents(
    shop: Workshop, new: Contender, parents: tuple[tuple[str, int], ...]
) -> list[Check]:
    """Let a merged specialist answer what each parent was tested on."""
    checks = []
    for slug, version in parents:
        with contender(shop, slug, version) as old:
            checks += regress(new, old, shop.settings.gate)
    return checks


def main(arguments: list[str]) -> int:
    """Carry out the order named on the command line; errors go to standard error, one line."""
    try:
        order = Order.model_validate_json(Path(arguments[0]).read_bytes())
        if len(arguments) > 1:
            die_with_parent(int(arguments[1]))
        run(order)
    except (ApprenticeError, MemoryError) as error:
        return _fail(error)
    except (OSError, ValidationError, IndexError) as error:
        return _fail(EvaluationError(f"the order cannot be read, or the disk refused: {error}"))
    return 0


def _fail(error: BaseException) -> int:
    words = str(error) or "there is not enough memory"
    print(json.dumps({"error": words, "kind": type(error).__name__}), flush=True)
    print(f"{type(error).__name__}: {words}", file=sys.stderr, flush=True)
    return 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
