"""Tars and zips that are damaged, or made to harm: nothing is followed, nothing hangs, each member is told."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import tempfile
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from milvus_fghash.datasets.read import detect, read
from milvus_fghash.errors import DataError
from tests.helpers.archives import BIRDS, MAKERS, contents, member, one_sentence, tar_of, zip_of
from tests.helpers.image_bytes import grey


@given(st.data())
def test_a_tar_cut_off_anywhere_gives_what_is_whole_and_says_so(data: st.DataObject) -> None:
    files = {f"jay/{number}.png": bytes([number + 1]) * (number * 300 + 1) for number in range(5)}
    whole = tar_of(files)
    end = whole.rstrip(b"\0")
    raw = whole[: data.draw(st.integers(512, len(end) + 511))]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "cut.tar").write_bytes(raw)
        found = contents(read("archive", Path(folder) / "cut.tar"))
    good = {name: content for name, content in found.items() if isinstance(content, bytes)}
    assert good.items() <= files.items()
    assert all(content == "truncated" for name, content in found.items() if name not in good)
    assert len(good) < len(found)
    with tarfile.open(fileobj=io.BytesIO(whole)) as archive:
        ends = [info.offset_data + info.size for info in archive.getmembers()]
    assert len(good) == sum(one <= len(raw) for one in ends)


@given(st.data())
def test_a_damaged_archive_is_no_danger(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(MAKERS)))
    raw = bytearray(MAKERS[name]({"jay/a.png": b"abc" * 200, "jay/b.png": b"xyz", "jay/b.cls": b"7"}))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / name).write_bytes(raw)
        try:
            dataset = read("archive", Path(folder) / name)
        except DataError as error:
            one_sentence(error)
        else:
            contents(dataset)


def test_what_an_archive_must_not_do(tmp_path: Path) -> None:
    (tmp_path / "outside.png").write_bytes(grey(9))
    links = [
        member("soft.png", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
        member("hard.png", type=tarfile.LNKTYPE, linkname="../outside.png"),
        member("device.png", type=tarfile.CHRTYPE),
        member("pipe.png", type=tarfile.FIFOTYPE),
        member("folder.png", type=tarfile.DIRTYPE),
    ]
    files = {"/abs.png": b"1", "../up.png": b"2", "a/../../up.png": b"3", "C:/x.png": b"4", "in/a.tar": b"5"}
    (tmp_path / "bad.tar").write_bytes(
        tar_of({**files, "good.png": b"6", "./good.png": b"7", ".//good.png": b"9", "u\udcff.png": b"8"}, links)
    )
    found = contents(read("archive", tmp_path / "bad.tar"))
    assert found == {
        **dict.fromkeys(["soft.png", "hard.png", "device.png", "pipe.png", "in/a.tar"], "format"),
        **dict.fromkeys(["/abs.png", "../up.png", "a/../../up.png", "C:/x.png", "u\\udcff.png"], "name"),
        "good.png": b"6",
        "good.png #2": b"7",
        "good.png #3": b"9",
    }


def test_what_a_zip_must_not_do(tmp_path: Path) -> None:
    link, pipe = zipfile.ZipInfo("link.png"), zipfile.ZipInfo("pipe.png")
    link.external_attr, pipe.external_attr = 0o120777 << 16, 0o010644 << 16
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
        archive.writestr(pipe, "x")
        archive.writestr("../up.png", "x")
        archive.writestr("lzma.png", "x" * 99, zipfile.ZIP_LZMA)
        archive.writestr("bomb.png", bytes(50_000_000), zipfile.ZIP_DEFLATED)
        archive.writestr("good.png", "x")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("good.png", "y")
    assert contents(read("archive", tmp_path / "bad.zip")) == {
        **dict.fromkeys(["link.png", "pipe.png", "lzma.png"], "format"),
        "../up.png": "name",
        "bomb.png": "too-large",
        "good.png": b"x",
        "good.png #2": b"y",
    }


def test_encrypted_overlapping_and_falsified_members_of_a_zip(tmp_path: Path) -> None:
    raw = bytearray(zip_of({"a.png": b"a" * 50, "b.png": b"b" * 50}, zipfile.ZIP_STORED))
    directory = raw.index(b"PK\x01\x02")
    second = raw.index(b"PK\x01\x02", directory + 1)
    encrypted, overlapping, falsified = bytearray(raw), bytearray(raw), bytearray(raw)
    encrypted[second + 8] |= 1
    overlapping[second + 42 : second + 46] = (10).to_bytes(4, "little")  # inside the first
    falsified[second + 16] ^= 1  # the checksum
    for name, made, seen in (
        ("encrypted", encrypted, "format"),
        ("overlapping", overlapping, "broken"),
        ("falsified", falsified, "broken"),
    ):
        (tmp_path / f"{name}.zip").write_bytes(made)
        found = contents(read("archive", tmp_path / f"{name}.zip"))
        assert found["b.png"] == seen, name
        assert found["a.png"] == ("broken" if name == "overlapping" else b"a" * 50)


def test_sizes_that_are_lies_take_no_memory(tmp_path: Path) -> None:
    bomb = zip_of({"a.png": bytes(1 << 28)})
    tracemalloc.start()
    huge = member("a.png", size=1 << 62)
    (tmp_path / "size.tar").write_bytes(huge.tobuf(tarfile.GNU_FORMAT) + b"x" * 600)
    assert contents(read("archive", tmp_path / "size.tar")) == {"a.png": "truncated", "size.tar": "truncated"}
    with open(tmp_path / "name.tar", "wb") as file:  # sparse: it takes no disk
        file.truncate(1 << 29)
    long_name = member("././@LongLink", type=tarfile.GNUTYPE_LONGNAME, size=1 << 28)
    first = tar_of({"a.png": b"x"}).rstrip(b"\0").ljust(1024, b"\0")
    with open(tmp_path / "name.tar", "r+b") as file:
        file.write(first + long_name.tobuf(tarfile.GNU_FORMAT))
    assert contents(read("archive", tmp_path / "name.tar")) == {"a.png": b"x", "name.tar": "truncated"}
    (tmp_path / "bomb.zip").write_bytes(bomb)
    assert contents(read("archive", tmp_path / "bomb.zip")) == {"a.png": "too-large"}
    assert tracemalloc.get_traced_memory()[1] < 1 << 24
    tracemalloc.stop()


def test_a_header_that_leads_back_does_not_go_round_for_ever(tmp_path: Path) -> None:
    back = member("b.png", size=-2048).tobuf(tarfile.GNU_FORMAT)
    (tmp_path / "back.tar").write_bytes(tar_of({"a.png": b"x" * 513})[:1536] + back + bytes(4096))
    found = contents(read("archive", tmp_path / "back.tar"))
    assert found["a.png"] == b"x" * 513
    assert found["back.tar"] in {"broken", "truncated"}


@pytest.mark.parametrize(("ending", "compress"), [("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress)])
def test_a_compressed_tar_is_rejected_with_the_way_out(
    ending: str, compress: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    file = tmp_path / f"photos.tar.{ending}"
    file.write_bytes(compress(tar_of(BIRDS)))
    with pytest.raises(DataError, match=r"is compressed by .*; decompress it first"):
        read(detect(file), file)


@pytest.mark.parametrize("raw", [b"", b"no archive", bytes(10_240), b"PK\x03\x04 no zip", b"x" * 2000])
def test_no_archive_at_all(raw: bytes, tmp_path: Path) -> None:
    (tmp_path / "photos.tar").write_bytes(raw)
    with pytest.raises(DataError, match=r"photos.tar"):
        read("archive", tmp_path / "photos.tar")


def test_an_archive_that_is_gone_or_changed_after_it_was_listed(tmp_path: Path) -> None:
    (tmp_path / "photos.tar").write_bytes(tar_of(BIRDS))
    dataset = read("archive", tmp_path / "photos.tar")
    (tmp_path / "photos.tar").write_bytes(tar_of(BIRDS)[:600])
    assert set(contents(dataset).values()) == {"broken"}  # whatever now lies at the same place
    (tmp_path / "photos.tar").unlink()
    assert set(contents(dataset).values()) == {"missing"}
