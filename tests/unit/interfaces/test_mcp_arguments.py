"""Whatever an agent sends, a tool answers or says what is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from hermes_apprentice.errors import ApprenticeError
from hermes_apprentice.interfaces.mcp_tools import TOOLS

QUICK = [tool for tool in TOOLS if tool.name not in ("explain_route", "specialist_details")]
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
    st.sampled_from(["gc-7f3a", "gc-" + "0" * 12, "../../etc/passwd", "x'; DROP TABLE rollouts"]),
    st.lists(st.integers(), max_size=2),
)
NAMES = st.sampled_from(["limit", "state", "days", "name", "candidate", "reason", "other"])


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.mark.parametrize("tool", QUICK, ids=lambda tool: tool.name)
def test_any_arguments_get_an_answer_or_advice(tool: Any, home: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("APPRENTICE_HOME", str(home))

        @hypothesis_settings(
            max_examples=60, deadline=None, suppress_health_check=list(HealthCheck)
        )
        @given(st.dictionaries(NAMES, VALUES, max_size=3))
        def check(arguments: dict[str, Any]) -> None:
            try:
                answer = tool.call(arguments, lambda what, share: None)
            except ApprenticeError as error:
                assert str(error)
            else:
                json.dumps(answer, allow_nan=False)

        check()


def test_every_argument_says_what_it_may_be() -> None:
    for tool in TOOLS:
        schema = tool.schema()
        assert schema["type"] == "object" and schema["additionalProperties"] is False
        for field in schema["properties"].values():
            assert {"type", "enum"} & set(field)
            limits = {"maximum", "maxLength", "enum", "pattern"}
            assert limits & set(field), "nothing is unbounded"
            assert "title" not in field
