"""The demo, from an empty folder to a summary: what ``make demo`` shows.

Real: Hermes' session database, CLI and plugin loader, the training, the
signatures, the sidecar. Simulated: the upstream model, unless a live one is
asked for, and the passing of weeks. Both are said where they matter.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from hermes_apprentice.demo import texts
from hermes_apprentice.demo.figures_shown import show_candidates, show_specialists, show_summary
from hermes_apprentice.demo.place import Place
from hermes_apprentice.demo.processes import ask_hermes, hermes_skills, sidecar
from hermes_apprentice.demo.request import DemoRequest, Task
from hermes_apprentice.demo.sessions import MODEL, write_sessions
from hermes_apprentice.demo.summary import LEARNED, figures
from hermes_apprentice.demo.traffic import Sent, send
from hermes_apprentice.demo.upstream import SimulatedUpstream
from hermes_apprentice.domain.approval import Action
from hermes_apprentice.domain.routing import Rollout
from hermes_apprentice.domain.shape import Kind
from hermes_apprentice.domain.specialist import Stage
from hermes_apprentice.errors import ApprenticeError, ConfigError
from hermes_apprentice.pipeline import Pipeline, open_pipeline
from hermes_apprentice.settings import Settings, UpstreamSettings
from hermes_apprentice.storage.database import Database
from hermes_apprentice.storage.rollouts import list_rollouts

Result = TypeVar("Result")

LIVE_UPSTREAM = UpstreamSettings().base_url

_RAMP = texts.Sizes(order=170, ticket=170, chat=60, multi_turn=15, tool=3)
_HELD_OUT = texts.Sizes(order=100, ticket=105, chat=170, multi_turn=30, tool=2)
_BATCH = 24
_SETTLE = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """The demo's way to talk: sections, and a bar for what takes a while."""

    console: Console
    """Where it is written."""

    def section(self, title: str) -> None:
        """Begin a section."""
        self.console.rule(f"[bold]{title}", align="left")

    def say(self, text: str) -> None:
        """Write a line."""
        self.console.print(text, highlight=False)

    @contextmanager
    def bar(self, what: str) -> Iterator[Callable[[str, float], None]]:
        """Show a bar; the block calls what it gets with a text and a share."""
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self.console, transient=True) as progress:
            task = progress.add_task(what, total=1.0)
            yield lambda text, share: progress.update(task, description=text, completed=share)


def run_demo(
    *,
    live_upstream: bool = False,
    keep: Path | None = None,
    seed: int = 7,
    live_base_url: str = LIVE_UPSTREAM,
) -> None:
    """Run the demo and print it.

    Args:
        live_upstream: Ask a real model at ``live_base_url`` with ``OPENROUTER_API_KEY``.
        keep: Folder for the demo's homes, kept afterwards; a temporary one otherwise.
        seed: For the generated requests.
        live_base_url: OpenAI-compatible endpoint of the live upstream.

    Raises:
        ApprenticeError: A step did not lead where it should.
    """
    told = Told(console=Console())
    if keep is not None and keep.exists() and any(keep.iterdir()):
        raise ConfigError(f"{keep} is not empty; choose another folder for the demo.")
    root = keep or Path(tempfile.mkdtemp(prefix="apprentice-demo-"))
    root.mkdir(parents=True, exist_ok=True)
    try:
        story = _Story(told, Place(root=root.resolve(), live=live_upstream), seed, live_base_url)
        asyncio.run(_until_stopped(story))
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None  # the command line knows what that means
    finally:
        if keep is None:
            _remove(root)


def _remove(root: Path) -> None:
    """Remove the demo's folder, also where a process that is about to end still writes into it."""
    for _ in range(50):
        shutil.rmtree(root, ignore_errors=True)
        if not root.exists():
            return
        time.sleep(0.1)


async def _until_stopped(story: _Story) -> None:
    """Tell the story; SIGTERM stops it as Ctrl-C does, with everything cleaned up."""
    task = asyncio.current_task()
    if task is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    await story.tell()


