"""How fast the observer catches up with Hermes, and what a poll costs when nothing happened.

The sessions are invented and lie in a database that the real Hermes created.
`ours` is compared with `full_reread`, which reads and assembles everything
each time, as a tailer without a cursor would. The last line is one JSON object:
case -> method -> figures. ``idle_poll`` is a poll long after the last write,
``busy_idle_poll`` one right after it, when the file's time proves nothing yet,
``next_turn`` the poll after one more turn.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import groupby
from pathlib import Path

from hermes_state import SessionDB

from hermes_apprentice.observer.harvest import harvest
from hermes_apprentice.observer.session_db import SessionReader
from hermes_apprentice.observer.turns import assemble, to_exchange
from hermes_apprentice.storage.database import Database
from hermes_apprentice.storage.exchanges import ExchangeStore, StoredExchange

START = 1_700_000_000.0
WORDS = "please read the order below and say which article how many pieces and until when".split()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="not used; for the same call as other benchmarks")
    parser.add_argument("--json", action="store_true", help="print only the JSON line")
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--polls", type=int, default=100)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), options.messages, options.polls)
    if not options.json:
        for case, methods in figures.items():
            for method, values in methods.items():
                shown = ", ".join(f"{name} {value}" for name, value in values.items())
                print(f"{case:18} {method:12} {shown}")
    print(json.dumps(figures))


def measure(folder: Path, messages: int, polls: int) -> dict[str, dict[str, dict[str, float]]]:
    state_db = folder / "state.db"
    print(f"writing {messages} messages", file=sys.stderr)
    write_sessions(state_db, messages)
    case = f"catch_up_{messages // 1000}k"
    with Database(folder / "ours.db") as ours, Database(folder / "naive.db") as naive:
        started = time.perf_counter()
        report = harvest(state_db, "default", ours, time.time())
        caught_up = time.perf_counter() - started
        started = time.perf_counter()
        found = full_reread(state_db, naive)
        reread = time.perf_counter() - started
        if report.new != found:
            raise SystemExit(f"{report.new} exchanges against {found}: the methods disagree")
        later = time.time() + 60

        def poll(now: Callable[[], float]) -> float:
            return timed(lambda: harvest(state_db, "default", ours, now()))

        while not harvest(state_db, "default", ours, later).settled:
            pass
        idle = [poll(lambda: later) for _ in range(polls)]
        busy = [poll(lambda: 0.0) for _ in range(polls)]
        # The comparison of old rows that these polls began goes on; what follows includes it.
        hermes = SessionDB(state_db)
        turns = []
        for number in range(polls):
            name = f"20260101_{number % 50:06}_live"
            hermes.ensure_session(name, "cli")
            hermes.append_message(name, "user", f"one more request {number}")
            hermes.append_message(name, "assistant", f"answer {number}", finish_reason="stop")
            turns.append(poll(time.time))
        hermes.close()
    each = {"full_reread": {"p50_ms": round(reread * 1e3, 1)}}
    return {
        case: {
            "ours": {"seconds": round(caught_up, 2), "exchanges": report.new},
            "full_reread": {"seconds": round(reread, 2), "exchanges": found},
        },
        "idle_poll": {"ours": percentiles(idle), **each},
        "busy_idle_poll": {"ours": percentiles(busy), **each},
        "next_turn": {"ours": percentiles(turns), **each},
    }


def timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) * 1e3


def percentiles(milliseconds: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(milliseconds, n=100)
    return {"p50_ms": round(cuts[49], 3), "p99_ms": round(cuts[98], 3)}


def full_reread(state_db: Path, database: Database) -> int:
    """Read all rows, assemble all turns, write all exchanges; return how many are answered."""
    with SessionReader(state_db) as reader:
        rows = sorted(reader.rows_after(0, sys.maxsize), key=lambda r: (r.session_id, r.row_id))
        sessions = reader.sessions({row.session_id for row in rows})
    records = [
        StoredExchange(
            exchange=to_exchange(turn, sessions[name], "default"),
            user_row=turn.user_row,
            answer_row=turn.answer_row,
        )
        for name, part in groupby(rows, key=lambda row: row.session_id)
        for turn in assemble(list(part))
    ]
    ExchangeStore(database).upsert(records, time.time())
    return sum(record.answer_row is not None for record in records)


def write_sessions(path: Path, messages: int) -> None:
    """Write sessions of two to forty turns, some with tools, as Hermes lays them out."""
    rng = random.Random(1)
    hermes = SessionDB(path)
    written, now, number = 0, START, 0
    while written < messages:
        number += 1
        name = f"2025{number:08}"
        hermes.create_session(
            name, rng.choice(["cli", "telegram"]), model="big", system_prompt="s" * 6_600
        )
        rows: list[dict[str, object]] = []
        for turn in range(rng.choice([1, 2, 3, 5, 8, 20])):
            now += rng.uniform(5, 500)
            words = " ".join(rng.choices(WORDS, k=rng.randint(4, 60)))
            rows.append({"role": "user", "content": f"{words} {now:.0f}", "timestamp": now})
            if rng.random() < 0.2:
                call = {"id": f"c{turn}", "function": {"name": "terminal", "arguments": "{}"}}
                rows.append(
                    {
                        "role": "assistant",
                        "content": "Let me look.",
                        "tool_calls": [call],
                        "finish_reason": "tool_calls",
                        "timestamp": now + 1,
                    }
                )
                rows.append(
                    {
                        "role": "tool",
                        "content": "x" * rng.randint(20, 4_000),
                        "tool_call_id": f"c{turn}",
                        "timestamp": now + 2,
                    }
                )
            answer = " ".join(rng.choices(WORDS, k=rng.randint(1, 40)))
            rows.append(
                {
                    "role": "assistant",
                    "content": answer,
                    "finish_reason": "stop",
                    "timestamp": now + 3,
                }
            )
        hermes.replace_messages(name, rows[: messages - written])
        hermes.update_token_counts(
            name, 9_000 * len(rows), 80 * len(rows), api_call_count=len(rows)
        )
        written += len(rows)
    hermes.close()


if __name__ == "__main__":
    main()
