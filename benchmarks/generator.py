"""How fast a generator is trained and answers, and how much GPU memory it takes, at the 1.5B shape.

    .venv/bin/python benchmarks/generator.py --json

Needs a GPU that the training environment's torch can use; without one it prints "not measured"
and ends well. No weights are fetched: a model of Qwen2.5-1.5B's form with random weights is
written to a temporary folder (3.1 GB), because speed and memory do not depend on their values.
The tokenizer is a small one trained here; texts are as long in tokens as ``--tokens`` says. What
it answers means nothing, so answers are cut at ``--answer`` tokens.

Training: tokens per second of prompt and answer, peak memory as torch counts it, by the product's
own worker and the recipe chosen for the GPU. Serving: p50 and p95 of one request at a time, and
tokens per second in batches of 16, through the local runtime.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from hermes_apprentice.domain.prompt import REQUEST, PromptTemplate, render
from hermes_apprentice.errors import ApprenticeError
from hermes_apprentice.inference.generator import ADAPTER_DIR
from hermes_apprentice.serving.local_host import NAME, LocalHost
from hermes_apprentice.trainer.bases import find_base
from hermes_apprentice.trainer.environment import find_train_python
from hermes_apprentice.trainer.hardware import Environment, probe
from hermes_apprentice.trainer.recipes import choose_recipe, load_recipes

SHAPES = {
    "1.5b": {
        "hidden_size": 1536,
        "intermediate_size": 8960,
        "num_hidden_layers": 28,
        "num_attention_heads": 12,
        "num_key_value_heads": 2,
        "vocab_size": 151_936,
    },
    "tiny": {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 2_000,
    },
}
BUILDER = """
import json, sys
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM
wanted = json.load(sys.stdin)
tokenizer = Tokenizer(models.BPE())
tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
tokenizer.decoder = decoders.ByteLevel()
tokenizer.train_from_iterator(wanted["texts"], trainers.BpeTrainer(
    vocab_size=1500, special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
    initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
fast = PreTrainedTokenizerFast(
    tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>")
fast.chat_template = wanted["template"]
fast.save_pretrained(wanted["folder"])
torch.manual_seed(1)
torch.set_default_dtype(torch.bfloat16)
config = Qwen2Config(**wanted["shape"], tie_word_embeddings=True, max_position_embeddings=4096,
    eos_token_id=fast.eos_token_id, bos_token_id=None, pad_token_id=fast.pad_token_id)
Qwen2ForCausalLM(config).save_pretrained(wanted["folder"], max_shard_size="2GB")
"""
TRAINER = """
import json, sys
import torch
from hermes_apprentice.trainer.lora import Run, set_up
task = json.load(sys.stdin)
set_up(task)
run = Run(task)
run.train()
run.write_adapter()
print(json.dumps({
    "digest": run.digest, "backend": run.backend, "steps": run.steps,
    "tokens_per_second": round(run.tokens_per_second, 1),
    "peak_gpu_mb": round(torch.cuda.max_memory_allocated() / 1e6) if task["gpu"] >= 0 else None,
}))
"""
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
WORDS = [f"word{number}" for number in range(1_000)]
ASKED = 40


def main() -> int:
    arguments = _arguments()
    python = find_train_python("")
    environment = probe(python) if python else None
    gpu = environment.best_gpu if environment else None
    if python is None or environment is None or environment.missing:
        print(json.dumps({"generator": "not measured: no training environment"}))
        return 0
    if gpu is None and not arguments.on_cpu:
        print(json.dumps({"generator": "not measured: no GPU that torch can use"}))
        return 0
    try:
        with tempfile.TemporaryDirectory(prefix="apprentice-bench-") as folder:
            print(json.dumps(_measure(arguments, python, environment, Path(folder))))
    except (ApprenticeError, subprocess.CalledProcessError) as error:
        print(f"generator: {error}", file=sys.stderr)
        return 1
    return 0


def _measure(
    arguments: argparse.Namespace, python: str, environment: Environment, folder: Path
) -> dict[str, Any]:
    rng = random.Random(arguments.seed)
    texts = [" ".join(rng.choices(WORDS, k=arguments.tokens)) for _ in range(arguments.examples)]
    answers = [" ".join(rng.choices(WORDS, k=arguments.answer // 2)) for _ in texts]
    base = folder / "base"
    wish = {
        "folder": str(base),
        "shape": SHAPES[arguments.shape],
        "texts": [" ".join(WORDS)],
        "template": TEMPLATE,
    }
    subprocess.run([python, "-c", BUILDER], input=json.dumps(wish), text=True, check=True)
    gpu = environment.best_gpu
    recipes = load_recipes()
    recipe = choose_recipe(arguments.recipe, recipes, gpu.free_gb if gpu else None)
    work = folder / "work"
    work.mkdir()
    task = {
        "base": str(base),
        "target_modules": find_base(str(base), {}).target_modules,
        "chat_template": "own",
        "recipe": recipe.model_copy(
            update={"max_steps": arguments.steps, "epochs": 1_000, "patience": 1_000}
        ).model_dump(mode="json"),
        "prompt": {"system": "", "user": REQUEST},
        "examples": [
            {"request": request, "answer": answer, "watched": place % 20 == 0}
            for place, (request, answer) in enumerate(zip(texts, answers, strict=True))
        ],
        "output": str(work),
        "device": "cuda" if gpu else "cpu",
        "gpu": gpu.number if gpu else -1,
        "unsloth": "unsloth" in environment.packages,
        "bitsandbytes": "bitsandbytes" in environment.packages,
        "seed": arguments.seed,
        "threads": 2,
    }
    done = subprocess.run(
        [python, "-c", TRAINER],
        input=json.dumps(task),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    told = json.loads(done.stdout.strip().splitlines()[-1])
    digest = told.pop("digest")
    host = LocalHost(
        python,
        str(base),
        digest,
        device="cuda" if gpu else "cpu",
        seconds=600,
        start_seconds=600,
    )
    try:
        host.load("bench", work / ADAPTER_DIR)
        served = _serve(arguments, host, texts)
    finally:
        host.close()
    return {
        "generator": {
            "gpu": gpu.name if gpu else None,
            "shape": arguments.shape,
            "recipe": recipe.name,
            "training": told,
            "serving": served,
        }
    }


def _serve(arguments: argparse.Namespace, host: LocalHost, texts: list[str]) -> dict[str, Any]:
    asked = [render(PromptTemplate(), text) for text in texts[:ASKED]]
    host.complete("bench", TEMPLATE, asked[:1], arguments.answer)
    taken, counts = [], []
    for one in asked:
        started = time.perf_counter()
        said = host.complete("bench", TEMPLATE, [one], arguments.answer)
        taken.append(1_000 * (time.perf_counter() - started))
        counts.append(len(said[0].chances))
    started = time.perf_counter()
    said = host.complete("bench", TEMPLATE, asked[:16], arguments.answer)
    seconds = time.perf_counter() - started
    return {
        "runtime": NAME,
        "p50_ms": round(float(np.percentile(taken, 50)), 1),
        "p95_ms": round(float(np.percentile(taken, 95)), 1),
        "answer_tokens_mean": round(float(np.mean(counts)), 1),
        "tokens_per_second_at_16": round(sum(len(one.chances) for one in said) / seconds, 1),
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--shape", choices=sorted(SHAPES), default="1.5b")
    parser.add_argument("--examples", type=int, default=400)
    parser.add_argument("--tokens", type=int, default=200, help="of a request, about")
    parser.add_argument("--answer", type=int, default=60, help="tokens of an answer, about")
    parser.add_argument("--recipe", default="auto", help="name of a recipe")
    parser.add_argument("--steps", type=int, default=30, help="of training")
    parser.add_argument("--on-cpu", action="store_true", help="to try the script out")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--data", type=Path, help="not used; the texts are made here")
    parser.add_argument("--json", action="store_true", help="JSON is what it prints anyway")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
