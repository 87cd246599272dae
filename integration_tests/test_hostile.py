"""A folder of files that mean harm, taken in by the command as a user runs it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from integration_tests.hostile_corpus import Corpus, make, remove, write_list
from integration_tests.memory_watch import Peaks, watched
from milvus_fghash.core.images import DEFAULT_LIMITS
from milvus_fghash.datasets.read import read
from milvus_fghash.encoding.decode_worker import memory_for
from milvus_fghash.errors import DataError
from milvus_fghash.milvus.collection import HashCollection
from milvus_fghash.milvus.connection import ConnectionConfig, connect
from milvus_fghash.milvus.rows import photo_id
from tests.helpers.small_bundle import directions, write_small_bundle

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the corpus is made of what Linux has")

BITS = 64
DECODE_TIMEOUT = 8.0
LONGEST_RUN = 120.0
"""Seconds for one run; 10 on two quiet cores, most of them the time for the one photo that is too slow."""
OF_PYTHON = 150_000_000
"""Bytes of a worker that has nothing to do; what it may take comes on top."""
PARENT = 600_000_000
CONTROL = re.compile(rb"[\x00-\x08\x0b-\x1f\x7f]|\xc2[\x80-\x9f]|\xe2\x80[\xaa-\xae]")
"""What moves the cursor, sets colours or turns the text round."""
LIST_TRICKS = {
    "climbing": b"path\n../outside/secret.png\n",
    "absolute": b"path\n/etc/passwd\n",
    "windows": b"path\n..\\..\\secret.png\n",
    "drive": b"path\nC:\\secret.png\n",
    "nul": b"path\ngood\0.png\n",
    "latin": b"path\ncaf\xe9.png\n",
    "unclosed": b'path\n"good.png\n',
    "huge": b"path\n" + b"x" * 200_000 + b"\n",
    "short": b"path,id\ngood.png\n",
    "empty": b"",
    "twice": b"path,id\na.png,1\nb.png,1\n",
}


@dataclass
class Ended:
    """A command that has."""

    exit_code: int
    out: bytes
    err: bytes
    seconds: float
    peaks: Peaks

    @property
    def document(self) -> Any:
        return json.loads(self.out)


@dataclass
class PhotoLocation:
    """The corpus, and an empty folder beside it in which commands run."""

    corpus: Corpus
    work: Path
    before: bytes = b""

    def run(self, *words: str | Path) -> Ended:
        command = [sys.executable, "-c", "from milvus_fghash.cli import main; main()", *map(str, words)]
        started = time.monotonic()
        with (
            open(self.work / "out", "wb") as out,
            open(self.work / "err", "wb") as err,
            subprocess.Popen(command, cwd=self.work, stdout=out, stderr=err) as process,
            watched(process.pid) as peaks,
        ):
            process.wait(LONGEST_RUN)
        output = (self.work / "out").read_bytes(), (self.work / "err").read_bytes()
        for one in output:
            assert not CONTROL.search(one), one
            assert b"Traceback" not in one, one
        return Ended(process.returncode, *output, time.monotonic() - started, peaks)

    def ingest(self, data: Path, *words: str) -> Ended:
        report = ("--report", "rejected.jsonl", "--decode-timeout", str(DECODE_TIMEOUT))
        return self.run("ingest", "bundle", data, *report, "--json", *words)

    def report(self) -> dict[str, str]:
        """Path -> reason."""
        lines = (self.work / "rejected.jsonl").read_text("ascii").splitlines()
        return {one["path"]: one["reason"] for one in map(json.loads, lines)}

    def state(self) -> bytes:
        """Names, sizes, times and numbers of all that was made, by a program that no depth of folders stops."""
        dataset = ["find", str(self.corpus.root), "-printf", r"%p %s %T@ %i\n"]
        return subprocess.run(dataset, check=True, capture_output=True).stdout


@pytest.fixture(scope="module")
def place() -> Iterator[PhotoLocation]:
    root = Path(tempfile.mkdtemp(prefix="hostile-"))
    try:
        corpus = make(root / "corpus")
        (root / "work").mkdir()
        write_small_bundle(root / "work" / "bundle", bits=BITS)
        place = PhotoLocation(corpus, root / "work")
        place.before = place.state()
        for secret in corpus.outside.rglob("*.png"):
            os.utime(secret, ns=(0, secret.stat().st_mtime_ns))  # whoever reads it after this is found out
        yield place
    finally:
        remove(root)


def expected_codes(colours: dict[str, tuple[int, ...]]) -> dict[str, bytes]:
    """What the small bundle says of pictures of one colour, by its formula."""
    weights = directions(BITS, 0).astype(np.float64)
    return {path: np.packbits((np.array(colour) - 127.5) @ weights > 0).tobytes() for path, colour in colours.items()}


def stored_codes(target: ConnectionConfig, name: str) -> dict[str, bytes]:
    with closing(connect(target)) as client:
        scanned = HashCollection.open(client, name).scan()
        codes = {path: code.tobytes() for rows in scanned for path, code in zip(rows.paths, rows.codes, strict=True)}
    if target.is_lite:  # one process at a time
        from milvus_lite.server_manager import server_manager_instance

        server_manager_instance.release_server(target.uri)
    return codes


def check(place: PhotoLocation, ended: Ended, codes: dict[str, bytes], listed: set[str]) -> None:
    """Every file in the report or in the collection, the right ones, with the right codes; within time and memory."""
    fates, report = place.corpus.fates, place.report()
    assert ended.exit_code == 3, ended.err
    assert not codes.keys() & report.keys()
    assert codes.keys() | report.keys() == listed
    assert not [path for path in listed if fates[path] == "stored" and path in report]
    assert not [path for path in listed if fates[path] == "rejected" and path in codes]
    wanted = expected_codes({path: colour for path, colour in place.corpus.colours.items() if path in listed})
    assert {path: codes[path] for path in wanted} == wanted
    counts = ended.document
    assert (counts["stored"], counts["rejected"], counts["rows_in_collection"]) == (len(codes), len(report), len(codes))
    assert ended.peaks.decoders
    assert ended.peaks.decoder <= OF_PYTHON + memory_for(DEFAULT_LIMITS)
    assert ended.peaks.parent <= PARENT


def test_a_folder_into_a_server(place: PhotoLocation, server_target: ConnectionConfig, new_name: str) -> None:
    corpus = place.corpus
    assert len(corpus.fates) >= 350
    milvus = ["--uri", server_target.uri, "--collection-name", new_name, "--journal", "journal"]
    milvus += ["--token", server_target.token] if server_target.token else []
    first = place.ingest(corpus.photos, *milvus)
    codes = stored_codes(server_target, new_name)
    check(place, first, codes, set(corpus.fates))
    print(f"{len(corpus.fates)} files, {first.seconds:.1f} s, decoders {first.peaks.decoder / 1e6:.0f} MB, "
          f"parent {first.peaks.parent / 1e6:.0f} MB")  # fmt: skip

    again = place.ingest(corpus.photos, *milvus, "--decode-timeout", "2")  # the slow one is tried once more
    assert (again.document["stored"], again.document["unchanged"]) == (0, len(codes))
    assert again.document["rejected"] == first.document["rejected"]
    whole = place.run("verify", "bundle", corpus.photos, *milvus, "--sample", "1000", "--json")
    assert (whole.exit_code, whole.document["consistent"]) == (0, True), whole.err
    assert whole.document["rows"] == whole.document["acknowledged"] == len(codes)

    assert place.state() == place.before
    assert not list(place.work.rglob("owned*"))
    assert {file.stat().st_atime_ns for file in corpus.outside.rglob("*.png")} == {0}


def test_a_list_into_milvus_lite_and_what_is_shown_of_it(place: PhotoLocation) -> None:
    """Without the photos that take long or much memory, which the other road has."""
    corpus = place.corpus
    listed = [path for path in corpus.fates if not path.startswith(("slow/", "bombs/within"))]
    file = corpus.photos / ".list.csv"
    listed = write_list(file, listed)
    ended = place.ingest(file)
    codes = stored_codes(ConnectionConfig(str(place.work / "milvus-fghash.db")), "photos")
    check(place, ended, codes, set(listed))

    odd = [path for path in codes if path.startswith("names/")]
    ids = [word for path in odd for word in ("--id", photo_id("", path))]
    page = ("--html", "hits.html", "--photos", corpus.photos)
    shown = place.run("search", *ids, "-k", "3", *page)
    assert shown.exit_code == 0, shown.err
    assert r"names/clear\x1b[2J\x1b[1;31m.png" in " ".join(shown.out.decode().split())
    html = (place.work / "hits.html").read_text()
    assert "<img src=x" not in html
    assert html.count("<figure") == 4 * len(odd)
    answers = place.run("search", *ids, "-k", "1", "--json").document
    assert {hit["path"] for answer in answers for hit in answer["hits"]} <= codes.keys()

    rejected = corpus.photos / next(path for path in place.report() if path.startswith("names/no\x1b"))
    for style in ("text", "json"):
        asked = place.run("--log-format", style, "search", "bundle", "--image", rejected)
        assert (asked.exit_code, asked.out, asked.err.count(b"\n")) == (1, b"", 1)
        assert b"x1b" in asked.err or b"u001b" in asked.err
    file.unlink()


@pytest.mark.parametrize("trick", LIST_TRICKS)
def test_a_list_with_a_trick_is_rejected_whole(place: PhotoLocation, trick: str) -> None:
    file = place.work / "trick.csv"
    file.write_bytes(LIST_TRICKS[trick])
    with pytest.raises(DataError):
        read("table", file)
