"""An example as tokens, and the loss of its answer; runs only in the training environment.

Knows nothing about adapters and optimisers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from hermes_apprentice.domain.prompt import PromptTemplate, render
from hermes_apprentice.inference import language_model as lm

IGNORED = -100
"""Label of a token that does not count in the loss."""


class Encoded(NamedTuple):
    """One example as tokens."""

    tokens: list[int]
    """Prompt and answer."""

    labels: list[int]
    """The same, with `IGNORED` for every token of the prompt."""

    @property
    def counted(self) -> int:
        """Tokens that count in the loss."""
        return sum(label != IGNORED for label in self.labels)


def encode(tokenizer: Any, template: PromptTemplate, request: str, answer: str) -> Encoded:
    """Return one example as tokens and labels."""
    messages = render(template, request)
    prompt = lm.prompt_tokens(tokenizer, messages)
    written = lm.answer_tokens(tokenizer, messages, answer)
    return Encoded([*prompt, *written], [IGNORED] * len(prompt) + written)


def summed_loss(model: Any, batch: Sequence[Encoded], pad: int, device: str) -> Any:
    """Return the summed cross-entropy of a batch's answers, as a tensor.

    Rows are aligned at their ends, so that only the answers' logits have to be computed.
    """
    import torch

    tokens, mask, positions = lm.left_padded([row.tokens for row in batch], pad, device)
    width = tokens.shape[1]
    kept = min(width, max(row.counted for row in batch) + 1)
    labels = torch.full((len(batch), width), IGNORED, dtype=torch.long)
    for place, row in enumerate(batch):
        labels[place, width - len(row.labels) :] = torch.tensor(row.labels, dtype=torch.long)
    limit = {"logits_to_keep": kept} if lm.chooses_logits(model) else {}
    kind = "cuda" if device.startswith("cuda") else "cpu"
    with torch.autocast(kind, dtype=lm.precision(device), enabled=kind == "cuda"):
        out = model(
            input_ids=tokens,
            attention_mask=mask,
            position_ids=positions,
            use_cache=False,
            **limit,
        )
    logits = out.logits[:, -kept:-1].float()
    wanted = labels[:, -kept + 1 :].to(logits.device)
    return torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), wanted.flatten(), ignore_index=IGNORED, reduction="sum"
    )
