from __future__ import annotations

import json
from typing import Any

import orjson
import pytest

from hermes_apprentice.router.renaming import with_model


def changed(body: bytes, model: str = "vendor/new") -> bytes:
    return with_model(body, orjson.loads(body), model)


def test_without_another_name_the_body_is_the_same_object() -> None:
    body = b'{"model": "big-one"}'
    assert with_model(body, orjson.loads(body), "") is body
    assert changed(body, "big-one") is body


def test_only_the_models_name_is_changed_and_every_other_byte_stays() -> None:
    body = b'{ "temperature":1.50,"model"  :  "big-one" ,\n"x":123456789012345678901234567890}'
    assert changed(body) == body.replace(b'"big-one"', b'"vendor/new"')


@pytest.mark.parametrize(
    "value",
    [
        {"messages": [{"content": 'say "model": "big-one"'}], "model": "big-one"},
        {"metadata": {"model": "big-one"}, "model": "big-one"},
        {"model": "big-one", "tools": [{"default": {"model": "big-one"}}, {"model": "other"}]},
        {"tools": [{"properties": {"model": {"type": "string"}}}], "model": "big-one"},
        {"model": 'odd "name" \\ ü'},
        {"model": 3},
        {"messages": []},
    ],
)
def test_only_the_top_name_is_changed_wherever_else_it_occurs(value: dict[str, Any]) -> None:
    body = json.dumps(value).encode()
    assert json.loads(changed(body)) == {**value, "model": "vendor/new"}


def test_a_name_written_in_escapes_is_found() -> None:
    body = b'{"mod\\u0065l": "big-one", "metadata": {"model": "other"}}'
    assert json.loads(changed(body)) == {"model": "vendor/new", "metadata": {"model": "other"}}


def test_a_body_that_was_not_understood_is_left_alone() -> None:
    assert with_model(b"\x1f\x8b...", {}, "vendor/new") == b"\x1f\x8b..."
