"""A message reads the same on every platform that Hermes connects."""

from __future__ import annotations

import html
import importlib
import re
import warnings
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hermes_apprentice.approvals.plain_text import LONGEST, fitting

HOSTILE = st.text(alphabet="_*[]()~>#+-=|{}.!`&:;@\\< \n\tab1\u200b\u202e\u0627", max_size=60)

FORMATTERS = (
    ("plugins.platforms.discord.adapter", "DiscordAdapter"),
    ("plugins.platforms.slack.adapter", "SlackAdapter"),
    ("plugins.platforms.telegram.adapter", "TelegramAdapter"),
    ("plugins.platforms.matrix.adapter", "MatrixAdapter"),
    ("plugins.platforms.mattermost.adapter", "MattermostAdapter"),
    ("plugins.platforms.irc.adapter", "IRCAdapter"),
    ("plugins.platforms.google_chat.adapter", "GoogleChatAdapter"),
    ("plugins.platforms.line.adapter", "LineAdapter"),
    ("plugins.platforms.sms.adapter", "SmsAdapter"),
    ("gateway.platforms.signal", "SignalAdapter"),
    ("gateway.platforms.weixin", "WeixinAdapter"),
    ("gateway.platforms.whatsapp_common", "WhatsAppBehaviorMixin"),
    ("gateway.platforms.bluebubbles", "BlueBubblesAdapter"),
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("*bold* _italic_ __both__ ~gone~", "·bold· italic both -gone-"),
        ("`code` ||hidden||", "'code' //hidden//"),
        ("a_name, the (EMAIL_1) of it", "a_name, the (EMAIL_1) of it"),
        ("# Heading\n> quote\n---\n- a reason", "Heading\n) quote\n\n- a reason"),
        ("[train](https://evil.example) ![x](y)", "[train] (https://evil.example) ! [x] (y)"),
        ("@everyone <@4711> :skull: at 10:30:15", "at everyone (at 4711) : skull: at 10:30:15"),
        ("ti\u200bck\u00adet \u202eedoc\u202c\x07 a\u2028b\ud800", "ticket edoc a b"),
        ("items[].size of &lt;x&gt;", "items[].size of & lt;x& gt;"),
        ("  \n\n\n\nx\n\n\n\ny  \n", "x\n\ny"),
    ],
)  # fmt: skip
def test_markup_is_taken_out_and_words_stay(text: str, expected: str) -> None:
    assert fitting(text) == expected


def test_a_long_text_is_cut_and_says_so() -> None:
    assert fitting("x" * 5_000) == "x" * (LONGEST - 1) + "…"
    assert fitting("x" * LONGEST) == "x" * LONGEST


@settings(deadline=None)
@given(text=HOSTILE | st.text(max_size=2_000))
@example(text="_" * 9 + "#" * 9 + "\n")
def test_a_fitting_text_stays_as_it_is(text: str) -> None:
    once = fitting(text)
    assert fitting(once) == once
    assert len(once) <= LONGEST
    assert not set(once) & set("`*~|<>\\\u200b\u202e")
    once.encode()  # no half of a character


@pytest.mark.parametrize(("module", "name"), FORMATTERS, ids=[name for _, name in FORMATTERS])
def test_hermes_own_formatting_of_a_platform_leaves_its_words(module: str, name: str) -> None:
    pytest.importorskip("hermes_cli", reason="hermes-agent is not installed here")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of the platforms' own libraries
        found = importlib.import_module(module)
    adapter = object.__new__(getattr(found, name))
    shown: Callable[[str], Any] = (
        getattr(adapter, "_strip_markdown", None) or adapter.format_message
    )

    @settings(deadline=None, max_examples=150)
    @given(text=HOSTILE)
    def holds(text: str) -> None:
        sent = fitting(text)
        assert _visible(shown(sent), name) == _visible(sent, "")

    holds()


def _visible(text: str, name: str) -> str:
    """Return what is seen on the screen: escapes undone, spaces and bullets alike."""
    if name == "TelegramAdapter":
        text = re.sub(r"\\(.)", r"\1", text, flags=re.DOTALL)
    if name == "SlackAdapter":
        text = html.unescape(text)
    text = re.sub(r"^(\s*)- ", r"\1• ", text, flags=re.MULTILINE)
    return " ".join(text.split())
