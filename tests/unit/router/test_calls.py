from __future__ import annotations

from typing import Any

import pytest

from hermes_apprentice.domain.routing import CallKind
from hermes_apprentice.router.calls import read_call

TOOLS = [{"type": "function", "function": {"name": "terminal", "parameters": {}}}]
SYSTEM = {"role": "system", "content": "You are an agent.\nToday is Friday."}


def user(text: Any) -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistant(text: str = "Done.") -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def tool() -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": "call_1", "content": "3 files"}


def body(*messages: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        "model": "big-one",
        "messages": [SYSTEM, *messages],
        "tools": TOOLS,
        "stream": True,
        "stream_options": {"include_usage": True},
        **changes,
    }


def tagged(number: str = "1", platform: str = "cli") -> dict[bytes, bytes]:
    return {
        b"x-hermes-session-id": b"20260901_080000_aaaaaa",
        b"x-hermes-api-call": number.encode(),
        b"x-hermes-platform": platform.encode(),
    }


def test_a_users_turn_is_a_first_call_without_any_header() -> None:
    call = read_call({}, body(user("Label this ticket")))
    assert call.kind is CallKind.FIRST
    assert call.request == "Label this ticket"
    assert (call.model, call.stream, call.include_usage) == ("big-one", True, True)


def test_a_tool_result_makes_a_continuation_though_the_user_message_has_not_changed() -> None:
    call = read_call({}, body(user("Count the files"), assistant(), tool()))
    assert call.kind is CallKind.CONTINUATION
    assert call.request == ""


def test_the_plugins_call_number_decides_over_the_shape() -> None:
    assert read_call(tagged("1"), body(user("Count"))).kind is CallKind.FIRST
    assert read_call(tagged("2"), body(user("Count"))).kind is CallKind.CONTINUATION


@pytest.mark.parametrize("number", ["", "one", "-1", "9" * 6_000])
def test_a_call_number_that_is_none_is_never_a_first_call(number: str) -> None:
    assert read_call(tagged(number), body(user("Count"))).kind is CallKind.CONTINUATION


def test_what_hermes_writes_itself_to_finish_an_answer_is_a_continuation() -> None:
    text = "[System: The previous response was cut off. Continue exactly where you left off.]"
    messages = (user("Tell me"), assistant("It be"), user(text))
    assert read_call({}, body(*messages)).kind is CallKind.CONTINUATION
    assert read_call(tagged("1"), body(*messages)).kind is CallKind.CONTINUATION


@pytest.mark.parametrize("rest", [(), (assistant(), tool())])
def test_a_review_of_the_conversation_is_told_apart_even_when_it_is_tagged(rest: Any) -> None:
    text = "Review the conversation above and consider saving to memory if appropriate."
    found = read_call(tagged("1"), body(user("I like tea"), assistant(), user(text), *rest))
    assert found.kind is CallKind.REVIEW


def test_a_scheduled_job_is_told_apart_with_and_without_the_plugin() -> None:
    text = "[IMPORTANT: You are running as a scheduled cron job. ...]\n\nSay hello"
    assert read_call({}, body(user(text))).kind is CallKind.CRON
    assert read_call(tagged("1", "cron"), body(user("Say hello"))).kind is CallKind.CRON


def test_a_subagent_is_told_apart_with_and_without_the_plugin() -> None:
    system = {
        "role": "system",
        "content": "You are a focused subagent. Your response is returned to the parent agent "
        "as a summary.",
    }
    untagged = {**body(), "messages": [system, user("sub job")]}
    assert read_call({}, untagged).kind is CallKind.SUBAGENT
    assert read_call(tagged("1", "subagent"), body(user("sub job"))).kind is CallKind.SUBAGENT


@pytest.mark.parametrize("role", ["system", "developer"])
@pytest.mark.parametrize(
    "behind", ["", "\n## Subagent Spawning\n" + "You can spawn others. " * 100]
)
def test_a_subagent_is_told_apart_whatever_its_instructions_are_called(
    role: str, behind: str
) -> None:
    text = "You are focused. Your response is returned to the parent agent as a summary."
    untagged = {**body(), "messages": [{"role": role, "content": text + behind}, user("sub job")]}
    assert read_call({}, untagged).kind is CallKind.SUBAGENT


def test_what_an_mcp_server_asks_for_is_auxiliary_though_it_offers_tools() -> None:
    sampled = {**body(), "messages": [user("Which is larger?")], "stream": False}
    assert read_call({b"x-stainless-read-timeout": b"30.0"}, sampled).kind is CallKind.AUXILIARY


@pytest.mark.parametrize("patience", [b"", b"600", b"1800.0", b"NOT_GIVEN", b"9" * 5_000])
def test_a_plain_client_with_tools_and_without_instructions_asks_for_its_user(
    patience: bytes,
) -> None:
    plain = {**body(), "messages": [user("Label this")], "stream": False}
    assert read_call({b"x-stainless-read-timeout": patience}, plain).kind is CallKind.FIRST
    assert read_call({}, plain).kind is CallKind.FIRST


