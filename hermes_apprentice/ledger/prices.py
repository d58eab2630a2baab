"""The price table: dated prices with their source, the operator's own first.

A model without a price has no cost and no savings, and reports say so; nothing
is guessed. Amounts become integer micro-dollars here and stay so.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hermes_apprentice.domain.money import MICRO, Price, Usage, cost
from hermes_apprentice.errors import ConfigError

_SHIPPED = Path(__file__).with_name("prices.toml")


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid")

    input: Decimal = Field(ge=0)
    cached_input: Decimal | None = Field(default=None, ge=0)
    output: Decimal = Field(ge=0)
    source: str
    as_of: str = Field(pattern=r"^\d{4}-\d{2}-\d{2}$")


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    models: dict[str, _Entry] = {}


class PriceTable:
    """Prices by model name."""

    def __init__(self, prices: Mapping[str, Price]) -> None:
        self._prices = {name.lower(): price for name, price in prices.items()}
        self._by_short_name = {
            name.rpartition("/")[2]: price for name, price in self._prices.items()
        }

    def price_of(self, model: str) -> Price | None:
        """Return the price of a model, by its full name or the part after the slash."""
        name = model.lower()
        return self._prices.get(name) or self._by_short_name.get(name.rpartition("/")[2])

    def cost_of(self, model: str, prompt_tokens: int, completion_tokens: int) -> int | None:
        """Return what an uncached call costs in micro-dollars, or ``None`` without a price."""
        price = self.price_of(model)
        if price is None:
            return None
        return cost(Usage(prompt_tokens=prompt_tokens, completion_tokens=completion_tokens), price)


def load_prices(own: Path | None = None) -> PriceTable:
    """Read the shipped table, and the operator's own file on top of it if there is one.

    Raises:
        ConfigError: The operator's file is malformed.
    """
    prices = _read(_SHIPPED)
    if own is not None and own.exists():
        prices |= _read(own)
    return PriceTable(prices)


def _read(path: Path) -> dict[str, Price]:
    try:
        parsed = _File.model_validate(
            tomllib.loads(path.read_text(encoding="utf-8"), parse_float=Decimal)
        )
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}.") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"{path}: {place}: {first['msg']}.") from error
    return {
        name: Price(
            model=name,
            input=_micro(entry.input),
            # Without a cached price, cached tokens are taken at the full one.
            cached_input=_micro(entry.input if entry.cached_input is None else entry.cached_input),
            output=_micro(entry.output),
            source=entry.source,
            as_of=entry.as_of,
        )
        for name, entry in parsed.models.items()
    }


def _micro(dollars: Decimal) -> int:
    return int((dollars * MICRO).to_integral_value(ROUND_HALF_UP))
