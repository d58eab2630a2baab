"""What a terminal of 80 columns shows: whole words, and data as it is."""

from __future__ import annotations

import subprocess
import sys

import pytest

from hermes_apprentice.terminal import print_findings, print_table


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def test_a_table_that_fits_breaks_lines_between_words_only(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_table("Things", ("name", "what"), [("ticket-label-support", "some words " * 12)])
    shown = capsys.readouterr().out
    assert "ticket-label-support" in shown
    assert all(len(line) <= 80 for line in shown.splitlines())
    assert set("".join(c if c.isalpha() else " " for c in shown).split()) == {
        *("Things", "name", "what", "ticket", "label", "support", "some", "words")
    }


def test_a_table_that_is_too_wide_becomes_a_list_with_whole_words(
    capsys: pytest.CaptureFixture[str],
) -> None:
    columns = ("name", *(f"property {number}" for number in range(9)))
    print_table("Things", columns, [("ticket-label-support", *(["registered"] * 8), "")])
    shown = capsys.readouterr().out.splitlines()
    assert "ticket-label-support" in shown
    assert "  property 7  registered" in shown
    assert not any("property 8" in line for line in shown)  # nothing to say


def test_what_looks_like_markup_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    print_table("[bold]", ("[red]",), [("[budget] a = [/x] :smile:",)])
    shown = capsys.readouterr().out
    assert "[bold]" in shown and "[red]" in shown and "[budget] a = [/x] :smile:" in shown


def test_a_finding_keeps_long_paths_whole_and_names_the_section(
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = "/home/somebody/" + "folder/" * 12 + "settings.toml"
    print_findings([("missing", "budget", "none", f"in {path}: [budget] monthly_dollars = 10")])
    shown = capsys.readouterr().out
    assert path in shown and "[budget] monthly_dollars" in " ".join(shown.split())


def test_a_command_starts_without_the_libraries_that_only_training_needs() -> None:
    """They take longer to load than everything else together."""
    script = (
        "import sys, hermes_apprentice.interfaces.cli.main\n"
        "print([name for name in ('scipy', 'sklearn', 'datasketch', 'onnx', 'onnxruntime', "
        "'presidio_analyzer', 'mcp', 'torch') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert (done.stdout.strip(), done.stderr) == ("[]", "")
