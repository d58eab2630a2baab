"""Load verified specialists and the matcher from the registry.

One bad version keeps only itself out. Versions whose files have not changed are
not loaded twice. Knows nothing about stages, shares or requests.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from hermes_apprentice.domain.merge import MERGED_FROM
from hermes_apprentice.domain.routing import FILTER_FILE, MATCHER_FILE
from hermes_apprentice.domain.shape import Kind
from hermes_apprentice.domain.specialist import Abstain, Envelope
from hermes_apprentice.embedding.base import Encoding
from hermes_apprentice.embedding.onnx_embedder import OnnxEmbedder, open_embedder
from hermes_apprentice.embedding.store import ModelStore
from hermes_apprentice.embedding.views import RECIPE, matching_dimension
from hermes_apprentice.errors import ApprenticeError, ArtefactError, place_of
from hermes_apprentice.inference.mapped import mapped
from hermes_apprentice.privacy.redaction import Redactor
from hermes_apprentice.registry.matchers import MATCHER_FOLDER
from hermes_apprentice.registry.registry import Registry
from hermes_apprentice.registry.signing import load_or_create_keys
from hermes_apprentice.router.heavy import HeavyLoader
from hermes_apprentice.router.matcher import EmbeddingMatcher
from hermes_apprentice.router.specialists import Loaded, Loading
from hermes_apprentice.serving.adapter import digest_of
from hermes_apprentice.serving.cpu import load_runtime
from hermes_apprentice.serving.guard import SERVED_BY
from hermes_apprentice.serving.local_host import NAME
from hermes_apprentice.serving.remote_generator import load_remote
from hermes_apprentice.serving.remote_host import RemoteHost
from hermes_apprentice.serving.runtime import Runtime
from hermes_apprentice.settings import Settings
from hermes_apprentice.statistics.open_set import OpenSetModel
from hermes_apprentice.statistics.word_filter import WordFilter
from hermes_apprentice.storage.database import Database
from hermes_apprentice.storage.transfers import MATCHER, highest_number

EMBEDDER_DETAIL = "embedder"
"""The entry in a matcher's details that names the embedder it was fitted on."""

VECTOR_DETAIL = "vector"
"""The entry that names how its vectors are made."""

DIGEST_LENGTH = 12
"""Characters of a version's digest that headers and the ledger carry."""

THREADS = 2
"""Threads that compute matches, and as many that compute each specialist's answers: one that
hangs keeps neither requests from being matched nor another specialist from answering."""

_log = logging.getLogger(__name__)

_Files = tuple[tuple[str, int, int], ...]


