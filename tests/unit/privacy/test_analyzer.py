from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import spacy
from hypothesis import given, settings
from hypothesis import strategies as st

from hermes_apprentice.errors import RedactionError
from hermes_apprentice.privacy.analyzer import LONGEST_TEXT, Analyzer, installed_model
from hermes_apprentice.privacy.kinds import LANGUAGE_KINDS, PATTERN_KINDS, Kind

ANALYZER = Analyzer()


def _kinds(text: str, analyzer: Analyzer = ANALYZER) -> list[str]:
    return [str(f.kind) for f in analyzer.find(text)]


FRAGMENTS = st.one_of(
    st.sampled_from(
        [
            "pia@laden.test", "https://example.test/a?b=1", "203.0.113.77", "+49 30 901820",
            "668 5702", "4155552671", "219-09-9998", "X1234567", "4111 1111 1111 1111",
            "4006381333932", "1984-03-03", "DE89 3704 0044 0532 0130 00",
            "DE11 3704 0044 0532 0130 00", "12 Maple Street", "7 Garden Place", "phone", "call",
            "card", "ssn", "passport", "born", "address", "iban", "order", "SKU", "KX-4821-B",
            ":", "\\n", "\n", " ", "-", ",", '"', "{", "}", "is", "my", "the", "\u00e9",
            "\U0001f600", "\u0130",
        ]
    ),
    st.text(max_size=6),
)  # fmt: skip


@settings(deadline=None, max_examples=500)
@given(st.lists(FRAGMENTS, max_size=14), st.sampled_from(["", " "]))
def test_the_quick_way_finds_exactly_what_presidio_finds(parts: list[str], gap: str) -> None:
    text = gap.join(parts)
    quick = [(f.kind, f.start, f.end) for f in ANALYZER.find(text)]
    thorough = [(f.kind, f.start, f.end) for f in ANALYZER.find_thoroughly(text)]
    assert quick == thorough


WORDS = st.sampled_from(
    ["passport", "call", "Phone", "order", "is", "my", "the", "Born", "card", "_", "(", "+", "#",
     "home", "\u0130", "X1234567", "4155552671", "7 Garden Place", "1984-03-03", "219-09-9998"]
)  # fmt: skip


@settings(deadline=None, max_examples=500)
@given(st.lists(WORDS, min_size=3, max_size=12), st.sampled_from(["", " ", ": ", "_"]))
def test_weak_matches_are_weighed_exactly_as_by_presidio(parts: list[str], gap: str) -> None:
    text = gap.join(["my", *parts, "passport X1234567"])
    assert ANALYZER.find(text) == ANALYZER.find_thoroughly(text)


@pytest.mark.parametrize(
    ("with_context", "without"),
    [
        ("my passport is X1234567", "my parcel is X1234567"),
        ("the SSN: 219-09-9998", "the box: 219-09-9998"),
        ("she was born 1984-03-03", "it was sent 1984-03-03"),
        ("my home is 7 Garden Place", "we bought 7 Garden Place"),
        ("Call me: 4155552671", "Send me: 4155552671"),
        ('{"passport_no":"X1234567"}', '{"parcel_no":"X1234567"}'),
    ],
)
def test_weak_forms_count_only_beside_a_word_that_explains_them(
    with_context: str, without: str
) -> None:
    assert len(_kinds(with_context)) == 1
    assert _kinds(without) == []


def test_a_context_word_too_far_away_explains_nothing() -> None:
    far = "passport checks took long today near every large northern harbour gate X1234567"
    assert _kinds(far) == []


def test_kinds_that_need_a_language_model_are_reported_as_not_covered() -> None:
    assert ANALYZER.not_covered == LANGUAGE_KINDS
    assert ANALYZER.kinds == PATTERN_KINDS
    assert _kinds("Nora Brandt lives in Kiel") == []


def test_only_the_wanted_kinds_are_looked_for() -> None:
    text = "pia@laden.test, born 1984-03-03"
    mails = Analyzer(kinds=[Kind.EMAIL])
    assert _kinds(text, mails) == ["EMAIL"]
    assert mails.not_covered == ()
    nothing = Analyzer(kinds=[])
    assert nothing.find(text) == nothing.find_thoroughly(text) == ()


