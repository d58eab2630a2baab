"""Load generators without keeping anybody waiting.

A base model takes up to minutes until it answers. It is loaded in a thread of its own, and until
then the specialist is a problem with a reason, so its requests go to the upstream.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Set
from concurrent.futures import Future, ThreadPoolExecutor

from hermes_apprentice.embedding.base import Embedder
from hermes_apprentice.errors import ApprenticeError, ArtefactError, MissingExtraError
from hermes_apprentice.privacy.redaction import Redactor
from hermes_apprentice.registry.registry import RegisteredVersion
from hermes_apprentice.serving.generators import GeneratorHosts, GeneratorRuntime
from hermes_apprentice.settings import Settings
from hermes_apprentice.trainer.environment import find_train_python
from hermes_apprentice.trainer.hardware import serving_device

_PAUSE_SECONDS = 120.0
"""Between two tries to load a generator that could not be loaded."""

Key = tuple[str, int, object]
"""Slug, version, and what its files looked like."""


class HeavyLoader:
    """Opens generators in the background and closes those that are not wanted any more."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="apprentice-generator")
        self._hosts: GeneratorHosts | None = None
        self._opening: dict[Key, Future[GeneratorRuntime]] = {}
        self._failed: dict[Key, float] = {}

    @property
    def stamp(self) -> object:
        """Return something that differs when another generator is ready, or may be tried again."""
        return tuple(
            (key[0], key[1], future.done(), self._may_try_again(key))
            for key, future in list(self._opening.items())
        )

    def runtime(
        self,
        key: Key,
        version: RegisteredVersion,
        embedder: Embedder,
        redactor_factory: Callable[[], Redactor],
    ) -> GeneratorRuntime:
        """Return a generator that is ready.

        Raises:
            ArtefactError: It is being loaded, or could not be.
        """
        future = self._opening.get(key)
        if future is None or self._may_try_again(key):
            self._failed.pop(key, None)
            future = self._executor.submit(self._open, version, embedder, redactor_factory)
            self._opening[key] = future
        if not future.done():
            raise ArtefactError("its base model is being loaded; the upstream answers meanwhile")
        try:
            return future.result()
        except ApprenticeError:
            self._failed.setdefault(key, time.monotonic())
            raise
        except OSError as exc:
            self._failed.setdefault(key, time.monotonic())
            raise ArtefactError(f"it could not be loaded: {exc}") from exc

    def _may_try_again(self, key: Key) -> bool:
        failed = self._failed.get(key)
        return failed is not None and time.monotonic() - failed >= _PAUSE_SECONDS

    def keep(self, keys: Set[Key]) -> None:
        """Close every generator but these."""
        for key in [key for key in self._opening if key not in keys]:
            self._failed.pop(key, None)
            self._let_go(self._opening.pop(key))

    def close(self) -> None:
        """End everything, base models included."""
        self._executor.shutdown(wait=False, cancel_futures=True)
        if self._hosts is not None:
            self._hosts.close()
        self.keep(set())

    def _let_go(self, future: Future[GeneratorRuntime]) -> None:
        def close(done: Future[GeneratorRuntime]) -> None:
            if not done.cancelled() and done.exception() is None:
                done.result().close()

        future.cancel()
        future.add_done_callback(close)

    def _open(
        self,
        version: RegisteredVersion,
        embedder: Embedder,
        redactor_factory: Callable[[], Redactor],
    ) -> GeneratorRuntime:
        if self._hosts is None:
            python = find_train_python(self._settings.trainer.train_python)
            if python is None:
                raise MissingExtraError("running a generator", "generate")
            wanted = self._settings.generator
            device = serving_device(python, on_cpu=wanted.on_cpu)
            self._hosts = GeneratorHosts(python, device=device, seconds=wanted.answer_seconds)
        return self._hosts.load_runtime(version, embedder, redactor_factory)
