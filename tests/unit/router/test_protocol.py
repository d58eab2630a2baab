from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from hermes_apprentice.router.protocol import JoiningTransport

HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"


class Recording(asyncio.Transport):
    """Notes what it is told to write, call by call."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[bytes] = []

    def write(self, data: Any) -> None:
        self.calls.append(bytes(data))

    def writelines(self, list_of_data: Iterable[Any]) -> None:
        self.calls.append(b"".join(list_of_data))

    def close(self) -> None:
        self.calls.append(b"<closed>")

    def abort(self) -> None:
        self.calls.append(b"<aborted>")


def pair() -> tuple[Recording, JoiningTransport]:
    inner = Recording()
    return inner, JoiningTransport(inner, asyncio.get_running_loop())


async def test_a_head_leaves_together_with_the_first_piece_and_only_once() -> None:
    inner, outer = pair()
    for piece in (HEAD, b"ok", b"more", HEAD, b"no"):
        outer.write(piece)
    assert inner.calls == [HEAD + b"ok", b"more", HEAD + b"no"]
    await asyncio.sleep(0)
    assert len(inner.calls) == 3


async def test_a_head_without_a_body_does_not_wait() -> None:
    inner, outer = pair()
    outer.write(HEAD)
    outer.write(b"")
    assert inner.calls == [HEAD]


async def test_a_head_waits_for_no_more_than_the_loops_next_turn() -> None:
    inner, outer = pair()
    outer.write(HEAD)
    assert inner.calls == []
    await asyncio.sleep(0)
    assert inner.calls == [HEAD]
    outer.write(b"ok")
    assert inner.calls == [HEAD, b"ok"]


async def test_the_go_ahead_for_a_body_is_never_held_back() -> None:
    inner, outer = pair()
    outer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert inner.calls == [b"HTTP/1.1 100 Continue\r\n\r\n"]


async def test_a_body_that_looks_like_a_head_keeps_its_place() -> None:
    inner, outer = pair()
    for piece in (HEAD, HEAD, HEAD, b"end"):
        outer.write(piece)
    assert b"".join(inner.calls) == HEAD * 3 + b"end"


async def test_what_is_held_back_is_written_before_the_end() -> None:
    inner, outer = pair()
    outer.write(HEAD)
    outer.close()
    await asyncio.sleep(0)
    assert inner.calls == [HEAD, b"<closed>"]


async def test_nothing_is_written_after_an_abort() -> None:
    inner, outer = pair()
    outer.write(HEAD)
    outer.abort()
    await asyncio.sleep(0)
    assert inner.calls == [b"<aborted>"]
