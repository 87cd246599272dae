"""Keep freed memory instead of giving it back to the kernel after each layer."""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4  # glibc's malloc.h
_LARGEST = 2**31 - 1


def keep_freed_memory() -> bool:
    """Tell glibc to serve large blocks from the heap and never to trim it; False where there is no glibc.

    On the CPU a network frees and takes blocks of many megabytes in every layer. By default each is a fresh mapping
    whose pages the kernel clears again, which can cost more than the arithmetic: `benchmarks/allocator.py` measures it.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return all([mallopt(_M_MMAP_MAX, 0), mallopt(_M_TRIM_THRESHOLD, _LARGEST), mallopt(_M_TOP_PAD, 64 * 2**20)])
