"""Statistics of a set of codes that need no labels: balance and correlation of bits, variety of codes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from milvus_fghash.core.codes import Codes, check_codes, unpack
from milvus_fghash.core.file_models import Frozen
from milvus_fghash.errors import DataError

ROWS_PER_BLOCK = 65_536


class CodeHealth(Frozen):
    """Balance, correlation and variety of a set of codes.

    Attributes:
        n_codes: number of codes.
        bit_balance: fraction of ones in each bit; 0.5 is balanced, 0 or 1 a dead bit.
        constant_bits: number of bits that are equal in all codes. They are left out of the correlations.
        mean_correlation: mean absolute correlation of two different bits; None when fewer than two bits vary.
        max_correlation: largest of these.
        distinct_codes: number of different codes.
        most_common_share: fraction of codes that equal the most common one.
        entropy: Shannon entropy of the codes in bits; at most the code length, and at most log2 of ``n_codes``.
    """

    n_codes: int
    bit_balance: tuple[float, ...]
    constant_bits: int
    mean_correlation: float | None
    max_correlation: float | None
    distinct_codes: int
    most_common_share: float
    entropy: float


def code_health(codes: Codes, n_bits: int) -> CodeHealth:
    """Measure ``codes``.

    >>> health = code_health(np.array([[0b11000000], [0b00000000]], np.uint8), 8)
    >>> health.bit_balance[:3], health.constant_bits, health.max_correlation, health.entropy
    ((0.5, 0.5, 0.0), 6, 1.0, 1.0)

    Raises:
        DataError: when there is no code.
        CodeError: when the codes do not have ``n_bits``.
    """
    if not len(codes):
        raise DataError("there are no codes to measure")
    codes = check_codes(codes, n_bits)
    together = _ones_together(codes, n_bits)
    balance = np.diag(together) / len(codes)
    correlations = _correlations(together / len(codes), balance)
    counts = _code_counts(codes)
    shares = counts / len(codes)
    return CodeHealth(
        n_codes=len(codes),
        bit_balance=tuple(balance.tolist()),
        constant_bits=int(((balance == 0) | (balance == 1)).sum()),
        mean_correlation=float(correlations.mean()) if correlations.size else None,
        max_correlation=float(correlations.max()) if correlations.size else None,
        distinct_codes=len(counts),
        most_common_share=float(shares.max()),
        entropy=float(-(shares * np.log2(shares)).sum()) + 0.0,  # one code: 0.0 rather than -0.0
    )


def _ones_together(codes: Codes, n_bits: int) -> NDArray[np.float64]:
    """(n_bits, n_bits) number of codes in which both bits are 1; the diagonal counts each bit."""
    total = np.zeros((n_bits, n_bits))
    for start in range(0, len(codes), ROWS_PER_BLOCK):
        ones = unpack(codes[start : start + ROWS_PER_BLOCK], n_bits).astype(np.float32)  # a block's counts fit exactly
        total += ones.T @ ones
    return total


def _correlations(together: NDArray[np.float64], balance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Absolute correlations of all pairs of different bits that vary."""
    varies = (balance > 0) & (balance < 1)
    mean = balance[varies]
    deviation = np.sqrt(mean * (1 - mean))
    covariance = together[np.ix_(varies, varies)] - np.outer(mean, mean)
    matrix = np.abs(covariance) / np.outer(deviation, deviation)
    pairs: NDArray[np.float64] = matrix[np.triu_indices(len(mean), k=1)]
    return np.minimum(pairs, 1.0)  # rounding can pass 1


def _code_counts(codes: Codes) -> NDArray[np.int64]:
    """Number of occurrences of each distinct code."""
    rows = codes.view(np.dtype((np.void, codes.shape[1]))).ravel()  # one value per row, much faster than unique(axis=0)
    return np.unique(rows, return_counts=True)[1].astype(np.int64)
