"""What is left out of a folder: hidden and system things, what is excluded, links; all of it counted and named."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from milvus_fghash.datasets.read import Dataset, Selection, detect, read
from milvus_fghash.datasets.selection import SYSTEM_NAMES, PhotoFilter
from milvus_fghash.errors import ConfigError, DataError
from tests.helpers.layouts import plant


def listed(root: Path, *exclude: str, follow_links: bool = False) -> Dataset:
    return read("folder", root, Selection("auto", exclude, follow_links))


@pytest.mark.parametrize("glob", SYSTEM_NAMES)
def test_what_systems_make_is_no_photo_and_no_class(glob: str, tmp_path: Path) -> None:
    name = glob.replace("*", "Previews")
    plant(tmp_path, {"robin/0.jpg": "", f"{name}/1.jpg": "", f"robin/{name.lower()}/0.jpg/thumb.jpg": ""})
    dataset = listed(tmp_path)
    assert (dataset.paths, dataset.labels, dataset.read_report.warnings) == (("robin/0.jpg",), ("robin",), ())
    assert dataset.read_report.left_out.counts == {glob: 2}


def test_folders_of_a_nas_and_of_a_mac_are_among_them() -> None:
    names = {"@eaDir", "#recycle", "__MACOSX", "@Recycle", "$RECYCLE.BIN", "System Volume Information", "lost+found"}
    photo_filter = PhotoFilter()
    assert [name for name in names if photo_filter.accepts(f"robin/{name}/0.jpg", is_photo=True)] == []
    assert photo_filter.left_out.counts == dict.fromkeys(names, 1)


def test_what_is_left_out_is_counted_and_named(tmp_path: Path) -> None:
    files = [
        "a/1.jpg",
        "a/2.HEX",
        "a/3.hex",
        "b/4.jpg",
        ".git/5.jpg",
        "b/._4.jpg",
        ".DS_Store",
        "notes",
        "x." + "y" * 99,
    ]
    dataset = listed(plant(tmp_path, dict.fromkeys(files, "")), "B")
    left_out = dataset.read_report.left_out
    assert dataset.paths == ("a/1.jpg",)
    assert left_out.counts == {".hex": 2, "hidden": 1, "B": 1, "other file": 2}
    assert "2 .hex (a/" in str(left_out)
    assert "1 B (b)" in str(left_out)
    with pytest.raises(DataError, match=r"no photos found in .*; left out: .*2 \.hex \(a/"):
        listed(tmp_path, "*.jpg")
    many = listed(plant(tmp_path / "many", {"1.jpg": "", **{f"{n}.k{n}": "" for n in range(20)}}))
    assert str(many.read_report.left_out).endswith("12 of other kinds")


@pytest.mark.parametrize(
    ("glob", "left"),
    [
        ("*_thumb.*", ["1.jpg", "a/1.jpg", "a/b/1.jpg", "b/2.jpg"]),
        ("b", ["1.jpg", "a/1.jpg", "a/1_THUMB.jpg"]),
        ("b/", ["1.jpg", "a/1.jpg", "a/1_THUMB.jpg"]),
        ("/b", ["1.jpg", "a/1.jpg", "a/1_THUMB.jpg", "a/b/1.jpg"]),
        ("./b", ["1.jpg", "a/1.jpg", "a/1_THUMB.jpg"]),
        ("a/b", ["1.jpg", "a/1.jpg", "a/1_THUMB.jpg", "b/2.jpg"]),
        ("*/1.jpg", ["1.jpg", "a/1_THUMB.jpg", "a/b/1.jpg", "b/2.jpg"]),
        ("**/1.jpg", ["a/1_THUMB.jpg", "b/2.jpg"]),
        ("a/**", ["1.jpg", "b/2.jpg"]),
        ("?.JPG", ["a/1_THUMB.jpg"]),
    ],
)
def test_globs(glob: str, left: list[str], tmp_path: Path) -> None:
    files = ["1.jpg", "a/1.jpg", "a/1_THUMB.jpg", "a/b/1.jpg", "b/2.jpg"]
    dataset = listed(plant(tmp_path, dict.fromkeys(files, "")), glob)
    assert list(dataset.paths) == left
    photo_filter = PhotoFilter(Selection(exclude=(glob,)))  # as archives and buckets ask
    assert [file for file in files if photo_filter.accepts(f"./{file}", is_photo=True)] == left
    assert photo_filter.left_out.counts[glob] == dataset.read_report.left_out.counts[glob] > 0


@pytest.mark.parametrize("glob", ["", "/", "..", "../other", "."])
def test_globs_that_cannot_be(glob: str) -> None:
    with pytest.raises(ConfigError, match="matches nothing"):
        Selection(exclude=(glob,))


def test_linked_folders_are_named_and_followed_when_asked_for(tmp_path: Path) -> None:
    plant(tmp_path, {"real/robin/0.jpg": "", "real/jay/1.jpg": "", "set/wren/2.jpg": ""})
    (tmp_path / "set" / "robin").symlink_to("../real/robin")
    (tmp_path / "set" / "lost").symlink_to("../nowhere")
    left_out = (dataset := listed(tmp_path / "set")).read_report.left_out
    assert (dataset.paths, left_out.counts) == (("wren/2.jpg",), {"linked folder": 1, "broken link": 1})
    assert left_out.first == {"linked folder": "robin", "broken link": "lost"}
    followed = listed(tmp_path / "set", follow_links=True)
    assert dict(zip(followed.paths, followed.labels, strict=True)) == {"robin/0.jpg": "robin", "wren/2.jpg": "wren"}
    (tmp_path / "all").mkdir()
    (tmp_path / "all" / "train").symlink_to("../real")
    assert set(listed(tmp_path / "all", follow_links=True).splits) == {"train"}
    with pytest.raises(DataError, match=r"left out: 1 linked folder \(train\); follow links to read linked folders"):
        listed(tmp_path / "all")


def test_circles_of_links_are_cut(tmp_path: Path) -> None:
    plant(tmp_path, {"a/1.jpg": "", "b/2.jpg": ""})
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "a" / "b").symlink_to("../b")
    (tmp_path / "b" / "a").symlink_to("../a")
    (tmp_path / "self").symlink_to("self")
    dataset = listed(tmp_path, follow_links=True)
    assert {os.path.realpath(dataset.file(row)) for row in range(len(dataset))} == {
        f"{tmp_path}/a/1.jpg",
        f"{tmp_path}/b/2.jpg",
    }
    assert len(dataset) == 4  # each by its own path, and by one link
    assert dataset.read_report.left_out.counts["circular link"] >= 3


def test_a_folder_of_archives_may_hold_other_files_and_no_photos(tmp_path: Path) -> None:
    plant(tmp_path, dict.fromkeys(["0.tar", "0.parquet", "0_stats.json", ".lock", "@eaDir/0.tar/x.jpg"], ""))
    assert detect(tmp_path) == "archive"
    (tmp_path / "photo.jpg").touch()
    assert detect(tmp_path) == "folder"
    (tmp_path / "photo.jpg").unlink()
    with pytest.raises(DataError, match=r"1 \.tar \(0.tar\).*; choose the layout archive to read archives"):
        listed(tmp_path)
