"""The catalogue's entries are complete."""

from __future__ import annotations

import re

import pytest

from hermes_apprentice.embedding.catalogue import (
    BGE_SMALL,
    CATALOGUE,
    FETCH_ORDER,
    MINILM,
    TOKENIZER,
    WEIGHTS,
    Model,
    WheelSource,
    find_model,
)
from hermes_apprentice.errors import ModelStoreError


@pytest.mark.parametrize("model", CATALOGUE.values(), ids=lambda model: model.name)
def test_an_entry_is_complete(model: Model) -> None:
    assert {file.name for file in model.files} == {WEIGHTS, TOKENIZER}
    assert model.licence
    assert max(model.encoder.state_layers) <= model.encoder.layers
    assert model.dimension % model.encoder.heads == 0
    for file in model.files:
        assert file.sha256 is None or re.fullmatch("[0-9a-f]{64}", file.sha256)
        assert (file.sha256 is None) == (file.size is None)
    for source in model.sources:
        if isinstance(source, WheelSource):
            assert set(source.members) == {WEIGHTS, TOKENIZER}
            assert "==" in source.requirement
            assert model.pinned


def test_the_default_is_the_better_model_and_the_first_fetch_the_pinned_one() -> None:
    assert list(CATALOGUE) == [BGE_SMALL.name, MINILM.name]
    assert FETCH_ORDER == (MINILM.name, BGE_SMALL.name)
    assert (MINILM.pinned, BGE_SMALL.pinned) == (True, False)


def test_an_unknown_model_is_refused() -> None:
    assert find_model("all-MiniLM-L6-v2") is MINILM
    with pytest.raises(ModelStoreError, match="no embedding model is called 'bert'"):
        find_model("bert")