async def apart(work: Callable[[], Result]) -> Result:
    """Run ``work`` in a thread that nobody waits for once the demo is stopped.

    A thread of asyncio's own would be joined, so that Ctrl-C had to wait for all the learning.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Result] = loop.create_future()

    def settle(error: BaseException | None, result: Result | None = None) -> None:
        if done.done():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(cast(Result, result))

    def run() -> None:
        try:
            outcome: tuple[BaseException | None, Result | None] = (None, work())
        except BaseException as error:  # whatever it is, it is raised where it is waited for
            outcome = (error, None)
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, *outcome)

    threading.Thread(target=run, name="demo", daemon=True).start()
    return await done


class _Story:
    def __init__(self, told: Told, place: Place, seed: int, live_base_url: str) -> None:
        self._told = told
        self._place = place
        self._rng = random.Random(seed)
        self._live_base_url = live_base_url
        self._began = time.perf_counter()

    async def tell(self) -> None:
        place = self._place
        past = texts.make_corpus(self._rng)
        ramp = texts.make_corpus(self._rng, _RAMP, apart_from=(past,))
        held_out = texts.make_corpus(self._rng, _HELD_OUT, apart_from=(past, ramp))
        upstream = SimulatedUpstream(corpus=past + ramp + held_out, model=MODEL, rng=self._rng)
        if not place.live:
            await upstream.start()
        try:
            base_url = self._live_base_url if place.live else upstream.base_url
            settings = place.write_settings(base_url)
            if place.live and settings.upstream_api_key is None:
                raise ConfigError("--live-upstream needs OPENROUTER_API_KEY in the environment.")
            with Database(settings.database_path) as database:
                slugs = await apart(lambda: self._learn(settings, past))
                await self._serve(settings, database, upstream, slugs, ramp, held_out)
        finally:
            await upstream.stop()

    def _learn(self, settings: Settings, past: texts.Corpus) -> dict[Task, str]:
        told = self._told
        told.section("1. Sessions, written with the real Hermes' own SessionDB")
        with told.bar("writing sessions") as show:
            counts = write_sessions(
                self._place.hermes_home,
                past,
                rng=self._rng,
                now=time.time(),
                on_progress=lambda done, total: show("writing sessions", done / total),
            )
        told.say(
            f"{counts.sessions} sessions with {counts.messages} messages: "
            + ", ".join(f"{number} {task}" for task, number in counts.exchanges.items())
            + "; to be ignored: "
            + ", ".join(f"{number} {why}" for why, number in counts.ignored.items())
        )
        with (
            told.bar("starting") as show,
            Database(settings.database_path) as database,
        ):
            pipeline = open_pipeline(settings, database, progress=show)
            return self._train(pipeline)

    def _train(self, pipeline: Pipeline) -> dict[Task, str]:
        told = self._told
        told.section("2. Observe, detect, propose")
        for report in pipeline.observe().values():
            told.say(f"{report.new} exchanges read.")
        pipeline.detect()
        pipeline.detect()  # a pattern must be found twice before it is proposed
        candidates = pipeline.candidates()
        show_candidates(told.console, pipeline.shop.database, candidates)
        told.section("3. The operator's decision")
        for candidate in candidates:
            # A generator needs a GPU and more data than this; the operator says no to it.
            possible = candidate.pattern.kind is not Kind.GENERATOR
            action = Action.TRAIN if possible else Action.SKIP
            text = f"{action} {candidate.candidate_id}"
            told.say(f"> {text}\n  {pipeline.reply(text, 'demo')}")
        told.section("4. Datasets, training, gate, signature")
        while True:
            done = pipeline.tick()
            for move in (*done.moves, *done.failures):
                told.say(f"{move.slug}: {move.step}. {move.reason}")
            if not done.pending:
                break
        slugs = show_specialists(told.console, pipeline)
        if len(slugs) < len(LEARNED):
            raise ApprenticeError("The demo expected two specialists to pass the gate.")
        return slugs

    async def _serve(
        self,
        settings: Settings,
        database: Database,
        upstream: SimulatedUpstream,
        slugs: dict[Task, str],
        ramp: texts.Corpus,
        held_out: texts.Corpus,
    ) -> None:
        told, place = self._told, self._place
        told.section("5. The sidecar: shadow, canary, live")
        told.say(
            "Upstream: a real model."
            if place.live
            else "Upstream: SIMULATED. Its answers are the generator's truth, its delay and prices "
            "are those of a large model."
        )
        async with sidecar(place) as url:
            place.write_hermes_config(url, MODEL, settings.skills_dir)
            told.say(f"Sidecar at {url}; Hermes is configured to use it.")
            await self._hermes(ramp, database)
            template = upstream.last_body or _PLAIN
            await self._ramp(url, database, ramp, template)
            await asyncio.to_thread(_settle, settings)
            told.section("6. Held-out requests, through the sidecar")
            await self._hermes(held_out, database, most=3)
            sent = await self._send(url, list(held_out), template, "sending held-out requests")
            told.section("7. What Hermes sees")
            for line in _lines_about(await hermes_skills(place), slugs):
                told.say(line)
        told.section("8. Summary")
        show_summary(
            told.console,
            figures(sent, slugs),
            database,
            slugs,
            now=time.time(),
            seconds=time.perf_counter() - self._began,
            simulated=not place.live,
        )

    async def _hermes(self, corpus: texts.Corpus, database: Database, most: int = 1) -> None:
        """Ask the real Hermes about each learned task, and tell who answered.

        A specialist that is not sure of a request passes it on; up to ``most`` requests are
        asked until it answers one.
        """
        for task in LEARNED:
            for item in corpus.of(task)[:most]:
                before = _last_entry(database)
                with self._told.bar(f"hermes -z, {task}"):
                    run = await ask_hermes(self._place, item.request)
                    route = await _route_after(database, before)
                verdict = "right" if run.answer == item.answer else "not what was expected"
                self._told.say(
                    f"hermes -z ({task}) in {run.seconds:.1f} s, start-up included: {run.answer}\n"
                    f"  {verdict}, answered by: {route}"
                )
                if route.startswith("specialist"):
                    break

    async def _ramp(
        self, url: str, database: Database, ramp: texts.Corpus, template: dict[str, Any]
    ) -> None:
        """Send requests until every specialist is live, and tell each step."""
        told = self._told
        seen: dict[str, tuple[Stage, float]] = {}
        items = list(ramp)
        with told.bar("sending requests") as show:
            for start in range(0, len(items), _BATCH):
                await send(url, items[start : start + _BATCH], template)
                rollouts = await self._steps(database, seen)
                show("sending requests", (start + _BATCH) / len(items))
                if rollouts and all(one.stage is Stage.LIVE for one in rollouts):
                    told.say(f"Both are live after {start + _BATCH} requests.")
                    return
        told.say("Not every specialist went live within this traffic.")

    async def _steps(
        self, database: Database, seen: dict[str, tuple[Stage, float]]
    ) -> list[Rollout]:
        """Wait a moment for comparisons that are still under way; tell new steps."""
        deadline = time.monotonic() + _SETTLE
        while True:
            with database.transaction() as connection:
                rollouts = list_rollouts(connection)
            moved = [one for one in rollouts if seen.get(one.slug) != (one.stage, one.share)]
            for one in moved:
                seen[one.slug] = (one.stage, one.share)
                self._told.say(f"{one.slug}: {one.stage} {one.share:.0%}  ({one.reason})")
            if moved or time.monotonic() > deadline:
                return rollouts
            await asyncio.sleep(0.2)

    async def _send(
        self, url: str, items: list[DemoRequest], template: dict[str, Any], what: str
    ) -> list[Sent]:
        done = 0
        with self._told.bar(what) as show:

            def count() -> None:
                nonlocal done
                done += 1
                show(what, done / len(items))

            return await send(url, items, template, count)


_PLAIN: dict[str, Any] = {
    "model": MODEL,
    "max_tokens": 400,
    "messages": [{"role": "system", "content": "You are Hermes Agent."}],
    "tools": [
        {
            "type": "function",
            "function": {
                "name": "terminal",
                "description": "Run a shell command.",
                "parameters": {
                    "type": "object",
                    "properties": {"command": {"type": "string"}},
                },
            },
        }
    ],
}
"""What is sent to a live upstream: small, because every token is paid for."""


def _last_entry(database: Database) -> int:
    return int(database.read("SELECT COALESCE(MAX(entry_id), 0) FROM ledger")[0][0])


async def _route_after(database: Database, entry: int) -> str:
    """Return who answered the first call after a ledger entry; the ledger is a moment behind."""
    deadline = time.monotonic() + _SETTLE
    while time.monotonic() < deadline:
        rows = database.read(
            "SELECT route, slug FROM ledger WHERE entry_id > ? AND call_kind = 'first' "
            "AND route <> 'audit' ORDER BY entry_id LIMIT 1",
            (entry,),
        )
        if rows:
            return f"{rows[0]['route']} {rows[0]['slug'] or ''}".strip()
        await asyncio.sleep(0.1)
    return "unknown"


def _settle(settings: Settings) -> None:
    """Run the tick that writes the skills of specialists that are now live."""
    with Database(settings.database_path) as database:
        open_pipeline(settings, database).tick()


def _lines_about(listing: str, slugs: dict[Task, str]) -> list[str]:
    """Return the heading and the lines of a skills listing that name our specialists."""
    lines = listing.splitlines()
    ours = [line for line in lines if any(slug[:16] in line for slug in slugs.values())]
    return ["hermes skills list:", *ours]
