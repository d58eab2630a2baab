"""The runtime of the kinds that run on a CPU, inside the sidecar's process.

Asks the model off the event loop; requests that wait at the same time are taken together. What
may go in and out, the guard decides. The gate scores specialists through the same code. Knows
nothing about patterns, stages or HTTP.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import NamedTuple, Protocol

from hermes_apprentice.domain.dataset import Dataset
from hermes_apprentice.domain.shape import Kind, Shape
from hermes_apprentice.domain.specialist import Abstain, Answer, Manifest
from hermes_apprentice.embedding.base import Embedder, Encoding
from hermes_apprentice.errors import ArtefactError, place_of
from hermes_apprentice.inference.artefact import load_model
from hermes_apprentice.inference.base import CpuModel
from hermes_apprentice.privacy.redaction import Redaction, Redactor
from hermes_apprentice.serving.guard import Guard, present, redactor_for

_BATCH = 64
_WAITING_BATCH = 8
_THREADS = 2

_log = logging.getLogger(__name__)


class _Artefact(Protocol):
    """A registered version: what it is, and a verified private copy of its files."""

    @property
    def manifest(self) -> Manifest: ...

    def checkout(self) -> AbstractContextManager[Path]: ...


class _Prepared(NamedTuple):
    redaction: Redaction
    encoding: Encoding | None


class _Waiting(NamedTuple):
    request: str
    encoding: Encoding | None
    answer: Future[Answer | Abstain]


class CpuRuntime:
    """One loaded classifier or extractor; safe to share between threads."""

    def __init__(
        self,
        model: CpuModel,
        *,
        name: str,
        shape: Shape,
        threshold: float,
        embedder: Embedder,
        redactor: Redactor | None,
        executor: Executor | None = None,
    ) -> None:
        """Serve ``model``.

        Args:
            model: The loaded model.
            name: What the log calls it.
            shape: What answers must look like.
            threshold: Confidence below which it abstains.
            embedder: Makes encodings where none are handed over.
            redactor: What the training data was redacted with, ``None`` for raw text.
            executor: Threads to compute in; ``None`` makes two of its own.
        """
        self._model = model
        self._name = name
        self._guard = Guard(shape=shape, threshold=threshold, redactor=redactor)
        self._embedder = embedder
        self._own = (
            ThreadPoolExecutor(_THREADS, thread_name_prefix=f"specialist-{name}")
            if executor is None
            else None
        )
        self._executor: Executor = executor or self._own  # type: ignore[assignment]
        self._waiting: deque[_Waiting] = deque()
        self._workers = 0
        self._lock = threading.Lock()

    async def answer(self, request: str, encoding: Encoding | None = None) -> Answer | Abstain:
        """Answer one request off the event loop, together with others that wait.

        Whoever stops waiting before its turn has come is not computed for.
        """
        waiting = _Waiting(request, encoding, Future())
        with self._lock:
            self._waiting.append(waiting)
            # What waits is taken together only where nobody is free to take it at once.
            needed = self._workers < _THREADS
            self._workers += needed
        if needed:
            try:
                self._executor.submit(self._work)
            except BaseException:
                with self._lock:
                    self._workers -= 1
                raise
        return await asyncio.wrap_future(waiting.answer)

    def answer_many(self, requests: Sequence[str]) -> list[Answer | Abstain]:
        """Answer many requests in the calling thread, in batches."""
        answers: list[Answer | Abstain] = []
        for start in range(0, len(requests), _BATCH):
            batch = requests[start : start + _BATCH]
            answers += self._answers(batch, [None] * len(batch))
        return answers

    def close(self) -> None:
        """End the threads made here once they have done what they are doing; nobody waits."""
        if self._own is not None:
            self._own.shutdown(wait=False)

    def _work(self) -> None:
        """Answer what waits, a batch at a time, until nothing does."""
        while True:
            with self._lock:
                taken = [
                    self._waiting.popleft() for _ in range(min(_WAITING_BATCH, len(self._waiting)))
                ]
                if not taken:
                    self._workers -= 1
                    return
            batch = [one for one in taken if one.answer.set_running_or_notify_cancel()]
            answers = self._answers([one.request for one in batch], [one.encoding for one in batch])
            for one, answer in zip(batch, answers, strict=True):
                one.answer.set_result(answer)

    def _answers(
        self, requests: Sequence[str], encodings: Sequence[Encoding | None]
    ) -> list[Answer | Abstain]:
        if not requests:
            return []
        try:
            return self._batch(requests, encodings)
        except Exception as error:  # the edge: whatever a model does, the upstream can answer
            if len(requests) == 1:
                _log.error("the specialist %s failed: %s", self._name, place_of(error))
                return [Abstain(reason="error")]
            # One bad request must not take its neighbours along.
            return [
                self._answers([request], [encoding])[0]
                for request, encoding in zip(requests, encodings, strict=True)
            ]

    def _batch(
        self, requests: Sequence[str], encodings: Sequence[Encoding | None]
    ) -> list[Answer | Abstain]:
        prepared = [
            self._prepare(request, encoding)
            for request, encoding in zip(requests, encodings, strict=True)
        ]
        predictions = self._model.predict(
            [item.redaction.text for item in prepared],
            self._encoded(prepared) if self._model.reads_encodings else None,
        )
        return [
            self._guard.judge(item.redaction, prediction.text, prediction.confidence)
            for item, prediction in zip(prepared, predictions, strict=True)
        ]

    def _prepare(self, request: str, encoding: Encoding | None) -> _Prepared:
        redaction = self._guard.redact(request)
        return _Prepared(redaction, encoding if redaction.text == request else None)

    def _encoded(self, prepared: Sequence[_Prepared]) -> list[Encoding]:
        missing = [item.redaction.text for item in prepared if item.encoding is None]
        fresh = iter(self._embedder.encode(missing) if missing else ())
        return [next(fresh) if item.encoding is None else item.encoding for item in prepared]


def load_runtime(
    version: _Artefact,
    embedder: Embedder,
    redactor_factory: Callable[[], Redactor],
    executor: Executor | None = None,
) -> CpuRuntime:
    """Return the runtime of a registered version, read from a verified private copy.

    Args:
        version: From the registry.
        embedder: Must be the one it was trained on.
        redactor_factory: Called only if the training data was redacted.
        executor: Threads to compute in; ``None`` makes some.

    Raises:
        ArtefactError: It needs another embedder, another redactor, or another runtime.
        SignatureError: A file changed after the version was opened.
    """
    manifest = version.manifest
    name = f"{manifest.slug} version {manifest.version}"
    if manifest.kind is Kind.GENERATOR:
        raise ArtefactError(f"{name} is a generator, which does not run inside the sidecar")
    if manifest.embedder != embedder.digest:
        raise ArtefactError(
            f"{name} was trained on the embedder {manifest.embedder[:12]}, this is {embedder.name} "
            f"{embedder.digest[:12]}; train it again, or set models.embedder back"
        )
    redactor = redactor_for(manifest.redaction, name, redactor_factory)
    with version.checkout() as folder:
        model = load_model(folder, embedder)
    return CpuRuntime(
        model,
        name=name,
        shape=manifest.shape,
        threshold=manifest.verdict.threshold,
        embedder=embedder,
        redactor=redactor,
        executor=executor,
    )


@contextmanager
def open_artefact(
    folder: Path, dataset: Dataset, embedder: Embedder, redactor: Redactor | None
) -> Iterator[CpuRuntime]:
    """Give the runtime of an artefact that is not registered yet, for the gate to score.

    It abstains from nothing but answers of the wrong shape: the gate chooses the threshold.

    Raises:
        ArtefactError: It needs another embedder or redactor than these.
    """
    name = folder.parent.name
    runtime = CpuRuntime(
        load_model(folder, embedder),
        name=name,
        shape=dataset.shape,
        threshold=0.0,
        embedder=embedder,
        redactor=redactor_for(dataset.redaction, name, present(redactor, name)),
    )
    try:
        yield runtime
    finally:
        runtime.close()
