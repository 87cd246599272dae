"""Code health against numbers worked by hand and NumPy's own correlation."""

from __future__ import annotations

import numpy as np
import pytest

from milvus_fghash.core.codes import pack, unpack
from milvus_fghash.errors import DataError
from milvus_fghash.evaluation import bit_statistics as health
from milvus_fghash.evaluation.bit_statistics import code_health


def test_worked_by_hand() -> None:
    # bits 0 and 1 are opposites, bit 2 is set in one of four codes, the other five are dead
    codes = np.array([[0b10000000], [0b10000000], [0b01000000], [0b01100000]], np.uint8)
    measured = code_health(codes, 8)
    assert measured.n_codes == 4
    assert measured.bit_balance == (0.5, 0.5, 0.25, 0, 0, 0, 0, 0)
    assert measured.constant_bits == 5
    # corr(0,1) = -1; cov(0,2) = 0 - 0.5*0.25, deviations 0.5 and sqrt(3)/4 -> -1/sqrt(3); corr(1,2) = +1/sqrt(3)
    assert measured.max_correlation == pytest.approx(1)
    assert measured.mean_correlation == pytest.approx((1 + 2 / np.sqrt(3)) / 3)
    assert measured.distinct_codes == 3
    assert measured.most_common_share == 0.5
    assert measured.entropy == pytest.approx(0.5 * 1 + 2 * 0.25 * 2)  # shares 1/2, 1/4, 1/4


def test_correlation_is_that_of_numpy_in_blocks_too(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    codes = pack(rng.standard_normal((500, 12)) + rng.standard_normal((500, 1)))
    matrix = np.abs(np.corrcoef(unpack(codes, 12).astype(float), rowvar=False))
    pairs = matrix[np.triu_indices(12, k=1)]
    for rows in (health.ROWS_PER_BLOCK, 7):
        monkeypatch.setattr(health, "ROWS_PER_BLOCK", rows)
        measured = code_health(codes, 12)
        assert measured.mean_correlation == pytest.approx(pairs.mean())
        assert measured.max_correlation == pytest.approx(pairs.max())


def test_equal_codes_have_no_correlation_and_no_entropy() -> None:
    measured = code_health(np.full((3, 1), 0b10101010, np.uint8), 8)
    assert (measured.mean_correlation, measured.max_correlation) == (None, None)
    assert (measured.constant_bits, measured.distinct_codes, measured.most_common_share) == (8, 1, 1.0)
    assert str(measured.entropy) == "0.0"


def test_distinct_codes_count_every_byte() -> None:
    codes = np.array([[0, 1], [1, 0], [0, 1], [0, 0]], np.uint8)
    assert code_health(codes, 16).distinct_codes == 3


def test_no_code_is_an_error() -> None:
    with pytest.raises(DataError, match="no code"):
        code_health(np.zeros((0, 1), np.uint8), 8)