@pytest.mark.parametrize(
    "text",
    [
        "[IMPORTANT: Background process bg-1 finished with exit code 0]",
        "[IMPORTANT: MCP servers have been reloaded. 2 added.]",
        "[Background process bg-1 is still running]",
        "[ASYNC DELEGATION COMPLETE - d-1]\nIt is done.",
        "[Continuing toward your standing goal]\nGoal: tidy the shed",
        "[CONTEXT COMPACTION] Earlier turns were compacted.",
    ],
)
def test_what_hermes_tells_its_model_in_the_users_place_is_no_first_call(text: str) -> None:
    found = read_call({}, body(user("Start the build"), assistant(), user(text)))
    assert found.kind is CallKind.CONTINUATION
    assert read_call(tagged("1"), body(user(text))).kind is CallKind.CONTINUATION


def test_the_note_about_another_model_is_not_part_of_the_request() -> None:
    note = "[Note: model was just switched from a/b to c/d via Some Provider. Adjust yourself.]"
    call = read_call({}, body(user(f"{note}\n\nLabel this")))
    assert (call.kind, call.request) == (CallKind.FIRST, "Label this")


def test_a_call_without_tools_and_without_the_plugin_is_auxiliary() -> None:
    title = body(user("User: hi\n\nAssistant: hello"))
    del title["tools"]
    assert read_call({}, title).kind is CallKind.AUXILIARY
    assert read_call(tagged("1"), title).kind is CallKind.FIRST


def test_the_curator_is_no_user() -> None:
    text = "You are running as Hermes' background skill CURATOR. Tidy."
    assert read_call({}, body(user(text))).kind is CallKind.REVIEW
    assert read_call(tagged("1", "curator"), body(user("Tidy"))).kind is CallKind.REVIEW


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"messages": "hello"},
        {"messages": []},
        {"messages": [SYSTEM]},
        {"messages": [None, 3, "x", {"role": 5}]},
        {"messages": [{"role": "user"}], "model": 3, "tools": "yes", "stream_options": []},
        {"messages": [{"role": "user", "content": {"a": 1}}], "tools": TOOLS},
    ],
)
def test_odd_bodies_are_understood_without_an_error(broken: dict[str, Any]) -> None:
    call = read_call({}, broken)
    assert call.kind in (CallKind.OTHER, CallKind.AUXILIARY, CallKind.FIRST)
    assert call.request == ""


def test_notes_that_hermes_appends_are_not_part_of_the_request() -> None:
    text = "Label this\n\n[System note: This is the user's very first message ever.]"
    assert read_call({}, body(user(text))).request == "Label this"


def test_text_parts_are_read_as_one_request() -> None:
    parts = [{"type": "text", "text": "Label"}, {"type": "text", "text": "this"}]
    call = read_call({}, body(user(parts)))
    assert (call.request, call.refusal) == ("Label\nthis", None)


def test_turns_are_counted_by_what_people_typed() -> None:
    messages = (
        user("one"),
        assistant(),
        user("[System: The previous response was cut off.]"),
        assistant(),
        user("two"),
        assistant(),
        tool(),
        user("three"),
    )
    assert read_call({}, body(*messages)).turn_index == 2


def test_a_session_keeps_its_name_while_it_goes_on() -> None:
    first = read_call({}, body(user("one")))
    later = read_call({}, body(user("one"), assistant(), user("two")))
    other = read_call({}, body(user("1")))
    assert first.session == later.session != other.session
    assert read_call(tagged(), body(user("one"))).session == "20260901_080000_aaaaaa"


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        ({"response_format": {"type": "json_schema"}}, "response_format"),
        ({"response_format": {"type": "text"}}, None),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": {"type": "function"}}, "tool_choice"),
        ({"tool_choice": "auto"}, None),
        ({"function_call": {"name": "search"}}, "tool_choice"),
        ({"function_call": "auto"}, None),
        ({"guided_choice": ["bug", "billing"]}, "response_format"),
        ({"structured_outputs": {"regex": "[a-z]+"}}, "response_format"),
        ({"grammar": ""}, None),
        ({"web_search_options": {}}, "extras"),
        ({"plugins": [{"id": "web"}]}, "extras"),
        ({"plugins": []}, None),
        ({"n": 2}, "several_answers"),
        ({"n": 1}, None),
        ({"logprobs": True}, "logprobs"),
        ({"stop": ["\n"]}, "stop"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"modalities": ["text"]}, None),
    ],
)
def test_wishes_that_only_the_upstream_can_grant_are_noticed(
    changes: dict[str, Any], refusal: str | None
) -> None:
    assert read_call({}, body(user("Label this"), **changes)).refusal == refusal


def test_an_image_is_an_attachment() -> None:
    parts = [{"type": "text", "text": "What is this"}, {"type": "image_url", "image_url": {}}]
    assert read_call({}, body(user(parts))).refusal == "attachment"
