"""A file is there whole, or as it was."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from milvus_fghash.core.atomic_io import atomic_path, write_atomic
from milvus_fghash.errors import DataError


def test_writes_replaces_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "new" / "result.txt"
    write_atomic(path, b"one")
    assert write_atomic(path, b"two") == path
    assert path.read_bytes() == b"two"
    assert list(path.parent.iterdir()) == [path]


def test_others_may_read_what_only_its_owner_may_by_a_librarys_habit(tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    with atomic_path(tmp_path / "folder") as made:
        made.mkdir()
        (made / "file").touch(mode=0o600)
    assert (tmp_path / "folder" / "file").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_a_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_atomic(tmp_path / "result.txt", b"old")

    def reject(source: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", reject)
    with pytest.raises(DataError, match="No space left"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_a_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "taken").touch()
    with pytest.raises(DataError, match="cannot write"):
        write_atomic(tmp_path / "taken" / "result.txt", b"")


def test_a_file_never_replaces_a_folder(tmp_path: Path) -> None:
    photo = write_atomic(tmp_path / "photos" / "robin.jpg", b"dear")
    with pytest.raises(DataError, match="photos: Is a directory"):
        write_atomic(tmp_path / "photos", b"a report")
    assert photo.read_bytes() == b"dear"
    assert list(tmp_path.iterdir()) == [tmp_path / "photos"]


def test_a_folder_replaces_a_folder_and_a_failure_keeps_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "made"
    for content in ("one", "two"):
        with atomic_path(path) as unfinished:
            unfinished.mkdir()
            (unfinished / content).touch()
    assert [file.name for file in path.iterdir()] == ["two"]
    with pytest.raises(FileNotFoundError), atomic_path(path) as unfinished:
        (unfinished / "no folder yet").touch()
    assert [file.name for file in path.iterdir()] == ["two"]
    assert list(tmp_path.iterdir()) == [path]
