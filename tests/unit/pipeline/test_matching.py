"""When a new matcher is called for."""

from __future__ import annotations

from typing import Any

import pytest

from hermes_apprentice.embedding.views import RECIPE
from hermes_apprentice.pipeline.matching import changed

NOW: dict[str, Any] = {
    "embedder": "e" * 64,
    "vector": RECIPE,
    "method": "ridge-1",
    "filter": "words-1",
    "specialists": {"label-ticket": 2},
    "false_route_rate": 0.005,
    "requests": 1_000,
}


@pytest.mark.parametrize(
    "old",
    [
        {},
        {**NOW, "embedder": "f" * 64},
        {**NOW, "vector": "whole-head16-tail16"},
        {**NOW, "method": "ridge-0"},
        {**NOW, "filter": "words-0"},
        {**NOW, "specialists": {"label-ticket": 1}},
        {**NOW, "specialists": {"label-ticket": 2, "order-json": 1}},
        {**NOW, "false_route_rate": 0.01},
        {**NOW, "requests": 800},
        {name: value for name, value in NOW.items() if name != "filter"},
    ],
)
def test_another_registry_other_traffic_or_another_way_calls_for_a_new_one(
    old: dict[str, Any],
) -> None:
    assert changed(old, NOW)


def test_the_same_state_and_a_little_more_traffic_do_not() -> None:
    assert not changed({**NOW, "background": 900, "words": {"lost": 1}}, NOW)
    assert not changed({**NOW, "requests": 900}, NOW)
