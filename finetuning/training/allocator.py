"""Memory that is kept for the next step, in place of being given back and asked for again.

A step on the CPU makes and drops hundreds of tensors of some megabytes. By default glibc maps and
unmaps each of them, and the kernel has to fill every page with zeros; told to keep what it has, it
makes a step measurably faster (`python -m benchmarks.finetune speed`). Elsewhere nothing happens.

Source: mallopt(3).
"""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -2, -3, -8
_LARGEST_KEPT = 32 << 20  # bytes; glibc takes no more. Larger tensors are mapped as before.


def keep_memory() -> bool:
    """Tell the C library; whether it is one that understands."""
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # musl
        return False
    wishes = {
        _ARENA_MAX: 1,  # one heap for all threads: those of other threads cannot grow large
        _MMAP_THRESHOLD: _LARGEST_KEPT,
        _TRIM_THRESHOLD: (1 << 31) - 1,
        _TOP_PAD: 64 << 20,
    }
    return all(mallopt(name, value) == 1 for name, value in wishes.items())
