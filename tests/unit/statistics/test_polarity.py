"""What must hold on the pairs of `benchmarks/polarity.py`."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from hermes_apprentice.embedding.base import Embedder

FILE = Path(__file__).parents[3] / "benchmarks" / "polarity.py"


@pytest.fixture(scope="module")
def polarity() -> Any:
    spec = importlib.util.spec_from_file_location("polarity_pairs", FILE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture(scope="module")
def found(polarity: ModuleType, embedder: Embedder) -> Any:
    return polarity.measure(embedder)


def test_a_hundred_pairs_none_of_which_was_learned_from(polarity: ModuleType) -> None:
    pairs = polarity.pairs()
    assert len(pairs) == 100
    assert len({(pair.request, pair.twist) for pair in pairs}) == 100
    assert all(pair.request != pair.twist for pair in pairs)


def test_requests_match_and_another_task_in_the_same_words_does_not(found: Any) -> None:
    assert found["untaught"]["request"] >= 0.9
    assert found["untaught"]["other_task"] <= 0.05


def test_a_twist_that_occurs_in_the_operators_traffic_is_turned_away(found: Any) -> None:
    for kind in ("negation", "direction", "other_task"):
        assert found["taught"][kind] <= 0.05


def test_another_number_is_the_same_task_once_it_was_seen(found: Any) -> None:
    assert found["taught"]["number"] >= 0.9


def test_the_traffic_teaches_what_meaning_alone_does_not(found: Any) -> None:
    """A reversed direction nobody ever asked for is matched: stated in the docs, not hidden."""
    assert found["untaught"]["direction"] > found["taught"]["direction"]
