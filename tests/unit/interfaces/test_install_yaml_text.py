"""Edits to a YAML text change what they should and not a byte beside it."""

from __future__ import annotations

import io
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from hermes_apprentice.errors import ConfigError
from hermes_apprentice.interfaces.install.edits import (
    Edit,
    apply_edits,
    edit_of,
    revert_edits,
)
from hermes_apprentice.interfaces.install.yaml_text import (
    add_item,
    read_yaml,
    remove_item,
    remove_value,
    set_value,
    value_at,
)

CONFIG = """\
# Mine. Do not touch.
model:
  provider: openrouter   # the one I pay
  default: "anthropic/claude-sonnet-4.6"

plugins: {enabled: [], disabled: [noisy]}   # one line
skills:
  # shared with the team
  external_dirs:
    - /srv/team skills   # ours

display:
  busy_input_mode: 'queue'
  banner: |
    first line

    # not a comment
# the end
"""


def test_only_the_value_changes() -> None:
    changed = set_value(CONFIG, ("model", "provider"), "apprentice")
    assert changed == CONFIG.replace("provider: openrouter  ", "provider: apprentice  ")


def test_a_new_section_goes_to_the_end() -> None:
    changed = set_value(CONFIG, ("providers", "x"), {"base_url": "http://127.0.0.1:1/v1", "n": 1})
    assert changed.startswith(CONFIG)
    assert read_yaml(changed, "c")["providers"] == {
        "x": {"base_url": "http://127.0.0.1:1/v1", "n": 1}
    }


def test_items_are_added_in_either_notation() -> None:
    changed = add_item(CONFIG, ("plugins", "enabled"), "apprentice")
    changed = add_item(changed, ("skills", "external_dirs"), "/a b")
    assert changed == CONFIG.replace("enabled: []", "enabled: [apprentice]").replace(
        "    - /srv", '    - "/a b"\n    - /srv'
    ).replace('"/a b"', "/a b")


def test_entries_are_removed_in_either_notation() -> None:
    assert remove_value(CONFIG, ("model", "default")) == CONFIG.replace(
        '  default: "anthropic/claude-sonnet-4.6"\n', ""
    )
    assert remove_value(CONFIG, ("plugins", "enabled")) == CONFIG.replace("enabled: [], ", "")
    assert remove_value(CONFIG, ("plugins", "disabled")) == CONFIG.replace(
        ", disabled: [noisy]", ""
    )
    assert remove_item(CONFIG, ("plugins", "disabled"), "noisy") == CONFIG.replace("[noisy]", "[]")
    assert remove_value(CONFIG, ("no", "such")) == CONFIG


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# only a comment\n",
        "{}\n",
        "{model: {provider: custom, default: m}}",
        "model: {provider: custom, default: m}",
        "model: m\nplugins:\n",
        "model:\r\n  provider: custom\r\n  default: m\r\nplugins:\r\n  enabled:\r\n  - a\r\n",
        "plugins: ~\nskills: {external_dirs: }\nproviders:\n  other: {base_url: u}\n",
        "---\nmodel:\n    provider: x\n    default: m\n",
        "\ufeffmodel: {default: m}\n",
        "model: {default: m}\nskills:\n  external_dirs: ['/a', /b]\nlast: |\n  text\n",
        "plugins:\n  enabled:\n  - a\n  - b\nz: 1",
        "providers:\n  # a note\n\n  other:\n    base_url: u  # u\n# end\n\n",
        "plugins:   # mine\n\nskills:\n  external_dirs:  # none yet\nmodel: {default: m}\n",
        "model: &m {provider: x, default: m}\n",
        "? model\n: {provider: x, default: m}\n",
    ],
)
def test_any_notation_takes_the_edits_and_gives_them_back(text: str) -> None:
    data = read_yaml(text, "c")
    model = data.get("model")
    edits = [
        edit_of(data, ("model", "provider"), "apprentice")
        if isinstance(model, dict)
        else edit_of(data, ("model",), {"provider": "apprentice", "default": "m"}),
        edit_of(data, ("providers", "apprentice"), {"base_url": "http://127.0.0.1:8765/v1"}),
        edit_of(data, ("fallback_model",), {"provider": "custom", "model": "m: 1"}),
        edit_of(data, ("plugins", "enabled"), "apprentice", item=True),
        edit_of(data, ("skills", "external_dirs"), "/a #b", item=True),
    ]
    changed = apply_edits(text, edits)
    # Hermes reads with PyYAML, so both parsers must agree.
    assert yaml.safe_load(changed) == read_yaml(changed, "c")
    assert all(edit.holds(read_yaml(changed, "c")) for edit in edits)
    assert apply_edits(changed, edits) == changed
    back = revert_edits(changed, edits)
    assert back.left == ()
    # A section that was there without a value may be gone; it means the same.
    same = {key: inner for key, inner in data.items() if inner is not None}
    assert {k: v for k, v in (yaml.safe_load(back.text) or {}).items() if v is not None} == same
    if "\r\n" in text:
        assert changed.count("\n") == changed.count("\r\n")


