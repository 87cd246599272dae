"""Numbers and texts of MATLAB files: as other programs write them, and damaged."""

from __future__ import annotations

import base64
import contextlib
import struct
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from milvus_fghash.datasets.layouts.matlab import read_numbers, read_texts
from milvus_fghash.errors import DataError
from tests.helpers.layouts import mat

SCIPY = base64.b64decode(
    "AAFJTQ8AAABcAAAAeJzjY2BgOAHEbEDMAcSMDBDACuUzQcVAmBOI0zJzUuNzMotLoOr4gNgBST8Lmn6QPh4kcwWg/DxD3YLSdP1EvayCdGLN4UMz"
    "B8TPM9JNzi9Kz9RPgpgEAPc8DuUPAAAAMgAAAHic42NgYPAAYjYg5oDSIMAK5TMBMSMUg+RyEpNSc4oZGDiBbAEGGPhgD2U4AAB5sAR9DwAAAC4A"
    "AAB4nONjYGCwAGI2IOYAYm4GCGCF8hmBmAlKg8RKivIyU4A0CxAyM+gwAgA3MALP"
)
"""What SciPy 1.17 writes, compressed, after 124 bytes of header."""


def written(folder: Path, raw: bytes) -> Path:
    (folder / "list.mat").write_bytes(raw)
    return folder / "list.mat"


def test_a_file_of_another_program(tmp_path: Path) -> None:
    file = written(tmp_path, SCIPY.rjust(124 + len(SCIPY)))
    assert read_texts(file, "file_list") == ["n1-pug/a.jpg", "n2-corgi/b.jpg"]
    assert read_numbers(file, "labels") == [1, 2]  # doubles, stored as bytes
    assert read_numbers(file, "trnid") == [3, 300]  # 16 bits, in a tag of their own


@pytest.mark.parametrize("order", ["<", ">"])
@settings(deadline=None)  # each example writes a file
@given(
    texts=st.lists(st.text(st.characters(max_codepoint=0xD7FF), min_size=1), min_size=1),
    numbers=st.lists(st.integers(-(2**53), 2**53)),
)
def test_what_was_written_comes_back(
    order: str, texts: list[str], numbers: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = written(tmp_path_factory.getbasetemp(), mat(order, names=texts, labels=numbers))
    assert read_texts(file, "names") == texts
    assert read_numbers(file, "labels") == numbers


@pytest.mark.parametrize("value", [0.5, float("nan"), float("inf")])
def test_numbers_must_be_whole(value: float, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="labels is not an array of whole numbers"):
        read_numbers(written(tmp_path, mat(labels=[value])), "labels")


def test_a_file_that_is_none(tmp_path: Path) -> None:
    for raw in (b"", b"text" * 100, mat()[:124] + b"\x00\x02IM" + bytes(500)):  # the last one is version 7.3
        with pytest.raises(
            DataError, match=r"list.mat cannot be read as a MATLAB file: expected a MAT-file of version 5 to 7"
        ):
            read_numbers(written(tmp_path, raw), "labels")
    with pytest.raises(DataError, match=r"cannot read .*: it is a folder; expected a regular file"):
        read_numbers(tmp_path, "labels")


def test_an_array_shorter_than_it_says(tmp_path: Path) -> None:
    raw = mat(labels=[1, 2, 3]).replace(struct.pack("<ii", 1, 3), struct.pack("<ii", 1, 4))
    with pytest.raises(DataError, match="labels is not an array"):
        read_numbers(written(tmp_path, raw), "labels")
    raw = mat(names=["ab", "cde"]).replace(struct.pack("<ii", 2, 1), struct.pack("<ii", 3, 1))
    with pytest.raises(DataError, match="names is not a cell array"):
        read_texts(written(tmp_path, raw), "names")


@pytest.mark.parametrize("cut", [8, 3])
def test_a_file_that_was_cut(cut: int, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="it ends in the middle of an element"):
        read_numbers(written(tmp_path, mat(labels=[1, 2, 3])[:-cut]), "labels")
    with pytest.raises(DataError, match=r"list.mat cannot be read as a MATLAB file: "):
        read_numbers(written(tmp_path, mat() + bytes(cut)), "labels")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param(struct.pack("<IIII", 6, 8, 1, 0), struct.pack("<IIII", 6, 8, 2, 0), id="a structure of cells"),
        pytest.param(struct.pack("<II", 4, 0), struct.pack("<II", 6, 0), id="numbers for characters"),
        pytest.param(struct.pack("<ii", 1, 3), struct.pack("<ii", 3, 1), id="three rows of one letter"),
        pytest.param(struct.pack("<II", 5, 8), struct.pack("<II", 5, 0), id="no shape"),
        pytest.param(struct.pack("<II", 17, 6), struct.pack("<II", 9, 6), id="doubles for letters"),
    ],
)
def test_cells_that_are_no_texts(old: bytes, new: bytes, tmp_path: Path) -> None:
    before, _, after = mat(names=["ab", "cde"]).rpartition(old)
    with pytest.raises(DataError, match="names is not a cell array of texts"):
        read_texts(written(tmp_path, before + new + after), "names")


def test_a_small_file_does_not_unfold_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("milvus_fghash.datasets.layouts.matlab._MAX_ELEMENT_BYTES", 1_000)
    bomb = zlib.compress(bytes(1_001))
    raw = mat() + struct.pack("<II", 15, len(bomb)) + bomb
    with pytest.raises(DataError, match="damaged or larger than 1,000 bytes"):
        read_numbers(written(tmp_path, raw), "labels")


@settings(deadline=None)
@given(data=st.data())
def test_damage_is_an_error_like_any_other(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    raw = bytearray(data.draw(st.sampled_from([SCIPY.rjust(124 + len(SCIPY)), mat(file_list=["a/b"], labels=[1])])))
    for place in data.draw(st.lists(st.integers(124, len(raw) - 1), max_size=4)):
        raw[place] = data.draw(st.integers(0, 255))
    file = written(tmp_path_factory.getbasetemp(), bytes(raw[: data.draw(st.integers(0, len(raw)))]))
    for read, name in ((read_texts, "file_list"), (read_numbers, "labels")):
        with contextlib.suppress(DataError):
            read(file, name)
