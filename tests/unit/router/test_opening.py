from __future__ import annotations

import gzip
import json

import pytest

from hermes_apprentice.router.opening import LONGEST, Opening

ANSWER = json.dumps({"choices": [{"message": {"content": 'it says {"error": 1}'}}]}).encode()
ERROR = json.dumps({"error": {"code": 503, "message": "no provider"}}).encode()


def read(*pieces: bytes, streamed: bool = False, encoding: str = "") -> list[int | None]:
    opening = Opening(streamed=streamed, encoding=encoding)
    last = len(pieces) - 1
    return [opening.read(one, ended=number == last) for number, one in enumerate(pieces)]


def event(value: object) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        ({"code": 429, "message": "slow down"}, 429),
        ({"code": "402"}, 402),
        ({"code": "server_error", "message": "Provider disconnected"}, 502),
        ({"code": "context_length_exceeded", "type": "invalid_request_error"}, 400),
        ({"code": None, "type": "invalid_request_error"}, 400),
        ({"code": True}, 502),
        ({"code": 200}, 502),
        ({"code": "²²²"}, 502),
        ("it is broken", 502),
    ],
)
@pytest.mark.parametrize("streamed", [False, True])
def test_an_error_has_the_status_that_it_names(error: object, status: int, streamed: bool) -> None:
    value = {"id": "gen-1", "error": error, "choices": [{"delta": {"content": ""}}]}
    data = event(value) if streamed else json.dumps(value).encode()
    assert read(data, streamed=streamed) == [status]


@pytest.mark.parametrize("error", [None, {}, [], 0, False])
def test_a_field_that_says_nothing_is_no_error(error: object) -> None:
    assert read(event({"error": error, "choices": []}), streamed=True) == [200]
    assert read(json.dumps({"error": error}).encode()) == [200]


def test_an_answer_is_one_as_soon_as_it_begins() -> None:
    assert Opening(streamed=False).read(ANSWER[:20], ended=False) == 200
    assert Opening(streamed=True).read(event({"choices": []}), ended=False) == 200
    assert read(ANSWER) == [200]


@pytest.mark.parametrize("word", ["content", "reasoning", "tool_calls"])
def test_an_error_beside_words_is_an_answer_that_broke_off(word: str) -> None:
    value = {"error": {"code": 502}, "choices": [{"delta": {word: "Once"}}]}
    assert read(event(value), streamed=True) == [200]


def test_comments_and_other_fields_stand_before_the_first_event() -> None:
    comments = b": OPENROUTER PROCESSING\n\n", b"\r\nevent: error\r\nid: 1\r\n", b"data:\n"
    found = read(*comments, event({"error": {"code": 502}}), streamed=True)
    assert found == [None, None, None, 502]


def test_a_line_that_is_cut_anywhere_is_waited_for() -> None:
    data = b": wait\n\n" + event({"error": {"code": 401}})
    for cut in range(1, len(data) - 2):
        assert read(data[:cut], data[cut:], streamed=True) == [None, 401]
    for cut in range(len(ERROR)):
        assert read(ERROR[:cut], ERROR[cut:]) == [None, 503]


def test_white_space_and_nothing_at_all_are_no_error() -> None:
    assert read(b"\n\n", b"  ", ERROR) == [None, None, 503]
    assert read(b"") == [200]
    assert read(b": only comments\n\n", b"", streamed=True) == [None, 200]
    assert read(b"data: [DONE]\n\n", streamed=True) == [200]


def test_what_is_too_long_to_be_an_error_passes() -> None:
    opening = Opening(streamed=False)
    assert opening.read(b'{"error": "' + b"x" * LONGEST, ended=False) == 200


@pytest.mark.parametrize("encoding", ["gzip", "GZIP ", "deflate"])
def test_a_compressed_error_is_seen(encoding: str) -> None:
    packed = gzip.compress(ERROR)
    assert read(packed[:12], packed[12:], encoding=encoding) == [None, 503]


def test_what_cannot_be_unpacked_passes() -> None:
    assert read(ERROR, encoding="br") == [200]
    assert read(ERROR, encoding="gzip") == [200]


@pytest.mark.parametrize("data", [b"[1]", b'"error"', b'{"error": ', b"\xff\xfe"])
def test_what_is_no_object_passes(data: bytes) -> None:
    assert read(data) == [200]
    assert read(b"data: " + data + b"\n\n", streamed=True) == [200]


def test_an_error_as_vllm_writes_it() -> None:
    data = event({"object": "error", "message": "too long", "code": 400})
    assert read(data, streamed=True) == [400]
