"""`learned.npz` that nobody packed honestly: one sentence each, in no time and with no memory."""

from __future__ import annotations

import io
import struct
import time
import zipfile
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from milvus_fghash.bundle.learned_codes import LearnedCodes, pack_learned, unpack_learned
from milvus_fghash.errors import BundleError
from tests.helpers.bundle_parts import npz

LEARNED = LearnedCodes(("x", "y"), ("one", "two"), np.array([[0x90, 0xC0], [0xFF, 0xF0]], np.uint8), "V")
RAW = pack_learned(LEARNED, 12)
LOCAL, CENTRAL = b"PK\x03\x04", b"PK\x01\x02"


def in_headers(offset_local: int, offset_central: int, value: bytes) -> bytes:
    """The archive with ``value`` at a place in the headers of each member."""
    raw = bytearray(RAW)
    for mark, offset in ((LOCAL, offset_local), (CENTRAL, offset_central)):
        at = raw.find(mark)
        while at >= 0:
            raw[at + offset : at + offset + len(value)] = value
            at = raw.find(mark, at + 4)
    return bytes(raw)


def with_ids(raw: bytes) -> bytes:
    """The archive with another `ids.npy`, packed small."""
    archive = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(RAW)) as old, zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, raw if name == "ids.npy" else old.read(name))
    return archive.getvalue()


def header(text: str) -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


def npy(array: object) -> bytes:
    raw = io.BytesIO()
    np.save(raw, np.asarray(array))
    return raw.getvalue()


def twice() -> bytes:
    raw = io.BytesIO(RAW)
    with zipfile.ZipFile(raw, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("ids.npy", npy(["other", "ids"]))
    return raw.getvalue()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: in_headers(8, 10, struct.pack("<H", 99)), "compressed by method 99; expected none, or deflate"),
        (lambda: in_headers(6, 8, struct.pack("<H", 1)), "ids.npy is encrypted"),
        (lambda: npy([1, 2]), "not a zip file"),
        (
            lambda: with_ids(header("{'descr': '<U1', 'fortran_order': False, 'shape': (1500000000000,)}")),
            "claims 6,000,000,000,000 bytes, but 0 follow it",
        ),
        (
            lambda: with_ids(header("{'descr': '<U0', 'fortran_order': False, 'shape': (1500000000000,)}")),
            "claims 0 bytes",
        ),
        (lambda: in_headers(22, 24, struct.pack("<I", 1 << 31)), "its arrays have more than the 1,073,741,824 bytes"),
        (lambda: with_ids(header("-" * 9000 + "1")), "ids.npy"),
        (lambda: with_ids(header("(" * 9000)), "ids.npy"),
        (lambda: with_ids(npy(["\ud800", "y"])), "surrogates not allowed"),
        (lambda: npz(ids=np.array(["x"]), codes=np.zeros((1, 2), np.uint8)), "holds labels.npy 0 times"),
        (twice, "holds ids.npy 2 times"),
    ],
)
def test_what_nobody_packed_is_rejected(make: Callable[[], bytes], message: str) -> None:
    raw = make()
    begin = time.monotonic()
    with pytest.raises(BundleError, match=rf"learned\.npz cannot be used: .*{message}"):
        unpack_learned(raw, "V", 12)
    assert time.monotonic() - begin < 2


def test_a_bomb_is_not_unpacked() -> None:
    """It is what its header says, and no text."""
    raw = with_ids(npy(np.zeros(1 << 25, np.uint8)))
    assert len(raw) < 1 << 16
    with pytest.raises(BundleError, match="ids must be a row of text"):
        unpack_learned(raw, "V", 12)


def test_what_is_packed_smaller_is_read() -> None:
    learned = unpack_learned(with_ids(npy(["p", "q"])), "V", 12)
    assert learned.ids == ("p", "q")
    assert learned.labels == LEARNED.labels
    assert np.array_equal(learned.codes, LEARNED.codes)


@given(st.integers(0, len(RAW) - 1), st.integers(0, 255))
def test_a_changed_byte_is_read_or_rejected(at: int, value: int) -> None:
    raw = bytearray(RAW)
    raw[at] = value
    read_or_rejected(bytes(raw))


@given(st.integers(0, len(RAW) - 1), st.binary(max_size=40))
def test_changed_bytes_are_read_or_rejected(at: int, other: bytes) -> None:
    read_or_rejected(RAW[:at] + other + RAW[at + len(other) :])


@given(st.binary(max_size=200))
def test_any_array_is_read_or_rejected(raw: bytes) -> None:
    read_or_rejected(with_ids(b"\x93NUMPY\x01\x00" + raw))


def read_or_rejected(raw: bytes) -> None:
    try:
        unpack_learned(raw, "V", 12)
    except BundleError:
        return
