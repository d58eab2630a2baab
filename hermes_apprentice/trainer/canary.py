"""Choose the request by whose answer serving recognises an adapter.

Runs only in the training environment. Knows nothing about how the adapter was trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from hermes_apprentice.domain.prompt import PromptTemplate, render
from hermes_apprentice.errors import TrainingError
from hermes_apprentice.inference import language_model as lm

_TRIED = 16


class Canary(NamedTuple):
    """A request with its known answer."""

    request: str
    """A training request."""

    answer: str
    """What the adapter answers to it, and the bare base does not."""


def find_canary(
    model: Any,
    tokenizer: Any,
    template: PromptTemplate,
    requests: Sequence[str],
    max_new_tokens: int,
    device: str,
) -> Canary:
    """Return the surest answer, with its request, of those that the base gives otherwise.

    The surest, because another server computes in another order and precision, which must not
    change the answer.

    Raises:
        TrainingError: The adapter answers every request as the bare base does.
    """
    tried = requests[:_TRIED]
    prompts = [lm.prompt_tokens(tokenizer, render(template, request)) for request in tried]

    def ask() -> list[lm.Completion]:
        return [lm.complete(model, tokenizer, [one], max_new_tokens, device)[0] for one in prompts]

    trained = ask()
    with model.disable_adapter():
        bare = ask()
    differing = [
        (min(said.log_probabilities), place)
        for place, (said, other) in enumerate(zip(trained, bare, strict=True))
        if said.ended and said.text and said.text != other.text
    ]
    if not differing:
        raise TrainingError(
            "the adapter answers as the bare base model does, so nothing was learned; more "
            "examples, or a recipe with more steps, may help"
        )
    place = max(differing)[1]
    return Canary(tried[place], trained[place].text)
