"""Fine-tune an encoder to label words or whole texts; runs only in the training environment.

``python -m hermes_apprentice.trainer.finetuned TASK.json``. Needs torch,
tokenizers and safetensors. Texts and labels come in, held-out
log-probabilities and weights go out; what the labels mean is unknown here.
As Devlin et al. (2019), but with the lower layers frozen: a chain reads those already,
and what it lacks is in the upper ones.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hermes_apprentice.inference.pieces import Layout, lay_out, open_tokenizer
from hermes_apprentice.inference.words import split_words

WEIGHTS_FILE = "weights.safetensors"
HELD_OUT_FILE = "held_out.npz"
REPORT_FILE = "report.json"
HEAD = "head"

_TRAINED_SHARE = 2 / 3
_RATE = 3e-4
_HEAD_RATE = 2e-3
_BATCH = 16
_BATCH_PIECES = 640
_STEPS = 280
_PIECES = 160_000
"""Word pieces, padding included, that one fit reads at most; it bounds the time."""

_EPOCHS = (3, 25)
_DROPOUT = 0.1
_WEIGHT_DECAY = 0.01
_IGNORED = -100
_FORBIDDEN = -1e4


class Text(NamedTuple):
    """One text, ready for the network."""

    layout: Layout
    """Windows and the places of its words."""

    states: list[Any]
    """What the lower layers say of each window."""

    labels: tuple[tuple[int, ...], ...] | None
    """Number of every word's label, per track; ``None``: not to learn from."""


