"""Killed anywhere between taking a message and recording its delivery, nothing is lost."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

from hermes_apprentice.approvals.outbox import SENT_AGAIN

POINTS = 200
TOPICS = 3

DRIVER = '''
import json, os, random, signal, sys
from pathlib import Path
from hermes_apprentice.approvals.outbox import LEASE, deliver
from hermes_apprentice.storage.approvals import add_message
from hermes_apprentice.storage.database import Database

path, sent, points, topics = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
draw = random.Random(5)
now = 1.79e9
WATCHED = ("approvals/outbox.py", "storage/approvals.py", "storage/database.py", "<string>")


def killed_after(lines):
    """Let this process die, without a chance to tidy up, at the n-th line of the code watched."""
    left = lines

    def trace(frame, event, argument):
        nonlocal left
        if not frame.f_code.co_filename.endswith(WATCHED):
            return None
        if event == "line":
            left -= 1
            if left <= 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    sys.settrace(trace)


def send(key, text):
    with open(sent, "a") as stream:
        stream.write(json.dumps([key, text]) + "\\n")


def write(number):
    with Database(path) as database, database.transaction() as connection:
        topic = f"t{number % topics}"
        add_message(connection, topic, f"{topic}:{number:04}", f"text {number}", now)


deaths = 0
for number in range(points):
    write(2 * number)
    write(2 * number + 1)
    now += LEASE
    point = draw.randrange(1, 240)  # delivering two messages takes about two hundred lines
    child = os.fork()
    if child == 0:
        killed_after(point)
        with Database(path) as database:
            deliver(database, send, now)
        sys.settrace(None)
        os._exit(0)
    deaths += os.WIFSIGNALED(os.waitpid(child, 0)[1])
with Database(path) as database:
    for _ in range(3):
        now += LEASE
        deliver(database, send, now, limit=10 * points)
print(deaths)
'''


def test_killed_at_two_hundred_points_every_message_arrives_in_order_and_repeats_say_so(
    tmp_path: Path,
) -> None:
    sent = tmp_path / "sent"
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, tmp_path / "apprentice.db", sent, str(POINTS), str(TOPICS)],
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    assert int(done.stdout) > POINTS / 2
    arrived: defaultdict[str, list[str]] = defaultdict(list)
    first: defaultdict[str, list[str]] = defaultdict(list)
    repeated = 0
    for line in sent.read_text().splitlines():
        key, text = json.loads(line)
        plain = f"text {int(key.partition(':')[2])}"
        if key in arrived[key[:2]]:
            repeated += 1
            assert text == SENT_AGAIN + plain, "a duplicate says that it is one"
            assert key == arrived[key[:2]][-1], "and comes before anything else of its topic"
        else:
            assert text in (plain, SENT_AGAIN + plain)
            first[key[:2]].append(key)
        arrived[key[:2]].append(key)
    assert repeated > 5
    assert sum(len(keys) for keys in first.values()) == 2 * POINTS
    assert all(keys == sorted(keys) for keys in first.values())
