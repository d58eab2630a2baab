"""Write an adapter and its base as one model in 16 bit; runs only in the training environment.

``python -m hermes_apprentice.trainer.merging BASE ADAPTER CARD FOLDER``. The folder is what every
server for such models reads. Knows nothing about registries.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from hermes_apprentice.errors import ApprenticeError, ArtefactError
from hermes_apprentice.inference import language_model as lm
from hermes_apprentice.inference.generator import GeneratorCard
from hermes_apprentice.storage.files import new_folder

_SHARD = "4GB"


def merge(base: str, adapter: Path, card: GeneratorCard, target: Path) -> None:
    """Merge on the CPU, and write weights and tokenizer to ``target``, whole or not at all.

    Raises:
        ModelStoreError: The base is not here.
        ArtefactError: The base is another one than the adapter was trained on, or does not fit.
    """
    import torch
    from peft import PeftModel

    weights = lm.find_weights(base, fetch=False)
    if lm.base_digest(weights) != card.base_digest:
        raise ArtefactError(
            f"{base} has other weights than the specialist was trained on; put the old ones back"
        )
    tokenizer = lm.open_tokenizer(weights, card.chat_template)
    model = lm.open_base(weights, device="cpu")
    try:
        merged = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload(safe_merge=True)
    except (OSError, ValueError, KeyError, RuntimeError) as exc:
        raise ArtefactError(f"the adapter does not fit its base: {exc}") from exc
    with new_folder(target) as folder:
        merged.to(torch.float16).save_pretrained(str(folder), max_shard_size=_SHARD)
        tokenizer.save_pretrained(str(folder))


def main(arguments: list[str]) -> int:
    """Do what the command line says; an error is one JSON line."""
    base, adapter, card, target = arguments
    try:
        read = GeneratorCard.model_validate_json(Path(card).read_bytes())
        merge(base, Path(adapter), read, Path(target))
    except (ApprenticeError, OSError, MemoryError) as error:
        print(json.dumps({"error": str(error) or type(error).__name__}), flush=True)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
