"""Generators behind the same runtime as the other kinds, on a base in a child process.

One host per base is shared by all specialists on it. What the gate judged is what is served: a
version is opened only if its manifest says that it was judged this way. Knows nothing about
stages and requests.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

from hermes_apprentice.domain.dataset import Dataset
from hermes_apprentice.domain.specialist import Manifest
from hermes_apprentice.embedding.base import Embedder
from hermes_apprentice.errors import ArtefactError
from hermes_apprentice.inference.artefact import read_artefact
from hermes_apprentice.inference.generator import GeneratorCard, read_card
from hermes_apprentice.privacy.redaction import Redactor
from hermes_apprentice.serving.cpu import CpuRuntime
from hermes_apprentice.serving.guard import SERVED_BY, present, redactor_for
from hermes_apprentice.serving.local_generator import LocalGenerator
from hermes_apprentice.serving.local_host import NAME, LocalHost

_START_SECONDS = 900.0


class RegisteredArtefact(Protocol):
    """A registered version: what it is, and a verified private copy of its files."""

    @property
    def manifest(self) -> Manifest:
        """What it is."""
        ...

    def checkout(self) -> AbstractContextManager[Path]:
        """Give the copy; gone afterwards."""
        ...


class GeneratorRuntime(CpuRuntime):
    """A generator; closing it gives its adapter's memory back."""

    def __init__(self, generator: LocalGenerator, folder: Path | None, **rest: object) -> None:
        """Serve ``generator``; ``folder`` is removed when it is closed."""
        super().__init__(generator, **rest)  # type: ignore[arg-type]
        self._generator = generator
        self._folder = folder

    def close(self) -> None:
        """Finish what is being answered, then let go of the adapter."""
        super().close()
        self._generator.close()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


class GeneratorHosts:
    """The bases that run here; safe to share between threads."""

    def __init__(self, python: str, *, device: str, seconds: float) -> None:
        """Start nothing yet.

        Args:
            python: Interpreter of the training environment.
            device: ``cuda`` or ``cpu``.
            seconds: Longest wait for a batch of answers.
        """
        self._python = python
        self._device = device
        self._seconds = seconds
        self._lock = threading.Lock()
        self._hosts: dict[tuple[str, str], LocalHost] = {}

    def host(self, card: GeneratorCard) -> LocalHost:
        """Return the host of a generator's base."""
        with self._lock:
            key = (card.base_model, card.base_digest)
            if key not in self._hosts:
                self._hosts[key] = LocalHost(
                    self._python,
                    card.base_model,
                    card.base_digest,
                    device=self._device,
                    seconds=self._seconds,
                    start_seconds=_START_SECONDS,
                )
            return self._hosts[key]

    def close(self) -> None:
        """End every child."""
        with self._lock:
            hosts, self._hosts = list(self._hosts.values()), {}
        for host in hosts:
            host.close()

    def load_runtime(
        self,
        version: RegisteredArtefact,
        embedder: Embedder,
        redactor_factory: Callable[[], Redactor],
        executor: Executor | None = None,
    ) -> GeneratorRuntime:
        """Return the runtime of a registered generator, from a verified private copy.

        Raises:
            ArtefactError: It was judged through another way of serving, or cannot be loaded.
            SignatureError: A file changed after the version was opened.
        """
        manifest = version.manifest
        name = f"{manifest.slug} version {manifest.version}"
        judged = dict(manifest.recipe).get(SERVED_BY, "")
        if judged != NAME:
            raise ArtefactError(
                f"{name} was judged as served by {judged or 'something unknown'}, not by {NAME}; "
                "set that server up again, or train it again"
            )
        redactor = redactor_for(manifest.redaction, name, redactor_factory)
        # Unlike other kinds its files are read again when the child has to be started again.
        folder = Path(tempfile.mkdtemp(prefix="apprentice-adapter-"))
        try:
            with version.checkout() as verified:
                shutil.copytree(verified, folder, dirs_exist_ok=True)
            card = read_card(folder)
            digest = next(
                (file.sha256 for file in manifest.files if file.path.endswith(".safetensors")), ""
            )
            unique = f"{manifest.slug}-{manifest.version}-{digest[:12]}-{folder.name[-8:]}"
            generator = LocalGenerator(self.host(card), unique, card, folder)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return GeneratorRuntime(
            generator,
            folder,
            name=name,
            shape=manifest.shape,
            threshold=manifest.verdict.threshold,
            embedder=embedder,
            redactor=redactor,
            executor=executor,
        )


@contextmanager
def open_generator(
    folder: Path,
    dataset: Dataset,
    hosts: GeneratorHosts,
    embedder: Embedder,
    redactor: Redactor | None,
) -> Iterator[tuple[GeneratorRuntime, GeneratorCard]]:
    """Give the runtime of a generator that is not registered yet, for the gate to score.

    It abstains from nothing but answers of the wrong shape: the gate chooses the threshold.

    Raises:
        ArtefactError: It cannot be loaded, or needs another redactor.
    """
    name = folder.parent.name
    read_artefact(folder)

    card = read_card(folder)
    wanted = redactor_for(dataset.redaction, name, present(redactor, name))
    generator = LocalGenerator(
        hosts.host(card), f"judged-{folder.parent.parent.name}", card, folder
    )
    runtime = GeneratorRuntime(
        generator,
        None,
        name=name,
        shape=dataset.shape,
        threshold=0.0,
        embedder=embedder,
        redactor=wanted,
    )
    try:
        yield runtime, card
    finally:
        runtime.close()
