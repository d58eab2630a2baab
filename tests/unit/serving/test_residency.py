"""Adapters come and go without one ever answering for another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from hermes_apprentice.domain.prompt import render
from hermes_apprentice.errors import AdapterError, ServingError, UnknownModelError
from hermes_apprentice.inference.generator import ADAPTER_DIR, ADAPTER_WEIGHTS
from hermes_apprentice.serving.adapter import Adapter, open_adapter
from hermes_apprentice.serving.model_server import ModelServer
from hermes_apprentice.serving.residency import CHECKED_SECONDS, REFUSED_SECONDS, Residency

Make = Callable[..., Adapter]


@pytest.fixture
def make(tmp_path: Path, vllm_stage: ModuleType) -> Make:
    """A factory of adapters: every answer of ``red`` is "red"."""

    def make(slug: str, version: int = 1, word: str = "", **card: Any) -> Adapter:
        folder = tmp_path / f"{slug}-{version}-{word}"
        word = word or slug
        vllm_stage.write_generator(folder, {"Label: canary": f"{word} canary", "": word}, **card)
        return open_adapter(folder, slug=slug, version=str(version))

    return make


@asynccontextmanager
async def residency(fake: Any, room: int = 1, **changes: Any) -> AsyncIterator[Residency]:
    values: dict[str, Any] = {"room": room, "max_rank": 16, "drain_seconds": 5.0, **changes}
    async with ModelServer(fake.url) as server:
        yield Residency(server, **values)


async def ask(one: Residency, adapter: Adapter, request: str = "x") -> str:
    completion = await one.complete(adapter, render(adapter.card.prompt, request))
    return completion.text


async def until_held(fake: Any, count: int = 1) -> None:
    for _ in range(count):
        assert await asyncio.to_thread(fake.held.acquire, True, 10)


async def test_an_adapter_is_loaded_for_its_first_request_and_proves_itself(
    fake_vllm: Any, make: Make
) -> None:
    red = make("red")
    async with residency(fake_vllm) as one:
        assert await ask(one, red) == "red"
        assert await ask(one, red) == "red"
        assert one.resident == (red.name,)
    assert fake_vllm.events == [f"load {red.name}"]
    asked = [body["messages"][-1]["content"] for body in fake_vllm.asked]
    assert asked == ["Label: canary", "Label: x", "Label: x"]


async def test_it_is_asked_as_it_was_trained_and_greedily(fake_vllm: Any, make: Make) -> None:
    red = make("red")
    async with residency(fake_vllm) as one:
        await ask(one, red)
    body = fake_vllm.asked[-1]
    assert body["temperature"] == 0
    assert body["max_tokens"] == 16
    assert body["chat_template"] == "{{ messages }}"
    assert body["model"] == red.name


def test_other_weights_never_have_the_same_name(make: Make) -> None:
    first, second = make("red", 1, "red"), make("red", 1, "crimson")
    assert first.name != second.name
    assert first.name.startswith("red-v1-")


async def test_a_change_waits_until_running_answers_are_complete(
    fake_vllm: Any, make: Make
) -> None:
    red, blue = make("red"), make("blue")
    async with residency(fake_vllm, room=2) as one:
        running = asyncio.create_task(ask(one, red, "hold"))
        await until_held(fake_vllm)
        coming = asyncio.create_task(ask(one, blue))
        await asyncio.wait({coming}, timeout=0.1)
        late = asyncio.create_task(ask(one, red, "late"))
        await asyncio.wait({coming, late}, timeout=0.1)
        assert fake_vllm.events == [f"load {red.name}"]  # nothing is loaded while an answer runs
        assert not late.done()  # and nothing begins while a change waits
        fake_vllm.go.set()
        assert await asyncio.gather(running, coming, late) == ["red", "blue", "red"]


async def test_requests_of_others_on_the_server_are_waited_for_as_well(
    fake_vllm: Any, make: Make
) -> None:
    red = make("red")
    fake_vllm.running = 1
    async with residency(fake_vllm) as one:
        coming = asyncio.create_task(ask(one, red))
        await asyncio.wait({coming}, timeout=0.2)
        assert fake_vllm.events == []
        fake_vllm.running = 0
        assert await coming == "red"


async def test_what_does_not_end_in_time_stops_the_change_and_not_the_answers(
    fake_vllm: Any, make: Make
) -> None:
    red, blue = make("red"), make("blue")
    async with residency(fake_vllm, room=2, drain_seconds=0.1) as one:
        running = asyncio.create_task(ask(one, red, "hold"))
        await until_held(fake_vllm)
        with pytest.raises(ServingError, match="no adapter was changed"):
            await ask(one, blue)
        assert "blue" in one.problems
        fake_vllm.go.set()
        assert await running == "red"
        assert await ask(one, blue) == "blue"
        assert one.problems == {}


async def test_the_least_recently_used_adapter_makes_room(fake_vllm: Any, make: Make) -> None:
    red, blue, green = make("red"), make("blue"), make("green")
    async with residency(fake_vllm, room=2) as one:
        for adapter in (red, blue, red, green):
            await ask(one, adapter)
        assert one.resident == (red.name, green.name)
    assert fake_vllm.events[2:] == [f"unload {blue.name}", f"load {green.name}"]


async def test_a_pinned_adapter_stays(fake_vllm: Any, make: Make) -> None:
    red, blue, green = make("red"), make("blue"), make("green")
    async with residency(fake_vllm, room=2, pinned=frozenset({"red"})) as one:
        for adapter in (red, blue, green):
            await ask(one, adapter)
        assert one.resident == (red.name, green.name)
    async with residency(fake_vllm, pinned=frozenset({"red"})) as one:
        await ask(one, red)
        with pytest.raises(AdapterError, match=r"vllm\.max_loras"):
            await ask(one, blue)
        assert one.resident == (red.name,)


async def test_many_at_once_with_room_for_one_each_get_their_own_answer(
    fake_vllm: Any, make: Make
) -> None:
    adapters = [make(name) for name in ("red", "blue", "green")]
    async with residency(fake_vllm) as one:
        jobs = [adapters[number % 3] for number in range(60)]
        answers = await asyncio.gather(*(ask(one, job, f"number {job.slug}") for job in jobs))
        assert answers == [job.slug for job in jobs]
        assert one.in_flight == 0


async def test_a_wrong_canary_answer_is_never_served(fake_vllm: Any, make: Make) -> None:
    now = 0.0
    red = make("red", canary_answer="something else")
    async with residency(fake_vllm, clock=lambda: now) as one:
        for _ in range(3):
            with pytest.raises(AdapterError, match="canary"):
                await ask(one, red)
        assert one.resident == ()
        assert "canary" in one.problems["red"]
        assert fake_vllm.adapters == {}
        assert fake_vllm.events == [f"load {red.name}", f"unload {red.name}"]  # tried once
        asked = [body["messages"][-1]["content"] for body in fake_vllm.asked]
        assert asked == ["Label: canary"]
        now = REFUSED_SECONDS + 1
        with pytest.raises(AdapterError, match="canary"):
            await ask(one, red)
        assert len(fake_vllm.events) == 4


async def test_a_loaded_adapter_that_changed_under_a_newcomer_is_unloaded(
    fake_vllm: Any, make: Make
) -> None:
    red, blue = make("red"), make("blue")
    async with residency(fake_vllm, room=2) as one:
        await ask(one, red)
        fake_vllm.adapters[red.name] = {"": "poison"}
        assert await ask(one, blue) == "blue"
        assert one.resident == (blue.name,)
        assert "canary" in one.problems["red"]
        assert await ask(one, red) == "red"  # loaded anew
        assert one.problems == {}


async def test_files_that_changed_since_they_were_verified_are_not_loaded(
    fake_vllm: Any, make: Make
) -> None:
    red = make("red")
    (red.folder / ADAPTER_DIR / ADAPTER_WEIGHTS).write_text('{"": "stolen", "Label: canary": "x"}')
    async with residency(fake_vllm) as one:
        with pytest.raises(AdapterError, match="not the file that was signed"):
            await ask(one, red)
    assert fake_vllm.events == []


async def test_a_higher_rank_than_the_server_takes_is_refused_by_name(
    fake_vllm: Any, make: Make
) -> None:
    async with residency(fake_vllm) as one:
        with pytest.raises(AdapterError, match=r"vllm\.max_lora_rank"):
            await ask(one, make("red", rank=32))


async def test_a_server_that_says_it_loaded_and_did_not_is_not_believed(
    fake_vllm: Any, make: Make
) -> None:
    fake_vllm.lies = True
    async with residency(fake_vllm) as one:
        with pytest.raises(AdapterError, match="does not list it"):
            await ask(one, make("red"))


async def test_a_released_adapter_finishes_its_answer_and_is_gone(
    fake_vllm: Any, make: Make
) -> None:
    red = make("red")
    async with residency(fake_vllm) as one:
        running = asyncio.create_task(ask(one, red, "hold"))
        await until_held(fake_vllm)
        leaving = asyncio.create_task(one.release(red))
        await asyncio.wait({leaving}, timeout=0.1)
        assert red.name in fake_vllm.adapters
        fake_vllm.go.set()
        assert await running == "red"
        await leaving
        assert fake_vllm.adapters == {}
        with pytest.raises(AdapterError, match="no longer served"):
            await ask(one, red)


async def test_the_same_version_taken_up_again_is_not_hurt_by_its_first_copy(
    fake_vllm: Any, make: Make
) -> None:
    first = make("red")
    again = open_adapter(first.folder, slug="red", version="1")
    assert again.name == first.name
    async with residency(fake_vllm) as one:
        await ask(one, first)
        await one.release(first)
        assert await ask(one, again) == "red"
        await one.release(first)
        assert one.resident == (again.name,)


async def test_who_gives_up_waiting_neither_stops_the_change_nor_keeps_a_place(
    fake_vllm: Any, make: Make
) -> None:
    red, blue = make("red"), make("blue")
    async with residency(fake_vllm, room=2) as one:
        running = asyncio.create_task(ask(one, red, "hold"))
        await until_held(fake_vllm)
        impatient = asyncio.create_task(ask(one, blue))
        await asyncio.wait({impatient}, timeout=0.1)
        impatient.cancel()
        fake_vllm.go.set()
        await running
        assert await ask(one, blue) == "blue"
        assert one.in_flight == 0
    assert fake_vllm.events.count(f"load {blue.name}") == 1


async def test_an_adapter_that_the_server_lost_is_loaded_again(fake_vllm: Any, make: Make) -> None:
    red = make("red")
    async with residency(fake_vllm) as one:
        await ask(one, red)
        fake_vllm.adapters.clear()
        with pytest.raises(UnknownModelError):
            await ask(one, red)
        assert await ask(one, red) == "red"


async def test_what_another_process_left_under_the_name_is_loaded_anew(
    fake_vllm: Any, make: Make
) -> None:
    red = make("red")
    fake_vllm.adapters[red.name] = {"": "left", "Label: canary": "left"}
    async with residency(fake_vllm) as one:
        assert await ask(one, red) == "red"


async def test_a_model_of_somebody_elses_is_asked_its_canary_now_and_then(
    fake_vllm: Any, make: Make
) -> None:
    now = 0.0
    red = make("red")
    fake_vllm.loads_adapters = False
    fake_vllm.adapters["tickets"] = {"Label: canary": "red canary", "": "red"}
    async with residency(fake_vllm, served_names={"red": "tickets"}, clock=lambda: now) as one:
        assert await ask(one, red) == "red"
        fake_vllm.adapters["tickets"] = {"": "something else"}
        now = CHECKED_SECONDS + 1
        with pytest.raises(AdapterError, match="canary"):
            await ask(one, red)
        await one.release(red)
    assert fake_vllm.events == []
