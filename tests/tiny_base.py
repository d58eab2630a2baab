"""Make a tiny base model: Qwen2's form, random weights, a tokenizer trained on the test's texts.

Run by the training environment's interpreter: ``python tiny_base.py FOLDER < TEXTS.json``.
"""

from __future__ import annotations

import json
import sys

import torch
from tiny_qwen import tiny_config, trained_tokenizer
from transformers import Qwen2ForCausalLM


def main(folder: str, texts: list[str]) -> None:
    tokenizer = trained_tokenizer([*texts, "system user assistant"], 640)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(3)
    config = tiny_config(tokenizer, initializer_range=0.2)  # or nothing is learned in seconds
    Qwen2ForCausalLM(config).save_pretrained(folder)


if __name__ == "__main__":
    main(sys.argv[1], json.load(sys.stdin))
