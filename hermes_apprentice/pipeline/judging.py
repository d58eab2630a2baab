"""Let the gate judge an artefact in a process of its own, so that what was trained cannot help it.

The process starts with nothing but the files on the disk. It may be killed at any moment: then
there is no verdict, and the gate is run again.
"""

from __future__ import annotations

import os
import sys

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from hermes_apprentice.domain.evaluation import Verdict
from hermes_apprentice.domain.merge import Merge
from hermes_apprentice.domain.shape import Kind
from hermes_apprentice.domain.specialist import Specialist
from hermes_apprentice.errors import EvaluationError
from hermes_apprentice.pipeline.workshop import Workshop
from hermes_apprentice.settings import KEYS, Settings, child_environment
from hermes_apprentice.storage.files import write_atomically
from hermes_apprentice.trainer.child import Ended, as_error, run_child, tail_of

VERDICT = TypeAdapter(Verdict)
VERDICT_FILE = "verdict.json"
ORDER_FILE = "gate.json"
GATE_LOG = "gate.log"

ATTEMPTS = 2
"""A gate that was killed from outside is run once more before that counts as a failure."""


class Order(BaseModel):
    """What is to be judged."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    slug: str
    """The specialist."""

    kind: Kind
    """What was trained."""

    run_id: str
    """The run that it was trained in."""

    parents: tuple[tuple[str, int], ...]
    """Versions that a merged specialist must be no worse than: names and numbers."""

    settings: Settings
    """Without any key: those are never written to a file; the child reads its environment."""


def judge(shop: Workshop, specialist: Specialist, merge: Merge | None) -> Verdict:
    """Return the gate's verdict on what a specialist's run has trained.

    Reports and curve lie beside the artefact afterwards.

    Args:
        shop: Settings and folders.
        specialist: After its training.
        merge: What it is merged from, if it is.

    Raises:
        EvaluationError: The process crashed, was killed twice or took too long; no verdict.
        ApprenticeError: It could not judge; the error is the child's own.
    """
    output = shop.run_dir(specialist.run_id) / str(specialist.kind)
    parents = (merge.left, merge.right) if merge is not None else ()
    order = Order(
        slug=specialist.slug,
        kind=specialist.kind,
        run_id=specialist.run_id,
        parents=tuple((one.slug, one.version) for one in parents),
        settings=shop.settings,
    )
    (output / VERDICT_FILE).unlink(missing_ok=True)  # of an attempt that was interrupted later
    body = order.model_dump_json(exclude={"settings": KEYS}, indent=1)
    write_atomically(output / ORDER_FILE, body.encode())
    for _ in range(ATTEMPTS):
        ended = _run(shop, specialist)
        if ended.status >= 0 or ended.early:
            break
    log = output / GATE_LOG
    if ended.problem is not None:
        raise as_error(ended.problem, EvaluationError)
    if ended.early:
        raise EvaluationError(f"the gate was stopped: {ended.early}. Log: {log}")
    if ended.status < 0:
        raise EvaluationError(
            f"the gate's process was killed by signal {-ended.status}, {ATTEMPTS} times; the "
            f"machine may be short of memory. To judge it again: apprentice jobs resume "
            f"{specialist.slug}"
        )
    if ended.status != 0:
        raise EvaluationError(f"the gate ended with status {ended.status}: {tail_of(log)}")
    try:
        return VERDICT.validate_json((output / VERDICT_FILE).read_bytes())
    except (OSError, ValidationError) as exc:
        raise EvaluationError(f"the gate left no verdict: {tail_of(log)}") from exc


def _run(shop: Workshop, specialist: Specialist) -> Ended:
    output = shop.run_dir(specialist.run_id) / str(specialist.kind)
    command = [
        sys.executable,
        "-m",
        "hermes_apprentice.pipeline.gate_worker",
        str(output / ORDER_FILE),
        str(os.getpid()),
    ]
    return run_child(
        command,
        child_environment(),
        output / GATE_LOG,
        lambda share, doing: shop.progress(f"judging {specialist.slug}: {doing}", share),
        shop.settings.gate.timeout_seconds,
    )
