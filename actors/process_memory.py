"""How a process that runs an engine uses the C library's allocator."""

import ctypes
from typing import Final

_MMAP_THRESHOLD: Final = -3  # names of mallopt's parameters in malloc.h
_ARENA_MAX: Final = -8

LARGE_BYTES: Final = 256 * 1024
"""Blocks from this size on, such as the columns and facts of a large batch, go back to the system when they
are freed."""
ARENAS_MAX: Final = 2


def give_memory_back() -> None:
    """Keeps memory that was needed for a while from staying with the process.

    glibc lets blocks of up to 32 MiB into its heaps once one of that size was freed, and has a heap for
    every thread: after ten million legs 0.7 GiB of them were empty. Other C libraries have no such call, and
    are left alone. Call it before threads are started.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        library.mallopt(_ARENA_MAX, ARENAS_MAX)
        library.mallopt(_MMAP_THRESHOLD, LARGE_BYTES)