class Finetuner:
    """Fits fresh copies of the upper layers on any part of the texts."""

    def __init__(self, task: dict[str, Any]) -> None:
        """Read the weights, and pass every text through the lower layers."""
        from safetensors.torch import load_file

        from hermes_apprentice.trainer.torch_encoder import Bottom

        self._task = task
        prefix = task["prefix"]
        self._tensors = {
            name.removeprefix(prefix): value
            for name, value in load_file(task["weights"]).items()
            if name.startswith(prefix)
        }
        trained = max(1, round(_TRAINED_SHARE * task["layers"]))
        self._layers = range(task["layers"] - trained, task["layers"])
        bottom = Bottom(self._tensors, self._layers.start, task["heads"], task["layer_norm_eps"])
        tokenizer = open_tokenizer(Path(task["tokenizer"]))
        self._whole = bool(task["whole"])
        self.texts: list[Text] = []
        for item in task["texts"]:
            layout = lay_out(tokenizer, item["text"], split_words(item["text"]))
            if self._whole:  # one label for the text, which its first window gives
                layout = Layout(layout.windows[:1], np.zeros((1, 2), np.int64))
            states = [bottom.states(window) for window in layout.windows]
            labels = item["labels"]
            self.texts.append(
                Text(layout, states, None if labels is None else tuple(map(tuple, labels)))
            )
        self._network: Any = None

    def fit(
        self, learn: Sequence[int], watched: Sequence[int], epochs: int, start: float, share: float
    ) -> int:
        """Fit on ``learn`` and return how many epochs that took.

        Where ``epochs`` is 0 the share of ``watched`` texts labelled without a mistake
        decides: the weights of the best epoch are kept, and the fit ends when it has not
        improved for a third of the epochs. (The loss would not do: it rises with
        over-confidence long before mistakes do.)
        """
        import torch

        seed = int(self._task["seed"])
        torch.manual_seed(seed)
        rng = np.random.default_rng(seed)
        network = self._network = self._fresh()
        windows = [window for place in learn for window in _windows(self.texts[place])]
        batches = _batches(windows, rng)
        planned = _planned_epochs(batches)
        optimizer = torch.optim.AdamW(_groups(network))
        total = planned * len(batches)
        warm = max(1, total // 10)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer,
            lambda step: min((step + 1) / warm, max(0.0, (total - step) / max(1, total - warm))),
        )
        best, best_share, best_state = planned, -1.0, None
        patience = max(3, planned // 3)
        last = min(epochs or planned, planned)
        for epoch in range(last):
            network.train()
            for batch in batches:
                loss = _loss(network, batch, self._whole)
                if not torch.isfinite(loss):
                    raise SystemExit("the loss is not finite; training was given up")
                optimizer.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
                optimizer.step()
                schedule.step()
            batches = _batches(windows, rng)
            _report(start + share * (epoch + 1) / last, f"epoch {epoch + 1} of at most {last}")
            if watched:
                faultless = self._faultless(watched)
                if faultless >= best_share:
                    best, best_share = epoch + 1, faultless
                    best_state = {
                        name: value.clone() for name, value in network.state_dict().items()
                    }
                elif epoch + 1 - best >= patience:
                    break
        if best_state is not None:
            network.load_state_dict(best_state)
        return best if watched else last

    def predict(self, text: Text) -> list[NDArray[np.float32]]:
        """Return per track the log-probability of every label, shape ``(words, labels)``."""
        import torch

        self._network.eval()
        count = len(text.layout.places)
        tables = [np.zeros((count, size), np.float32) for size in self._task["tracks"]]
        with torch.no_grad():
            for number, states in enumerate(text.states):
                inside = np.flatnonzero(text.layout.places[:, 0] == number)
                if not len(inside):
                    continue
                at = torch.from_numpy(text.layout.places[inside, 1])
                for table, scores in zip(tables, self._network(states[None], None), strict=True):
                    found = scores[0].mean(0, keepdim=True) if self._whole else scores[0][at]
                    table[inside] = found.log_softmax(-1).numpy()
        return tables

    def save(self, path: Path) -> None:
        """Write the whole encoder under its BERT names, and the heads."""
        from safetensors.torch import save_file

        from hermes_apprentice.trainer.torch_encoder import layer_name

        tensors = {name: value.float().contiguous() for name, value in self._tensors.items()}
        for number, layer in zip(self._layers, self._network.layers, strict=True):
            tensors |= layer.to_tensors(layer_name(number))
        for track, head in enumerate(self._network.outputs):
            tensors[f"{HEAD}{track}.weight"] = head.weight.detach().contiguous()
            tensors[f"{HEAD}{track}.bias"] = head.bias.detach().contiguous()
        save_file(tensors, path)

    def _fresh(self) -> Any:
        from hermes_apprentice.trainer.torch_encoder import Tagger

        task = self._task
        return Tagger(
            self._tensors,
            self._layers,
            task["heads"],
            task["layer_norm_eps"],
            task["tracks"],
            _DROPOUT,
        )

    def _faultless(self, places: Sequence[int]) -> float:
        """Return the share of texts of which every word has its label."""
        right = 0
        for place in places:
            labels = self.texts[place].labels
            tables = self.predict(self.texts[place])
            right += labels is not None and all(
                (table.argmax(axis=1) == np.array(row)).all()
                for table, row in zip(tables, labels, strict=True)
            )
        return right / max(1, len(places))


class _Window(NamedTuple):
    states: Any
    targets: list[NDArray[np.int64]]


def _windows(text: Text) -> Iterator[_Window]:
    """Yield each window with the label numbers of its pieces, per track."""
    for number, states in enumerate(text.states):
        inside = np.flatnonzero(text.layout.places[:, 0] == number)
        if not len(inside) or text.labels is None:
            continue
        targets = []
        for row in text.labels:
            target = np.full(len(states), _IGNORED, np.int64)
            target[text.layout.places[inside, 1]] = np.array(row)[inside]
            targets.append(target)
        yield _Window(states, targets)


def _batches(windows: Sequence[_Window], rng: np.random.Generator) -> list[list[_Window]]:
    """Return batches of about the same length, in random order."""
    lengths = np.array([len(window.states) for window in windows])
    order = np.argsort(lengths + rng.uniform(0, 4, len(windows)), kind="stable")
    batches: list[list[_Window]] = []
    for place in order:
        # Lengths ascend, but for the jitter, so the newcomer decides how wide the batch gets.
        full = not batches or (
            len(batches[-1]) == _BATCH
            or (len(batches[-1]) + 1) * int(lengths[place]) > _BATCH_PIECES
        )
        if full:
            batches.append([])
        batches[-1].append(windows[place])
    return [batches[place] for place in rng.permutation(len(batches))]


def _planned_epochs(batches: Sequence[Sequence[_Window]]) -> int:
    """Return how many epochs fit the bounds on steps and word pieces."""
    pieces = sum(len(batch) * max(len(window.states) for window in batch) for batch in batches)
    wanted = min(_STEPS / max(1, len(batches)), _PIECES / max(1, pieces))
    return int(np.clip(np.ceil(wanted), *_EPOCHS))


def _loss(network: Any, batch: Sequence[_Window], whole: bool) -> Any:
    """Return the mean loss over labelled pieces, or over texts by the mean of their pieces."""
    import torch

    width = max(len(window.states) for window in batch)
    states = torch.zeros((len(batch), width, batch[0].states.shape[1]))
    mask = torch.full((len(batch), 1, 1, width), _FORBIDDEN)
    tracks = len(batch[0].targets)
    targets = torch.full((tracks, len(batch), width), _IGNORED, dtype=torch.long)
    for row, window in enumerate(batch):
        size = len(window.states)
        states[row, :size] = window.states
        mask[row, :, :, :size] = 0
        for track, target in enumerate(window.targets):
            targets[track, row, :size] = torch.from_numpy(target)
    found = network(states, mask)
    if whole:
        read = (mask[:, 0, 0, :, None] == 0).float()
        found = [
            (scores * read).sum(1, keepdim=True) / read.sum(1, keepdim=True) for scores in found
        ]
        targets = targets[:, :, :1]
    losses = [
        torch.nn.functional.cross_entropy(
            scores.flatten(0, 1), target.flatten(), ignore_index=_IGNORED
        )
        for scores, target in zip(found, targets, strict=True)
    ]
    return torch.stack(losses).mean()


def _groups(network: Any) -> list[dict[str, Any]]:
    plain: list[Any] = []
    decayed: list[Any] = []
    heads: list[Any] = []
    for name, value in network.named_parameters():
        kind = heads if name.startswith("outputs") else decayed if value.ndim > 1 else plain
        kind.append(value)
    return [
        {"params": decayed, "lr": _RATE, "weight_decay": _WEIGHT_DECAY},
        {"params": plain, "lr": _RATE, "weight_decay": 0.0},
        {"params": heads, "lr": _HEAD_RATE, "weight_decay": 0.0},
    ]


def _report(share: float, doing: str) -> None:
    print(json.dumps({"progress": round(share, 4), "doing": doing}), flush=True)


def run(task: dict[str, Any]) -> None:
    """Fit each fold and, where asked, everything; write what was found."""
    trainer = Finetuner(task)
    output = Path(task["output"])
    parts = task["folds"]
    jobs = len(parts) + bool(task["final"])
    epochs = int(task["epochs"])
    everything = range(len(trainer.texts))
    held_out: dict[str, NDArray[Any]] = {}
    for number, part in enumerate(parts):
        learn = sorted(set(everything) - set(part))
        done = trainer.fit(learn, () if epochs else part, epochs, number / jobs, 1 / jobs)
        epochs = epochs or done
        for place in part:
            for track, table in enumerate(trainer.predict(trainer.texts[place])):
                held_out[f"{place}/{track}"] = table
    if parts:
        with (output / HELD_OUT_FILE).open("wb") as stream:
            np.savez(stream, allow_pickle=False, **held_out)
    if task["final"]:
        trainer.fit(everything, (), epochs, len(parts) / jobs, 1 / jobs)
        trainer.save(output / WEIGHTS_FILE)
    (output / REPORT_FILE).write_text(json.dumps({"epochs": epochs}), encoding="utf-8")


def main(arguments: Sequence[str]) -> int:
    """Do the task named on the command line."""
    import torch

    from hermes_apprentice.storage.parentage import die_with_parent

    if len(arguments) > 1:
        die_with_parent(int(arguments[1]))
    task = json.loads(Path(arguments[0]).read_bytes())
    torch.set_num_threads(int(task["threads"]))
    torch.use_deterministic_algorithms(True)
    run(task)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
