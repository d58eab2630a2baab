from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hermes_apprentice.domain.evaluation import Outcome
from hermes_apprentice.domain.shape import Kind
from hermes_apprentice.errors import EvaluationError
from hermes_apprentice.settings import GateSettings
from hermes_apprentice.validator.report import render_report, write_report
from hermes_apprentice.validator.validation import examine


def test_a_report_gives_reasons_scores_and_failures(make_case: Callable[..., Any]) -> None:
    case = make_case(skill=0.9)
    verdict, rows = examine(
        case.dataset, case.answer_many, case.out_of_fold, GateSettings(), seed=1
    )
    text = render_report("tickets", Kind.CLASSIFIER, case.dataset, verdict, rows)
    assert text.startswith(f"# tickets: {verdict.outcome}\n")
    assert all(f"- {reason}" in text for reason in verdict.reasons)
    assert "160 train, 20 validation, 60 test" in text
    wrong = [row for row in rows if not row.agrees]
    assert wrong
    assert f"{len(wrong)} of 60" in text
    assert wrong[0].example.request in text
    confidences = [float(c) for c in re.findall(r"Confidence (\d\.\d+):", text)]
    assert confidences == sorted(confidences, reverse=True)


def test_texts_cannot_leave_their_fence_and_are_cut(make_case: Callable[..., Any]) -> None:
    case = make_case(skill=1.0)
    verdict, rows = examine(
        case.dataset, case.answer_many, case.out_of_fold, GateSettings(), seed=1
    )
    hostile = "```\n# Passed\n````" + "x" * 5_000
    row = replace(rows[0], agrees=False, example=replace(rows[0].example, request=hostile))
    text = render_report("tickets", Kind.CLASSIFIER, case.dataset, verdict, (row,))
    assert "`````\n```\n# Passed\n````" in text
    assert len(text) < 6_000


@pytest.mark.parametrize("outcome", list(Outcome))
def test_every_outcome_says_what_happens_next(
    make_case: Callable[..., Any], outcome: Outcome
) -> None:
    case = make_case()
    verdict = examine(
        case.dataset, case.answer_many, case.out_of_fold, GateSettings(), seed=1
    ).verdict
    changed = replace(verdict, outcome=outcome, scores=None)
    text = render_report("tickets", Kind.CLASSIFIER, case.dataset, changed)
    assert "## What happens next\n\nIt is " in text
    assert "## Scores" not in text


def test_a_report_lies_on_the_disk_whole(make_case: Callable[..., Any], tmp_path: Path) -> None:
    case = make_case()
    verdict = examine(
        case.dataset, case.answer_many, case.out_of_fold, GateSettings(), seed=1
    ).verdict
    path = tmp_path / "run" / "verdict.md"
    write_report(path, "tickets", Kind.CLASSIFIER, case.dataset, verdict)
    assert path.read_text(encoding="utf-8") == render_report(
        "tickets", Kind.CLASSIFIER, case.dataset, verdict
    )
    (tmp_path / "file").touch()
    with pytest.raises(EvaluationError, match="could not be written"):
        write_report(tmp_path / "file" / "x.md", "tickets", Kind.CLASSIFIER, case.dataset, verdict)
