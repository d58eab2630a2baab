"""A base model with adapters, in torch: prompts in, answers with log-probabilities out.

Training and serving turn a request into tokens by the functions here, so both see the same. Runs
only where torch and transformers are, in the training environment; nothing here imports
them before it is used. Knows nothing about processes.
"""

from __future__ import annotations

import hashlib
import inspect
import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hermes_apprentice.domain.prompt import Message
from hermes_apprentice.errors import ArtefactError, ModelStoreError

_FILES = ("*.safetensors", "*.json", "*.txt", "*.model", "*.jinja", "LICENSE*", "USE_POLICY*")
_AT_ONCE = 1 << 22


class Completion(NamedTuple):
    """What a model wrote after a prompt."""

    text: str
    """The answer."""

    log_probabilities: tuple[float, ...]
    """Of every token, the end of the answer among them."""

    ended: bool
    """Whether it ended by itself, not because it became too long."""


def find_weights(base: str, *, fetch: bool) -> Path:
    """Return the folder of a base model.

    Args:
        base: A folder, or a name on the model hub.
        fetch: Whether it may be downloaded if it is not here.

    Raises:
        ModelStoreError: It is not here, and was not or could not be fetched.
    """
    folder = Path(base).expanduser()
    if folder.is_dir():
        return folder
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

        try:
            return Path(snapshot_download(base, allow_patterns=_FILES, local_files_only=not fetch))
        except (LocalEntryNotFoundError, HfHubHTTPError, OSError, ValueError) as exc:
            how = "could not be fetched" if fetch else "was never fetched"
            raise ModelStoreError(
                f"the base model {base} is not on this machine and {how}: "
                f"{str(exc).splitlines()[0] if str(exc) else type(exc).__name__}. "
                "Put it into a folder and set trainer.base_model to that folder"
            ) from exc
    except ImportError as exc:
        raise ModelStoreError(
            f"the base model {base} is no folder, and huggingface_hub is not installed here"
        ) from exc


def base_digest(folder: Path) -> str:
    """Return the sha256 over a base's weights: over name and sha256 of each file, sorted.

    Raises:
        ModelStoreError: There are no weights, or they cannot be read.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ModelStoreError(f"{folder} holds no weights: there is no *.safetensors in it")
    total = hashlib.sha256()
    try:
        for file in files:
            one = hashlib.sha256()
            with file.open("rb") as stream:
                while piece := stream.read(_AT_ONCE):
                    one.update(piece)
            total.update(f"{file.name} {one.hexdigest()}\n".encode())
    except OSError as exc:
        raise ModelStoreError(f"{folder} cannot be read: {exc}") from exc
    return total.hexdigest()


def open_tokenizer(folder: Path, chat_template: str | None = None) -> Any:
    """Return a base's tokenizer.

    Args:
        folder: The base.
        chat_template: Replaces its own.

    Raises:
        ArtefactError: It has no tokenizer, no chat template, or no end token.
    """
    from transformers import AutoTokenizer

    _quieten()
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    except (OSError, ValueError, KeyError) as exc:
        raise ArtefactError(f"{folder} has no usable tokenizer: {exc}") from exc
    if chat_template is not None:
        tokenizer.chat_template = chat_template
    if not isinstance(tokenizer.chat_template, str):
        raise ArtefactError(f"{folder} has no chat template; use an instruction-tuned base")
    if tokenizer.eos_token_id is None:
        raise ArtefactError(f"the tokenizer in {folder} names no token that ends an answer")
    return tokenizer


def prompt_text(tokenizer: Any, messages: Sequence[Message]) -> str:
    """Return the text that a model continues with its answer."""
    said = [message._asdict() for message in messages]
    text = tokenizer.apply_chat_template(said, tokenize=False, add_generation_prompt=True)
    return str(text)


def prompt_tokens(tokenizer: Any, messages: Sequence[Message]) -> list[int]:
    """Return the tokens that a model continues with its answer."""
    text = prompt_text(tokenizer, messages)
    return [int(token) for token in tokenizer(text, add_special_tokens=False)["input_ids"]]


def answer_tokens(tokenizer: Any, messages: Sequence[Message], answer: str) -> list[int]:
    """Return the tokens of an answer to ``messages`` as a model writes them, its end last.

    They are what the chat template puts after the prompt, up to the token that ends an answer.
    """
    before = prompt_text(tokenizer, messages)
    said = [message._asdict() for message in (*messages, Message("assistant", answer))]
    whole = str(tokenizer.apply_chat_template(said, tokenize=False))
    written = whole[len(before) :] if whole.startswith(before) else answer
    tokens = [int(token) for token in tokenizer(written, add_special_tokens=False)["input_ids"]]
    end = int(tokenizer.eos_token_id)
    # A quoted end token inside the answer is not its end, so the last one counts.
    if end in tokens:
        return tokens[: len(tokens) - tokens[::-1].index(end)]
    return [*tokens, end]


def open_base(folder: Path, *, device: str, four_bit: bool = False) -> Any:
    """Return a base model on ``device``, in 32 bit on a CPU and 16 bit elsewhere.

    Raises:
        ArtefactError: It cannot be loaded.
    """
    import torch
    from transformers import AutoModelForCausalLM

    _quieten()
    options: dict[str, Any] = {"dtype": precision(device), "local_files_only": True}
    if four_bit:
        from transformers import BitsAndBytesConfig

        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=options["dtype"],
        )
        options["device_map"] = {"": torch.cuda.current_device()}
    try:
        model = AutoModelForCausalLM.from_pretrained(str(folder), **options)
    except (OSError, ValueError, KeyError, RuntimeError) as exc:
        if isinstance(exc, torch.OutOfMemoryError):
            raise
        raise ArtefactError(f"the model in {folder} cannot be loaded: {exc}") from exc
    return model if four_bit else model.to(device)


def precision(device: str) -> Any:
    """Return the number format for a device."""
    import torch

    if not device.startswith("cuda"):
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


def best_device() -> str:
    """Return ``cuda`` where torch can use a GPU, otherwise ``cpu``."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def left_padded(rows: Sequence[Sequence[int]], pad: int, device: str) -> tuple[Any, Any, Any]:
    """Return tokens, mask and positions, each of shape ``(rows, longest)``, aligned at the end."""
    import torch

    width = max(len(row) for row in rows)
    tokens = torch.full((len(rows), width), pad, dtype=torch.long)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    for place, row in enumerate(rows):
        tokens[place, width - len(row) :] = torch.tensor(row, dtype=torch.long)
        mask[place, width - len(row) :] = 1
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
    return tokens.to(device), mask.to(device), positions.to(device)


