from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from hermes_apprentice.trainer.folds import make_folds


@given(
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 3)), min_size=1, max_size=60),
    st.integers(2, 6),
    st.integers(0, 3),
)
def test_no_group_is_on_both_sides_and_everything_is_predicted_once(
    rows: list[tuple[int, int]], count: int, seed: int
) -> None:
    groups = [f"g{group}" for group, _ in rows]
    folds = make_folds(groups, [kind for _, kind in rows], count, seed)
    assert len(folds) == (min(count, len(set(groups))) if len(set(groups)) > 1 else 0)
    for fold in folds:
        assert not {groups[n] for n in fold.learn} & {groups[n] for n in fold.predict}
        assert sorted([*fold.learn, *fold.predict]) == list(range(len(rows)))
    if folds:
        assert sorted(n for fold in folds for n in fold.predict) == list(range(len(rows)))


def test_classes_are_spread_evenly() -> None:
    classes = ["rare"] * 5 + ["common"] * 45
    folds = make_folds([f"g{n}" for n in range(50)], classes, 5, seed=1)
    for fold in folds:
        assert Counter(classes[n] for n in fold.predict) == {"rare": 1, "common": 9}


def test_the_same_seed_gives_the_same_folds() -> None:
    groups = [f"g{n % 9}" for n in range(30)]
    first, again = (make_folds(groups, groups, 3, seed=4) for _ in range(2))
    assert [fold.predict.tolist() for fold in first] == [fold.predict.tolist() for fold in again]
