"""Fine-tune an encoder to label words; runs only in the training environment.

``python -m hermes_apprentice.trainer.finetuned TASK.json``. Needs torch,
transformers, tokenizers and safetensors. Texts and labels come in, held-out
log-probabilities and weights go out; what the labels mean is unknown here.
Devlin et al. (2019), with a slanted learning rate and no layer frozen.
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

_RATE = 2e-4
_HEAD_RATE = 2e-3
_BATCH = 16
_STEPS = 360
_EPOCHS = (3, 25)
_DROPOUT = 0.1
_WEIGHT_DECAY = 0.01
_IGNORED = -100


class Text(NamedTuple):
    """One text, ready for the network."""

    layout: Layout
    """Windows and the places of its words."""

    labels: tuple[tuple[int, ...], ...] | None
    """Number of every word's label, per track; ``None``: not to learn from."""


def main(arguments: Sequence[str]) -> int:
    """Do the task named on the command line."""
    import torch

    task = json.loads(Path(arguments[0]).read_bytes())
    if len(arguments) > 1:
        from hermes_apprentice.trainer.parentage import die_with_parent

        die_with_parent(int(arguments[1]))
    torch.set_num_threads(int(task["threads"]))
    torch.use_deterministic_algorithms(True)
    tokenizer = open_tokenizer(Path(task["tokenizer"]))
    texts = [
        Text(
            lay_out(tokenizer, item["text"], split_words(item["text"])),
            None if item["labels"] is None else tuple(map(tuple, item["labels"])),
        )
        for item in task["texts"]
    ]
    trainer = Finetuner(task, texts)
    output = Path(task["output"])
    parts = task["folds"]
    jobs = len(parts) + bool(task["final"])
    epochs = int(task["epochs"])
    held_out: dict[str, NDArray[Any]] = {}
    for number, part in enumerate(parts):
        learn = sorted(set(range(len(texts))) - set(part))
        watched = part if not epochs else ()
        epochs_done = trainer.fit(learn, watched, epochs, number / jobs, 1 / jobs)
        epochs = epochs or epochs_done
        for place in part:
            for track, table in enumerate(trainer.predict(texts[place])):
                held_out[f"{place}/{track}"] = table
    if parts:
        with (output / HELD_OUT_FILE).open("wb") as stream:
            np.savez(stream, allow_pickle=False, **held_out)
    if task["final"]:
        trainer.fit(range(len(texts)), (), epochs, len(parts) / jobs, 1 / jobs)
        trainer.save(output / WEIGHTS_FILE)
    (output / REPORT_FILE).write_text(json.dumps({"epochs": epochs}), encoding="utf-8")
    return 0


