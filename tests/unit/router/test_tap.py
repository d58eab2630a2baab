from __future__ import annotations

import gzip
import json
import zlib
from typing import Any

import pytest

from hermes_apprentice.domain.money import Usage
from hermes_apprentice.router.tap import ANSWER_BYTES, TAIL_BYTES, Heard, Tap

COUNTS = {
    "prompt_tokens": 1_234,
    "completion_tokens": 7,
    "prompt_tokens_details": {"cached_tokens": 1_000},
}
USAGE = Usage(prompt_tokens=1_234, completion_tokens=7, cached_tokens=1_000)


def events(*deltas: dict[str, Any], finish: str | None = "stop", usage: bool = True) -> bytes:
    chunks: list[dict[str, Any]] = [
        {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas
    ]
    if finish:
        chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
    if usage:
        chunks.append({"choices": [], "usage": COUNTS})
    lines = [b": keep-alive"] + [b"data: " + json.dumps(chunk).encode() for chunk in chunks]
    return b"\n\n".join([*lines, b"data: [DONE]", b""])


def answer(content: str | None, finish: str = "stop", **message: Any) -> bytes:
    choice = {"message": {"content": content, **message}, "finish_reason": finish}
    return json.dumps({"choices": [choice], "usage": COUNTS}).encode()


def heard(data: bytes, *, size: int = 7, streamed: bool = True, **options: Any) -> Heard:
    tap = Tap(streamed=streamed, **options)
    for start in range(0, len(data), size):
        tap.feed(data[start : start + size])
    return tap.finish()


def test_the_counts_at_the_end_of_a_stream_are_read_however_it_is_cut() -> None:
    data = events({"content": "b"}, {"content": "ug"})
    for size in (1, 3, 64, len(data)):
        assert heard(data, size=size).usage == USAGE


def test_the_text_of_a_stream_is_put_together() -> None:
    data = events({"role": "assistant", "content": ""}, {"content": "bü"}, {"content": "g"})
    found = heard(data, keep=True)
    assert (found.text, found.tools) == ("büg", False)


def test_a_text_is_not_kept_unless_it_is_wanted() -> None:
    assert heard(events({"content": "bug"})).text is None


def test_a_long_answer_is_not_held_in_memory_and_its_counts_are_still_read() -> None:
    data = events(*[{"content": "word " * 10}] * 3_000)
    assert len(data) > 10 * TAIL_BYTES
    tap = Tap(streamed=True)
    for start in range(0, len(data), 5_000):
        tap.feed(data[start : start + 5_000])
        assert tap._held < 2 * TAIL_BYTES
    assert tap.finish().usage == USAGE


def test_counts_behind_a_long_body_are_read_from_its_tail() -> None:
    data = answer("x" * 5 * TAIL_BYTES)
    assert heard(data, size=9_000, streamed=False).usage == USAGE


def test_the_text_of_a_whole_answer_is_read() -> None:
    assert heard(answer("bug"), streamed=False, keep=True).text == "bug"


@pytest.mark.parametrize("finish", ["length", "content_filter", None])
def test_an_answer_that_is_cut_off_has_no_text(finish: str | None) -> None:
    assert heard(events({"content": "bu"}, finish=finish), keep=True).text is None
    cut = answer("bu", finish=finish or "")
    assert heard(cut, streamed=False, keep=True).text is None


def test_an_answer_that_calls_tools_is_marked_and_has_no_text() -> None:
    delta = {"tool_calls": [{"index": 0, "function": {"name": "ls", "arguments": "{}"}}]}
    found = heard(events({"content": "Let me"}, delta, finish="tool_calls"), keep=True)
    assert (found.text, found.tools) == (None, True)
    whole = answer(None, finish="tool_calls", tool_calls=[{"id": "1"}])
    assert heard(whole, streamed=False, keep=True).tools


@pytest.mark.parametrize(
    ("encoding", "packed"),
    [("gzip", gzip.compress), ("deflate", zlib.compress)],
)
def test_a_compressed_answer_is_heard_too(encoding: str, packed: Any) -> None:
    found = heard(packed(events({"content": "bug"})), encoding=encoding, keep=True)
    assert (found.usage, found.text) == (USAGE, "bug")


@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd"])
def test_what_cannot_be_decompressed_is_not_heard(encoding: str) -> None:
    found = heard(b"\x00\x01nothing of the kind" * 50, encoding=encoding, keep=True)
    assert (found.usage, found.text) == (None, None)


def test_a_tiny_body_that_unpacks_to_a_huge_one_is_not_kept() -> None:
    tap = Tap(streamed=False, encoding="gzip", keep=True)
    tap.feed(gzip.compress(b"\x00" * (20 * ANSWER_BYTES)))
    assert tap._held <= ANSWER_BYTES
    assert tap.finish().text is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not json",
        b"data: {broken\n\ndata: [1,2]\n\n",
        b'data: {"choices": 3, "usage": "many"}\n\n',
        b'data: {"choices": [null], "usage": {"prompt_tokens": -1, "completion_tokens": 2}}\n\n',
        b'{"choices": [{"message": 4}], "usage": {"prompt_tokens": "1"}}',
        b'{"usage": null, "choices": []}',
    ],
)
@pytest.mark.parametrize("streamed", [True, False])
def test_garbage_is_heard_as_nothing(data: bytes, streamed: bool) -> None:
    found = heard(data, streamed=streamed, keep=True)
    assert (found.usage, found.text, found.tools) == (None, None, False)
