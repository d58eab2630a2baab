from __future__ import annotations

import asyncio
import gc
import gzip
import weakref
import zlib
from collections.abc import Iterable
from typing import Any

import pytest

from hermes_apprentice.router.wire import Hangup, Receive, Unread, decompressed, read_body


def channel(messages: Iterable[dict[str, Any]]) -> Receive:
    waiting = iter(messages)

    async def receive() -> dict[str, Any]:
        for message in waiting:
            return message
        await asyncio.Event().wait()
        raise AssertionError

    return receive


def part(body: bytes, more: bool = False) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


GONE = {"type": "http.disconnect"}


async def test_a_body_in_pieces_is_put_together() -> None:
    receive = channel([part(b"ab", True), part(b"", True), part(b"cd")])
    assert await read_body({}, receive, 4) == b"abcd"


async def test_a_body_that_announces_too_much_is_not_even_read() -> None:
    for announced in (b"5", b"9" * 40):
        receive = channel([])
        assert await read_body({b"content-length": announced}, receive, 4) is Unread.TOO_LARGE


async def test_a_body_that_grows_too_long_is_stopped() -> None:
    receive = channel([part(b"abc", True), part(b"de", True)])
    assert await read_body({}, receive, 4) is Unread.TOO_LARGE
    assert await read_body({}, channel([part(b"abcde")]), 4) is Unread.TOO_LARGE


async def test_a_client_that_leaves_while_it_sends_is_noticed() -> None:
    assert await read_body({}, channel([part(b"a", True), GONE]), 4) is Unread.GONE


async def test_a_hang_up_ends_the_work_quietly() -> None:
    reached = False
    with Hangup(channel([GONE])) as hangup:
        await asyncio.Event().wait()
        reached = True
    assert hangup.happened and not reached
    await asyncio.sleep(0)  # nothing is left that would cancel what follows


async def test_without_a_hang_up_nothing_happens() -> None:
    with Hangup(channel([])) as hangup:
        await asyncio.sleep(0.05)
    assert not hangup.happened


async def test_a_cancellation_from_elsewhere_goes_on() -> None:
    async def work() -> None:
        with Hangup(channel([])):
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_long_request_leaves_nothing_to_the_garbage_collector() -> None:
    gc.collect()
    gc.disable()
    try:
        with Hangup(channel([])) as hangup:
            await asyncio.sleep(0.05)
        gone = weakref.ref(hangup)
        del hangup
        for _ in range(3):
            await asyncio.sleep(0)
        assert gone() is None
    finally:
        gc.enable()


def test_bodies_are_read_as_they_were_before_they_were_compressed() -> None:
    text = b"some words " * 100
    assert decompressed(text, b"", 10) is text
    assert decompressed(text, b"identity", 10) is text
    assert decompressed(gzip.compress(text), b" GZIP ", 2_000) == text
    assert decompressed(zlib.compress(text), b"deflate", 2_000) == text


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (gzip.compress(b"x" * 2_001, mtime=0), b"gzip"),
        (gzip.compress(b"x" * 100_000_000, mtime=0), b"gzip"),
        (gzip.compress(b"half of it", mtime=0)[:-9], b"gzip"),
        (gzip.compress(b"one", mtime=0) + gzip.compress(b"two", mtime=0), b"gzip"),
        (b"not compressed at all", b"gzip"),
        (b"", b"gzip"),
        (b"something", b"br"),
        (gzip.compress(b"twice", mtime=0), b"gzip, gzip"),
    ],
)
def test_what_is_damaged_or_too_long_or_unknown_is_not_read(body: bytes, encoding: bytes) -> None:
    assert decompressed(body, encoding, 2_000) is None