class Finetuner:
    """Fits a fresh copy of the encoder on any part of the texts."""

    def __init__(self, task: dict[str, Any], texts: Sequence[Text]) -> None:
        self._task = task
        self._texts = texts
        self._network: Any = None

    def fit(
        self,
        learn: Sequence[int],
        watched: Sequence[int],
        epochs: int,
        start: float,
        share: float,
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
        self._network = _build(self._task)
        usable = [place for place in learn if self._texts[place].labels is not None]
        windows = [window for place in usable for window in _windows(self._texts[place])]
        per_epoch = max(1, -(-len(windows) // _BATCH))
        planned = int(np.clip(-(-_STEPS // per_epoch), *_EPOCHS))
        optimizer = torch.optim.AdamW(_groups(self._network))
        total = planned * per_epoch
        warm = max(1, total // 10)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer,
            lambda step: min((step + 1) / warm, max(0.0, (total - step) / max(1, total - warm))),
        )
        best, best_share, best_state = planned, -1.0, None
        patience = max(3, planned // 3)
        last = epochs or planned
        for epoch in range(last):
            self._network.train()
            for batch in _batches(windows, rng):
                loss = _loss(self._network, batch)
                if not torch.isfinite(loss):
                    raise SystemExit("the loss is not finite; training was given up")
                optimizer.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(self._network.parameters(), 1.0)
                optimizer.step()
                schedule.step()
            _report(start + share * (epoch + 1) / last, f"epoch {epoch + 1} of at most {last}")
            if watched:
                faultless = self._faultless(watched)
                if faultless >= best_share:
                    best, best_share = epoch + 1, faultless
                    best_state = {
                        name: value.clone() for name, value in self._network.state_dict().items()
                    }
                elif epoch + 1 - best >= patience:
                    break
        if best_state is not None:
            self._network.load_state_dict(best_state)
        return best if watched else last

    def predict(self, text: Text) -> list[NDArray[np.float32]]:
        """Return per track the log-probability of every label, shape ``(words, labels)``."""
        import torch

        self._network.eval()
        count = len(text.layout.places)
        tables = [np.zeros((count, size), np.float32) for size in self._task["tracks"]]
        with torch.no_grad():
            for number, window in enumerate(text.layout.windows):
                inside = np.flatnonzero(text.layout.places[:, 0] == number)
                if not len(inside):
                    continue
                ids = torch.tensor([window])
                outputs = self._network(ids, torch.ones_like(ids))
                at = torch.from_numpy(text.layout.places[inside, 1])
                for table, scores in zip(tables, outputs, strict=True):
                    table[inside] = scores[0][at].log_softmax(-1).numpy()
        return tables

    def save(self, path: Path) -> None:
        """Write the encoder under its BERT names, and the heads."""
        from safetensors.torch import save_file

        tensors = {
            name.removeprefix("encoder."): value.contiguous()
            for name, value in self._network.state_dict().items()
            if name.startswith("encoder.")
        }
        for track, head in enumerate(self._network.heads):
            tensors[f"{HEAD}{track}.weight"] = head.weight.detach().contiguous()
            tensors[f"{HEAD}{track}.bias"] = head.bias.detach().contiguous()
        save_file(tensors, path)

    def _faultless(self, places: Sequence[int]) -> float:
        """Return the share of texts of which every word has its label."""
        right = 0
        for place in places:
            labels = self._texts[place].labels
            tables = self.predict(self._texts[place])
            right += labels is not None and all(
                (table.argmax(axis=1) == np.array(row)).all()
                for table, row in zip(tables, labels, strict=True)
            )
        return right / max(1, len(places))


class _Window(NamedTuple):
    ids: tuple[int, ...]
    targets: list[NDArray[np.int64]]


def _windows(text: Text) -> Iterator[_Window]:
    """Yield each window with the label numbers of its pieces, per track."""
    for number, ids in enumerate(text.layout.windows):
        inside = np.flatnonzero(text.layout.places[:, 0] == number)
        if not len(inside) or text.labels is None:
            continue
        targets = []
        for row in text.labels:
            target = np.full(len(ids), _IGNORED, np.int64)
            target[text.layout.places[inside, 1]] = np.array(row)[inside]
            targets.append(target)
        yield _Window(ids, targets)


def _batches(windows: Sequence[_Window], rng: np.random.Generator) -> Iterator[list[_Window]]:
    """Yield batches of about the same length, in random order."""
    lengths = np.array([len(window.ids) for window in windows])
    order = np.argsort(lengths + rng.uniform(0, 4, len(windows)), kind="stable")
    chunks = [order[at : at + _BATCH] for at in range(0, len(order), _BATCH)]
    for chunk in rng.permutation(len(chunks)):
        yield [windows[place] for place in chunks[chunk]]


def _loss(network: Any, batch: Sequence[_Window]) -> Any:
    import torch

    width = max(len(window.ids) for window in batch)
    ids = torch.zeros((len(batch), width), dtype=torch.long)
    mask = torch.zeros_like(ids)
    tracks = len(batch[0].targets)
    targets = torch.full((tracks, len(batch), width), _IGNORED, dtype=torch.long)
    for row, window in enumerate(batch):
        size = len(window.ids)
        ids[row, :size] = torch.tensor(window.ids)
        mask[row, :size] = 1
        for track, target in enumerate(window.targets):
            targets[track, row, :size] = torch.from_numpy(target)
    outputs = network(ids, mask)
    losses = [
        torch.nn.functional.cross_entropy(
            scores.flatten(0, 1), target.flatten(), ignore_index=_IGNORED
        )
        for scores, target in zip(outputs, targets, strict=True)
    ]
    return torch.stack(losses).mean()


def _build(task: dict[str, Any]) -> Any:
    import torch
    from safetensors.torch import load_file
    from transformers import BertConfig, BertModel

    tensors = load_file(task["weights"])
    prefix = task["prefix"]
    tensors = {
        name.removeprefix(prefix): value.float()
        for name, value in tensors.items()
        if name.startswith(prefix) and "position_ids" not in name and "pooler" not in name
    }
    vocabulary, hidden = tensors["embeddings.word_embeddings.weight"].shape
    config = BertConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        num_hidden_layers=task["layers"],
        num_attention_heads=task["heads"],
        intermediate_size=tensors["encoder.layer.0.intermediate.dense.weight"].shape[0],
        max_position_embeddings=tensors["embeddings.position_embeddings.weight"].shape[0],
        layer_norm_eps=task["layer_norm_eps"],
    )

    class Tagger(torch.nn.Module):  # type: ignore[misc]
        """The encoder with one linear layer per track."""

        def __init__(self) -> None:
            super().__init__()
            self.encoder = BertModel(config, add_pooling_layer=False)
            self.encoder.load_state_dict(tensors)
            self.dropout = torch.nn.Dropout(_DROPOUT)
            self.heads = torch.nn.ModuleList(
                [torch.nn.Linear(hidden, size) for size in task["tracks"]]
            )
            for head in self.heads:
                torch.nn.init.normal_(head.weight, std=0.02)
                torch.nn.init.zeros_(head.bias)

        def forward(self, ids: Any, mask: Any) -> list[Any]:
            """Return every piece's label scores, per track."""
            states = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
            states = self.dropout(states)
            return [head(states) for head in self.heads]

    return Tagger()


def _groups(network: Any) -> list[dict[str, Any]]:
    plain: list[Any] = []
    decayed: list[Any] = []
    heads: list[Any] = []
    for name, value in network.named_parameters():
        kind = heads if name.startswith("heads") else decayed if value.ndim > 1 else plain
        kind.append(value)
    return [
        {"params": decayed, "lr": _RATE, "weight_decay": _WEIGHT_DECAY},
        {"params": plain, "lr": _RATE, "weight_decay": 0.0},
        {"params": heads, "lr": _HEAD_RATE, "weight_decay": 0.0},
    ]


def _report(share: float, doing: str) -> None:
    print(json.dumps({"progress": round(share, 4), "doing": doing}), flush=True)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
