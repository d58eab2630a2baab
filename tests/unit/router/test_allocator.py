from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, threading
from hermes_apprentice.router.allocator import give_back, share_arenas
if {shared}:
    share_arenas()
library = ctypes.CDLL(None)
library.malloc.restype = ctypes.c_void_p
library.malloc.argtypes = [ctypes.c_size_t]
library.free.argtypes = [ctypes.c_void_p]
together = threading.Barrier(8)
def work():
    together.wait()
    held = [library.malloc(5_000) for _ in range(200)]
    together.wait()
    for one in held:
        library.free(one)
threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
give_back()
library.malloc_stats()
"""


def _arenas(shared: bool) -> int:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(shared=shared)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stderr.count("Arena ")


@pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"), reason="another C library"
)
def test_many_threads_share_two_heaps() -> None:
    assert _arenas(shared=True) <= 2
    assert _arenas(shared=False) > 2
