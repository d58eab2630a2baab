"""The tab's files: put there, kept up to date, taken away, and never anybody else's."""

from __future__ import annotations

from pathlib import Path

import pytest

from hermes_apprentice.assets import dashboard_files
from hermes_apprentice.interfaces.install.receipt import Receipt, digest
from hermes_apprentice.interfaces.install.tab import (
    FOLDER,
    foreign_in,
    prune,
    survey_tab,
    tab_changes,
    tab_removal,
)

FILES = dashboard_files()


def receipt(files: dict[str, bytes]) -> Receipt:
    return Receipt(
        profile="default",
        home="h",
        had_config=True,
        config_sha256="",
        edits=(),
        had_env=False,
        env_text="",
        scripts={},
        tab={name: digest(content) for name, content in files.items()},
        jobs=(),
    )


def put(home: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        path = home / FOLDER / "dashboard" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def test_what_is_not_there_is_written_and_then_nothing_is_left_to_do(tmp_path: Path) -> None:
    state = survey_tab(tmp_path, None)
    changes = tab_changes(tmp_path, state, None, FILES)
    assert {change.path.name for change in changes} == set(FILES)
    assert not foreign_in(state, None)
    put(tmp_path, FILES)
    assert tab_changes(tmp_path, survey_tab(tmp_path, None), None, FILES) == []


def test_an_older_version_of_ours_is_replaced_and_a_file_it_had_goes(tmp_path: Path) -> None:
    older = {"index.js": b"// older", "gone.js": b"// gone"}
    put(tmp_path, older)
    state = survey_tab(tmp_path, receipt(older))
    assert not foreign_in(state, receipt(older))
    changes = {one.path.name: one for one in tab_changes(tmp_path, state, receipt(older), FILES)}
    assert changes["index.js"].before == b"// older"
    assert changes["index.js"].after == FILES["index.js"]
    assert changes["gone.js"].after is None


@pytest.mark.parametrize(
    "name", ["plugin.yaml", "__init__.py", "dashboard/index.js", "dashboard/other.js"]
)
def test_a_file_that_no_setup_made_is_foreign(tmp_path: Path, name: str) -> None:
    path = tmp_path / FOLDER / name
    path.parent.mkdir(parents=True)
    path.write_bytes(b"theirs")
    assert foreign_in(survey_tab(tmp_path, None), None)


def test_a_link_is_foreign_and_is_not_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    put(elsewhere, FILES)
    (tmp_path / "plugins").mkdir()
    (tmp_path / FOLDER).symlink_to(elsewhere / FOLDER)
    assert foreign_in(survey_tab(tmp_path, None), None)
    prune(tmp_path)
    assert survey_tab(elsewhere, None).files == FILES


def test_compiled_files_are_nobodys_and_go_with_ours(tmp_path: Path) -> None:
    put(tmp_path, {**FILES, "__pycache__/plugin_api.cpython-311.pyc": b"x"})
    state = survey_tab(tmp_path, receipt(FILES))
    assert not foreign_in(state, receipt(FILES))
    gone, kept = tab_removal(tmp_path, state, receipt(FILES))
    assert kept == []
    for change in gone:
        change.path.unlink()
    prune(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_was_changed_since_stays_with_its_folder(tmp_path: Path) -> None:
    put(tmp_path, {**FILES, "index.js": b"// mine now"})
    gone, kept = tab_removal(tmp_path, survey_tab(tmp_path, receipt(FILES)), receipt(FILES))
    assert [path.name for path in kept] == ["index.js"]
    for change in gone:
        change.path.unlink()
    prune(tmp_path)
    assert kept[0].read_bytes() == b"// mine now"


def test_other_plugins_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "plugins" / "other").mkdir(parents=True)
    prune(tmp_path)
    assert (tmp_path / "plugins" / "other").is_dir()


def test_a_receipt_from_before_the_tab_can_be_read() -> None:
    old = receipt({}).model_dump()
    del old["tab"]
    assert Receipt.model_validate(old).tab == {}
