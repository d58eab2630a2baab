"""What the router may ask of a loaded specialist, whatever its kind."""

from __future__ import annotations

from typing import Protocol

from hermes_apprentice.domain.specialist import Abstain, Answer
from hermes_apprentice.embedding.base import Encoding


class Runtime(Protocol):
    """One loaded version of a specialist."""

    async def answer(self, request: str, encoding: Encoding | None = None) -> Answer | Abstain:
        """Answer one request, or abstain; never raises for a request.

        Args:
            request: What the user typed.
            encoding: What the embedder saw in the same text, if the caller has it already.
        """
        ...

    def close(self) -> None:
        """Give back threads and memory, once the requests that are being answered are done."""
        ...
