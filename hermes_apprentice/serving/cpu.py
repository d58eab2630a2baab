"""The runtime of the kinds that run on a CPU, inside the sidecar's process.

Redacts as the training data was redacted, asks the model, and lets an answer out only if the model
is sure, the answer is of the pattern's shape, and every placeholder in it can be put back. The
gate scores specialists through the same code. Knows nothing about patterns, stages or HTTP.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import NamedTuple, Protocol

from hermes_apprentice.domain.dataset import Dataset
from hermes_apprentice.domain.shape import Kind, Shape
from hermes_apprentice.domain.shape_inference import fits
from hermes_apprentice.domain.specialist import Abstain, Answer, Manifest
from hermes_apprentice.embedding.base import Embedder, Encoding
from hermes_apprentice.errors import ArtefactError
from hermes_apprentice.inference.artefact import load_model
from hermes_apprentice.inference.base import CpuModel, Prediction
from hermes_apprentice.privacy.placeholders import placeholders_in
from hermes_apprentice.privacy.redaction import Redaction, Redactor, restore_answer

NO_REDACTION = "none"
"""What a manifest says where nothing is redacted."""

_BATCH = 64
_THREADS = 2

_log = logging.getLogger(__name__)


class RegisteredArtefact(Protocol):
    """A registered version: what it is, and a verified private copy of its files."""

    @property
    def manifest(self) -> Manifest:
        """What it is."""
        ...

    def checkout(self) -> AbstractContextManager[Path]:
        """Give a verified private copy of its files; gone afterwards."""
        ...


class _Prepared(NamedTuple):
    redaction: Redaction
    encoding: Encoding | None


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
        self._shape = shape
        self._threshold = threshold
        self._embedder = embedder
        self._redactor = redactor
        self._own = (
            ThreadPoolExecutor(_THREADS, thread_name_prefix=f"specialist-{name}")
            if executor is None
            else None
        )
        self._executor = executor or self._own

    async def answer(self, request: str, encoding: Encoding | None = None) -> Answer | Abstain:
        """Answer one request off the event loop."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, self._answer, request, encoding)

    def answer_many(self, requests: Sequence[str]) -> list[Answer | Abstain]:
        """Answer many requests in the calling thread, in batches."""
        answers: list[Answer | Abstain] = []
        for start in range(0, len(requests), _BATCH):
            batch = requests[start : start + _BATCH]
            try:
                answers += self._batch(batch, [None] * len(batch))
            except Exception:  # one bad request must not take its neighbours along
                answers += [self._answer(request, None) for request in batch]
        return answers

    def close(self) -> None:
        """End the threads made here; what they are doing is finished first."""
        if self._own is not None:
            self._own.shutdown(wait=True)

    def _answer(self, request: str, encoding: Encoding | None) -> Answer | Abstain:
        try:
            return self._batch([request], [encoding])[0]
        except Exception as error:  # the edge: whatever a model does, the upstream can answer
            _log.error("the specialist %s failed: %s", self._name, _where(error))
            return Abstain(reason="error")

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
            self._judge(item.redaction, prediction)
            for item, prediction in zip(prepared, predictions, strict=True)
        ]

    def _prepare(self, request: str, encoding: Encoding | None) -> _Prepared:
        if self._redactor is None:
            return _Prepared(Redaction(text=request, mapping={}, counts={}), encoding)
        redaction = self._redactor.redact(request)
        return _Prepared(redaction, encoding if redaction.text == request else None)

    def _encoded(self, prepared: Sequence[_Prepared]) -> list[Encoding]:
        missing = [item.redaction.text for item in prepared if item.encoding is None]
        fresh = iter(self._embedder.encode(missing) if missing else ())
        return [next(fresh) if item.encoding is None else item.encoding for item in prepared]

    def _judge(self, redaction: Redaction, prediction: Prediction) -> Answer | Abstain:
        confidence = prediction.confidence
        unknown = placeholders_in(prediction.text) - placeholders_in(redaction.text)
        if unknown or not fits(self._shape, prediction.text):
            return Abstain(reason="invalid", confidence=confidence)
        text = restore_answer(prediction.text, redaction.mapping)
        if not confidence >= self._threshold:  # not a number is no confidence either
            return Abstain(reason="confidence", confidence=confidence, text=text)
        return Answer(text=text, confidence=confidence)


def load_runtime(
    version: RegisteredArtefact,
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

    def present() -> Redactor:
        if redactor is None:
            raise ArtefactError(
                f"{name} was trained on redacted data, and redaction is switched off now; "
                "set dataset.redact, or train it again"
            )
        return redactor

    runtime = CpuRuntime(
        load_model(folder, embedder),
        name=name,
        shape=dataset.shape,
        threshold=0.0,
        embedder=embedder,
        redactor=redactor_for(dataset.redaction, name, present),
    )
    try:
        yield runtime
    finally:
        runtime.close()


def redactor_for(fingerprint: str, name: str, factory: Callable[[], Redactor]) -> Redactor | None:
    """Return what requests are redacted with, ``None`` where the training data was not.

    Args:
        fingerprint: Of the redactor that the training data went through.
        name: What messages call the specialist.
        factory: Called only if the training data was redacted.

    Raises:
        ArtefactError: The present redactor works by other rules.
    """
    if fingerprint == NO_REDACTION:
        return None
    redactor = factory()
    if redactor.fingerprint != fingerprint:
        raise ArtefactError(
            f"{name} was trained on data that was redacted by other rules ({fingerprint[:12]}) "
            f"than the ones here ({redactor.fingerprint[:12]}); train it again"
        )
    return redactor


def _where(error: BaseException) -> str:
    """Return type and place of an error, without its message: that may quote a request."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return type(error).__name__
    code = trace.tb_frame.f_code
    return f"{type(error).__name__} in {code.co_name} ({Path(code.co_filename).name})"
