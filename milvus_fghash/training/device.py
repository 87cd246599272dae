"""How torch computes: on which device, in which precision, reproducibly, and with which memory."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from milvus_fghash.errors import ConfigError

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4  # glibc's malloc.h
_LARGEST_INT = 2**31 - 1
_PRECISIONS = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def device_named(name: str | None) -> torch.device:
    """A device by torch's name; None: `cuda` if there is one.

    Raises:
        ConfigError: when it cannot be used on this machine.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:  # its message lists every kind of device that torch knows
        raise ConfigError(f"device {name!r} cannot be used; give cpu, cuda, cuda:1 and so on") from None
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"device {name!r} cannot be used: {str(error).splitlines()[0]}") from None
    return device


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Mixed precision inside the context; nothing changes for float32."""
    dtype = _PRECISIONS.get(precision)
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not None)


@contextmanager
def reproducible(deterministic: bool) -> Iterator[None]:
    """Restore the caller's random state and torch's settings afterwards."""
    before, benchmark = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    warned = torch.is_deterministic_algorithms_warn_only_enabled()
    devices = list(range(torch.cuda.device_count()))
    with torch.random.fork_rng(devices):
        torch.use_deterministic_algorithms(deterministic, warn_only=True)
        torch.backends.cudnn.benchmark = not deterministic
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before, warn_only=warned)
            torch.backends.cudnn.benchmark = benchmark


def keep_freed_memory() -> bool:
    """Make glibc serve large blocks from the heap and never trim it; False where there is no glibc.

    On the CPU a network frees and allocates blocks of many megabytes in every layer. By default each is a new mapping
    whose pages the kernel clears again, which can cost more than the arithmetic (`benchmarks/allocator.py`).
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return all([mallopt(_M_MMAP_MAX, 0), mallopt(_M_TRIM_THRESHOLD, _LARGEST_INT), mallopt(_M_TOP_PAD, 64 * 2**20)])
