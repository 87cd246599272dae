"""Photos in tars and zips: as if unpacked, without being so."""

from __future__ import annotations

import io
import json
import tarfile
import tempfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from milvus_fghash.datasets.read import Selection, Url, detect, read
from milvus_fghash.datasets.sources.archives import expand_braces
from milvus_fghash.datasets.sources.location import InvalidSource, PhotoLocation
from milvus_fghash.encoding.decode_options import DecodeOptions
from milvus_fghash.encoding.decode_stream import Rejected, decode
from milvus_fghash.errors import DataError
from tests.helpers.archives import BIRDS, MAKERS, contents, member, tar_of, zip_of
from tests.helpers.decoders import SMALL, summary
from tests.helpers.http_server import Site
from tests.helpers.image_bytes import grey

pytestmark = pytest.mark.full


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
    assert summary(decode(packed.sources, SMALL, DecodeOptions(workers=workers))) == [3, 1, 2]
    assert sorted(entry.name for entry in tmp_path.iterdir()) == sorted([name, "unpacked"])  # nothing was unpacked


@pytest.mark.parametrize("name", MAKERS)
def test_an_archive_behind_a_url(name: str, site: Site) -> None:
    site.files["/birds/photos"] = MAKERS[name](BIRDS)
    url = Url(f"{name[-3:]}://::{site.url}/birds/photos?signature=0f3a")
    assert detect(url) == "archive"
    dataset = read("archive", url)
    assert dataset.paths == ("test/jay/c.png", "train/jay/a.png", "train/wren/ü b.png")
    assert all(not isinstance(place, Path) and place.revision for place in dataset.sources)
    site.gets()
    assert summary(decode(dataset.sources, SMALL, DecodeOptions(workers=1))) == [3, 1, 2]
    assert len(site.gets()) == 3
    assert read("archive", url) == dataset
    assert site.gets() == []  # what lies in it is remembered as long as it is the same
    site.files["/birds/photos"] = MAKERS[name]({"jay/new.png": grey(4)})
    assert read("archive", url).paths == ("jay/new.png",)


def test_a_server_without_ranges_is_rejected_by_name(site: Site) -> None:
    site.files["/photos.tar"] = tar_of({f"{number}.png": bytes(5_000_000) for number in range(3)})
    site.ranges = False
    with pytest.raises(DataError, match=r"photos.tar cannot be read in parts.*download it"):
        read("archive", Url(f"{site.url}/photos.tar"))
    site.ranges = True
    dataset = read("archive", Url(f"{site.url}/photos.tar"))
    site.ranges = False
    assert set(contents(dataset).values()) == {"unreachable"}


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
    assert summary(decode(by_folder.sources, SMALL, DecodeOptions(workers=0))) == [0, 1, 2, 4, 3]
    by_braces = read("archive", folder / "train-{0000..0001}.tar")
    assert by_braces.paths == PATHS
    assert by_braces.sources == by_folder.sources[:3]
    with pytest.raises(DataError, match=r"there is no file .*train-0003.tar"):
        read("archive", folder / "train-{0002..0003}.tar")


def test_shards_at_a_url(site: Site, tmp_path: Path) -> None:
    folder = shards(tmp_path / "shards")
    site.files = {f"/s/{file.name}": file.read_bytes() for file in folder.iterdir()}
    dataset = read("archive", Url(f"{site.url}/s/train-{{0000..0001}}.tar"))
    assert dataset.paths == PATHS
    assert dataset.labels == ("3", "jay", "jay")
    assert summary(decode(dataset.sources, SMALL, DecodeOptions(workers=0))) == [0, 1, 2]


def test_one_broken_shard_does_not_stop_the_others(tmp_path: Path) -> None:
    folder = shards(tmp_path / "shards")
    (folder / "train-0000.tar").write_bytes(b"broken")
    dataset = read("archive", folder)
    assert dataset.paths[0] == "train-0000.tar"
    assert isinstance(dataset.sources[0], InvalidSource)
    (rejected, *_) = decode(dataset.sources, SMALL, DecodeOptions(workers=1))
    assert isinstance(rejected, Rejected)
    assert (rejected.reason, len(dataset)) == ("broken", 5)


