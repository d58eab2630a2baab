from __future__ import annotations

import base64
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes_apprentice.domain.tenant import Limits, StoredKey, Tenant, new_key
from hermes_apprentice.errors import StorageError
from hermes_apprentice.router.door import (
    GUEST,
    Door,
    _key_and_name,
    _operators_key,
    from_elsewhere,
    is_local,
)
from hermes_apprentice.router.store import Store
from hermes_apprentice.router.tenants import Tenants
from hermes_apprentice.storage.aio import AsyncDatabase
from hermes_apprentice.storage.tenants import Directory

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


PATHS = st.sampled_from(
    ["/v1/chat/completions", "/v1/models", "/v1/embeddings", "/v1/x", "/metrics", "/healthz", "/"]
)
HEADERS = st.lists(
    st.tuples(
        st.sampled_from([b"authorization", b"host", b"origin", b"x-apprentice-tenant", b"cookie"]),
        st.one_of(
            st.binary(max_size=100),
            st.sampled_from([b"localhost", b"127.0.0.1", b"ann", b"Bearer ", b"Basic Og=="]),
            st.from_regex(rb"Bearer ap-[0-9a-f]{10}-[0-9a-f]{64}", fullmatch=True),
        ),
    ),
    max_size=5,
)


class Silent(Store):
    """A store that is never asked."""

    async def database(self) -> AsyncDatabase:
        raise StorageError("this test has no database")


@given(PATHS, st.sampled_from(["GET", "POST", "OPTIONS", "DELETE"]), HEADERS)
def test_whatever_it_sends_nobody_comes_in_without_a_key(
    path: str, method: str, headers: list[tuple[bytes, bytes]]
) -> None:
    tenants = Tenants(Silent(Path("none.db")), exposed=True, marker=Path("none"))
    key = new_key(lambda count: bytes(count))
    stored = StoredKey(key_id=key.key_id, tenant="ann", digest=key.digest, created_at=0.0)
    tenant = Tenant(name="ann", limits=Limits(), created_at=0.0)
    tenants.adopt(Directory(tenants={"ann": tenant}, keys={key.key_id: stored}))
    door = Door(tenants, OURS, Counter())
    scope = {"path": path, "method": method, "headers": headers}
    assert door.closed_to(scope) is not None
    assert scope.get(GUEST) is None
    proof = [(b"host", b"localhost"), (b"authorization", b"Bearer " + key.text.encode())]
    chat: dict[str, Any] = {"path": "/v1/chat/completions", "method": "POST", "headers": proof}
    assert door.closed_to(chat) is None
    assert chat[GUEST].name == "ann"
