from __future__ import annotations

from hermes_apprentice.router.breaker import LEASE, Breaker


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_it_opens_after_several_failures_in_a_row_only() -> None:
    breaker = Breaker(failures=3, rest=10, clock=Clock())
    for _ in range(2):
        breaker.failed()
    breaker.succeeded()
    for _ in range(2):
        breaker.failed()
    assert not breaker.open and breaker.allows()
    breaker.failed()
    assert breaker.open and not breaker.allows()


def test_after_its_rest_one_caller_tries_and_its_success_closes_it() -> None:
    clock = Clock()
    breaker = Breaker(failures=1, rest=10, clock=clock)
    breaker.failed()
    clock.now += 9.9
    assert not breaker.allows()
    clock.now += 0.2
    assert breaker.allows()
    assert not breaker.allows()
    breaker.succeeded()
    assert breaker.allows() and breaker.allows()


def test_a_failed_try_means_another_rest() -> None:
    clock = Clock()
    breaker = Breaker(failures=1, rest=10, clock=clock)
    breaker.failed()
    clock.now += 11
    assert breaker.allows()
    breaker.failed()
    clock.now += 9
    assert not breaker.allows()
    clock.now += 2
    assert breaker.allows()


def test_it_says_why_it_is_open_and_for_how_long() -> None:
    clock = Clock()
    breaker = Breaker(failures=2, rest=10, clock=clock)
    breaker.failed("it was late")
    assert breaker.rests_for == 0
    breaker.failed("it raised an error")
    clock.now += 4
    assert (breaker.reason, breaker.rests_for) == ("it raised an error", 6)
    clock.now += 7
    assert breaker.rests_for == 0
    assert breaker.allows()
    assert breaker.rests_for == 0  # it is being tried: nobody knows for how long
    breaker.failed("it was late again")
    assert (breaker.reason, breaker.rests_for) == ("it was late again", 10)
    breaker.succeeded()
    assert (breaker.reason, breaker.rests_for) == ("", 0)


def test_only_one_tries_at_a_time_however_long_it_takes() -> None:
    clock = Clock()
    breaker = Breaker(failures=1, rest=1, clock=clock)
    breaker.failed()
    clock.now += 2
    assert breaker.allows()
    clock.now += 300
    assert not breaker.allows()
    breaker.failed(began_closed=True)  # began before it opened, and fails only now
    clock.now += 2
    assert not breaker.allows()
    breaker.failed()
    clock.now += 2
    assert breaker.allows()


def test_a_try_that_ends_without_a_verdict_lets_the_next_one_try() -> None:
    clock = Clock()
    breaker = Breaker(failures=1, rest=10, clock=clock)
    breaker.failed()
    clock.now += 11
    assert breaker.allows() and not breaker.allows()
    breaker.gave_up()
    assert breaker.open and breaker.allows()


def test_a_try_that_is_never_heard_of_again_does_not_close_the_door_for_ever() -> None:
    clock = Clock()
    breaker = Breaker(failures=1, rest=10, clock=clock)
    breaker.failed()
    clock.now += 11
    assert breaker.allows()
    clock.now += LEASE + 1
    assert breaker.allows()


def test_the_rest_doubles_up_to_the_longest_and_begins_small_again() -> None:
    clock = Clock()
    breaker = Breaker(failures=1, rest=1, longest=5, clock=clock)

    def rest() -> float:
        began = clock.now
        while not breaker.allows():
            clock.now += 0.25
        return clock.now - began

    found = []
    for _ in range(5):
        breaker.failed()
        found.append(rest())
    assert found == [1, 2, 4, 5, 5]
    breaker.succeeded()
    breaker.failed()
    assert rest() == 1