def test_a_text_that_is_too_long_is_refused_without_quoting_it() -> None:
    with pytest.raises(RedactionError, match="longer than") as caught:
        ANALYZER.find("pia@laden.test" * (LONGEST_TEXT // 10))
    assert "pia" not in str(caught.value)


OFFLINE = """
import sys
events = []
def hook(event, args):
    if event.startswith("socket."):
        raise RuntimeError("network: " + event)
    if event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+"):
        raise RuntimeError("written: " + str(args[0]))
sys.addaudithook(hook)
from hermes_apprentice.privacy.analyzer import Analyzer
assert not {"presidio_analyzer", "spacy", "phonenumbers"} & set(sys.modules), "import is not cheap"
a = Analyzer()
a.find("plain words")
a.load()
a.find("my passport is X1234567, call 4155552671")
assert not {"presidio_analyzer", "spacy"} & set(sys.modules), "loaded without need"
for text in ("pia@laden.test www.example.co.uk", "my passport is X1234567 or pia@laden.test"):
    assert a.find_thoroughly(text) == a.find(text) != ()
"""


def test_nothing_is_loaded_early_fetched_or_written(tmp_path: Path) -> None:
    environment = {**os.environ, "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-B", "-c", OFFLINE],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []


def _install_model(folder: Path, loads: str) -> None:
    """Put a tiny spaCy model package where Python finds it, as pip would."""
    package = folder / "en_core_web_sm"
    package.mkdir()
    (package / "__init__.py").write_text(loads)
    info = folder / "en_core_web_sm-3.8.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: en_core_web_sm\nVersion: 3.8.0\n")


@pytest.fixture
def model_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "en_core_web_sm", raising=False)
    return tmp_path


def test_an_installed_language_model_adds_its_kinds(model_folder: Path) -> None:
    pipeline = spacy.blank("en")
    ruler = pipeline.add_pipe("entity_ruler")
    ruler.add_patterns(
        [
            {"label": "PERSON", "pattern": "Nora Brandt"},
            {"label": "GPE", "pattern": "Kiel"},
            {"label": "ORG", "pattern": "Werk Nord"},
            {"label": "CARDINAL", "pattern": "twelve"},
        ]
    )
    pipeline.to_disk(model_folder / "data")
    _install_model(
        model_folder,
        "import spacy, pathlib\n"
        "def load(**options):\n"
        "    return spacy.load(pathlib.Path(__file__).parent.parent / 'data', **options)\n",
    )
    assert installed_model() == "en_core_web_sm"
    analyzer = Analyzer(model=installed_model())
    assert analyzer.not_covered == ()
    assert analyzer.model_version == "3.8.0"
    text = "Nora Brandt of Werk Nord wants twelve in Kiel, nora@werk-nord.test"
    found = [(str(f.kind), text[f.start : f.end]) for f in analyzer.find(text)]
    assert found == [
        ("PERSON", "Nora Brandt"),
        ("ORGANISATION", "Werk Nord"),
        ("PLACE", "Kiel"),
        ("EMAIL", "nora@werk-nord.test"),
    ]


def test_a_broken_language_model_stops_redaction_with_advice(model_folder: Path) -> None:
    _install_model(model_folder, "def load(**options):\n    raise OSError('no file meta.json')\n")
    with pytest.raises(RedactionError, match="install it again"):
        Analyzer(model="en_core_web_sm").find("Nora Brandt")


def test_a_failing_analysis_fails_closed_and_its_message_hides_the_text(
    model_folder: Path,
) -> None:
    _install_model(
        model_folder,
        "def load(**options):\n"
        "    def pipeline(text):\n"
        "        raise ValueError('cannot read ' + text)\n"
        "    return pipeline\n",
    )
    with pytest.raises(RedactionError) as caught:
        Analyzer(model="en_core_web_sm").find("Nora Brandt")
    assert "Nora" not in str(caught.value)
    assert caught.value.__suppress_context__
