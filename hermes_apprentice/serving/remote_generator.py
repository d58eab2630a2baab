"""The runtime of generators: an adapter on a model server, behind the same guard as every kind.

The request is redacted and put to the adapter as in training; how sure it is follows from the
probabilities of the tokens that it chose. **A server that gives no probabilities makes nobody
sure**: such answers have the confidence 0, which only a version passes whose threshold is 0,
that is, one that the gate passed without needing any. Knows nothing about stages or HTTP.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Protocol

from hermes_apprentice.domain.dataset import Dataset
from hermes_apprentice.domain.prompt import Message, render
from hermes_apprentice.domain.shape import Shape
from hermes_apprentice.domain.specialist import Abstain, Answer, Manifest
from hermes_apprentice.embedding.base import Encoding
from hermes_apprentice.errors import ArtefactError, NotReadyError, ServingError, place_of
from hermes_apprentice.inference.generator import confidence_of
from hermes_apprentice.privacy.redaction import Redactor
from hermes_apprentice.serving.adapter import Adapter, open_adapter
from hermes_apprentice.serving.guard import (
    SERVED_BY,
    Guard,
    present,
    redactor_for,
)
from hermes_apprentice.serving.remote_host import RemoteHost
from hermes_apprentice.settings import Settings

NAME = "model-server"
"""What manifests call this way of serving."""

AT_ONCE = 8
"""Requests of the gate that run at the same time."""

UNREGISTERED = "gate"
"""Stands for the number of a version that has none yet."""

_log = logging.getLogger(__name__)


class _Artefact(Protocol):
    """A registered version: what it is, and a verified private copy of its files."""

    @property
    def manifest(self) -> Manifest: ...

    def checkout(self, within: Path | None = None) -> AbstractContextManager[Path]: ...


class RemoteGenerator:
    """One adapter; safe to share between threads."""

    def __init__(
        self,
        host: RemoteHost,
        adapter: Adapter,
        *,
        shape: Shape,
        threshold: float,
        redactor: Redactor | None,
        deadline: float | None = None,
    ) -> None:
        """Serve ``adapter``, which the host already has.

        Args:
            host: Where it is loaded.
            adapter: What to ask.
            shape: What answers must look like.
            threshold: Confidence below which it abstains.
            redactor: What the training data was redacted with, ``None`` for raw text.
            deadline: Seconds that an answer may take; ``None`` leaves that to the caller.
        """
        self.adapter = adapter
        self._host = host
        self._guard = Guard(shape=shape, threshold=threshold, redactor=redactor)
        self._deadline = deadline

    async def answer(self, request: str, encoding: Encoding | None = None) -> Answer | Abstain:
        """Answer one request off the caller's event loop; never raises for a request.

        Whoever stops waiting ends the generation as well.
        """
        try:
            asked = self._host.submit(self._answer(request))
        except NotReadyError:
            return Abstain(reason="unavailable")
        return await asyncio.wrap_future(asked)

    def answer_many(self, requests: Sequence[str]) -> list[Answer | Abstain]:
        """Answer many requests, a few at a time, from a thread without an event loop."""

        async def everyone() -> list[Answer | Abstain]:
            room = asyncio.Semaphore(AT_ONCE)

            async def one(request: str) -> Answer | Abstain:
                async with room:
                    return await self._answer(request)

            return list(await asyncio.gather(*map(one, requests)))

        return self._host.submit(everyone()).result()

    def close(self) -> None:
        """Have the adapter unloaded once its requests are answered; returns at once."""
        self._host.remove(self.adapter)

    def bare(self, conversations: Sequence[Sequence[Message]]) -> list[str | None]:
        """Return what the base without the adapter says; ``None`` where it was cut off.

        Raises:
            ServingError: The server failed.
        """
        told = self._host.complete_bare(conversations, self.adapter.card)
        return [one.text if one.finish == "stop" else None for one in told]

    async def _answer(self, request: str) -> Answer | Abstain:
        try:
            async with asyncio.timeout(self._deadline):
                return await self._generated(request)
        except TimeoutError:
            return Abstain(reason="deadline")
        except NotReadyError:
            return Abstain(reason="unavailable")
        except ServingError as error:
            _log.error("%s did not answer: %s", self.adapter.label, error)
            return Abstain(reason="error")
        except Exception as error:  # the edge: whatever fails here, the upstream can answer
            _log.error("%s failed: %s", self.adapter.label, place_of(error))
            return Abstain(reason="error")

    async def _generated(self, request: str) -> Answer | Abstain:
        redaction = await asyncio.to_thread(self._guard.redact, request)
        messages = render(self.adapter.card.prompt, redaction.text)
        completion = await self._host.complete(self.adapter, messages)
        sure = (
            confidence_of(completion.log_probabilities)
            if completion.log_probabilities is not None
            else 0.0
        )
        if completion.finish != "stop":
            reason = "length" if completion.finish == "length" else "invalid"
            return Abstain(reason=reason, confidence=sure)
        return self._guard.judge(redaction, completion.text, sure)


def load_remote(
    version: _Artefact,
    host: RemoteHost,
    redactor_factory: Callable[[], Redactor],
    deadline: float | None = None,
) -> RemoteGenerator:
    """Return the runtime of a registered generator; its adapter is loaded in the background.

    Args:
        version: From the registry.
        host: Serves the adapter from a verified private copy, until the runtime is closed.
        redactor_factory: Called only if the training data was redacted.
        deadline: Seconds that an answer may take.

    Raises:
        ArtefactError: It needs another redactor, was judged through another way of serving, or
            its card is damaged.
        AdapterError: It has no adapter.
        ConfigError: No model server is configured.
        SignatureError: A file changed after the version was opened.
    """
    manifest = version.manifest
    name = f"{manifest.slug} version {manifest.version}"
    judged = dict(manifest.recipe).get(SERVED_BY, NAME)
    # Whoever names a model for it has decided; the canary and the rollout still watch it.
    if judged != NAME and not host.has_own(manifest.slug):
        raise ArtefactError(
            f"{name} was judged as served by {judged}, not by a model server, which rounds "
            "otherwise; set vllm.server back, or train it again"
        )
    redactor = redactor_for(manifest.redaction, name, redactor_factory)
    with ExitStack() as stack:
        adapter = open_adapter(
            stack.enter_context(version.checkout(host.shelf())),
            slug=manifest.slug,
            version=str(manifest.version),
            files=manifest.files,
        )
        host.add(adapter, stack.pop_all().close)
    return RemoteGenerator(
        host,
        adapter,
        shape=manifest.shape,
        threshold=manifest.verdict.threshold,
        redactor=redactor,
        deadline=deadline,
    )


@contextmanager
def open_remote(
    folder: Path, dataset: Dataset, settings: Settings, redactor: Redactor | None
) -> Iterator[RemoteGenerator]:
    """Give the runtime of a generator that is not registered yet, for the gate to score.

    Starts a server as the settings say, or asks the one that runs, and unloads the adapter
    afterwards. It abstains from nothing but answers of the wrong shape.

    Raises:
        ArtefactError: Its card is damaged, or it needs another redactor.
        ServingError: The server did not come up, or refused the adapter.
        ConfigError: No server is configured.
    """
    name = folder.parent.name
    needed = redactor_for(dataset.redaction, name, present(redactor, name))
    adapter = open_adapter(folder, slug=name, version=UNREGISTERED)
    host = RemoteHost(settings)
    try:
        host.add(adapter, lambda: None)
        host.wait_ready(adapter, settings.vllm.start_seconds)
        runtime = RemoteGenerator(
            host, adapter, shape=dataset.shape, threshold=0.0, redactor=needed
        )
        yield runtime
        host.take_out(adapter)
    finally:
        host.close()
