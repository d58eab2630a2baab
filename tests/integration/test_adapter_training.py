"""The training of an adapter in the training environment, on a tiny base, on the CPU."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from safetensors.numpy import load_file

from hermes_apprentice.domain.dataset import Example, Split
from hermes_apprentice.domain.prompt import PromptTemplate
from hermes_apprentice.domain.shape import Kind
from hermes_apprentice.domain.training import GeneratorOrder, Method, TrainingJob
from hermes_apprentice.errors import MissingExtraError, TrainingError
from hermes_apprentice.trainer.generator import WORK_DIR, checkpoint_in, train_generator
from hermes_apprentice.trainer.recipes import load_recipes

pytestmark = [pytest.mark.train_env, pytest.mark.slow]

DEADLINE = 120.0
PROBES = """
import json, shutil, sys
from pathlib import Path
import torch
from hermes_apprentice.domain.prompt import PromptTemplate, render
from hermes_apprentice.errors import TrainingError
from hermes_apprentice.inference import language_model as lm
from hermes_apprentice.trainer import answer_loss, lora

torch.set_num_threads(1)
task = json.load(sys.stdin)
found = {}
tokenizer = lm.open_tokenizer(lm.find_weights(task["base"], fetch=False))

# Every token of one example with its label, and the very text that it stands for.
template = PromptTemplate(system="Be brief.", user="Note: {request}")
one = answer_loss.encode(tokenizer, template, "soap <|im_end|> low", "Dear Ana, the soap.")
found["tokens"] = [tokenizer.decode([token]) for token in one.tokens]
found["labels"] = one.labels
found["text"] = tokenizer.decode(one.tokens)
found["prompt"] = lm.prompt_text(tokenizer, render(template, "soap <|im_end|> low"))

# The loss counts the answers only, whatever is padded around them.
run = lora.Run({**task, "output": task["output"] + "/loss"})
rows = [row for _, row in run.learned[:3]]
together = float(answer_loss.summed_loss(run._model, rows, 0, "cpu").detach())
apart = sum(float(answer_loss.summed_loss(run._model, [row], 0, "cpu").detach()) for row in rows)
whole = run._model(
    input_ids=torch.tensor([rows[0].tokens]), labels=torch.tensor([rows[0].labels])
).loss
found["losses"] = [together, apart]
found["by_hand"] = [
    float(answer_loss.summed_loss(run._model, rows[:1], 0, "cpu").detach()) / rows[0].counted,
    float(whole.detach()),
]

def attempt(name, **changes):
    folder = Path(task["output"]) / name
    folder.mkdir(exist_ok=True)
    try:
        lora.work({**task, "output": str(folder), **changes})
        found[name] = json.loads((folder / "report.json").read_bytes())
    except TrainingError as error:
        found[name] = str(error)
    except OSError as error:
        found[name] = f"OSError: {error}"

attempt("whole")

# The boundary to the memory: more than two examples at once do not fit.
real = lora.summed_loss
def small_memory(model, batch, pad, device):
    if len(batch) > 2:
        raise torch.OutOfMemoryError("CUDA out of memory (injected)")
    return real(model, batch, pad, device)
lora.summed_loss = small_memory
attempt("small")
def no_memory(model, batch, pad, device):
    raise torch.OutOfMemoryError("CUDA out of memory (injected)")
lora.summed_loss = no_memory
attempt("none")
lora.summed_loss = real

# Training stops when the validation loss does not fall any more, and goes back to the best weights.
looks, told_losses = [], iter([1.0, 0.5, 0.9, 0.7])
def scripted(run):
    looks.append([one.detach().clone() for one in run._trained])
    return next(told_losses)
measured = lora.Run._validation_loss
lora.Run._validation_loss = scripted
stopping = {**task["recipe"], "patience": 2, "eval_every": 1}
attempt("early", recipe=stopping)
lora.Run._validation_loss = measured
from safetensors.torch import load_file
kept = load_file(Path(task["output"]) / "early" / "adapter" / "adapter_model.safetensors")
found["kept"] = [
    all(any(value.equal(one) for one in look) for value in kept.values()) for look in looks
]

