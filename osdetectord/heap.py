"""Heap: how the allocator of the C library keeps what arrays leave behind."""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, mallopt(3)
_LARGE_BYTES = 4 << 20
_LEFT_BYTES = 8 << 20


def settle() -> None:
    """Return large arrays to the system as soon as they are free, and small ones beyond what a step needs again.

    By itself glibc takes the largest array ever freed for the usual and keeps all below twice its size: after learning
    tens of megabytes.  With another C library nothing is done.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _LARGE_BYTES)
        mallopt(_TRIM_THRESHOLD, _LEFT_BYTES)
