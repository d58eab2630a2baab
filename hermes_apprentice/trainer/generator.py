"""Train a generator, with the training environment's help.

Chooses base, recipe and GPU, has the adapter trained in another interpreter (`trainer/lora.py`),
and hands over what it left. Torch is not needed here.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import TypeAdapter

from hermes_apprentice import errors
from hermes_apprentice.domain.dataset import Example, Split
from hermes_apprentice.domain.prompt import PromptTemplate
from hermes_apprentice.domain.training import GeneratorOrder, Method, TrainingJob
from hermes_apprentice.errors import ApprenticeError, MissingExtraError, TrainingError
from hermes_apprentice.inference.generator import ADAPTER_DIR, GeneratorCard, write_card
from hermes_apprentice.settings import child_environment
from hermes_apprentice.trainer.bases import Base, find_base, load_bases
from hermes_apprentice.trainer.canary import CANARY_FILE
from hermes_apprentice.trainer.checkpoint import CHECKPOINT_DIR
from hermes_apprentice.trainer.hardware import Environment, Gpu, find_gpus, probe
from hermes_apprentice.trainer.lora import REPORT_FILE
from hermes_apprentice.trainer.recipes import Recipe, choose_recipe, load_recipes
from hermes_apprentice.trainer.trained import Progress, Trained

WORK_DIR = "adapter-training"
"""Folder in a run's output with checkpoints; it stays until the training has succeeded."""

EXTRA = "generate"
"""The extra that has what training a generator needs."""

_PROMPT = TypeAdapter(PromptTemplate)
_THREADS = 2


class Setup(NamedTuple):
    """What a generator is trained with."""

    base: Base
    """The base model."""

    recipe: Recipe
    """How."""

    gpu: Gpu | None
    """On which GPU; ``None`` for the CPU."""

    environment: Environment
    """What the interpreter has."""


def prepare(order: GeneratorOrder, python: str) -> Setup:
    """Choose base, recipe and device, without starting anything.

    Raises:
        MissingExtraError: The training environment is not there, or lacks something.
        ConfigError: The base or the recipe is not known, or a file of the operator is not right.
        TrainingError: There is no GPU with enough free memory, and the CPU may not be used.
    """
    base = find_base(order.base_model, load_bases(Path(order.bases_file)))
    recipes = load_recipes(Path(order.recipes_file))
    if not python:
        raise MissingExtraError("training a generator", EXTRA)
    environment = probe(python)
    if environment.missing:
        raise MissingExtraError(
            f"training a generator ({', '.join(environment.missing)} not found by {python})", EXTRA
        )
    gpu = environment.best_gpu
    if gpu is not None and gpu.free_gb < base.min_vram_gb and not order.on_cpu:
        raise TrainingError(
            f"{base.name} needs {base.min_vram_gb:g} GB of free GPU memory, and {gpu.name} has "
            f"{gpu.free_gb:.1f}; programs that hold the rest are left alone: end one, try again "
            "later, or choose a smaller base"
        )
    if gpu is not None and gpu.free_gb < base.min_vram_gb:
        gpu = None
    if gpu is None and not order.on_cpu:
        unused = find_gpus()
        there = (
            f"the torch of {python} cannot use {unused[0].name}; install a build for it"
            if unused
            else "there is no GPU on this machine"
        )
        raise TrainingError(
            f"{there}; generator.on_cpu = true allows training on the CPU, which takes hours for "
            "a base of this size"
        )
    recipe = choose_recipe(order.recipe, recipes, None if gpu is None else gpu.free_gb)
    return Setup(base, recipe, gpu if recipe.needs_gb else None, environment)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedGenerator:
    """An adapter with its card."""

    card: GeneratorCard
    """What serving has to know."""

    work: Path
    """Folder in which the training left it."""

    def save(self, folder: Path) -> None:
        """Write adapter and card, and give the disk space of the training back."""
        shutil.copytree(self.work / ADAPTER_DIR, folder / ADAPTER_DIR)
        write_card(folder, self.card)


def train_generator(job: TrainingJob, examples: Sequence[Example], progress: Progress) -> Trained:
    """Train an adapter on the training split, watching the validation split.

    What an interrupted run had reached is taken up again.

    Raises:
        TrainingError: It cannot be trained, and why.
        MissingExtraError: The training environment is not there.
        ConfigError: Base or recipe are not known.
        ModelStoreError: The base's weights are not here and could not be fetched.
    """
    order = job.generator
    if order is None:
        raise TrainingError("the job does not say which base model to train; start it again")
    setup = prepare(order, job.train_python)
    work = Path(job.output_dir) / WORK_DIR
    work.mkdir(parents=True, exist_ok=True)
    task = {
        "base": setup.base.name,
        "target_modules": list(setup.base.target_modules),
        "chat_template": setup.base.chat_template,
        "recipe": setup.recipe.model_dump(mode="json"),
        "prompt": _PROMPT.dump_python(order.prompt, mode="json"),
        "examples": [
            {
                "request": one.request,
                "answer": one.answer,
                "watched": one.split is Split.VALIDATION,
            }
            for one in examples
        ],
        "output": str(work),
        "device": "cpu" if setup.gpu is None else "cuda",
        "gpu": 0 if setup.gpu is None else setup.gpu.number,
        "unsloth": "unsloth" in setup.environment.packages,
        "bitsandbytes": "bitsandbytes" in setup.environment.packages,
        "seed": job.seed,
        "threads": _THREADS,
    }
    report = _run(job.train_python, "lora", work / REPORT_FILE, task, setup.gpu, progress)
    asked = {name: report[name] for name in ("learned", "max_new_tokens")}
    asked |= {"chat_template_text": report["chat_template"]}
    canary = _run(job.train_python, "canary", work / CANARY_FILE, task | asked, setup.gpu, progress)
    card = GeneratorCard(
        base_model=setup.base.name,
        base_digest=report["base_digest"],
        rank=setup.recipe.rank,
        prompt=order.prompt,
        chat_template=report["chat_template"],
        max_new_tokens=report["max_new_tokens"],
        canary_request=canary["request"],
        canary_answer=canary["answer"],
    )
    return Trained(
        model=TrainedGenerator(card=card, work=work),
        method=Method.LORA,
        held_out=(),
        right=(),
        scores={},
        recipe=_told(setup, report),
    )


