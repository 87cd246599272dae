"""Tars and zips, drawn member by member, good and hostile ones."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Iterable, Mapping

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
