"""Choose the request by whose answer serving recognises an adapter.

``python -m hermes_apprentice.trainer.canary TASK.json PARENT``, in the training environment, after
`lora` has left the adapter. A process of its own, because libraries that make training faster
change the base's code for the whole process, and serving runs without them. Knows nothing about how
the adapter was trained.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import TypeAdapter

from hermes_apprentice.domain.prompt import PromptTemplate, render
from hermes_apprentice.errors import ArtefactError, TrainingError
from hermes_apprentice.inference import language_model as lm
from hermes_apprentice.inference.generator import ADAPTER_DIR
from hermes_apprentice.storage.files import write_atomically
from hermes_apprentice.trainer.grandchild import is_full, report_progress, told

CANARY_FILE = "canary.json"

TRIED = 16
"""Requests at most that are tried."""

_PROMPT = TypeAdapter(PromptTemplate)


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
    tried = requests[:TRIED]
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


def main(arguments: list[str]) -> int:
    """Do the task named on the command line; an error is the last line of standard output."""
    return told(arguments, work)


def work(task: dict[str, Any]) -> None:
    """Ask the adapter in the task's output folder as it is served, and leave a canary there.

    Raises:
        TrainingError: It answers every request as the bare base does, or the memory is not enough.
    """
    import torch
    from peft import PeftModel

    report_progress(1.0, "asking the adapter as it will be served")
    folder, device = Path(task["output"]), str(task["device"])
    torch.set_num_threads(int(task["threads"]))
    if device == "cuda" and torch.cuda.is_available():
        torch.cuda.set_device(int(task["gpu"]))
    weights = lm.find_weights(task["base"], fetch=False)
    tokenizer = lm.open_tokenizer(weights, task["chat_template_text"])
    try:
        base = lm.open_base(weights, device=device)
        model = PeftModel.from_pretrained(base, str(folder / ADAPTER_DIR)).eval()
        found = find_canary(
            model,
            tokenizer,
            _PROMPT.validate_python(task["prompt"]),
            task["learned"],
            int(task["max_new_tokens"]),
            device,
        )
    except (RuntimeError, MemoryError, ArtefactError) as exc:
        if not is_full(exc):
            raise
        said = "the memory is enough to train this base, but not to answer with it"
        raise TrainingError(f"{said}; choose a smaller one") from exc
    write_atomically(folder / CANARY_FILE, json.dumps(found._asdict()).encode())


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