def test_a_folder_with_photos_beside_an_archive_stays_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(grey(1))
    (tmp_path / "all.tar").write_bytes(tar_of(BIRDS))
    assert detect(tmp_path) == "folder"


def test_braces_that_cannot_be() -> None:
    assert list(expand_braces("a{1..3}b{x,y}")) == ["a1bx", "a1by", "a2bx", "a2by", "a3bx", "a3by"]
    for text in ("{3..1}", "{0..99999999999}", "{0..9999}{0..9999}"):
        with pytest.raises(DataError):
            list(expand_braces(text))


def test_places_of_an_archive_are_no_files_for_who_needs_files(tmp_path: Path) -> None:
    (tmp_path / "photos.tar").write_bytes(tar_of(BIRDS))
    dataset = read("archive", tmp_path / "photos.tar")
    assert all(isinstance(place, PhotoLocation) for place in dataset.sources)
    with pytest.raises(DataError, match=r"not local files.*unpack"):
        dataset.file(0)


def test_members_have_one_form_for_path_class_and_split(tmp_path: Path) -> None:
    """As ``tar -C photos .`` and zips with ``./`` name them, and by two slashes."""
    files = {f"./train//{label}/./{label}.png": grey(1) for label in ("jay", "wren")}
    files |= {"./test/wren/x.png": grey(2), "./test/wren/y.png": grey(3), "test/./wren/y.cls": b"owl"}
    for name, make in MAKERS.items():
        (tmp_path / name).write_bytes(make(files))
        dataset = read("archive", tmp_path / name)
        assert dataset.ids == ("test/wren/x.png", "test/wren/y.png", "train/jay/jay.png", "train/wren/wren.png")
        assert dataset.labels == ("wren", "owl", "jay", "wren"), name
        assert dataset.splits == ("test", "test", "train", "train")


def windows_zip(*names: str, system: int) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for number, name in enumerate(names):
            info = zipfile.ZipInfo(name)
            info.create_system = system
            archive.writestr(info, b"" if name.endswith("\\") else grey(number))
    return out.getvalue()


@pytest.mark.parametrize(
    ("system", "names", "paths", "labels"),
    [
        (0, ("train\\jay\\", "train\\jay\\0.png", "train/wren/1.png"), ("jay/0.png", "wren/1.png"), ("jay", "wren")),
        (10, ("train\\jay\\0.png",), ("jay/0.png",), ("jay",)),
        (3, ("train\\jay\\", "train\\jay\\0.png"), ("jay/0.png",), ("jay",)),  # none has a slash
        (3, ("train/jay/a\\b.png",), ("jay/a\\b.png",), ("jay",)),  # a name may have one where it is no separator
    ],
)
def test_backslashes_of_windows_stand_between_folders(
    system: int, names: tuple[str, ...], paths: tuple[str, ...], labels: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "photos.zip").write_bytes(windows_zip(*names, system=system))
    dataset = read("archive", tmp_path / "photos.zip")
    assert dataset.paths == tuple(f"train/{path}" for path in paths)
    assert (dataset.labels, set(dataset.splits)) == (labels, {"train"})
    assert all(isinstance(content, bytes) for content in contents(dataset).values())
    assert dataset.read_report.left_out.counts == {}


@pytest.mark.parametrize("names", [("..\\up.png",), ("\\abs.png",), ("C:\\x.png",), ("a\\..\\..\\up.png",)])
def test_backslashes_lead_nowhere(names: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "photos.zip").write_bytes(windows_zip(*names, system=0))
    assert set(contents(read("archive", tmp_path / "photos.zip")).values()) == {"name"}


