from hermes_apprentice.domain.copying import Haystack
from hermes_apprentice.inference.words import split_words
from hermes_apprentice.trainer.alignment import (
    Mention,
    WordSpan,
    choose_places,
    places_of,
    readable_places,
    same,
    values_at,
)


def places(value: str | int, request: str) -> tuple[WordSpan, ...]:
    return places_of(value, Haystack(request), split_words(request))


def test_values_are_found_below_lists_and_objects() -> None:
    answer = {"items": [{"sku": "A", "n": None}, {"sku": "B"}, "odd"], "who": {"name": ""}}
    assert values_at(answer, "items[].sku") == ["A", "B"]
    assert values_at(answer, "items[].n") == []
    assert values_at(answer, "who.name") == []
    assert values_at({"tags": ["x", "", "y"]}, "tags[]") == ["x", "y"]
    assert values_at({"zero": 0, "no": False}, "zero") == [0]


def test_every_place_of_a_value_is_found_in_whole_words() -> None:
    assert places("Bo", "Bo and Bob and bo") == (WordSpan(0, 1), WordSpan(4, 5))
    assert places("AB-12", "order AB-12 now") == (WordSpan(1, 4),)
    assert places(3, "3x bolts") == (WordSpan(0, 1),)
    assert places("nowhere", "order AB-12") == ()


def test_a_reading_keeps_only_the_places_it_gives_the_value_for() -> None:
    request = "berlin or Berlin"
    words = split_words(request)
    found = places("Berlin", request)
    assert len(found) == 2
    assert readable_places(found, "Berlin", "as_is", request, words) == (WordSpan(2, 3),)
    assert readable_places(found, "Berlin", "capital", request, words) == found


def test_true_is_not_one() -> None:
    assert same(1, 1.0) and not same(True, 1) and not same("1", 1) and same(None, None)


def test_of_several_places_the_one_with_the_usual_surroundings_is_chosen() -> None:
    certain = [f"please send {n} boxes by day {n + 50}" for n in range(2, 20)]
    doubtful = "please send 31 boxes by day 31"
    words = [split_words(text) for text in (*certain, doubtful)]
    mentions = [Mention(n, "count", n + 2, places(n + 2, text)) for n, text in enumerate(certain)]
    mentions.append(Mention(len(certain), "count", 31, places(31, doubtful)))
    assert len(mentions[-1].candidates) == 2
    choose_places(mentions, words)
    assert mentions[-1].chosen == (WordSpan(2, 3),)


def test_the_place_of_another_field_is_avoided() -> None:
    request = "from 7 to 8 and 7"
    words = [split_words(request)]
    mentions = [
        Mention(0, "start", 7, (WordSpan(1, 2),)),
        Mention(0, "seats", 7, (WordSpan(1, 2), WordSpan(5, 6))),
    ]
    choose_places(mentions, words)
    assert mentions[1].chosen == (WordSpan(5, 6),)


def test_equal_elements_of_a_list_take_places_of_their_own() -> None:
    request = "2 of A, 2 of B"
    words = [split_words(request)]
    found = places(2, request)
    mentions = [Mention(0, "items[].count", 2, found), Mention(0, "items[].count", 2, found)]
    choose_places(mentions, words)
    assert [mention.chosen for mention in mentions] == [(found[0],), (found[1],)]


def test_a_value_without_a_place_is_left_without_one() -> None:
    mention = Mention(0, "x", "gone", ())
    choose_places([mention], [split_words("nothing here")])
    assert mention.chosen == ()
