"""Keep the C library from holding on to memory that nobody uses.

glibc gives every few threads a heap of their own and keeps what was freed in each of them. The
sidecar has a dozen threads that compute in turns, so most of that would be unused. Where the C
library is another one, nothing is done. Knows nothing about what the memory was for.
"""

from __future__ import annotations

import ctypes
from typing import Any

ARENAS = 2
"""Heaps that all threads share."""

_M_ARENA_MAX = -8


def share_arenas() -> None:
    """Let all threads share a few heaps; to be called before there are threads."""
    library = _glibc()
    if library is not None:
        library.mallopt(_M_ARENA_MAX, ARENAS)


def give_back() -> None:
    """Hand freed memory back to the system; takes milliseconds."""
    library = _glibc()
    if library is not None:
        library.malloc_trim(0)


def _glibc() -> Any:
    try:
        library = ctypes.CDLL(None)
        return library if library.gnu_get_libc_version else None
    except (AttributeError, OSError, TypeError):
        return None
