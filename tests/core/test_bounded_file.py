"""Pipes, devices, links and giants in the place of a file: here, and wherever the project reads what others wrote."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from milvus_fghash.core.bounded_file import check_regular, open_regular, read_bounded
from tests.helpers.odd_files import endless, giant, pipe

pytestmark = pytest.mark.usefixtures("no_waiting")


@pytest.mark.parametrize("read", [lambda path: read_bounded(path, 10), open_regular, check_regular])
@pytest.mark.parametrize(("make", "kind"), [(pipe, "a pipe"), (endless, "a device"), (Path.mkdir, "a folder")])
def test_what_is_no_regular_file_is_named(
    tmp_path: Path, make: Callable[[Path], None], kind: str, read: Callable[[Path], Any]
) -> None:
    make(tmp_path / "x")
    with pytest.raises(OSError, match=f"it is {kind}; expected a regular file"):
        read(tmp_path / "x")
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "absent")


def test_a_link_is_followed_or_not(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"content")
    (tmp_path / "link").symlink_to("real")
    assert read_bounded(tmp_path / "link", 10) == b"content"
    with pytest.raises(OSError, match="it is a symbolic link"):
        read_bounded(tmp_path / "link", 10, links=False)
    (tmp_path / "folder").symlink_to(".")
    assert read_bounded(tmp_path / "folder" / "real", 10, links=False) == b"content"


def test_a_file_of_just_the_size_is_read(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"0123456789")
    assert read_bounded(tmp_path / "x", 10) == b"0123456789"
    with pytest.raises(OSError, match="it has more than the allowed 9 bytes"):
        read_bounded(tmp_path / "x", 9)
    giant(tmp_path / "x")
    with pytest.raises(OSError, match=r"it has more than the allowed 1,000,000 bytes"):
        read_bounded(tmp_path / "x", 1_000_000)


def test_a_pipe_that_a_person_names_is_read_and_bounded(tmp_path: Path) -> None:
    for most, content in ((10, b"0123456789"), (9, None)):
        os.mkfifo(tmp_path / f"{most}")
        writer = threading.Thread(target=(tmp_path / f"{most}").write_bytes, args=(b"0123456789",))
        writer.start()
        if content is not None:
            assert read_bounded(tmp_path / f"{most}", most, regular=False) == content
        else:
            with pytest.raises(OSError, match="more than the allowed 9 bytes"):
                read_bounded(tmp_path / f"{most}", most, regular=False)
        writer.join()
    with pytest.raises(OSError, match="more than the allowed 1,000,000 bytes"):
        read_bounded(Path("/dev/zero"), 1_000_000, regular=False)
