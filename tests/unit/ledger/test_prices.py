"""The price table."""

from __future__ import annotations

from pathlib import Path

import pytest

from hermes_apprentice.errors import ConfigError
from hermes_apprentice.ledger.prices import load_prices


def test_every_shipped_price_has_a_source_and_a_day() -> None:
    price = load_prices().price_of("anthropic/claude-sonnet-4.6")
    assert price is not None
    assert (price.input, price.cached_input, price.output) == (3_000_000, 300_000, 15_000_000)
    assert price.source
    assert price.as_of == "2026-06-10"


def test_a_model_is_found_without_its_provider() -> None:
    table = load_prices()
    assert table.price_of("Claude-Sonnet-4.6") == table.price_of("anthropic/claude-sonnet-4.6")


def test_an_unknown_model_has_no_price_and_no_cost() -> None:
    table = load_prices()
    assert table.price_of("nobody/unknown") is None
    assert table.cost_of("nobody/unknown", 1_000, 10) is None


def test_the_operators_own_price_wins(tmp_path: Path) -> None:
    own = tmp_path / "prices.toml"
    own.write_text(
        '[models."anthropic/claude-sonnet-4.6"]\n'
        'input = 1.5\noutput = 2\nsource = "contract"\nas_of = "2026-11-01"\n'
    )
    price = load_prices(own).price_of("claude-sonnet-4.6")
    assert price is not None
    assert (price.input, price.cached_input, price.output) == (1_500_000, 1_500_000, 2_000_000)


@pytest.mark.parametrize(
    "text",
    [
        "not toml [",
        '[models."x"]\ninput = -1\noutput = 1\nsource = "s"\nas_of = "2026-01-01"\n',
        '[models."x"]\ninput = 1\noutput = 1\nas_of = "2026-01-01"\n',
    ],
)
def test_a_malformed_price_file_names_itself(tmp_path: Path, text: str) -> None:
    own = tmp_path / "prices.toml"
    own.write_text(text)
    with pytest.raises(ConfigError, match=r"prices\.toml"):
        load_prices(own)
