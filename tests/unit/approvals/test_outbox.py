"""Messages are delivered at least once, in order within a topic, by one deliverer at a time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from hermes_apprentice.approvals.outbox import (
    COURIER_ALIVE,
    LEASE,
    OVERDUE,
    SENT_AGAIN,
    Delivery,
    deliver,
    pause_after,
    take,
)
from hermes_apprentice.errors import DeliveryError
from hermes_apprentice.storage.approvals import (
    add_message,
    claim_text,
    mark_delivered,
    mark_failed,
    mark_uncertain,
    show_courier,
    waiting_messages,
)
from hermes_apprentice.storage.database import Database

NOW = 1_790_000_000.0


def write(database: Database, *keys: str) -> None:
    """Write messages; the first letter of a key is its topic."""
    with database.transaction() as connection:
        for key in keys:
            add_message(connection, key[0], key, f"text {key}", NOW)


def test_a_failed_delivery_stays_and_holds_back_its_topic_only(database: Database) -> None:
    write(database, "a1", "a2", "b1")
    sent: list[str] = []

    def flaky(key: str, text: str) -> None:
        if key == "a1" and not sent:
            sent.append("tried a1")
            raise DeliveryError("down")
        sent.append(key)

    assert deliver(database, flaky, NOW) == Delivery(delivered=1, failed=1)
    assert deliver(database, flaky, NOW) == Delivery(delivered=2, failed=0)
    assert sent == ["tried a1", "b1", "a1", "a2"]


def test_the_same_event_makes_one_message(database: Database) -> None:
    with database.transaction() as connection:
        assert add_message(connection, "a", "k", "one", NOW)
        assert not add_message(connection, "a", "k", "two", NOW)
    sent: list[str] = []
    deliver(database, lambda key, text: sent.append(text), NOW)
    assert sent == ["one"]


def test_two_deliverers_do_not_take_the_same_message(database: Database) -> None:
    write(database, "a1", "a2", "b1")
    with Database(database.path) as other:
        first = take(database, "one", NOW)
        second = take(other, "two", NOW)
        assert first is not None and second is not None
        assert (first.message.key, second.message.key) == ("a1", "b1")
        assert take(other, "two", NOW) is None  # a2 waits for a1


def test_a_message_whose_holder_was_killed_is_sent_again_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "apprentice.db"
    with Database(path) as database:
        write(database, "a1")
    program = textwrap.dedent(
        """
        import os, signal, sys
        from pathlib import Path
        from hermes_apprentice.approvals.outbox import deliver
        from hermes_apprentice.storage.database import Database

        def send(key, text):
            print(text, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)

        deliver(Database(Path(sys.argv[1])), send, float(sys.argv[2]))
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(path), str(NOW)],
        capture_output=True,
        text=True,
        timeout=60,
        env=dict(os.environ),
    )
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, "text a1\n")
    sent: list[str] = []
    with Database(path) as database:
        deliver(database, lambda key, text: sent.append(text), NOW + LEASE / 2)
        assert sent == []  # whoever holds it may still be at it
        deliver(database, lambda key, text: sent.append(text), NOW + LEASE)
    assert sent == [f"{SENT_AGAIN}text a1"]


def test_while_a_courier_is_at_work_the_scheduler_leaves_it_the_messages(
    database: Database,
) -> None:
    write(database, "a1")
    with database.transaction() as connection:
        show_courier(connection, "gateway:1", NOW)
    sent: list[str] = []

    def send(key: str, text: str) -> None:
        sent.append(key)

    assert deliver(database, send, NOW + 1) == Delivery(0, 0)
    claimed = take(database, "gateway:1", NOW + 2, courier=True)
    assert claimed is not None and claimed.message.key == "a1"


@pytest.mark.parametrize("later", [COURIER_ALIVE + 1, OVERDUE])
def test_what_a_courier_does_not_deliver_the_scheduler_does(
    database: Database, later: float
) -> None:
    write(database, "a1")
    with database.transaction() as connection:
        show_courier(connection, "gateway:1", NOW)
        if later == OVERDUE:  # it is at work, and still gets nothing delivered
            show_courier(connection, "gateway:1", NOW + later)
    assert deliver(database, lambda key, text: None, NOW + later) == Delivery(1, 0)


def test_a_rate_limit_holds_a_message_until_it_ends(database: Database) -> None:
    write(database, "a1")
    claimed = take(database, "one", NOW)
    assert claimed is not None
    with database.transaction() as connection:
        mark_failed(connection, claimed.message.message_id, "rate limit", NOW + 30)
    assert take(database, "one", NOW + 29) is None
    again = take(database, "one", NOW + 30)
    assert again is not None and not again.again
    assert again.message.attempts == 1


def test_a_message_that_may_have_arrived_says_so_the_next_time(database: Database) -> None:
    write(database, "a1")
    claimed = take(database, "one", NOW)
    assert claimed is not None
    with database.transaction() as connection:
        mark_uncertain(connection, claimed.message.message_id, "timed out", NOW + 5)
    again = take(database, "one", NOW + 5)
    assert again is not None and again.again


def test_an_answer_given_directly_is_not_delivered_again(database: Database) -> None:
    write(database, "a1", "a2")
    with database.transaction() as connection:
        number = claim_text(connection, "text a2", "one", NOW, lease=LEASE)
        assert number is not None
        assert claim_text(connection, "text a2", "two", NOW, lease=LEASE) is None
        mark_delivered(connection, number, NOW)
        assert [one.key for one in waiting_messages(connection)] == ["a1"]


def test_pauses_double_up_to_five_minutes() -> None:
    assert [pause_after(number) for number in (0, 1, 2, 50)] == [5, 10, 20, 300]
