"""Archives from the command line, and URLs where they cannot be; without any package for URLs."""

from __future__ import annotations

import json
import sys
import tarfile
from pathlib import Path

import pytest

from tests.helpers.commands import GOLDEN, Run, document
from tests.helpers.small_bundle import write_small_bundle

pytestmark = pytest.mark.full


def pack(birds: Path) -> Path:
    file = birds.with_suffix(".tar")
    with tarfile.open(file, "w") as archive:
        for photo in sorted(birds.rglob("*.jpg")):
            archive.add(photo, photo.relative_to(birds))
    return file


def test_a_tar_is_ingested_verified_evaluated_and_read_again_when_it_changes(run: Run, birds: Path) -> None:
    tar = pack(birds)
    names = ("stored", "unchanged", "rejected", "vanished", "rows_in_collection")
    for wanted in ((36, 0, 0, 0, 36), (0, 36, 0, 0, 36)):
        result = document(run("ingest", GOLDEN, tar, "--json"))
        assert tuple(result[name] for name in names) == wanted
    one, other = sorted(birds.rglob("*.jpg"))[:2]
    one.write_bytes(other.read_bytes())
    pack(birds)
    result = document(run("ingest", GOLDEN, tar, "--json"))
    assert tuple(result[name] for name in names) == (1, 35, 0, 0, 36)  # all are read, one is written
    assert document(run("verify", GOLDEN, tar, "--json"))["consistent"]
    assert document(run("verify", GOLDEN, birds, "--json"))["missing"] == 0
    evaluated = document(run("evaluate", GOLDEN, "--data", tar, "--json"))["encoded"]
    unpacked = document(run("evaluate", GOLDEN, "--data", birds, "--json"))["encoded"]
    assert evaluated["map_exact"] == unpacked["map_exact"]


def test_what_is_wrong_in_an_archive_is_in_the_report(run: Run, birds: Path, tmp_path: Path) -> None:
    tar = pack(birds)
    raw = tar.read_bytes().rstrip(b"\0")
    link = tarfile.TarInfo("train/link.jpg")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    tar.write_bytes(link.tobuf() + raw[: len(raw) - 2000])
    result = run("ingest", GOLDEN, tar, "--report", tmp_path / "report.jsonl", "--json")
    assert result.exit_code == 3
    assert json.loads(result.stdout)["rows_in_collection"] == 35
    lines = [json.loads(line) for line in (tmp_path / "report.jsonl").read_text().splitlines()]
    assert sorted(line["reason"] for line in lines) == ["format", "truncated", "truncated"]
    again = json.loads(run("ingest", GOLDEN, tar, "--json").stdout)
    assert (again["stored"], again["unchanged"], again["rejected"]) == (0, 35, 3)


def test_a_report_does_not_replace_the_archive(run: Run, birds: Path) -> None:
    tar = pack(birds)
    result = run("ingest", GOLDEN, tar, "--report", tar)
    assert (result.exit_code, "list or the archive of the photos" in result.stderr) == (1, True)
    assert tarfile.is_tarfile(tar)


@pytest.mark.parametrize(("url", "extra"), [("s3://bucket/birds", "s3"), ("https://host/list.csv", "http")])
def test_a_url_without_the_packages_is_one_line(
    run: Run, url: str, extra: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "fsspec", None)
    result = run("ingest", GOLDEN, url)
    assert result.exit_code == 1
    assert f"pip install 'milvus-fghash[{extra}]'" in result.stderr
    assert result.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_what_reads_files_says_so_of_urls_and_archives(run: Run, birds: Path) -> None:
    for words in (["train", "demo-lsh", "--out", "x"], ["explain", GOLDEN]):
        result = run(*words, "--data", "s3://me:secret@bucket/birds")
        assert (result.exit_code, "is a URL, and this command reads files" in result.stderr) == (2, True)
        assert "secret" not in result.stderr
    result = run("explain", GOLDEN, "--data", pack(birds))
    assert result.exit_code == 1
    assert "not local files" in result.stderr


def test_a_file_url_is_a_path(run: Run, birds: Path) -> None:
    assert document(run("ingest", GOLDEN, birds.as_uri(), "--json"))["stored"] == 36
    result = run("ingest", GOLDEN, f"{birds.as_uri()}/none")
    assert (result.exit_code, "does not exist" in result.stderr) == (2, True)


def test_another_model_for_a_tar_with_a_name_that_cannot_be_kept(run: Run, birds: Path, tmp_path: Path) -> None:
    tar = pack(birds)
    with tarfile.open(tar, "a") as archive:
        archive.add(min(birds.rglob("*.jpg")), "../wren.jpg")
    stored = document(run("ingest", GOLDEN, tar, "--max-errors", "1", "--json"))
    second = write_small_bundle(tmp_path / "second", bits=24, seed=3)
    done = document(run("reindex", second, tar, "--max-errors", "1", "--json"))
    for result in (stored, done["ingest"]):
        assert (result["rows_in_collection"], result["reasons"]) == (36, {"name": 1})
    assert (done["consistent"], done["missing"]["count"]) == (True, 0)
    assert document(run("verify", GOLDEN, tar, "--json"))["consistent"]
    assert document(run("evaluate", GOLDEN, "--data", tar, "--json"))["encoded"]["map_exact"] > 0
