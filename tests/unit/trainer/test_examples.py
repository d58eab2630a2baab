from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from hermes_apprentice.domain.dataset import Example, Split
from hermes_apprentice.domain.shape_inference import infer_shape
from hermes_apprentice.errors import TrainingError
from hermes_apprentice.trainer.examples import (
    EXAMPLES_FILE,
    MANIFEST_FILE,
    read_training_data,
    write_dataset,
)

Make = Callable[[Sequence[tuple[str, str]]], list[Example]]


def test_no_trainer_sees_the_test_split(
    make_examples: Make, bookings: list[tuple[str, str]], tmp_path: Path
) -> None:
    examples = make_examples(bookings)
    splits = [Split.TRAIN, Split.VALIDATION, Split.TEST]
    mixed = [replace(one, split=splits[place % 3]) for place, one in enumerate(examples)]
    shape = infer_shape([text for text, _ in bookings], [answer for _, answer in bookings])
    write_dataset(tmp_path, shape, mixed)
    data = read_training_data(tmp_path)
    assert data.shape == shape
    assert data.examples == tuple(one for one in mixed if one.split is not Split.TEST)


def test_odd_characters_survive(make_examples: Make, tmp_path: Path) -> None:
    odd = "a\u2028b\u0085c\r\n\U0001f980 \x00"
    examples = make_examples([(odd, odd)])
    write_dataset(tmp_path, infer_shape([odd], [odd]), examples)
    assert read_training_data(tmp_path).examples == tuple(examples)


@pytest.mark.parametrize("name", [EXAMPLES_FILE, MANIFEST_FILE])
def test_a_missing_or_damaged_file_is_an_error_that_says_what_to_do(
    make_examples: Make, tmp_path: Path, name: str
) -> None:
    write_dataset(tmp_path, infer_shape(["a"], ["b"]), make_examples([("a", "b")]))
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(TrainingError, match="Build it again"):
        read_training_data(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(TrainingError, match="Build it again"):
        read_training_data(tmp_path)
