from __future__ import annotations

from hermes_apprentice.router.breaker import Breaker


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
