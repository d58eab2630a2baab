"""A generator that answers through a `LocalHost`.

It looks like any other model to the runtime around it, which redacts, checks the shape and
abstains below the threshold. The gate's baseline, the bare base with examples, is asked through
the same host. Knows nothing about registries and stages.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from hermes_apprentice.domain.dataset import Example
from hermes_apprentice.domain.prompt import Message, PromptTemplate, render
from hermes_apprentice.embedding.base import Encoding
from hermes_apprentice.errors import ArtefactError
from hermes_apprentice.inference.base import Prediction
from hermes_apprentice.inference.generator import ADAPTER_DIR, GeneratorCard, confidence_of
from hermes_apprentice.serving.local_host import LocalHost, Said

_AT_ONCE = 16


class LocalGenerator:
    """One adapter, loaded and checked; a `CpuModel` to whoever asks it."""

    def __init__(self, host: LocalHost, name: str, card: GeneratorCard, folder: Path) -> None:
        """Load the adapter, and have it answer the one request whose answer is known.

        Args:
            host: Runs its base.
            name: Never used for another adapter.
            card: Of the artefact.
            folder: The artefact; must stay until `close`.

        Raises:
            ArtefactError: It cannot be loaded, or does not answer as it did after training.
        """
        self._host = host
        self._name = name
        self._card = card
        host.load(name, folder / ADAPTER_DIR)
        try:
            canary = self.predict([card.canary_request], None)[0]
            if canary.text != card.canary_answer:
                raise ArtefactError(
                    f"{name} does not answer as it did after its training, so its weights are not "
                    "the ones that were trained; train it again"
                )
        except ArtefactError:
            host.unload(name)
            raise

    @property
    def reads_encodings(self) -> bool:
        """It reads texts."""
        return False

    def predict(
        self, requests: Sequence[str], encodings: Sequence[Encoding] | None
    ) -> list[Prediction]:
        """Answer every request; an answer that was cut off is empty, and fits no shape."""
        said = ask(
            self._host,
            self._name,
            self._card,
            [render(self._card.prompt, request) for request in requests],
        )
        return [
            Prediction(one.text, confidence_of(one.chances)) if one.ended else Prediction("", 0.0)
            for one in said
        ]

    def close(self) -> None:
        """Give the adapter's memory back."""
        self._host.unload(self._name)


def ask(
    host: LocalHost,
    name: str,
    card: GeneratorCard,
    conversations: Sequence[Sequence[Message]],
) -> list[Said]:
    """Ask an adapter, or the bare base under the empty name, in batches."""
    found: list[Said] = []
    for start in range(0, len(conversations), _AT_ONCE):
        part = conversations[start : start + _AT_ONCE]
        found += host.complete(name, card.chat_template, part, card.max_new_tokens)
    return found


def shots(
    user: str, system: str, shown: Sequence[Example], asked: Sequence[Example]
) -> list[tuple[Message, ...]]:
    """Return a conversation per request, with examples as earlier turns.

    Args:
        user: The template's user text.
        system: What the base is told.
        shown: The examples.
        asked: The requests.
    """
    plain = PromptTemplate(user=user)
    before = [
        message
        for one in shown
        for message in (*render(plain, one.request), Message("assistant", one.answer))
    ]
    found = []
    for one in asked:
        *told, request = render(PromptTemplate(system=system, user=user), one.request)
        found.append((*told, *before, request))
    return found


def few_shot(
    host: LocalHost, card: GeneratorCard, system: str, shown: Sequence[Example]
) -> Callable[[Sequence[Example]], list[str | None]]:
    """Return what answers as the bare base does after being shown some examples."""

    def answer(asked: Sequence[Example]) -> list[str | None]:
        conversations = shots(card.prompt.user, system, shown, asked)
        return [said.text if said.ended else None for said in ask(host, "", card, conversations)]

    return answer
