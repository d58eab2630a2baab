"""Make a tiny base with Qwen2's real vocabulary, which llama.cpp's sources carry for their tests.

llama.cpp's converter refuses tokenizers that it does not recognise, so one made up for a test will
not do. Weights are random. For the interpreter that has torch: ``make_base.py LLAMA_CPP FOLDER``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import Qwen2ForCausalLM

sys.path.insert(0, str(Path(__file__).parents[1]))
from tiny_qwen import tiny_config, with_template

_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_CONTROL, _UNUSED = 3, 4


def main(llama_cpp: Path, folder: Path) -> None:
    sys.path.insert(0, str(llama_cpp / "gguf-py"))
    from gguf import GGUFReader

    fields = GGUFReader(llama_cpp / "models" / "ggml-vocab-qwen2.gguf").fields
    words, types, merges = (
        fields[f"tokenizer.ggml.{name}"].contents() for name in ("tokens", "token_type", "merges")
    )
    vocabulary = {
        word: place
        for place, (word, kind) in enumerate(zip(words, types, strict=True))
        if kind not in (_CONTROL, _UNUSED)
    }
    tokenizer = Tokenizer(models.BPE(vocabulary, [tuple(pair.split(" ")) for pair in merges]))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(
        [word for word, kind in zip(words, types, strict=True) if kind == _CONTROL]
    )
    fast = with_template(tokenizer)
    fast.save_pretrained(folder)
    torch.manual_seed(3)
    model = Qwen2ForCausalLM(tiny_config(fast, vocab_size=len(words), initializer_range=0.2))
    with torch.no_grad():  # or no token could ever stand out among as many
        model.model.embed_tokens.weight.mul_(2.5)
    model.save_pretrained(folder)
    print(json.dumps({"end": fast.eos_token_id, "words": len(words)}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
