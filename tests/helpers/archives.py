"""Tars and zips, drawn member by member, good and hostile ones."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TypeVar

from milvus_fghash.datasets.read import Dataset
from milvus_fghash.datasets.sources.reader import read_source
from milvus_fghash.errors import DataError, ImageRejected
from tests.helpers.image_bytes import grey

Files = Mapping[str, bytes]


def tar_of(files: Files, more: Iterable[tarfile.TarInfo] = (), kind: int = tarfile.PAX_FORMAT) -> bytes:
    """``more`` are members without content, such as links."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=kind) as archive:
        for info in more:
            archive.addfile(info)
        for name, raw in files.items():
            archive.addfile(member(name, size=len(raw), mtime=1_700_000_000), io.BytesIO(raw))
    return out.getvalue()


def member(name: str, **facts: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    for fact, value in facts.items():
        setattr(info, fact, value)
    return info


def zip_of(files: Files, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, raw in files.items():
            archive.writestr(zipfile.ZipInfo(name, (2024, 1, 1, 0, 0, 0)), raw, method)
    return out.getvalue()


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


def contents(dataset: Dataset) -> dict[str, bytes | str]:
    """Path -> bytes, or the reason why not."""
    found: dict[str, bytes | str] = {}
    for row, key in enumerate(dataset.ids):
        place = dataset.source(row)
        assert not isinstance(place, Path)
        try:
            found[key] = read_source(place, 10_000)
        except ImageRejected as error:
            found[key] = one_sentence(error).reason
    return found
