"""The training child process: ``python -m hermes_apprentice.trainer.worker JOB.json``.

Reads a `TrainingJob`, tells its progress as JSON lines on standard output, and
leaves ``artefact/``, ``out_of_fold.jsonl`` and ``result.json`` in the output
folder. ``result.json`` is written last: where it is, everything is.
"""

from __future__ import annotations

import errno
import json
import sys
import time
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from hermes_apprentice.domain.dataset import Example
from hermes_apprentice.domain.shape import Kind
from hermes_apprentice.domain.training import Method, TrainingJob, TrainingResult
from hermes_apprentice.errors import ApprenticeError, TrainingError
from hermes_apprentice.storage.files import new_folder, write_atomically
from hermes_apprentice.storage.parentage import die_with_parent
from hermes_apprentice.trainer.budget import Budget
from hermes_apprentice.trainer.trained import Trained, part_of

ARTEFACT_DIR = "artefact"
HELD_OUT_FILE = "out_of_fold.jsonl"
RESULT_FILE = "result.json"

RESULT = TypeAdapter(TrainingResult)
JOB = TypeAdapter(TrainingJob)

_THREADS = 2
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def run(job: TrainingJob) -> TrainingResult:
    """Do the job in this process.

    Raises:
        TrainingError: It cannot be done, and why.
        ModelStoreError: The embedder is missing or damaged.
        MissingExtraError: Fine-tuning was asked for, without a training environment.
    """
    from hermes_apprentice.embedding.onnx_embedder import open_embedder
    from hermes_apprentice.embedding.store import ModelStore
    from hermes_apprentice.inference.artefact import Artefact, write_artefact
    from hermes_apprentice.trainer.examples import read_training_data
    from hermes_apprentice.trainer.finetuning import finetuner
    from hermes_apprentice.trainer.generator import finish, train_generator
    from hermes_apprentice.trainer.selection import check_enough, train

    started = time.monotonic()
    output = Path(job.output_dir)
    data = read_training_data(Path(job.dataset_dir))
    store = ModelStore(Path(job.models_dir))
    embedder = open_embedder(store, job.embedder or None, threads=_THREADS)
    finetune = None
    if job.kind is not Kind.GENERATOR and job.method in (Method.AUTO, Method.FINETUNED):
        finetune = finetuner(job, store, embedder.name)
    if job.kind is Kind.GENERATOR:
        check_enough(data.examples)
        trained = train_generator(job, data.examples, part_of(report, 0.0, 0.98))
    else:
        trained = train(
            job.kind,
            job.method,
            data.shape,
            data.examples,
            embedder,
            job.seed,
            report,
            finetune,
            drop_doubtful=job.drop_doubtful,
            budget=Budget(job.budget_seconds, time.thread_time),
        )
    result = TrainingResult(
        run_id=job.run_id,
        kind=job.kind,
        method=trained.method,
        embedder=embedder.digest,
        base=trained.recipe.get("base", embedder.name),
        recipe=_recipe(job, trained),
        seconds=time.monotonic() - started,
    )
    report(0.99, "writing the artefact")
    with new_folder(output / ARTEFACT_DIR) as folder:
        trained.model.save(folder)
        write_artefact(
            folder,
            Artefact(kind=job.kind, method=trained.method, embedder=embedder.digest),
        )
    if trained.held_out:  # a generator is not cross-fitted
        write_atomically(output / HELD_OUT_FILE, _held_out(data.examples, trained))
    write_atomically(output / RESULT_FILE, RESULT.dump_json(result, indent=1) + b"\n")
    finish(output)
    report(1.0, "done")
    return result


def report(share: float, doing: str) -> None:
    """Tell the parent process how far the work is."""
    print(json.dumps({"progress": round(share, 4), "doing": doing}), flush=True)


def _recipe(job: TrainingJob, trained: Trained) -> tuple[tuple[str, str], ...]:
    settings = {
        **trained.recipe,
        **{f"cv.{name}": f"{value:.4f}" for name, value in trained.scores.items()},
        "seed": str(job.seed),
    }
    return tuple(sorted(settings.items()))


def _held_out(examples: tuple[Example, ...], trained: Trained) -> bytes:
    lines = [
        json.dumps(
            {
                "example_id": example.example_id,
                "text": prediction.text,
                "confidence": prediction.confidence,
            },
            ensure_ascii=True,
        )
        for example, prediction in zip(examples, trained.held_out, strict=True)
    ]
    return "".join(f"{line}\n" for line in lines).encode()


def _cause(error: OSError | ValidationError | IndexError) -> str:
    if isinstance(error, OSError) and error.errno in _NO_ROOM:
        return f"there is no room to write in: {error}. Make some and train again"
    return f"the job cannot be read or written: {error}"


def main(arguments: list[str]) -> int:
    """Run the job named on the command line; errors go to standard error, one line."""
    try:
        job = JOB.validate_json(Path(arguments[0]).read_bytes())
        if len(arguments) > 1:
            die_with_parent(int(arguments[1]))
        run(job)
    except (ApprenticeError, MemoryError) as error:
        print(json.dumps({"error": str(error), "kind": type(error).__name__}), flush=True)
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        return 1
    except (OSError, ValidationError, IndexError) as error:
        problem = TrainingError(_cause(error))
        print(json.dumps({"error": str(problem), "kind": "TrainingError"}), flush=True)
        print(problem, file=sys.stderr, flush=True)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
