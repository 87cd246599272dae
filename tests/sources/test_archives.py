"""Photos in tars and zips: as if unpacked, without being so."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from milvus_fghash.data import Listing, Url, detect, read
from milvus_fghash.data.archives import expanded
from milvus_fghash.data.places import Barred, Place
from milvus_fghash.errors import DataError, ImageRefused
from milvus_fghash.images import DEFAULT_LIMITS
from milvus_fghash.serving.decoding import Refused, decode
from tests.serving.decoders import SMALL, summary
from tests.sources.archives import Files, member, tar_of, zip_of
from tests.sources.http_server import Site
from tests.sources.test_http import grey

Error = TypeVar("Error", bound=DataError)

BIRDS = {"train/jay/a.png": grey(1), "train/wren/ü b.png": grey(2), "test/jay/c.png": grey(3), "notes.txt": b"none"}
MAKERS: dict[str, Callable[[Files], bytes]] = {
    "pax.tar": tar_of,
    "gnu.tar": lambda files: tar_of(files, kind=tarfile.GNU_FORMAT),
    "deflated.zip": zip_of,
    "stored.zip": lambda files: zip_of(files, zipfile.ZIP_STORED),
}


def one_sentence(error: Error) -> Error:
    assert "\n" not in str(error)
    return error


def contents(listing: Listing) -> dict[str, bytes | str]:
    """Path -> bytes, or the reason why not."""
    found: dict[str, bytes | str] = {}
    for row, key in enumerate(listing.ids):
        place = listing.place(row)
        assert not isinstance(place, Path)
        try:
            found[key] = place.read(10_000)
        except ImageRefused as error:
            found[key] = one_sentence(error).reason
    return found


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("workers", [0, 1])
def test_an_archive_is_as_the_folder_it_was_made_of(name: str, workers: int, tmp_path: Path) -> None:
    for path, raw in BIRDS.items():
        (tmp_path / "unpacked" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "unpacked" / path).write_bytes(raw)
    (tmp_path / name).write_bytes(MAKERS[name](BIRDS))
    assert detect(tmp_path / name) == "archive"
    packed, unpacked = read("archive", tmp_path / name), read("folder", tmp_path / "unpacked")
    for column in ("ids", "paths", "labels", "splits"):
        assert getattr(packed, column) == getattr(unpacked, column)
    assert summary(decode(packed.places, SMALL, DEFAULT_LIMITS, workers)) == [3, 1, 2]
    assert sorted(entry.name for entry in tmp_path.iterdir()) == sorted([name, "unpacked"])  # nothing was unpacked


@pytest.mark.parametrize("name", MAKERS)
def test_an_archive_behind_a_url(name: str, site: Site) -> None:
    site.files["/birds/photos"] = MAKERS[name](BIRDS)
    url = Url(f"{name[-3:]}://::{site.url}/birds/photos?signature=0f3a")
    assert detect(url) == "archive"
    listing = read("archive", url)
    assert listing.paths == ("test/jay/c.png", "train/jay/a.png", "train/wren/ü b.png")
    assert all(not isinstance(place, Path) and place.version for place in listing.places)
    site.gets()
    assert summary(decode(listing.places, SMALL, DEFAULT_LIMITS, 1)) == [3, 1, 2]
    assert len(site.gets()) == 3
    assert read("archive", url) == listing
    assert site.gets() == []  # what lies in it is remembered as long as it is the same
    site.files["/birds/photos"] = MAKERS[name]({"jay/new.png": grey(4)})
    assert read("archive", url).paths == ("jay/new.png",)


def test_a_server_without_ranges_is_refused_by_name(site: Site) -> None:
    site.files["/photos.tar"] = tar_of({f"{number}.png": bytes(5_000_000) for number in range(3)})
    site.ranges = False
    with pytest.raises(DataError, match=r"photos.tar cannot be read in parts.*download it"):
        read("archive", Url(f"{site.url}/photos.tar"))


names = st.text(st.characters(codec="utf-8", exclude_characters="\0/\\."), min_size=1, max_size=60)


@given(st.dictionaries(names.map("birds/{}.png".format), st.binary(min_size=1, max_size=2000), min_size=1, max_size=6))
def test_any_names_and_contents_come_out_as_they_went_in(files: dict[str, bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name, make in MAKERS.items():
            file = Path(folder) / name
            file.write_bytes(make(files))
            assert contents(read("archive", file)) == files


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
            listing = read("archive", Path(folder) / name)
        except DataError as error:
            one_sentence(error)
        else:
            contents(listing)


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
        tar_of({**files, "good.png": b"6", "./good.png": b"7", "u\udcff.png": b"8"}, links)
    )
    found = contents(read("archive", tmp_path / "bad.tar"))
    assert found == {
        **dict.fromkeys(["soft.png", "hard.png", "device.png", "pipe.png", "in/a.tar"], "format"),
        **dict.fromkeys(["/abs.png", "../up.png", "a/../../up.png", "C:/x.png", "u\\udcff.png"], "name"),
        "good.png": b"6",
        "good.png #2": b"7",
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


def test_sizes_that_are_lies_take_no_memory(tmp_path: Path) -> None:
    huge = member("a.png", size=1 << 62)
    (tmp_path / "size.tar").write_bytes(huge.tobuf(tarfile.GNU_FORMAT) + b"x" * 600)
    assert contents(read("archive", tmp_path / "size.tar")) == {"a.png": "truncated", "size.tar": "truncated"}
    long_name = member("././@LongLink", type=tarfile.GNUTYPE_LONGNAME, size=1 << 32)
    first = tar_of({"a.png": b"x"}).rstrip(b"\0").ljust(1024, b"\0")
    (tmp_path / "name.tar").write_bytes(first + long_name.tobuf(tarfile.GNU_FORMAT) + bytes(1 << 21))
    assert contents(read("archive", tmp_path / "name.tar")) == {"a.png": b"x", "name.tar": "truncated"}


def test_a_header_that_leads_back_does_not_go_round_for_ever(tmp_path: Path) -> None:
    back = member("b.png", size=-2048).tobuf(tarfile.GNU_FORMAT)
    (tmp_path / "back.tar").write_bytes(tar_of({"a.png": b"x" * 513})[:1536] + back + bytes(4096))
    found = contents(read("archive", tmp_path / "back.tar"))
    assert found["a.png"] == b"x" * 513
    assert found["back.tar"] in {"broken", "truncated"}


@pytest.mark.parametrize(("ending", "compress"), [("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress)])
def test_a_compressed_tar_is_refused_with_the_way_out(
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
    listing = read("archive", tmp_path / "photos.tar")
    (tmp_path / "photos.tar").write_bytes(tar_of(BIRDS)[:600])
    assert set(contents(listing).values()) == {"broken"}  # whatever now lies at the same place
    (tmp_path / "photos.tar").unlink()
    assert set(contents(listing).values()) == {"missing"}


def shards(folder: Path) -> Path:
    """WebDataset: a class by .cls, by .json, by both, by none; a photo of its own in each of three shards."""
    folder.mkdir(exist_ok=True)
    samples: list[dict[str, bytes]] = [
        {"0.png": grey(0), "0.cls": b"3\n", "0.json": b'{"label": "other"}', "0.txt": b"a caption"},
        {"0.json": json.dumps({"label": "jay"}).encode(), "0.left.png": grey(1), "0.right.png": grey(2)},
        {"wren/0.png": grey(3), "0.png": grey(4), "0.json": b"{no json"},
    ]
    for number, files in enumerate(samples):
        (folder / f"train-{number:04}.tar").write_bytes(tar_of(files))
    return folder


PATHS = ("train-0000.tar/0.png", "train-0001.tar/0.left.png", "train-0001.tar/0.right.png")


def test_shards_by_folder_and_by_braces(tmp_path: Path) -> None:
    folder = shards(tmp_path / "shards")
    assert detect(folder) == "archive"
    by_folder = read("archive", folder)
    assert by_folder.paths == (*PATHS, "train-0002.tar/0.png", "train-0002.tar/wren/0.png")
    assert by_folder.labels == ("3", "jay", "jay", "", "wren")
    assert summary(decode(by_folder.places, SMALL, DEFAULT_LIMITS, 0)) == [0, 1, 2, 4, 3]
    by_braces = read("archive", folder / "train-{0000..0001}.tar")
    assert by_braces.paths == PATHS
    assert by_braces.places == by_folder.places[:3]
    with pytest.raises(DataError, match=r"there is no file .*train-0003.tar"):
        read("archive", folder / "train-{0002..0003}.tar")


def test_shards_at_a_url(site: Site, tmp_path: Path) -> None:
    folder = shards(tmp_path / "shards")
    site.files = {f"/s/{file.name}": file.read_bytes() for file in folder.iterdir()}
    listing = read("archive", Url(f"{site.url}/s/train-{{0000..0001}}.tar"))
    assert listing.paths == PATHS
    assert listing.labels == ("3", "jay", "jay")
    assert summary(decode(listing.places, SMALL, DEFAULT_LIMITS, 0)) == [0, 1, 2]


def test_one_broken_shard_does_not_stop_the_others(tmp_path: Path) -> None:
    folder = shards(tmp_path / "shards")
    (folder / "train-0000.tar").write_bytes(b"broken")
    listing = read("archive", folder)
    assert listing.paths[0] == "train-0000.tar"
    assert isinstance(listing.places[0], Barred)
    (refused, *_) = decode(listing.places, SMALL, DEFAULT_LIMITS, 1)
    assert isinstance(refused, Refused)
    assert (refused.reason, len(listing)) == ("broken", 5)


def test_a_folder_with_photos_beside_an_archive_stays_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(grey(1))
    (tmp_path / "all.tar").write_bytes(tar_of(BIRDS))
    assert detect(tmp_path) == "folder"


def test_braces_that_cannot_be() -> None:
    assert list(expanded("a{1..3}b{x,y}")) == ["a1bx", "a1by", "a2bx", "a2by", "a3bx", "a3by"]
    for text in ("{3..1}", "{0..99999999999}", "{0..9999}{0..9999}"):
        with pytest.raises(DataError):
            list(expanded(text))


def test_places_of_an_archive_are_no_files_for_who_needs_files(tmp_path: Path) -> None:
    (tmp_path / "photos.tar").write_bytes(tar_of(BIRDS))
    listing = read("archive", tmp_path / "photos.tar")
    assert all(isinstance(place, Place) for place in listing.places)
    with pytest.raises(DataError, match=r"not files in a folder here.*unpack"):
        listing.file(0)