class RegistrySource:
    """Loads from the registry, the key folder and the model store of the settings."""

    def __init__(self, settings: Settings, *, answering: bool = True) -> None:
        """Load nothing yet.

        Args:
            settings: Everything that can be set.
            answering: Whether generators will be asked; otherwise no model server is started.
        """
        self._settings = settings
        self._answering = answering
        self._executor = ThreadPoolExecutor(THREADS, thread_name_prefix="apprentice-model")
        self._embedder: OnnxEmbedder | None = None
        self._redactor: Redactor | None = None
        self._kept: dict[str, tuple[_Files, Loaded, Envelope]] = {}
        self._trusted: _Files = ()
        self._dropped: list[Runtime] = []
        self._host = RemoteHost(settings)
        self._heavy = HeavyLoader(settings)

    @property
    def problems(self) -> Mapping[str, str]:
        """What keeps generators from being served, by slug or part."""
        return self._host.problems

    def close(self) -> None:
        """Give the threads back; none is waited for, since one may hang."""
        self._keep({})
        for runtime in self._dropped:
            runtime.close()
        self._dropped.clear()
        self._host.close()
        self._heavy.close()
        self._executor.shutdown(wait=False, cancel_futures=True)

    def stamp(self, wanted: Mapping[str, int]) -> object:
        """Return names, times and sizes of all files that ``load`` would read."""
        # Dropped at the last look: by now no request can see them.
        for runtime in self._dropped:
            runtime.close()
        self._dropped.clear()
        root = self._settings.registry_dir
        return (
            _files(root / MATCHER_FOLDER),
            *((slug, _files(root / slug / str(version))) for slug, version in wanted.items()),
            _files(self._settings.keys_dir),
            self._heavy.stamp,
        )

    def load(self, wanted: Mapping[str, int]) -> Loading:
        """Load and verify versions and the newest matcher."""
        if not wanted:
            self._keep({})
            self._heavy.keep(set())
            return Loading()
        try:
            keys = load_or_create_keys(self._settings.keys_dir)
            registry = Registry(self._settings.registry_dir, keys)
        except ApprenticeError as error:
            return Loading(problems={"registry": str(error)})
        try:
            embedder = self._open_embedder()
        except ApprenticeError as error:
            return Loading(problems={"embedder": str(error)})
        except Exception as error:  # the edge: a damaged file fails in ways that no one lists
            _log.error("the embedder cannot be opened: %s", place_of(error))
            return Loading(problems={"embedder": f"it cannot be opened: {place_of(error)}"})
        problems: dict[str, str] = {}
        kept: dict[str, tuple[_Files, Loaded, Envelope]] = {}
        trusted = _files(self._settings.keys_dir)
        for slug, version in wanted.items():
            try:
                if trusted != self._trusted:
                    # A loaded one, too, ends with the trust in the key that signed it.
                    registry.open_version(slug, version)
                kept[slug] = self._load_one(registry, embedder, slug, version)
            except ApprenticeError as error:
                problems[slug] = str(error)
            except Exception as error:  # the edge: one bad version keeps only itself out
                _log.error("%s cannot be loaded: %s", slug, place_of(error))
                problems[slug] = f"it cannot be loaded: {place_of(error)}; train it again"
        self._keep(kept)
        self._trusted = trusted
        self._heavy.keep(
            {(slug, version, self._seen(slug, version)) for slug, version in wanted.items()}
        )
        try:
            model, words = _open_matcher(registry, embedder, self._newest_matcher())
        except ApprenticeError as error:
            return Loading(problems={**problems, "matcher": str(error)})
        for slug, (_, loaded, _) in kept.items():
            known = {slug, *loaded.parents}  # a merged one is reached through its parents
            if known.isdisjoint(model.classes):
                problems[slug] = "the matcher does not know it yet; run: apprentice tick"
        matcher = EmbeddingMatcher(
            embedder=embedder,
            model=model,
            envelopes={slug: envelope for slug, (_, _, envelope) in kept.items()},
            executor=self._executor,
            words=words,
        )
        return Loading(
            specialists={slug: loaded for slug, (_, loaded, _) in kept.items()},
            matcher=matcher,
            bounds={slug: model.bound_of(index) for index, slug in enumerate(model.classes)},
            problems=problems,
        )

    def _load_one(
        self, registry: Registry, embedder: OnnxEmbedder, slug: str, version: int
    ) -> tuple[_Files, Loaded, Envelope]:
        files = self._seen(slug, version)
        before = self._kept.get(slug)
        if before is not None and before[0] == files and before[1].version == version:
            return before
        registered = registry.open_version(slug, version)
        manifest = registered.manifest
        runtime: Runtime
        deadline = None
        if manifest.kind is Kind.GENERATOR:
            deadline = self._settings.vllm.deadline_seconds
            if not self._answering:
                runtime = _Unasked()
            elif dict(manifest.recipe).get(SERVED_BY) == NAME:
                runtime = self._heavy.runtime(
                    (slug, version, files), registered, embedder, self._open_redactor
                )
            else:
                runtime = load_remote(registered, self._host, self._open_redactor)
        else:
            runtime = load_runtime(registered, embedder, self._open_redactor)
        loaded = Loaded(
            slug=slug,
            version=version,
            shape=manifest.shape,
            runtime=runtime,
            deadline=deadline,
            digest=digest_of(manifest.files)[:DIGEST_LENGTH],
            parents=tuple(dict(manifest.recipe).get(MERGED_FROM, "").split()),
        )
        return files, loaded, manifest.envelope

    def _seen(self, slug: str, version: int) -> _Files:
        return _files(self._settings.registry_dir / slug / str(version))

    def _keep(self, kept: dict[str, tuple[_Files, Loaded, Envelope]]) -> None:
        """Hold on to these, and drop the others."""
        now = {id(loaded.runtime) for _, loaded, _ in kept.values()}
        self._dropped += [
            loaded.runtime for _, loaded, _ in self._kept.values() if id(loaded.runtime) not in now
        ]
        self._kept = kept

    def _newest_matcher(self) -> int:
        """Return the newest number that the learning half told the database of."""
        with Database(self._settings.database_path) as database, database.snapshot() as connection:
            return highest_number(connection, MATCHER)

    def _open_embedder(self) -> OnnxEmbedder:
        if self._embedder is None:
            store = ModelStore(self._settings.models_dir)
            # Never fetched from here: the sidecar must start without a network.
            embedder = open_embedder(store, self._settings.models.embedder, pull=False)
            embedder.load()
            self._embedder = embedder
        return self._embedder

    def _open_redactor(self) -> Redactor:
        if self._redactor is None:
            redactor = Redactor()
            redactor.load()
            self._redactor = redactor
        return self._redactor


class _Unasked:
    """Stands for a generator where only routes are looked at."""

    async def answer(self, request: str, encoding: Encoding | None = None) -> Abstain:
        return Abstain(reason="unavailable")

    def close(self) -> None:
        return


def _open_matcher(
    registry: Registry, embedder: OnnxEmbedder, least: int
) -> tuple[OpenSetModel, WordFilter | None]:
    registered = registry.open_matcher(least)
    if registered.details.get(EMBEDDER_DETAIL) != embedder.digest:
        raise ArtefactError("the matcher was fitted on another embedder; run: apprentice tick")
    if registered.details.get(VECTOR_DETAIL) != RECIPE:
        raise ArtefactError("the matcher was fitted on other vectors; run: apprentice tick")
    if MATCHER_FILE not in registered.files:
        raise ArtefactError("the matcher has an unknown layout; run: apprentice tick")
    model = OpenSetModel.from_bytes(registered.files[MATCHER_FILE])
    model = OpenSetModel.from_arrays(mapped(model.to_arrays()))
    if model.dimension != matching_dimension(embedder):
        raise ArtefactError("the matcher does not fit the embedder; run: apprentice tick")
    words = registered.files.get(FILTER_FILE)
    return model, None if words is None else WordFilter.from_bytes(words)


def _files(folder: Path) -> _Files:
    """Return path, time and size of every file below a folder, sorted."""
    found = []
    pending = [folder]
    while pending:
        try:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(Path(entry.path))
                    else:
                        status = entry.stat(follow_symlinks=False)
                        found.append((entry.path, status.st_mtime_ns, status.st_size))
        except OSError as error:
            found.append((str(error), 0, 0))
    return tuple(sorted(found))
