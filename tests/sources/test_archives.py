"""Photos in tars and zips: as if unpacked, without being so."""

from __future__ import annotations

import json
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
from tests.sources.archives import Files, tar_of, zip_of
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
    site.ranges = True
    listing = read("archive", Url(f"{site.url}/photos.tar"))
    site.ranges = False
    assert set(contents(listing).values()) == {"unreachable"}


names = st.text(st.characters(codec="utf-8", exclude_characters="\0/\\."), min_size=1, max_size=60)


@given(st.dictionaries(names.map("birds/{}.png".format), st.binary(min_size=1, max_size=2000), min_size=1, max_size=6))
def test_any_names_and_contents_come_out_as_they_went_in(files: dict[str, bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name, make in MAKERS.items():
            file = Path(folder) / name
            file.write_bytes(make(files))
            assert contents(read("archive", file)) == files


def shards(folder: Path) -> Path:
    """WebDataset: a class by .cls, by .json, by both, by none; a photo of its own in each of three shards."""
    folder.mkdir(exist_ok=True)
    samples: list[dict[str, bytes]] = [
        {"0.json": b'{"label": "other"}', "0.png": grey(0), "0.cls": b"3\n", "0.txt": b"a caption"},
        {"0.json": json.dumps({"label": "jay"}).encode(), "0.left.png": grey(1), "0.right.png": grey(2)},
        {
            "wren/0.png": grey(3),
            "0.png": grey(4),
            "0.json": b"{no json",
            "jay/1.cls": b"5",
            "jay/1.json": b'{"label": 6}',
        },
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
