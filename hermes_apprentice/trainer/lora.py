"""Train an adapter on a language model; runs only in the training environment.

``python -m hermes_apprentice.trainer.lora TASK.json PARENT``. LoRA (Hu et al., 2021) on all linear
layers; on a 4-bit base as in QLoRA (Dettmers et al., 2023), with Unsloth where it is installed.
Only the answer's tokens count in the loss. What training has reached is written down at
every look at the validation split, and taken up from there. Knows nothing about patterns.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from hermes_apprentice.domain.prompt import PromptTemplate
from hermes_apprentice.errors import TrainingError
from hermes_apprentice.inference import language_model as lm
from hermes_apprentice.inference.generator import ADAPTER_DIR
from hermes_apprentice.storage.files import new_folder, write_atomically
from hermes_apprentice.trainer.answer_loss import encode, summed_loss
from hermes_apprentice.trainer.canary import TRIED
from hermes_apprentice.trainer.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from hermes_apprentice.trainer.grandchild import is_full, report_progress, told
from hermes_apprentice.trainer.recipes import Recipe
from hermes_apprentice.trainer.steps import Batches, Schedule, Watch

REPORT_FILE = "report.json"
_PROMPT = TypeAdapter(PromptTemplate)
_END_TOKENS = {"chatml": "<|im_end|>", "llama-3": "<|eot_id|>"}
_ANSWER_MARGIN = 1.25
_ANSWER_EXTRA = 8
_ADAM_BYTES = 4 * 4
"""Per trained weight: itself, the best so far, and two moments, 32 bit each."""

_SPARE_BYTES = 200_000_000


class Run:
    """One training run."""

    def __init__(self, task: dict[str, Any]) -> None:
        """Read the task; load tokenizer and base."""
        self._task = task
        self._recipe = Recipe.model_validate(task["recipe"])
        self._folder = Path(task["output"])
        self._template = _PROMPT.validate_python(task["prompt"])
        report_progress(0.0, "reading the base model")
        weights = lm.find_weights(task["base"], fetch=True)
        self.digest = lm.base_digest(weights)
        self._device = lm.best_device() if task["device"] == "cuda" else "cpu"
        if self._device != task["device"]:
            raise TrainingError(
                "the GPU cannot be used by the training environment's torch; install a build of "
                "torch for it there, or set generator.on_cpu"
            )
        self.tokenizer = lm.open_tokenizer(weights)
        _check_end(self.tokenizer, task["chat_template"])
        self._pad = int(self.tokenizer.eos_token_id)
        encoded = [
            encode(self.tokenizer, self._template, row["request"], row["answer"])
            for row in task["examples"]
        ]
        fits = [len(one.tokens) <= self._recipe.max_length for one in encoded]
        self.left_out = fits.count(False)
        rows = [
            (row, one) for row, one, fit in zip(task["examples"], encoded, fits, strict=True) if fit
        ]
        self.learned = [(row, one) for row, one in rows if not row["watched"]]
        self._watched = [one for row, one in rows if row["watched"]]
        if not self.learned:
            raise TrainingError(
                f"no example is shorter than {self._recipe.max_length} tokens with its answer; "
                "choose a recipe with a larger max_length"
            )
        longest = max(one.counted for _, one in rows)
        self.max_new_tokens = math.ceil(longest * _ANSWER_MARGIN) + _ANSWER_EXTRA
        self.resumed_at = 0
        self.steps = 0
        self.tokens_per_second = 0.0
        self.losses: list[tuple[int, float]] = []
        self.backend, self._model = self._open(weights)
        self._trained = [one for one in self._model.parameters() if one.requires_grad]
        self._identity = _identity(task, self.digest, self.backend)
        self._batches = Batches(self._recipe.batch, is_full)

    def _open(self, weights: Path) -> tuple[str, Any]:
        import torch

        torch.manual_seed(int(self._task["seed"]))
        recipe, cuda = self._recipe, self._device != "cpu"
        shape: dict[str, Any] = {
            "r": recipe.rank,
            "lora_alpha": recipe.alpha,
            "lora_dropout": 0.0,
            "bias": "none",
        }
        targets = list(self._task["target_modules"])
        if cuda and self._task["unsloth"] and targets != ["all-linear"]:
            from unsloth import FastLanguageModel

            checkpointing = "unsloth" if recipe.gradient_checkpointing else False
            model, _ = FastLanguageModel.from_pretrained(
                str(weights),
                max_seq_length=recipe.max_length,
                load_in_4bit=recipe.four_bit,
                dtype=lm.precision(self._device),
                use_gradient_checkpointing=checkpointing,
                # The very weights that the digest is of, and our own tokenizer's tokens.
                use_exact_model_name=True,
                fix_tokenizer=False,
            )
            model = FastLanguageModel.get_peft_model(
                model,
                target_modules=targets,
                use_gradient_checkpointing=checkpointing,
                random_state=int(self._task["seed"]),
                **shape,
            )
            return "unsloth", model
        from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training

        four_bit = cuda and recipe.four_bit and self._task["bitsandbytes"]
        model = lm.open_base(weights, device=self._device, four_bit=four_bit)
        if four_bit:
            model = prepare_model_for_kbit_training(
                model,
                use_gradient_checkpointing=recipe.gradient_checkpointing,
                gradient_checkpointing_kwargs={"use_reentrant": False},
            )
        elif recipe.gradient_checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
            model.enable_input_require_grads()
        modules = "all-linear" if targets == ["all-linear"] else targets
        config = LoraConfig(task_type="CAUSAL_LM", target_modules=modules, **shape)
        return "peft, 4 bit" if four_bit else "peft", get_peft_model(model, config)

    def check_disk(self) -> None:
        """Raise `TrainingError` if the disk has no room for two checkpoints."""
        needed = sum(one.numel() for one in self._trained) * _ADAM_BYTES * 2 + _SPARE_BYTES
        free = shutil.disk_usage(self._folder).free
        if free < needed:
            raise TrainingError(
                f"{free / 1e9:.1f} GB are free on the disk of {self._folder}, and checkpoints need "
                f"{needed / 1e9:.1f}; make room and try again"
            )

    def train(self) -> None:
        """Fit the adapter, from the last checkpoint on if there is one.

        Raises:
            TrainingError: The loss is no number, or the memory is not enough.
        """
        import torch

        schedule = Schedule(self._recipe, len(self.learned), int(self._task["seed"]))
        self.schedule = schedule
        optimizer = torch.optim.AdamW(
            self._trained, lr=self._recipe.learning_rate, weight_decay=self._recipe.weight_decay
        )
        # Half precision without bfloat16 underflows unless the loss is scaled up.
        scaler = torch.amp.GradScaler(
            "cuda", enabled=self._device != "cpu" and lm.precision(self._device) is torch.float16
        )
        watch, best = self._resume(optimizer)
        started, tokens = time.monotonic(), 0
        for step in range(self.steps, schedule.total):
            if watch.over:
                break
            self._model.train()
            loss = self._step(schedule, step, optimizer, scaler)
            self.steps = step + 1
            tokens += sum(len(self.learned[row][1].tokens) for row in schedule.rows(step))
            report_progress(
                self.steps / schedule.total, f"step {self.steps} of at most {schedule.total}"
            )
            if schedule.looks(step):
                seen = self._validation_loss() if self._watched else loss
                self.losses.append((self.steps, seen))
                # Without a validation split the last weights are the best.
                if watch.improved(seen) or not self._watched:
                    watch.worse = 0
                    best = [one.detach().clone().cpu() for one in self._trained]
                self._write_checkpoint(optimizer, watch, best)
        self.tokens_per_second = tokens / max(1e-9, time.monotonic() - started)
        with torch.no_grad():
            for one, kept in zip(self._trained, best, strict=True):
                one.copy_(kept)

    def _step(self, schedule: Schedule, step: int, optimizer: Any, scaler: Any) -> float:
        """Take one step and return the mean loss per token."""
        import torch

        rows = schedule.rows(step)
        for group in optimizer.param_groups:
            group["lr"] = schedule.rate(step)
        counted = sum(self.learned[row][1].counted for row in rows)

        def compute(part: Sequence[int]) -> float:
            batch = [self.learned[row][1] for row in part]
            loss = summed_loss(self._model, batch, self._pad, self._device) / counted
            if not torch.isfinite(loss):
                raise TrainingError(
                    f"the loss is not a number at step {step + 1}; choose a recipe with a lower "
                    "learning_rate"
                )
            scaler.scale(loss).backward()
            return float(loss.detach())

        def start_over() -> None:
            optimizer.zero_grad(set_to_none=True)
            if self._device != "cpu":
                torch.cuda.empty_cache()

        start_over()
        loss = self._batches.run(rows, compute, start_over)
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(self._trained, 1.0)
        scaler.step(optimizer)
        scaler.update()
        return loss

    def _validation_loss(self) -> float:
        import torch

        self._model.eval()

        def compute(part: Sequence[int]) -> float:
            batch = [self._watched[row] for row in part]
            return float(summed_loss(self._model, batch, self._pad, self._device))

        # Not inference_mode: what libraries cache in it cannot be trained with afterwards.
        with torch.no_grad():
            total = self._batches.run(range(len(self._watched)), compute, lambda: None)
        loss = total / sum(one.counted for one in self._watched)
        if not math.isfinite(loss):
            raise TrainingError("the loss on the validation split is not a number")
        return loss

    def _write_checkpoint(self, optimizer: Any, watch: Watch, best: list[Any]) -> None:
        checkpoint = Checkpoint(
            now=[one.detach().cpu() for one in self._trained],
            best=best,
            optimizer=optimizer.state_dict(),
            steps=self.steps,
            best_loss=watch.best,
            worse=watch.worse,
            batch=self._batches.size,
            losses=self.losses,
        )
        write_checkpoint(self._folder, self._identity, checkpoint)

    def _resume(self, optimizer: Any) -> tuple[Watch, list[Any]]:
        import torch

        found = read_checkpoint(self._folder, self._identity)
        if found is None:
            return Watch(self._recipe.patience), [one.detach().clone() for one in self._trained]
        with torch.no_grad():
            for one, kept in zip(self._trained, found.now, strict=True):
                one.copy_(kept)
        optimizer.load_state_dict(found.optimizer)
        self.steps = self.resumed_at = found.steps
        self.losses = found.losses
        self._batches.size = found.batch
        report_progress(0.0, f"going on after step {self.steps}")
        return Watch(self._recipe.patience, found.best_loss, found.worse), found.best

    def write_adapter(self) -> None:
        """Write the adapter in PEFT's layout, whole or not at all."""
        for config in self._model.peft_config.values():
            config.base_model_name_or_path = self._task["base"]
        with new_folder(self._folder / ADAPTER_DIR) as folder:
            self._model.save_pretrained(str(folder), save_embedding_layers=False)
            (folder / "README.md").unlink(missing_ok=True)

    def save(self) -> dict[str, Any]:
        """Write the adapter, and return what the parent has to know."""
        report_progress(1.0, "writing the adapter")
        self.write_adapter()
        return {
            "backend": self.backend,
            "device": self._device,
            "base_digest": self.digest,
            "chat_template": self.tokenizer.chat_template,
            "max_new_tokens": self.max_new_tokens,
            "learned": [row["request"] for row, _ in self.learned[:TRIED]],
            "steps": self.steps,
            "planned": self.schedule.total,
            "resumed_at": self.resumed_at,
            "batch": self._batches.size,
            "losses": self.losses,
            "left_out": self.left_out,
            "tokens_per_second": self.tokens_per_second,
        }