# An adapter that learned nothing has no canary.
asked = {**task, "output": str(Path(task["output"]) / "early"), "learned": ["soap low, tell Ana"]}
asked |= {"max_new_tokens": 8, "chat_template_text": tokenizer.chat_template}
for name, value in kept.items():
    value.zero_()
from safetensors.torch import save_file
save_file(kept, Path(asked["output"]) / "adapter" / "adapter_model.safetensors")
from hermes_apprentice.trainer import canary
try:
    canary.work(asked)
except TrainingError as error:
    found["nothing"] = str(error)

# The boundary to the disk.
usage = shutil.disk_usage
lora.shutil.disk_usage = lambda path: usage(path)._replace(free=1_000_000)
attempt("full")
lora.shutil.disk_usage = usage
longer = [{**row, "request": row["request"] * 9} for row in task["examples"]]
attempt("long", recipe={**task["recipe"], "max_length": 32}, examples=longer)

# A base with a broken weight.
broken = Path(task["output"]) / "broken"
shutil.copytree(task["base"], broken)
from safetensors.torch import load_file, save_file
weights = load_file(broken / "model.safetensors")
weights[sorted(weights)[0]][:] = float("nan")
save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
attempt("nan", base=str(broken))
print(json.dumps(found))
"""


@pytest.fixture
def job(
    shop_notes: ModuleType, tiny_base: Path, train_python: str, tmp_path: Path
) -> Callable[..., TrainingJob]:
    """A factory of short jobs."""
    (tmp_path / "recipes.toml").write_text(shop_notes.RECIPE, encoding="utf-8")

    def make(output: str = "output", **changes: Any) -> TrainingJob:
        order = {
            "base_model": str(tiny_base),
            "bases_file": "",
            "recipe": "short",
            "recipes_file": str(tmp_path / "recipes.toml"),
            "prompt": PromptTemplate(),
            "on_cpu": True,
        } | changes
        return TrainingJob(
            run_id="run-1",
            kind=Kind.GENERATOR,
            method=Method.AUTO,
            dataset_dir="",
            output_dir=str(tmp_path / output),
            models_dir="",
            embedder="",
            train_python=train_python,
            seed=7,
            generator=GeneratorOrder(**order),
        )

    return make


@pytest.fixture
def examples(shop_notes: ModuleType) -> list[Example]:
    return [
        Example(
            example_id=f"e{place}",
            group=f"g{place}",
            split=Split.VALIDATION if place % 10 == 1 else Split.TRAIN,
            request=request,
            answer=answer,
            asked_at=float(place),
        )
        for place, (request, answer) in enumerate(shop_notes.notes(40, 1))
    ]


@pytest.fixture
def found(
    shop_notes: ModuleType, tiny_base: Path, train_python: str, tmp_path: Path
) -> dict[str, Any]:
    """What the training environment says about everything that needs torch to look at."""
    (tmp_path / "recipes.toml").write_text(shop_notes.RECIPE, encoding="utf-8")
    recipe = load_recipes(tmp_path / "recipes.toml")["short"]
    (tmp_path / "probes").mkdir()
    task = {
        "base": str(tiny_base),
        "target_modules": ["q_proj", "v_proj", "up_proj"],
        "chat_template": "chatml",
        "recipe": recipe.model_dump(mode="json"),
        "prompt": {"system": "", "user": "{request}"},
        "examples": [
            {"request": request, "answer": answer, "watched": place % 10 == 1}
            for place, (request, answer) in enumerate(shop_notes.notes(40, 1))
        ],
        "output": str(tmp_path / "probes"),
        "device": "cpu",
        "gpu": -1,
        "unsloth": False,
        "bitsandbytes": False,
        "seed": 7,
        "threads": 1,
    }
    done = subprocess.run(
        [train_python, "-c", PROBES],
        input=json.dumps(task),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2_000:]
    return dict(json.loads(done.stdout.splitlines()[-1]))


def test_what_only_torch_can_show(found: dict[str, Any], tmp_path: Path) -> None:
    # Answer-only loss, token by token: the prompt is what serving sends, and nothing of it counts.
    labels, tokens = found["labels"], found["tokens"]
    counted = [token for token, label in zip(tokens, labels, strict=True) if label != -100]
    ignored = [token for token, label in zip(tokens, labels, strict=True) if label == -100]
    assert "".join(ignored) == found["prompt"]
    assert "".join(counted) == "Dear Ana, the soap.<|im_end|>"
    assert found["text"] == found["prompt"] + "Dear Ana, the soap.<|im_end|>"
    assert labels == [-100] * len(ignored) + labels[len(ignored) :] and -100 not in labels[-3:]

    together, apart = found["losses"]
    assert together == pytest.approx(apart, rel=1e-4)
    ours, library = found["by_hand"]
    assert ours == pytest.approx(library, rel=1e-4)

    # Half the batch until it fits, and the same weights: as many examples count per step.
    whole, small = found["whole"], found["small"]
    assert (whole["batch"], small["batch"]) == (4, 2)
    assert whole["steps"] == small["steps"] == 12
    for (step, loss), (other_step, other) in zip(whole["losses"], small["losses"], strict=True):
        assert step == other_step and loss == pytest.approx(other, rel=1e-2)
    assert "not enough for a single example" in found["none"]

    early = found["early"]
    assert early["steps"] == 4 < early["planned"] and len(early["losses"]) == 4
    assert found["kept"] == [False, True, False, False]
    assert "nothing was learned" in found["nothing"]

    assert "make room" in found["full"]
    assert "larger max_length" in found["long"]
    assert "not a number" in found["nan"] and "step 1" in found["nan"]
    for name in ("none", "full", "long", "nan"):
        assert not (tmp_path / "probes" / name / "adapter").exists()


def test_a_killed_training_goes_on_from_its_checkpoint_to_the_same_weights(
    job: Callable[..., TrainingJob], examples: list[Example]
) -> None:
    prompt = PromptTemplate(system="Write the letter.")
    killed = job("killed", prompt=prompt)

    def kill(share: float, doing: str) -> None:
        if checkpoint_in(Path(killed.output_dir)).is_dir() and share < 1.0:
            for child in children_of(os.getpid()):
                os.kill(child, signal.SIGKILL)

    with pytest.raises(TrainingError, match="was killed"):
        train_generator(killed, examples, kill)
    state = json.loads((checkpoint_in(Path(killed.output_dir)) / "state.json").read_bytes())
    assert 0 < state["steps"] < 12

    said: list[str] = []
    resumed = train_generator(killed, examples, lambda share, doing: said.append(doing))
    assert any(f"going on after step {state['steps']}" in line for line in said)
    assert not any(line == "adapter, step 1 of at most 12" for line in said)

    assert resumed.model.card.prompt == prompt  # type: ignore[attr-defined]

    never = job("never", prompt=prompt)
    straight = train_generator(never, examples, lambda share, doing: None)
    assert resumed.recipe["generator.steps"] == straight.recipe["generator.steps"]
    weights = [
        load_file(Path(one.output_dir) / WORK_DIR / "adapter" / "adapter_model.safetensors")
        for one in (killed, never)
    ]
    assert weights[0].keys() == weights[1].keys()
    for name, value in weights[0].items():
        assert value == pytest.approx(weights[1][name], abs=1e-5), name


def test_without_a_training_environment_the_extra_is_named(
    job: Callable[..., TrainingJob], examples: list[Example]
) -> None:
    with pytest.raises(MissingExtraError, match=r"hermes-apprentice\[generate\]"):
        train_generator(replace(job(), train_python=""), examples, lambda share, doing: None)


def children_of(parent: int) -> list[int]:
    """Return the processes whose parent this is, from the process table."""
    deadline = time.monotonic() + DEADLINE
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        assert time.monotonic() < deadline
        try:
            after_name = (folder / "stat").read_text().rpartition(") ")[2].split()
        except OSError:
            continue
        if int(after_name[1]) == parent and after_name[0] != "Z":
            found.append(int(folder.name))
    return found