def test_what_the_user_changed_since_stays() -> None:
    data = read_yaml(CONFIG, "c")
    edits = [
        edit_of(data, ("model", "provider"), "apprentice"),
        edit_of(data, ("providers", "apprentice"), {"base_url": "u"}),
        edit_of(data, ("plugins", "enabled"), "apprentice", item=True),
    ]
    changed = apply_edits(CONFIG, edits)
    changed = changed.replace("provider: apprentice", "provider: nous").replace(
        "enabled: [apprentice]", "enabled: [apprentice, mine]"
    )
    changed += "mine: 1\n"
    back = revert_edits(changed, edits)
    assert back.left == ("model.provider",)
    after = read_yaml(back.text, "c")
    assert after["model"]["provider"] == "nous"
    assert after["plugins"] == {"enabled": ["mine"], "disabled": ["noisy"]}
    assert "providers" not in after
    assert after["mine"] == 1
    assert "# the one I pay" in back.text


def test_edits_are_taken_back_after_hermes_rewrote_the_file() -> None:
    data = read_yaml(CONFIG, "c")
    edits = [
        edit_of(data, ("model", "default"), "other"),
        edit_of(data, ("providers", "apprentice"), {"base_url": "u", "name": "apprentice"}),
        edit_of(data, ("skills", "external_dirs"), "/ours", item=True),
    ]
    rewritten = yaml.safe_dump(yaml.safe_load(apply_edits(CONFIG, edits)), sort_keys=True)
    back = revert_edits(rewritten, edits)
    assert read_yaml(back.text, "c") == data


def test_a_container_that_was_there_before_stays() -> None:
    text = "providers: {}\nplugins:\n  enabled: []\n"
    data = read_yaml(text, "c")
    edits = [
        edit_of(data, ("providers", "apprentice"), {"base_url": "u"}),
        edit_of(data, ("plugins", "enabled"), "apprentice", item=True),
        edit_of(data, ("skills", "external_dirs"), "/ours", item=True),
    ]
    changed = apply_edits(text, edits) + "mine: 1\n"
    assert revert_edits(changed, edits).text == text + "mine: 1\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("model: [unclosed\n", "line"),
        ("model:\n\tprovider: x\n", "line 2"),
        ("- a\n- b\n", "must consist of settings"),
        ("just words\n", "must consist of settings"),
        ("a: 1\na: 2\n", "line 2"),
        ("a: *nowhere\n", "line 1"),
    ],
)
def test_a_broken_text_is_refused_with_its_place(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        read_yaml(text, "config.yaml")


def test_a_shared_anchor_is_not_edited() -> None:
    text = "base: &b {provider: x}\nmodel: *b\n"
    with pytest.raises(ConfigError, match="anchor"):
        set_value(text, ("model", "provider"), "apprentice")
    with pytest.raises(ConfigError, match="not a list"):
        add_item("plugins: {enabled: yes-please}\n", ("plugins", "enabled"), "apprentice")


KEYS = st.sampled_from(["model", "plugins", "enabled", "providers", "skills", "a", "b", "x-y"])
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 5),
    st.text(alphabet="ab #:'\"-\n{}[],&*!|>%@é", max_size=8),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=3)),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(
    data=st.dictionaries(KEYS, VALUES, max_size=5),
    flow=st.sampled_from([True, False, None]),
    indent=st.sampled_from([2, 4]),
    path=st.lists(KEYS, min_size=1, max_size=3).map(tuple),
    value=VALUES,
    comments=st.booleans(),
)
def test_any_edit_of_any_document_is_right_or_refused(
    data: dict[str, Any],
    flow: bool | None,
    indent: int,
    path: tuple[str, ...],
    value: Any,
    comments: bool,
) -> None:
    text = yaml.safe_dump(data, default_flow_style=flow, indent=indent, allow_unicode=True)
    if comments and "\n\n" not in text and "|" not in text and "'" not in text and '"' not in text:
        text = "# head\n" + text + "# tail\n"
    assert read_yaml(text, "c") == data
    try:
        edit: Edit = edit_of(data, path, value)
        changed = apply_edits(text, [edit])
    except ConfigError as error:
        assert "is not a mapping" in str(error)
        return
    parsed = yaml.safe_load(changed)
    assert value_at(parsed, path) == value
    back = revert_edits(changed, [edit])
    assert yaml.safe_load(back.text) == data or _null_ways(data, path)


def _null_ways(data: dict[str, Any], path: tuple[str, ...]) -> bool:
    """Whether a null stood on the way, which comes back as an empty or missing mapping."""
    return any(value_at(data, path[:depth]) is None for depth in range(1, len(path)))


@settings(max_examples=80, deadline=None)
@given(
    before=st.lists(SCALARS, max_size=4, unique_by=repr),
    flow=st.booleans(),
    item=st.text(alphabet="ab #:/", min_size=1, max_size=8),
)
def test_any_item_can_be_added_and_removed(before: list[Any], flow: bool, item: str) -> None:
    data = {"a": 1, "skills": {"external_dirs": before, "z": None}}
    text = yaml.safe_dump(data, default_flow_style=flow)
    edit = edit_of(data, ("skills", "external_dirs"), item, item=True)
    changed = apply_edits(text, [edit])
    assert item in yaml.safe_load(changed)["skills"]["external_dirs"]
    if item not in before:
        assert yaml.safe_load(revert_edits(changed, [edit]).text) == data


def test_what_ruamel_writes_can_be_edited() -> None:
    stream = io.StringIO()
    YAML().dump({"model": {"default": "m"}, "plugins": {"enabled": ["a"]}}, stream)
    changed = add_item(stream.getvalue(), ("plugins", "enabled"), "apprentice")
    assert yaml.safe_load(changed)["plugins"]["enabled"] == ["apprentice", "a"]
