"""A lease is held by one process and ends with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hermes_apprentice.errors import LeaseHeldError
from hermes_apprentice.storage.lease import lease

HOLD = """
import sys, time
from pathlib import Path
from hermes_apprentice.storage.lease import lease
with lease(Path(sys.argv[1]), "tick"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_holder_is_refused_and_told_who_has_it(tmp_path: Path) -> None:
    with (
        lease(tmp_path, "tick"),
        pytest.raises(LeaseHeldError, match=f"pid {os.getpid()}"),
        lease(tmp_path, "tick"),
    ):
        pass


def test_another_name_is_another_lease(tmp_path: Path) -> None:
    with lease(tmp_path, "tick"), lease(tmp_path, "other"):
        assert (tmp_path / "other.lock").exists()


def test_a_killed_holder_loses_the_lease_at_once(tmp_path: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        with pytest.raises(LeaseHeldError), lease(tmp_path, "tick"):
            pass
    finally:
        child.send_signal(signal.SIGKILL)
        child.communicate(timeout=10)
    with lease(tmp_path, "tick"):
        assert (tmp_path / "tick.lock").read_text() == str(os.getpid())
