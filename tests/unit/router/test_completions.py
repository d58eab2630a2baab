from __future__ import annotations

import json

import pytest

from hermes_apprentice.domain.money import Usage
from hermes_apprentice.router.completions import (
    DONE,
    PIECE_CHARS,
    Completion,
    as_events,
    as_json,
    error_body,
    pieces,
)

USAGE = Usage(prompt_tokens=120, completion_tokens=9, cached_tokens=100, estimated=True)


def completion(text: str) -> Completion:
    return Completion(
        completion_id="chatcmpl-7", model="big-one", text=text, usage=USAGE, created=1_790_000_000
    )


def parsed(events: list[bytes]) -> list[dict[str, object]]:
    assert all(event.startswith(b"data: ") and event.endswith(b"\n\n") for event in events)
    assert events[-1] == DONE
    return [json.loads(event[6:]) for event in events[:-1]]


@pytest.mark.parametrize(
    "text",
    ["", "bug", "a " * 200, "x" * 500, '{"sku": "ä-1",\n "n": 2}', "日本語 " * 60, " leading"],
)
def test_pieces_add_up_to_the_text(text: str) -> None:
    cut = list(pieces(text))
    assert "".join(cut) == text
    assert all(0 < len(piece) <= PIECE_CHARS for piece in cut)


def test_a_stream_has_a_role_the_text_a_finish_reason_the_counts_and_an_end() -> None:
    chunks = parsed(list(as_events(completion("word " * 40), include_usage=True)))
    first, *middle, last, counts = chunks
    assert first["choices"][0]["delta"]["role"] == "assistant"  # type: ignore[index]
    texts = [chunk["choices"][0]["delta"]["content"] for chunk in middle]  # type: ignore[index]
    assert "".join(texts) == "word " * 40
    assert last["choices"][0]["finish_reason"] == "stop"  # type: ignore[index]
    assert counts["choices"] == []
    assert counts["usage"]["total_tokens"] == 129  # type: ignore[index]
    assert {chunk["id"] for chunk in chunks} == {"chatcmpl-7"}


def test_a_stream_without_counts_does_not_mention_usage() -> None:
    chunks = parsed(list(as_events(completion("bug"), include_usage=False)))
    assert all("usage" not in chunk and chunk["choices"] for chunk in chunks)


def test_a_whole_answer_carries_text_model_and_counts() -> None:
    body = json.loads(as_json(completion("bug")))
    assert body["choices"][0]["message"]["content"] == "bug"
    assert body["model"] == "big-one"
    assert body["usage"]["prompt_tokens_details"]["cached_tokens"] == 100


def test_an_error_has_openais_shape() -> None:
    error = json.loads(error_body("no", "invalid_request_error", "invalid_json"))["error"]
    assert error == {
        "message": "no",
        "type": "invalid_request_error",
        "param": None,
        "code": "invalid_json",
    }
