"""End the sidecar's process although something in it hangs.

A thread cannot be ended from outside, and the interpreter waits for every one of
them. Knows nothing about what they do.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable

HUNG_SECONDS = 2.0
"""How long a thread may go on computing after everything else has stopped."""

HURRY_SECONDS = 1.0
"""How long the end may take after a second signal; what it cuts off is in the spool."""

_log = logging.getLogger(__name__)


def end_within(seconds: float, code: int, last: Callable[[], None]) -> threading.Timer:
    """End the process after a while, whatever still runs, unless the timer is cancelled.

    Args:
        seconds: From now on.
        code: The exit code.
        last: Done before; may fail.
    """

    def end() -> None:
        try:
            last()
        finally:
            _log.error("not everything ended in time, and is left behind: %s", _names(_others()))
            _end(code)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    return timer


def leave_hung_threads() -> None:
    """End the process if a thread would keep it from ending."""
    threads = _others()
    deadline = time.monotonic() + HUNG_SECONDS
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    hung = [thread for thread in threads if thread.is_alive()]
    if hung:
        _log.error("these do not end, and are left behind: %s", _names(hung))
        _end(0)


def _others() -> list[threading.Thread]:
    """Return the threads that the interpreter would wait for."""
    here = (threading.main_thread(), threading.current_thread())
    return [one for one in threading.enumerate() if one not in here and not one.daemon]


def _names(threads: list[threading.Thread]) -> str:
    return ", ".join(thread.name for thread in threads) or "what the event loop does"


def _end(code: int) -> None:
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
