"""The verdict as a Markdown page for the operator.

Examples are shown as they lie in the dataset, personal data replaced by placeholders, inside code
fences that their own text cannot close. Knows nothing about how the figures were made.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from hermes_apprentice.domain.dataset import Dataset, Split
from hermes_apprentice.domain.evaluation import Interval, Outcome, Scores, Verdict
from hermes_apprentice.domain.shape import Kind
from hermes_apprentice.errors import EvaluationError
from hermes_apprentice.storage.files import write_atomically
from hermes_apprentice.validator.evaluate import Row
from hermes_apprentice.validator.risk_coverage import as_lines, risk_coverage

MAX_FAILURES = 20
MAX_CHARS = 600

_NEXT = {
    Outcome.PASSED: "It is signed next, and starts in shadow: it answers nobody until it has "
    "agreed with the upstream on live requests.",
    Outcome.REJECTED: "It is not registered. Look at the failures below: answers that contradict "
    "each other, or depend on what is not in the request, cannot be learned.",
    Outcome.INCONCLUSIVE: "It is not registered. It is trained again when more examples have come "
    "in.",
}


def write_report(
    path: Path,
    slug: str,
    kind: Kind,
    dataset: Dataset,
    verdict: Verdict,
    rows: Sequence[Row] = (),
) -> None:
    """Write the report of a verdict.

    Raises:
        EvaluationError: The disk refused to write.
    """
    try:
        write_atomically(path, render_report(slug, kind, dataset, verdict, rows).encode())
    except OSError as exc:
        raise EvaluationError(f"the report {path} could not be written: {exc}") from exc


def render_report(
    slug: str, kind: Kind, dataset: Dataset, verdict: Verdict, rows: Sequence[Row] = ()
) -> str:
    """Return the report as Markdown.

    Args:
        slug: The specialist.
        kind: What was trained.
        dataset: What it was trained and judged on.
        verdict: The gate's answer.
        rows: The judged rows; those that disagree are shown.
    """
    sizes = ", ".join(f"{len(dataset.of(split))} {split}" for split in Split)
    parts = [
        f"# {slug}: {verdict.outcome}",
        f"A {kind} for {dataset.shape.kind} answers. Dataset {dataset.dataset_id}: {sizes}.",
        "## Why",
        "\n".join(f"- {reason}" for reason in verdict.reasons),
        "## What happens next",
        _NEXT[verdict.outcome],
    ]
    if verdict.scores is not None:
        parts += ["## Scores", _table(verdict.scores, verdict.threshold)]
    if rows:
        lines = as_lines(risk_coverage(rows, verdict.threshold))
        parts += ["## What abstaining buys", f"```\n{lines}\n```"]
    parts += _failures(rows, verdict.threshold)
    return "\n\n".join(parts) + "\n"


def _table(scores: Scores, threshold: float) -> str:
    gain = scores.f1_gain
    rows = [
        ("Examples judged", str(scores.examples)),
        ("Agreement, all answers", _interval(scores.agreement)),
        ("Agreement, sure answers", _interval(scores.selective_agreement)),
        ("Coverage", f"{scores.coverage:.1%}"),
        ("Confidence threshold", f"{threshold:.3f}"),
        ("F1", f"{scores.f1:.3f}"),
        (f"F1 of {scores.baseline}", f"{scores.baseline_f1:.3f}"),
        *((f"F1 of {name}", f"{value:.3f}") for name, value in scores.others),
        *((("ROUGE-L", f"{scores.rouge_l:.3f}"),) if scores.rouge_l is not None else ()),
        ("Gain in F1", f"{gain.value:+.3f} ({gain.low:+.3f} to {gain.high:+.3f})"),
        ("Answers of the wrong shape", f"{scores.invalid:.1%}"),
        ("Median time of an answer", f"{scores.latency_p50_ms:.1f} ms"),
        ("Size", f"{scores.size_bytes / 1e6:.2f} MB"),
        ("Test digest", f"`{scores.test_digest[:16]}`"),
    ]
    lines = ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)]
    return "\n".join(lines) + "\n\nIntervals hold with 95 % confidence."


def _interval(interval: Interval) -> str:
    return f"{interval.value:.1%} ({interval.low:.1%} to {interval.high:.1%})"


def _failures(rows: Sequence[Row], threshold: float) -> list[str]:
    """Show disagreements, the surest first: those are the ones that would reach the user."""
    wrong = sorted((row for row in rows if not row.agrees), key=lambda row: -row.confidence)
    if not wrong:
        return []
    parts = ["## Disagreements", f"{len(wrong)} of {len(rows)}; the surest come first."]
    for number, row in enumerate(wrong[:MAX_FAILURES], 1):
        fate = "would be answered" if row.confidence >= threshold else "goes to the upstream"
        if row.text is None:
            fate = "no valid answer, goes to the upstream"
        parts += [
            f"### {number}. Confidence {row.confidence:.2f}: {fate}",
            "Request",
            _fenced(row.example.request),
            "Upstream",
            _fenced(row.example.answer),
            "Specialist",
            _fenced(row.text or ""),
        ]
    return parts


def _fenced(text: str) -> str:
    shown = text if len(text) <= MAX_CHARS else f"{text[:MAX_CHARS]} [...]"
    longest = max((len(run) for run in re.findall(r"`+", shown)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{shown}\n{fence}"
