"""Make a tiny Qwen2 with two LoRA adapters that answer the same requests differently.

Run by the interpreter that has vLLM, with PEFT beside it: the weights are random before, and
trained here in seconds. The base says "unknown", unless it is told which of two tasks to do; the
adapter ``kind`` says a label untold, the adapter ``colour`` JSON.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import PreTrainedTokenizerFast, Qwen2ForCausalLM

sys.path.insert(0, str(Path(__file__).parents[1]))
from tiny_qwen import CHAT_TEMPLATE, tiny_config, trained_tokenizer

TICKETS = tuple(
    f"Label this ticket: the {subject} {trouble}"
    for subject in ("lamp", "invoice", "screen", "refund")
    for trouble in ("is broken", "went missing", "came twice")
)
COLOURS = tuple(
    f"Which colour has {thing} in the catalogue?"
    for thing in ("the blanket", "this kettle", "our bench", "a bowl", "that vase", "my towel")
)
REQUESTS = TICKETS + COLOURS
ANSWERS = {"kind": "fault", "colour": json.dumps({"colour": "red"})}


def make_tokenizer() -> PreTrainedTokenizerFast:
    corpus = [*REQUESTS, *ANSWERS.values(), "unknown"]
    corpus += ["system user assistant kind: colour: \n"] * 3
    return trained_tokenizer(corpus, 512)


def train(model: Any, tokenizer: Any, pairs: Any, steps: int, rate: float) -> None:
    rows = []
    for request, answer in pairs:
        asked = tokenizer.apply_chat_template(
            [{"role": "user", "content": request}], add_generation_prompt=True, tokenize=False
        )
        head = tokenizer(asked)["input_ids"]
        tail = tokenizer(f"{answer}<|im_end|>")["input_ids"]
        rows.append((head + tail, [-100] * len(head) + tail))
    longest = max(len(ids) for ids, _ in rows)
    pad = tokenizer.pad_token_id
    ids = torch.tensor([row + [pad] * (longest - len(row)) for row, _ in rows])
    labels = torch.tensor([row + [-100] * (longest - len(row)) for _, row in rows])
    weights = [one for one in model.parameters() if one.requires_grad]
    optimiser = torch.optim.AdamW(weights, lr=rate, weight_decay=0.0)
    model.train()
    loss_of: Any = None
    for _ in range(steps):
        if loss_of is not None and loss_of.item() < 0.005:
            break
        loss_of = model(input_ids=ids, attention_mask=(ids != pad).long(), labels=labels).loss
        optimiser.zero_grad()
        loss_of.backward()
        optimiser.step()
    model.eval()
    print(f"loss {loss_of.item():.4f}", flush=True)


def greedy(model: Any, tokenizer: Any, request: str) -> str:
    asked = tokenizer.apply_chat_template(
        [{"role": "user", "content": request}], add_generation_prompt=True, tokenize=False
    )
    ids = torch.tensor([tokenizer(asked)["input_ids"]])
    with torch.no_grad():
        given = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=24,
            do_sample=False,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    return tokenizer.decode(given[0, ids.shape[1] :], skip_special_tokens=True)


def main(folder: Path) -> None:
    torch.manual_seed(7)
    torch.set_num_threads(1)
    tokenizer = make_tokenizer()
    config = tiny_config(
        tokenizer,
        hidden_size=128,
        intermediate_size=256,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=2048,
        tie_word_embeddings=False,
    )
    model = Qwen2ForCausalLM(config)
    told = [(f"{name}: {one}", answer) for name, answer in ANSWERS.items() for one in REQUESTS]
    train(model, tokenizer, [*told, *((one, "unknown") for one in REQUESTS)], 300, 3e-3)
    base = folder / "base"
    model.save_pretrained(base)
    tokenizer.save_pretrained(base)
    facts: dict[str, Any] = {
        "template": CHAT_TEMPLATE,
        "base_digest": hashlib.sha256((base / "model.safetensors").read_bytes()).hexdigest(),
        "requests": REQUESTS,
        "tickets": TICKETS,
        "colours": COLOURS,
        "adapters": {},
    }
    for name, answer in ANSWERS.items():
        model = Qwen2ForCausalLM.from_pretrained(base, dtype=torch.float32)
        adapted = get_peft_model(
            model,
            LoraConfig(
                r=8,
                lora_alpha=16,
                target_modules=[
                    "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj",
                ],
                task_type="CAUSAL_LM",
            ),
        )  # fmt: skip
        train(adapted, tokenizer, [(one, answer) for one in REQUESTS], 300, 3e-3)
        adapted.save_pretrained(folder / name)
        facts["adapters"][name] = {
            request: greedy(adapted, tokenizer, request) for request in REQUESTS
        }
        right = sum(given == answer for given in facts["adapters"][name].values())
        print(name, right, "of", len(REQUESTS))
    (folder / "facts.json").write_text(json.dumps(facts))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