def test_what_is_left_out_of_an_archive_is_counted_as_of_a_folder(tmp_path: Path, site: Site) -> None:
    out = [
        "__MACOSX/._0.png",
        "jay/@eaDir/0.png/thumb.png",
        "jay/._0.png",
        ".git/1.png",
        "jay/old/0.png",
        "jay/readme.txt",
    ]
    files = {"jay/0.png": grey(0), "wren/2.png": grey(2), **dict.fromkeys(out, b"x")}
    linked = [member("linked", type=tarfile.SYMTYPE, linkname="jay")]
    selection = Selection("auto", ("jay/old",))
    left_out = {"__MACOSX": 1, "@eaDir": 1, "hidden": 2, "jay/old": 1, ".txt": 1}
    (tmp_path / "a.tar").write_bytes(tar_of(files, linked))
    (tmp_path / "a.zip").write_bytes(zip_of(files))
    for path, raw in files.items():
        (tmp_path / "a" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "a" / path).write_bytes(raw)
    site.files = {"/a.zip": zip_of(files)} | {f"/a/{path}": raw for path, raw in files.items()}
    for folder in {path[: at + 1] for path in files for at, letter in enumerate(path) if letter == "/"} | {""}:
        below = sorted({path.removeprefix(folder).partition("/")[:2] for path in files if path.startswith(folder)})
        site.files[f"/a/{folder}"] = "".join(f'<a href="{name}{slash}">' for name, slash in below).encode()
    urls = (Url(f"{site.url}/a.zip"), Url(f"{site.url}/a"))
    for place in (tmp_path / "a.tar", tmp_path / "a.zip", tmp_path / "a", *urls):
        dataset = read(detect(place), place, selection)
        assert (dataset.paths, dataset.labels) == (("jay/0.png", "wren/2.png"), ("jay", "wren")), place
        assert dataset.read_report.left_out.counts == left_out | ({"link": 1} if place.suffix == ".tar" else {})


def test_an_img2dataset_folder(tmp_path: Path) -> None:
    for number in range(2):
        files = {f"{number}000{n}.{end}": grey(n) for n in range(2) for end in ("png", "txt")}
        (tmp_path / f"0000{number}.tar").write_bytes(tar_of({**files, f"{number}0000.json": b'{"caption": "a bird"}'}))
        (tmp_path / f"0000{number}.parquet").write_bytes(b"PAR1")
        (tmp_path / f"0000{number}_stats.json").write_text("{}")
    assert detect(tmp_path) == "archive"
    dataset = read("archive", tmp_path)
    assert (len(dataset), dataset.paths[0]) == (4, "00000.tar/00000.png")
    assert dataset.read_report.left_out.counts == {".txt": 4, ".parquet": 2, ".json": 2}


def test_classes_of_samples_go_before_those_of_folders_whatever_the_level(tmp_path: Path) -> None:
    folder = shards(tmp_path / "shards")
    dataset = read("archive", folder, Selection("top"))
    assert dataset.labels == ("3", "jay", "jay", "", "wren")
    assert dataset.read_report.classes.startswith(
        "from KEY.cls, or the field label of KEY.json, next to each photo; else from"
    )
    (tmp_path / "shards" / "@eaDir").mkdir()
    (tmp_path / "shards" / "@eaDir" / "x.tar").write_bytes(b"no tar")
    (tmp_path / "shards" / ".old").mkdir()
    (tmp_path / "shards" / ".old" / "x.tar").write_bytes(b"no tar")
    assert read("archive", folder).paths == dataset.paths


def test_an_archive_that_does_not_come_is_told_why(site: Site) -> None:
    site.files = {"/birds.tar": tar_of({"a.png": b""})}
    for status, expected in ((403, "403, message='Forbidden'"), (404, "/birds.tar does not exist")):
        site.status["/birds.tar"] = status
        with pytest.raises(DataError, match=expected):
            read("archive", Url(f"{site.url}/birds.tar"))
    with pytest.raises(DataError, match=r"birds.tar cannot be fetched: Cannot connect to host"):
        read("archive", Url("http://127.0.0.1:9/birds.tar"))
    dataset = read("archive", Url("http://127.0.0.1:9/birds-{0..1}.tar?sig=SECRET"))
    assert dataset.paths == ("birds-0.tar", "birds-1.tar")
    place = dataset.source(0)
    assert isinstance(place, InvalidSource)
    assert place.message.startswith(
        "http://127.0.0.1:9/birds-0.tar cannot be read: http://127.0.0.1:9/birds-0.tar cannot be"
    )
