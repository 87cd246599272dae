"""The code lengths that this project supports; without numpy, so that `--help` can name them."""

from __future__ import annotations

from typing import Final

from milvus_fghash.errors import CodeError

MIN_BITS: Final = 8
MAX_BITS: Final = 1024
"""Milvus takes longer codes. Every method and index of this project is tested up to this length."""


def check_bits(n_bits: int) -> int:
    """Return ``n_bits`` if it is a code length this project supports (8 to 1024).

    Raises:
        CodeError: otherwise.
    """
    if not MIN_BITS <= n_bits <= MAX_BITS:
        raise CodeError(f"a code of {n_bits} bits is not supported; choose {MIN_BITS} to {MAX_BITS} bits")
    return n_bits