def finish(output: Path) -> None:
    """Give the disk space of checkpoints back, once the artefact is complete."""
    shutil.rmtree(output / WORK_DIR, ignore_errors=True)


def _told(setup: Setup, report: dict[str, Any]) -> dict[str, str]:
    """Return what the manifest says about the training."""
    losses = report["losses"]
    best = min(losses, key=lambda row: row[1]) if losses else (report["steps"], float("nan"))
    return {
        "base": setup.base.name,
        "base.digest": report["base_digest"],
        "base.licence": setup.base.licence,
        "generator.backend": report["backend"],
        "generator.device": "cpu" if setup.gpu is None else setup.gpu.name,
        "generator.recipe": setup.recipe.name,
        "generator.rank": str(setup.recipe.rank),
        "generator.learning_rate": f"{setup.recipe.learning_rate:g}",
        "generator.steps": f"{report['steps']} of at most {report['planned']}",
        "generator.best": f"loss {best[1]:.4f} at step {best[0]}",
        "generator.batch": f"{report['batch']} (asked for {setup.recipe.batch})",
        "generator.left_out": f"{report['left_out']} too long",
        "generator.tokens_per_second": f"{report['tokens_per_second']:.0f}",
        "generator.peak_gpu_mb": f"{report['peak_gpu_bytes'] / 1e6:.0f}",
    }


def _run(
    python: str,
    module: str,
    leaves: Path,
    task: dict[str, Any],
    gpu: Gpu | None,
    progress: Progress,
) -> dict[str, Any]:
    """Do a task in the training environment and return what it leaves.

    Args:
        python: Its interpreter.
        module: The program, a module beside this one.
        leaves: The file that it writes.
        task: What it is to do.
        gpu: The GPU that it may use; ``None`` for none.
        progress: Told how far it is.

    Raises:
        ApprenticeError: It failed; the message is the child's.
    """
    told = leaves.with_name(f"{module}-task.json")
    told.write_text(json.dumps(task), encoding="utf-8")
    command = [python, "-m", f"hermes_apprentice.trainer.{module}", str(told), str(os.getpid())]
    environment = child_environment(
        OMP_NUM_THREADS=str(_THREADS),
        # Threads that wait must not spin: on a busy machine that takes the work's own cores.
        OMP_WAIT_POLICY="PASSIVE",
        GOMP_SPINCOUNT="0",
        TOKENIZERS_PARALLELISM="false",
        HF_HUB_DISABLE_TELEMETRY="1",
        UNSLOTH_DISABLE_STATISTICS="1",
        UNSLOTH_COMPILE_LOCATION=str(leaves.with_name("compiled")),  # not the current folder
        **({} if gpu else {"CUDA_VISIBLE_DEVICES": ""}),
    )
    problem: ApprenticeError | None = None
    # Its words go into the job's log, which standard error is here.
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=environment, text=True
    ) as child:
        for line in child.stdout or ():
            try:
                said = json.loads(line)
            except ValueError:
                continue
            if isinstance(said, dict) and "error" in said:
                problem = _translated(said)
            elif isinstance(said, dict) and "progress" in said:
                progress(float(said["progress"]), f"adapter, {said.get('doing', '')}")
    status = child.returncode
    if problem is not None:
        raise problem
    if status != 0:
        how = (
            f"was killed (signal {-status}), perhaps because the memory was not enough; "
            "apprentice jobs resume goes on from its last checkpoint"
            if status < 0
            else f"ended with status {status}; see its log"
        )
        raise TrainingError(f"the training of the adapter {how}")
    return dict(json.loads(leaves.read_bytes()))


def _translated(said: dict[str, Any]) -> ApprenticeError:
    known = getattr(errors, str(said.get("kind")), TrainingError)
    if known in (errors.ModelStoreError, errors.ArtefactError):
        return known(str(said["error"]))  # type: ignore[no-any-return]
    return TrainingError(str(said["error"]))


def checkpoint_in(output: Path) -> Path:
    """Return where the checkpoint of a run lies while it is not finished."""
    return output / WORK_DIR / CHECKPOINT_DIR
