from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes_apprentice.router.door import _key_and_name, _operators_key, from_elsewhere, is_local

OURS = ("box.example", "host.docker.internal")


@pytest.mark.parametrize(
    ("headers", "alone", "shared"),
    [
        ({"host": "127.0.0.1:8765"}, False, False),
        ({"host": "localhost"}, False, False),
        ({"host": "[::1]:8765"}, False, False),
        ({"host": "192.0.2.7:8765"}, True, False),
        ({"host": "[2001:db8::1]:8765"}, True, False),
        ({"host": "box.example"}, True, False),
        ({"host": "BOX.example:80"}, True, False),
        ({"host": "box.example.attacker.example"}, True, True),
        ({"host": "attacker.example"}, True, True),
        ({"host": ""}, True, True),
        ({"host": "user@192.0.2.7"}, True, True),
        ({"host": "127.0.0.1", "origin": "http://localhost:3000"}, False, False),
        ({"host": "127.0.0.1", "origin": "null"}, True, True),
        ({"host": "127.0.0.1", "origin": "http://attacker.example"}, True, True),
        ({"host": "box.example", "origin": "https://box.example"}, True, False),
        ({"host": "box.example", "origin": "https://box.example:99"}, True, True),
        ({"host": "192.0.2.7", "origin": "http://192.0.2.8"}, True, True),
        ({"host": "127.0.0.1", "sec-fetch-site": "cross-site"}, True, True),
        ({"host": "127.0.0.1", "sec-fetch-site": "same-site"}, True, True),
        ({"host": "127.0.0.1", "sec-fetch-site": "same-origin"}, False, False),
    ],
)
def test_who_comes_from_elsewhere(headers: dict[str, str], alone: bool, shared: bool) -> None:
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    assert from_elsewhere(raw) is alone
    assert from_elsewhere(raw, OURS) is shared


@given(st.lists(st.tuples(st.sampled_from([b"host", b"origin"]), st.binary(max_size=40))))
def test_no_header_breaks_the_check(headers: list[tuple[bytes, bytes]]) -> None:
    for hosts in (None, OURS):
        assert from_elsewhere(headers, hosts) in (True, False)


@given(st.lists(st.tuples(st.sampled_from([b"authorization", b"x"]), st.binary(max_size=60))))
def test_no_header_breaks_the_reading_of_keys(headers: list[tuple[bytes, bytes]]) -> None:
    key, named = _key_and_name(headers)
    assert key is None or isinstance(key, str)
    assert named is None
    found = _operators_key(headers)
    assert found is None or isinstance(found, str)


@pytest.mark.parametrize(
    ("value", "key"),
    [
        (b"Bearer ap-1", "ap-1"),
        (b"bearer   ap-1  ", "ap-1"),
        (b"BEARER ap-1", "ap-1"),
        (b"Bearer", ""),
        (b"Bearerap-1", None),
        (b"Basic ap-1", None),
        (b"ap-1", None),
        (b"", None),
    ],
)
def test_a_bearers_key(value: bytes, key: str | None) -> None:
    assert _key_and_name([(b"authorization", value)]) == (key, None)


def test_a_second_key_or_name_is_trusted_no_more_than_none() -> None:
    twice = [(b"authorization", b"Bearer ap-1"), (b"authorization", b"Bearer ap-1")]
    assert _key_and_name(twice)[0] is None
    name = b"x-apprentice-tenant"
    assert _key_and_name([(name, b"ann"), (name, b"ann")])[1] == "ann"
    assert _key_and_name([(name, b"ann"), (name, b"bob")])[1] == ""


def test_an_operator_may_use_a_browser() -> None:
    pair = base64.b64encode(b"me:ap-1:2")
    assert _operators_key([(b"authorization", b"Basic " + pair)]) == "ap-1:2"
    assert _operators_key([(b"authorization", b"Bearer ap-1")]) == "ap-1"
    assert _operators_key([(b"authorization", b"Basic ???")]) is None


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("127.0.0.9", True),
        ("::1", True),
        ("a.localhost", True),
        ("localhost.example", False),
        ("0.0.0.0", False),
        ("", False),
    ],
)
def test_what_is_this_machine(name: str, ours: bool) -> None:
    assert is_local(name) is ours
