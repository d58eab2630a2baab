"""Where the ``apprentice`` command begins: Ctrl-C ends it without a word from the first moment on.

Loading everything takes a second, in which an interrupt would otherwise surface as a
traceback from the middle of some module. Imports next to nothing for the same reason.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STOPPED = 130
"""Exit code of what was interrupted, as shells have it."""


def _end_quietly() -> bool:
    # Shells start what runs in the background with the signal ignored; so it stays.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        return False
    if threading.current_thread() is not threading.main_thread():
        return False
    signal.signal(signal.SIGINT, _leave)
    return True


@contextmanager
def ending_quietly() -> Iterator[None]:
    """Let Ctrl-C end the process at once, where there is nothing to clean up."""
    before = signal.getsignal(signal.SIGINT)
    ours = _end_quietly()
    try:
        yield
    finally:
        if ours:
            signal.signal(signal.SIGINT, before)


def _leave(number: int, frame: FrameType | None) -> None:
    os._exit(STOPPED)


def main() -> None:
    """Start the command from a shell."""
    with ending_quietly():
        from hermes_apprentice.interfaces.cli.main import main as run
    try:
        run()
    finally:
        _end_quietly()  # also while the interpreter takes itself down


if __name__ == "__main__":
    main()