def _check_end(tokenizer: Any, family: str) -> None:
    wanted = _END_TOKENS.get(family)
    if wanted is not None and tokenizer.eos_token != wanted:
        said = f"the base's answers end with {tokenizer.eos_token!r}, not with {wanted!r}"
        raise TrainingError(f"{said} as its chat_template in supported_models.yaml says")


def _identity(task: dict[str, Any], base: str, backend: str) -> str:
    """Return the digest of everything that a checkpoint must have been made with."""
    kept = {name: task[name] for name in ("recipe", "prompt", "seed", "examples", "target_modules")}
    text = json.dumps({**kept, "base": base, "backend": backend}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def main(arguments: list[str]) -> int:
    """Do the task named on the command line; an error is the last line of standard output."""
    return told(arguments, work)


def set_up(task: dict[str, Any]) -> None:
    """Set what must be set before a run is opened: threads, GPU, and Unsloth's changes."""
    import torch

    torch.set_num_threads(int(task["threads"]))
    if task["device"] == "cuda" and torch.cuda.is_available():
        torch.cuda.set_device(int(task["gpu"]))
        if task["unsloth"]:
            import unsloth  # noqa: F401  # it changes transformers, so it must come first


def work(task: dict[str, Any]) -> None:
    """Train, and leave the adapter and a report in the task's output folder."""
    import torch

    set_up(task)
    started = time.monotonic()
    run = Run(task)
    run.check_disk()
    run.train()
    report = run.save()
    report |= {
        "seconds": time.monotonic() - started,
        "peak_gpu_bytes": torch.cuda.max_memory_allocated() if report["device"] != "cpu" else 0,
    }
    write_atomically(Path(task["output"]) / REPORT_FILE, json.dumps(report).encode())


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
