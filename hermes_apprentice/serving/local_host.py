"""Runs a base model with adapters in a child process of the training environment.

For machines without a server for generators. One child per base; it ends with whoever started
it. A child that failed is started again, at the earliest after a pause, with the adapters it had.
Knows nothing about specialists.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hermes_apprentice.domain.prompt import Message
from hermes_apprentice.errors import ArtefactError
from hermes_apprentice.settings import child_environment

NAME = "transformers"
"""What manifests call this way of serving."""

_THREADS = 2
_PAUSE_SECONDS = 30.0
_GRACE_SECONDS = 5.0
_PIECE = 1 << 16


class Said(NamedTuple):
    """One answer of a language model."""

    text: str
    """What it wrote."""

    chances: tuple[float, ...]
    """Log-probability of each token, the end of the answer among them."""

    ended: bool
    """Whether it ended by itself, not because it became too long."""


class LocalHost:
    """One base model in a child process; safe to share between threads."""

    def __init__(
        self,
        python: str,
        base: str,
        digest: str,
        *,
        device: str,
        seconds: float,
        start_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start nothing yet.

        Args:
            python: Interpreter of the training environment.
            base: Name or folder of the base model.
            digest: Of its weights; others are refused.
            device: ``cuda`` or ``cpu``.
            seconds: Longest wait for one reply.
            start_seconds: Longest wait for the base to be loaded.
            clock: Seconds, ever increasing.
        """
        self._python = python
        self._base = base
        self._digest = digest
        self._device = device
        self._seconds = seconds
        self._start_seconds = start_seconds
        self._clock = clock
        self._lock = threading.RLock()
        self._child: subprocess.Popen[bytes] | None = None
        self._pending = b""
        self._number = 0
        self._adapters: dict[str, Path] = {}
        self._rests_until = 0.0
        self._closed = False

    @property
    def process(self) -> int | None:
        """The child's process id, or ``None`` while there is none."""
        return self._child.pid if self._child is not None else None

    def load(self, name: str, folder: Path) -> None:
        """Load an adapter; ``folder`` must stay until it is unloaded.

        Raises:
            ArtefactError: The base or the adapter cannot be loaded.
        """
        with self._lock:
            self._ask(do="load", name=name, folder=str(folder))
            self._adapters[name] = folder

    def unload(self, name: str) -> None:
        """Forget an adapter; the child ends with the last one."""
        with self._lock:
            if self._adapters.pop(name, None) is None or self._child is None:
                return
            if not self._adapters:
                self._end()
                return
            try:
                self._ask(do="unload", name=name)
            except ArtefactError:
                self._end()  # without it, a new child is never told of the adapter

    def complete(
        self,
        name: str,
        template: str,
        conversations: Sequence[Sequence[Message]],
        max_new_tokens: int,
    ) -> list[Said]:
        """Answer every conversation greedily.

        Args:
            name: Of a loaded adapter; empty asks the bare base.
            template: The chat template.
            conversations: The messages of each, the last one the user's.
            max_new_tokens: Longest answer.

        Raises:
            ArtefactError: The child failed, or took too long.
        """
        with self._lock:
            told = self._ask(
                do="answer",
                name=name,
                template=template,
                conversations=[[list(message) for message in one] for one in conversations],
                max_new_tokens=max_new_tokens,
            )
        return [Said(str(one["text"]), tuple(one["chances"]), bool(one["ended"])) for one in told]

    def close(self) -> None:
        """End the child for good."""
        with self._lock:
            self._closed = True
            self._end()

    def _ask(self, **wish: Any) -> Any:
        if self._child is None:
            self._start()
        self._number += 1
        try:
            self._write({"id": self._number, **wish})
            said = self._read(self._seconds)
        except (OSError, ArtefactError) as exc:
            self._end()
            self._rests_until = self._clock() + _PAUSE_SECONDS
            raise ArtefactError(f"the process that runs {self._base} failed: {exc}") from exc
        if "error" in said:
            raise ArtefactError(str(said["error"]))
        return said.get("done")

    def _start(self) -> None:
        if self._closed:
            raise ArtefactError("the process that runs generators was ended")
        if self._clock() < self._rests_until:
            raise ArtefactError(f"the process that runs {self._base} failed a moment ago")
        self._pending = b""
        # It must not see signals that are meant for the parent alone, such as Ctrl-C.
        self._child = subprocess.Popen(
            [
                self._python,
                "-m",
                "hermes_apprentice.serving.local_child",
                self._base,
                self._device,
                str(_THREADS),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            env=child_environment(
                OMP_NUM_THREADS=str(_THREADS),
                # Threads that wait must not spin: the sidecar needs the cores.
                OMP_WAIT_POLICY="PASSIVE",
                GOMP_SPINCOUNT="0",
                TOKENIZERS_PARALLELISM="false",
                HF_HUB_OFFLINE="1",
                **({"CUDA_VISIBLE_DEVICES": ""} if self._device == "cpu" else {}),
            ),
        )
        try:
            said = self._read(self._start_seconds)
            if "ready" not in said:
                raise ArtefactError(str(said.get("error", "it said nothing")))
            if said["ready"] != self._digest:
                raise ArtefactError(
                    f"{self._base} has other weights ({said['ready'][:12]}) than the specialist "
                    f"was trained on ({self._digest[:12]}); put the old ones back or train again"
                )
            for name, folder in self._adapters.items():
                self._number += 1
                self._write({"id": self._number, "do": "load", "name": name, "folder": str(folder)})
                problem = self._read(self._seconds).get("error")
                if problem:
                    raise ArtefactError(str(problem))
        except (OSError, ArtefactError) as exc:
            self._end()
            self._rests_until = self._clock() + _PAUSE_SECONDS
            raise ArtefactError(f"{self._base} could not be started: {exc}") from exc

    def _write(self, wish: dict[str, Any]) -> None:
        stream = self._child.stdin if self._child is not None else None
        if stream is None:
            raise ArtefactError("there is no process")
        stream.write(json.dumps(wish).encode() + b"\n")
        stream.flush()

    def _read(self, seconds: float) -> dict[str, Any]:
        stream = self._child.stdout if self._child is not None else None
        if stream is None:
            raise ArtefactError("there is no process")
        deadline = self._clock() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(stream, selectors.EVENT_READ)
            while b"\n" not in self._pending:
                left = deadline - self._clock()
                if left <= 0 or not selector.select(left):
                    raise ArtefactError(f"no reply within {seconds:.0f} seconds")
                piece = os.read(stream.fileno(), _PIECE)
                if not piece:
                    raise ArtefactError("it ended; its last words are in the log")
                self._pending += piece
        line, _, self._pending = self._pending.partition(b"\n")
        try:
            return dict(json.loads(line))
        except (ValueError, TypeError) as exc:
            raise ArtefactError("its reply cannot be read") from exc

    def _end(self) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        for stream in (child.stdin, child.stdout):
            if stream is not None:
                try:
                    stream.close()
                except OSError:
                    continue
        try:
            child.wait(_GRACE_SECONDS)  # it ends with its input
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
