"""The thin folders are found."""

import pytest

from hermes_apprentice.assets import asset_dir


def test_a_folder_that_is_missing_says_what_to_do() -> None:
    with pytest.raises(FileNotFoundError, match="reinstall hermes-apprentice"):
        asset_dir("no-such-folder")