def complete(
    model: Any, tokenizer: Any, prompts: Sequence[Sequence[int]], max_new_tokens: int, device: str
) -> list[Completion]:
    """Continue every prompt greedily, all in one batch."""
    import torch

    end = int(tokenizer.eos_token_id)
    tokens, mask, positions = left_padded(prompts, end, device)
    written: list[list[int]] = [[] for _ in prompts]
    chances: list[list[float]] = [[] for _ in prompts]
    running = [True] * len(prompts)
    past = None
    only_last = {"logits_to_keep": 1} if chooses_logits(model) else {}
    with torch.inference_mode():
        for _ in range(max_new_tokens):
            out = model(
                input_ids=tokens,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=past,
                use_cache=True,
                **only_last,
            )
            past = out.past_key_values
            best, chosen = out.logits[:, -1].float().log_softmax(-1).max(-1)
            for place, (token, chance) in enumerate(
                zip(chosen.tolist(), best.tolist(), strict=True)
            ):
                if not running[place]:
                    continue
                chances[place].append(chance)
                if token == end:
                    running[place] = False
                else:
                    written[place].append(token)
            if not any(running):
                break
            tokens = chosen[:, None]
            mask = torch.cat([mask, torch.ones_like(tokens)], dim=1)
            positions = positions[:, -1:] + 1
    return [
        Completion(tokenizer.decode(row, skip_special_tokens=True), tuple(chance), ended=not still)
        for row, chance, still in zip(written, chances, running, strict=True)
    ]


def chooses_logits(model: Any) -> bool:
    """Whether ``model`` can leave out the logits of tokens that nobody asks for."""
    bare = model.get_base_model() if hasattr(model, "get_base_model") else model
    return "logits_to_keep" in inspect.signature(bare.forward).parameters


def _quieten() -> None:
    """Keep the libraries' remarks out of the log, where they would look like problems."""
    from transformers.utils import logging as remarks

    remarks.disable_progress_bar()
    logging.getLogger("transformers").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"(transformers|peft|huggingface_hub)\b")
