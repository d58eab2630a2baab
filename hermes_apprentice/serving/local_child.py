"""Answers with a base model and its adapters; runs only in the training environment.

``python -m hermes_apprentice.serving.local_child BASE DEVICE THREADS``. Reads one JSON object per
line from standard input and writes one per line to standard output; ends when its input
does, so it never outlives whoever started it. Answers are greedy. Knows nothing about HTTP.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hermes_apprentice.domain.prompt import Message
from hermes_apprentice.errors import ApprenticeError, ArtefactError
from hermes_apprentice.inference import language_model as lm

_AT_ONCE = 16
_BARE = ""
"""Names the base without an adapter."""


class Answering:
    """One base with any number of adapters."""

    def __init__(self, base: str, device: str) -> None:
        """Load the base; never from a network.

        Raises:
            ModelStoreError: It is not here.
            ArtefactError: It cannot be loaded, or there is no such device.
        """
        folder = lm.find_weights(base, fetch=False)
        if device == "cuda" and lm.best_device() != "cuda":
            raise ArtefactError("the GPU cannot be used by the training environment's torch")
        self.digest = lm.base_digest(folder)
        self._device = device
        self._tokenizer = lm.open_tokenizer(folder)
        self._model = lm.open_base(folder, device=device).eval()
        self._wrapped = False
        self._adapters: set[str] = set()

    def load(self, name: str, folder: str) -> None:
        """Load an adapter under a name that was never used for another."""
        from peft import PeftModel

        if name in self._adapters or not name:
            raise ArtefactError(f"there is an adapter {name!r} already")
        if not Path(folder, "adapter_config.json").is_file():
            raise ArtefactError(f"there is no adapter in {folder}")
        try:
            if self._wrapped:
                self._model.load_adapter(folder, adapter_name=name, is_trainable=False)
            else:
                self._model = PeftModel.from_pretrained(self._model, folder, adapter_name=name)
                self._model.eval()
                self._wrapped = True
        except (OSError, ValueError, KeyError, RuntimeError) as exc:
            raise ArtefactError(f"the adapter {name!r} does not fit the base: {exc}") from exc
        self._adapters.add(name)

    def unload(self, name: str) -> None:
        """Forget an adapter; nothing happens if it is not there."""
        if name not in self._adapters:
            return
        self._adapters.discard(name)
        if self._adapters:
            self._model.delete_adapter(name)
        else:
            self._model = self._model.unload()
            self._wrapped = False

    def answer(
        self,
        name: str,
        template: str,
        conversations: Sequence[Sequence[Sequence[str]]],
        max_new_tokens: int,
    ) -> list[dict[str, Any]]:
        """Answer every conversation, with an adapter or, under the empty name, the bare base."""
        if name != _BARE and name not in self._adapters:
            raise ArtefactError(f"there is no adapter {name!r}")
        self._tokenizer.chat_template = template
        prompts = [
            lm.prompt_tokens(self._tokenizer, [Message(role, text) for role, text in one])
            for one in conversations
        ]
        if name != _BARE:
            self._model.set_adapter(name)
            return self._in_batches(prompts, max_new_tokens)
        if not self._wrapped:
            return self._in_batches(prompts, max_new_tokens)
        with self._model.disable_adapter():
            return self._in_batches(prompts, max_new_tokens)

    def _in_batches(
        self, prompts: Sequence[Sequence[int]], max_new_tokens: int
    ) -> list[dict[str, Any]]:
        found = []
        for start in range(0, len(prompts), _AT_ONCE):
            part = prompts[start : start + _AT_ONCE]
            for one in lm.complete(
                self._model, self._tokenizer, part, max_new_tokens, self._device
            ):
                found.append(
                    {"text": one.text, "chances": one.log_probabilities, "ended": one.ended}
                )
        return found


def do(answering: Answering, wish: Mapping[str, Any]) -> Any:
    """Do what one line asks for."""
    if wish["do"] == "load":
        return answering.load(wish["name"], wish["folder"])
    if wish["do"] == "unload":
        return answering.unload(wish["name"])
    return answering.answer(
        wish["name"], wish["template"], wish["conversations"], wish["max_new_tokens"]
    )


def main(arguments: list[str]) -> int:
    """Load the base, then answer until the input ends."""
    import torch

    # Libraries that print must not be mistaken for answers.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def say(**said: Any) -> None:
        out.write(json.dumps(said) + "\n")
        out.flush()

    wishes: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()

    def listen() -> None:
        for line in sys.stdin:
            wishes.put(json.loads(line))
        os._exit(0)  # whoever asked is gone; an answer that is being computed has no reader

    threading.Thread(target=listen, daemon=True).start()
    base, device, threads = arguments
    torch.set_num_threads(int(threads))
    try:
        answering = Answering(base, device)
    except ApprenticeError as error:
        say(error=str(error))
        return 1
    say(ready=answering.digest)
    while True:
        wish = wishes.get()
        try:
            say(id=wish["id"], done=do(answering, wish))
        except (ApprenticeError, RuntimeError, MemoryError, ValueError) as error:
            say(id=wish["id"], error=f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
