"""Packing and Hamming distance: by hand, against a loop over bits, and by their laws for every length."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from milvus_fghash.core.code_length import MAX_BITS, MIN_BITS, check_bits
from milvus_fghash.core.codes import (
    Codes,
    check_codes,
    code_bytes,
    from_hex,
    hamming,
    pack,
    to_hex,
    unpack,
)
from milvus_fghash.errors import CodeError, NotFinite

LENGTHS = (*range(MIN_BITS, 66), 96, 127, 128, 129, 255, 256, 257, 511, 512, 513, 1000, 1023, MAX_BITS)
lengths = st.integers(MIN_BITS, MAX_BITS)
seeds = st.integers(0, 2**32 - 1)


def random_bits(rows: int, n_bits: int, seed: int) -> NDArray[np.bool_]:
    return np.random.default_rng(seed).random((rows, n_bits)) < 0.5


def random_codes(rows: int, n_bits: int, seed: int) -> Codes:
    return pack(np.where(random_bits(rows, n_bits, seed), 1.0, -1.0))


def test_first_bit_is_the_highest_of_byte_0() -> None:
    logits = np.full((1, 12), -1.0)
    logits[0, [0, 11]] = 0.001
    assert pack(logits).tolist() == [[0b1000_0000, 0b0001_0000]]


def test_zero_is_a_0_bit_of_either_sign() -> None:
    assert pack(np.array([[0.0, -0.0, 1e-300, -1e-300, 0, 0, 0, 0]])).tolist() == [[0b0010_0000]]


@pytest.mark.parametrize("n_bits", LENGTHS)
def test_packing_and_back_for_every_length(n_bits: int) -> None:
    bits = random_bits(5, n_bits, n_bits)
    codes = pack(np.where(bits, 0.25, -3.0))
    assert codes.shape == (5, code_bytes(n_bits))
    assert codes.dtype == np.uint8
    assert np.array_equal(unpack(codes, n_bits), bits)
    slow = [[sum(int(bit) << 7 - at % 8 for at, bit in enumerate(row) if at // 8 == byte)
             for byte in range(code_bytes(n_bits))] for row in bits]  # fmt: skip
    assert codes.tolist() == slow


@given(lengths, seeds)
def test_spare_bits_are_zero_and_codes_pass_the_check(n_bits: int, seed: int) -> None:
    codes = random_codes(4, n_bits, seed)
    assert not np.unpackbits(codes, axis=1)[:, n_bits:].any()
    assert np.array_equal(check_codes(codes, n_bits), codes)


@given(lengths, seeds)
def test_distance_is_the_count_of_a_loop_over_bits(n_bits: int, seed: int) -> None:
    left, right = random_bits(3, n_bits, seed), random_bits(5, n_bits, seed + 1)
    slow = [[sum(bool(a) != bool(b) for a, b in zip(one, other, strict=True)) for other in right] for one in left]
    assert hamming(pack(left - 0.5), pack(right - 0.5)).tolist() == slow


@given(lengths, seeds)
def test_distance_is_a_metric(n_bits: int, seed: int) -> None:
    codes = random_codes(5, n_bits, seed)
    apart = hamming(codes, codes).astype(int)
    assert (np.diag(apart) == 0).all()
    assert ((apart == 0) == (codes[:, None] == codes[None]).all(axis=2)).all()
    assert (apart == apart.T).all()
    assert (apart[:, :, None] <= apart[:, None, :] + apart.T[None]).all()  # d(i,j) <= d(i,k) + d(j,k)
    assert apart.max() <= n_bits


def test_the_largest_distance_does_not_overflow() -> None:
    for n_bytes in (32, code_bytes(MAX_BITS)):
        apart = hamming(np.zeros((1, n_bytes), np.uint8), np.full((1, n_bytes), 255, np.uint8))
        assert apart.tolist() == [[8 * n_bytes]]


def test_nothing_has_no_distance() -> None:
    codes = random_codes(3, 12, 0)
    assert hamming(codes[:0], codes).shape == (0, 3)
    assert hamming(codes, codes[:0]).shape == (3, 0)


def test_codes_of_different_width_cannot_be_compared() -> None:
    with pytest.raises(CodeError, match="2 bytes a code, the gallery 3"):
        hamming(random_codes(1, 16, 0), random_codes(1, 24, 0))


@given(lengths, seeds)
def test_hex_and_back(n_bits: int, seed: int) -> None:
    codes = random_codes(3, n_bits, seed)
    for row, text in enumerate(to_hex(codes)):
        assert len(text) == 2 * code_bytes(n_bits)
        assert np.array_equal(from_hex(text, n_bits), codes[row : row + 1])
        assert np.array_equal(from_hex(text.upper(), n_bits), codes[row : row + 1])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("90c", "not a hex code; expected 4 digits"),
        ("90cg", "not a hex code"),
        ("", "0 hex digits; a 12-bit code has 4"),
        ("90c000", "6 hex digits"),
        ("90c1", "last 4 bits"),
    ],
)
def test_text_that_is_no_code(text: str, message: str) -> None:
    with pytest.raises(CodeError, match=message):
        from_hex(text, 12)


@pytest.mark.parametrize("n_bits", [-1, 0, 7, 1025])
def test_lengths_that_are_not_supported(n_bits: int) -> None:
    with pytest.raises(CodeError, match="choose 8 to 1024"):
        check_bits(n_bits)


def test_lengths_that_are_supported() -> None:
    assert [check_bits(n_bits) for n_bits in LENGTHS] == list(LENGTHS)
    assert (min(LENGTHS), max(LENGTHS)) == (8, 1024)
    assert [code_bytes(n_bits) for n_bits in (8, 9, 12, 16, 17, 256, 1024)] == [1, 2, 2, 2, 3, 32, 128]


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (np.zeros((2, 2), np.int64), "must be uint8, got int64"),
        (np.zeros((2, 1), np.uint8), r"must have shape \(n, 2\), got \(2, 1\)"),
        (np.zeros((2, 3), np.uint8), r"got \(2, 3\)"),
        (np.zeros(2, np.uint8), r"got \(2,\)"),
        (np.array([[0, 0b0000_1000]], np.uint8), "last 4 bits of a 12-bit code must be 0"),
        (np.array([[0, 0b0000_0001]], np.uint8), "last 4 bits"),
    ],
)
def test_codes_that_are_rejected(codes: Codes, message: str) -> None:
    with pytest.raises(CodeError, match=message):
        check_codes(codes, 12)
    with pytest.raises(CodeError, match=message):
        unpack(codes, 12)


def test_the_last_used_bit_is_not_spare() -> None:
    assert check_codes(np.array([[0xFF, 0b1111_0000]], np.uint8), 12).tolist() == [[0xFF, 0xF0]]


def test_rows_become_contiguous() -> None:
    every_other = random_codes(6, 16, 0)[::2, ::-1]
    assert not every_other.flags.c_contiguous
    checked = check_codes(every_other, 16)
    assert checked.flags.c_contiguous
    assert np.array_equal(checked, every_other)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_outputs_that_are_not_finite(value: float) -> None:
    logits = np.ones((2, 8))
    logits[1, 3] = value
    with pytest.raises(NotFinite, match="1 values that are not finite"):
        pack(logits)


def test_outputs_of_another_shape() -> None:
    with pytest.raises(CodeError, match=r"must be \(n, n_bits\), got shape \(8,\)"):
        pack(np.ones(8))
