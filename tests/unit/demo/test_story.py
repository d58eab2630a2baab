"""Stopping a demo does not wait for what it was learning."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from hermes_apprentice.demo.story import apart
from hermes_apprentice.errors import TrainingError


async def test_work_apart_gives_its_result_or_its_error() -> None:
    def fail() -> None:
        raise TrainingError("it broke")

    assert await apart(lambda: 7) == 7
    with pytest.raises(TrainingError, match="it broke"):
        await apart(fail)


def test_who_is_stopped_does_not_wait_for_work_apart() -> None:
    going, release = threading.Event(), threading.Event()

    def work() -> None:
        going.set()
        release.wait(60)

    async def stopped() -> None:
        task = asyncio.create_task(apart(work))
        await asyncio.to_thread(going.wait, 30)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    began = time.monotonic()
    asyncio.run(stopped())
    assert time.monotonic() - began < 30
    release.set()
