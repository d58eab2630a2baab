"""What the store of exchanges takes and gives. Values only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from hermes_apprentice.domain.exchange import Exchange

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredExchange:
    """An exchange and the rows of Hermes' database that it was last seen in."""

    exchange: Exchange
    """What was said."""

    user_row: int
    """Row of the request; 0 once Hermes has dropped it and kept the session."""

    answer_row: int | None
    """Row of the final answer; ``None`` while there is none."""


class RowReference(NamedTuple):
    """Where a stored exchange was last seen in Hermes' database, without its text."""

    session_id: str
    """Hermes' session."""

    user_row: int
    """As in ``StoredExchange``."""

    answer_row: int | None
    """As in ``StoredExchange``."""

    withdrawn: bool
    """Whether the user is known to have taken it back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """How far one profile has been read."""

    last_row: int = 0
    """Every row of Hermes up to this one has been read."""

    details: dict[str, object]
    """The observer's notes; plain JSON."""


class ExchangeCounts(NamedTuple):
    """What is stored, for reports."""

    total: int
    """All exchanges."""

    eligible: int
    """Those that may become training data; the corrected ones among them are left out later."""

    corrected: int
    """Those the user corrected or repeated."""

    ineligible: dict[str, int]
    """The others by reason, most frequent first."""

    sources: dict[str, int]
    """All exchanges by source, most frequent first."""

    sessions: int
    """Sessions they come from."""

    first_asked_at: float | None
    """Unix time of the earliest request, ``None`` when nothing is stored."""

    last_asked_at: float | None
    """Unix time of the latest."""


class Embeddings(NamedTuple):
    """Vectors with the exchanges they belong to."""

    exchange_ids: tuple[str, ...]
    """One per row of ``vectors``."""

    vectors: npt.NDArray[np.float32]
    """Shape (exchanges, dimensions)."""
