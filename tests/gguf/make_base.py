"""Make a tiny base with Qwen2's real vocabulary, which llama.cpp's sources carry for their tests.

llama.cpp's converter refuses tokenizers that it does not recognise, so one made up for a test will
not do. Weights are random. For the interpreter that has torch: ``make_base.py LLAMA_CPP FOLDER``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_CONTROL, _UNUSED = 3, 4
_CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def main(llama_cpp: Path, folder: Path) -> None:
    sys.path.insert(0, str(llama_cpp / "gguf-py"))
    import torch
    from gguf import GGUFReader
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

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
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
    fast.chat_template = _CHAT_TEMPLATE
    fast.save_pretrained(folder)
    torch.manual_seed(3)
    config = Qwen2Config(
        vocab_size=len(words),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        initializer_range=0.2,
        tie_word_embeddings=True,
        eos_token_id=fast.eos_token_id,
        bos_token_id=None,
        pad_token_id=fast.pad_token_id,
    )
    model = Qwen2ForCausalLM(config)
    with torch.no_grad():  # or no token could ever stand out among as many
        model.model.embed_tokens.weight.mul_(2.5)
    model.save_pretrained(folder)
    print(json.dumps({"end": fast.eos_token_id, "words": len(words)}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
