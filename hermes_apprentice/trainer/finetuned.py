"""Fine-tune an encoder to label words or whole texts; runs only in the training environment.

``python -m hermes_apprentice.trainer.finetuned TASK.json``. Needs torch,
tokenizers and safetensors. Texts and labels come in, held-out
log-probabilities and weights go out; what the labels mean is unknown here.
As Devlin et al. (2019), but with the table of word pieces frozen: most of it is never seen in so
few texts. How long a fit may take is bounded: the time of a step is
measured first, and as many epochs are planned as fit.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hermes_apprentice.inference.pieces import Layout, lay_out, open_tokenizer
from hermes_apprentice.inference.words import split_words
from hermes_apprentice.trainer.batches import (
    IGNORED,
    Text,
    Window,
    affordable,
    in_batches,
    pieces_of,
    wanted_epochs,
    windows_of,
)

WEIGHTS_FILE = "weights.safetensors"
HELD_OUT_FILE = "held_out.npz"
REPORT_FILE = "report.json"
HEAD = "head"

_TRAINED_SHARE = 1.0
"""Share of the layers that are trained, from the top; what is below them is computed once."""

_RATE = 3e-4
_HEAD_RATE = 2e-3
_WATCHED = 300
"""Most texts that decide after each epoch whether it was the best."""

_READING = 0.7
"""What labelling a word piece costs beside learning from it: no way back, but text by text."""

_PACE_STEPS = 3
"""Steps whose time is measured."""

_DROPOUT = 0.1
_WEIGHT_DECAY = 0.01
_FORBIDDEN = -1e4


class Fitted(NamedTuple):
    """How long a fit took."""

    epochs: int
    """Epochs up to the weights that were kept."""

    planned: int
    """Epochs that there was time for."""

    wanted: int
    """Epochs that would have been taken with all the time in the world."""

    share: float
    """Share of the texts that there was time to learn from."""


class Finetuner:
    """Fits fresh copies of the layers on any part of the texts."""

    def __init__(self, task: dict[str, Any]) -> None:
        """Read the weights, and pass every text through what stays frozen."""
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
        self._short = _has_bfloat16()
        self._pace = 0.0

    def fit(
        self,
        learn: Sequence[int],
        unseen: Sequence[int],
        epochs: int,
        seconds: float,
        report: Callable[[float, str], None],
    ) -> Fitted:
        """Fit on ``learn``.

        Args:
            learn: Positions of the texts to learn from.
            unseen: Positions of the texts that are labelled afterwards.
            epochs: How many epochs to take; 0 lets some of the unseen texts tell.
            seconds: Work of this thread that the fit may take; by the clock it is as long on a
                machine that does nothing else.
            report: Told how far the fit is.

        Where ``epochs`` is 0 the share of unseen texts labelled without a mistake
        decides: the weights of the best epoch are kept, and the fit ends when it has not
        improved for a third of the epochs. (The loss would not do: it rises with
        over-confidence long before mistakes do.)
        """
        import torch

        seed = int(self._task["seed"])
        torch.manual_seed(seed)
        rng = np.random.default_rng(seed)
        windows = [window for place in learn for window in windows_of(self.texts[place])]
        batches = in_batches(windows, rng)
        watched = [] if epochs else [unseen[n] for n in rng.permutation(len(unseen))[:_WATCHED]]
        began = time.thread_time()
        self._pace = self._pace or self._measured(batches)
        left = seconds - (time.thread_time() - began) - self._pace * self._read_pieces(unseen)
        wanted = wanted_epochs(batches)
        per_epoch = self._pace * (pieces_of(batches) + self._read_pieces(watched))
        planned, share = affordable(wanted, left / max(1e-9, per_epoch))
        if share < 1:
            kept = rng.permutation(len(windows))[: max(1, round(share * len(windows)))]
            windows = [windows[place] for place in kept]
            batches = in_batches(windows, rng)
        torch.manual_seed(seed)
        network = self._network = self._fresh()
        optimizer = _optimizer(network)
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
                self._step(network, optimizer, batch)
                schedule.step()
            batches = in_batches(windows, rng)
            report((epoch + 1) / last, f"epoch {epoch + 1} of at most {last}")
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
        return Fitted(best if watched else last, planned, wanted, share)

    def _step(self, network: Any, optimizer: Any, batch: Sequence[Window]) -> None:
        import torch

        with torch.autocast("cpu", torch.bfloat16, enabled=self._short):
            loss = _loss(network, batch, self._whole)
        if not torch.isfinite(loss):
            raise SystemExit("the loss is not finite; training was given up")
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()

    def _measured(self, batches: Sequence[Sequence[Window]]) -> float:
        """Return the seconds that one word piece takes, by a few steps that are thrown away."""
        network = self._network = self._fresh()
        network.train()
        optimizer = _optimizer(network)
        self._step(network, optimizer, batches[0])  # the first one also gets memory and kernels
        some = batches[:_PACE_STEPS]
        began = time.thread_time()
        for batch in some:
            self._step(network, optimizer, batch)
        return (time.thread_time() - began) / max(1, pieces_of(some))

    def _read_pieces(self, places: Sequence[int]) -> float:
        """Return as how many learned word pieces it counts to label some texts."""
        windows = (window for place in places for window in self.texts[place].states)
        return _READING * sum(map(len, windows))

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


def _optimizer(network: Any) -> Any:
    import torch

    # One kernel for all weights: the plain loop takes a fifth of a step on a CPU.
    return torch.optim.AdamW(_groups(network), fused=True)


def _has_bfloat16() -> bool:
    """Whether this processor multiplies in bfloat16, which is about twice as fast."""
    import torch

    known: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(known.get("avx512_bf16") or known.get("amx_bf16"))


def _loss(network: Any, batch: Sequence[Window], whole: bool) -> Any:
    """Return the mean loss over labelled pieces, or over texts by the mean of their pieces."""
    import torch

    width = max(len(window.states) for window in batch)
    states = torch.zeros((len(batch), width, batch[0].states.shape[1]))
    mask = torch.full((len(batch), 1, 1, width), _FORBIDDEN)
    tracks = len(batch[0].targets)
    targets = torch.full((tracks, len(batch), width), IGNORED, dtype=torch.long)
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
            scores.flatten(0, 1), target.flatten(), ignore_index=IGNORED
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
    began = time.thread_time()
    trainer = Finetuner(task)
    output = Path(task["output"])
    parts = task["folds"]
    epochs = int(task["epochs"])
    everything = range(len(trainer.texts))
    rounds = [(sorted(set(everything) - set(part)), part) for part in parts]
    if task["final"]:
        rounds.append((list(everything), []))
    held_out: dict[str, NDArray[Any]] = {}
    planned = wanted = 0
    texts = 1.0
    for number, (learn, part) in enumerate(rounds):
        ahead = sum(len(learned) for learned, _ in rounds[number:])
        left = float(task["seconds"]) - (time.thread_time() - began)

        def report(share: float, doing: str, number: int = number) -> None:
            _report((number + share) / len(rounds), doing)

        fitted = trainer.fit(learn, part, epochs, left * len(learn) / max(1, ahead), report)
        epochs = epochs or fitted.epochs
        planned, wanted = fitted.planned, max(wanted, fitted.wanted)
        texts = min(texts, fitted.share)
        for place in part:
            for track, table in enumerate(trainer.predict(trainer.texts[place])):
                held_out[f"{place}/{track}"] = table
    if parts:
        with (output / HELD_OUT_FILE).open("wb") as stream:
            np.savez(stream, allow_pickle=False, **held_out)
    if task["final"]:
        trainer.save(output / WEIGHTS_FILE)
    told = {
        "epochs": epochs,
        "planned": planned,
        "wanted": wanted,
        "share": texts,
        "seconds": time.thread_time() - began,
    }
    (output / REPORT_FILE).write_text(json.dumps(told), encoding="utf-8")


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
