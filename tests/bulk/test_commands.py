"""`ingest --sink parquet` and `bulk-import` as commands, without a server."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.cli.at_hand import GOLDEN, Run, document

SHARDS = ("--sink", "parquet", "--shards", "shards", "--shard-rows", "10", "--workers", "0")


def test_shards_need_no_milvus_and_are_made_once(run: Run, birds: Path, tmp_path: Path) -> None:
    first = document(run("ingest", GOLDEN, birds, *SHARDS, "--json"))
    assert (first["photos"], first["rows"], first["shards"], first["made"]) == (36, 36, 4, 4)
    assert document(run("ingest", GOLDEN, birds, *SHARDS, "--json"))["made"] == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["birds", "shards"]
    manifest = json.loads((tmp_path / "shards" / "manifest.json").read_text())
    assert manifest["source"] == {"photos": str(birds), "part": ""}


def test_refused_photos_are_told_as_for_milvus(run: Run, birds: Path, tmp_path: Path) -> None:
    bad = min(birds.rglob("*.jpg"))
    bad.write_bytes(b"")
    outcomes = []
    for sink in (SHARDS, ("--workers", "0")):
        result = run("ingest", GOLDEN, birds, *sink, "--report", "refused.jsonl")
        outcomes.append(
            (result.exit_code, (tmp_path / "refused.jsonl").read_text(), result.stderr.partition(". All")[0])
        )
        assert run("ingest", GOLDEN, birds, *sink, "--max-errors", "1").exit_code == 0
    assert outcomes[0] == outcomes[1]
    assert outcomes[0][0] == 3
    assert json.loads(outcomes[0][1])["path"] == bad.relative_to(birds).as_posix()


def test_a_link_that_leads_out_is_refused_unless_links_are_followed(run: Run, birds: Path, tmp_path: Path) -> None:
    first = min(birds.rglob("*.jpg"))
    first.rename(tmp_path / "elsewhere.jpg")
    first.symlink_to(tmp_path / "elsewhere.jpg")
    result = run("ingest", GOLDEN, birds, *SHARDS, "--report", "refused.jsonl")
    assert result.exit_code == 3
    (told,) = map(json.loads, (tmp_path / "refused.jsonl").read_text().splitlines())
    assert (told["path"], told["reason"]) == (first.relative_to(birds).as_posix(), "outside")
    followed = run("ingest", GOLDEN, birds, *SHARDS, "--follow-links", "--retry-refused", "--json")
    assert document(followed)["rows"] == 36


def test_columns_and_the_partition_key_go_into_the_shards(run: Run, birds: Path, tmp_path: Path) -> None:
    lines = [
        f"{file.relative_to(tmp_path).as_posix()},{row / 2},b{row}" for row, file in enumerate(birds.rglob("*.jpg"))
    ]
    (tmp_path / "catalog.csv").write_text("\n".join(["path,price,brand", *lines]))
    words = ("ingest", GOLDEN, "catalog.csv", *SHARDS, "--column", "price:double", "--column", "brand", "--json")
    result = run(*words, "--partition-key", "price")
    assert result.exit_code == 1
    assert "the partition key 'price' must be a column of type text or int64" in result.stderr
    assert not (tmp_path / "shards").exists()
    assert document(run(*words, "--partition-key", "brand"))["rows"] == 36
    manifest = json.loads((tmp_path / "shards" / "manifest.json").read_text())
    assert (manifest["typed_columns"], manifest["partition_key"]) == ({"brand": "text", "price": "double"}, "brand")
    result = run(*words)
    assert result.exit_code == 1
    assert "holds shards whose partition key is 'brand', not None; give another folder" in result.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--sink", "parquet"], "--sink parquet needs --shards FOLDER"),
        (["--shards", "x"], "--shards does not go with --sink milvus"),
        (["--engine", "ray"], "--engine does not go with --sink milvus"),
        ([*SHARDS, "--index", "bin_flat"], "--index does not go with --sink parquet"),
        ([*SHARDS, "--uri", "http://localhost:19530"], "--uri does not go with --sink parquet"),
        ([*SHARDS, "--ray-actors", "2"], "--ray-actors does not go with --engine local"),
    ],
)
def test_options_that_would_be_passed_over_are_wrong_usage(
    run: Run, birds: Path, tmp_path: Path, words: list[str], said: str
) -> None:
    result = run("ingest", GOLDEN, birds, *words)
    assert (result.exit_code, said in result.stderr) == (2, True)
    assert [path.name for path in tmp_path.iterdir()] == ["birds"]


def test_shards_do_not_go_among_the_photos(run: Run, birds: Path) -> None:
    result = run("ingest", GOLDEN, birds, "--sink", "parquet", "--shards", birds / "train" / "shards")
    assert result.exit_code == 1
    assert "lies among the photos" in result.stderr


def test_without_pyarrow_the_extra_is_named(run: Run, birds: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("milvus_fghash.bulk")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    result = run("ingest", GOLDEN, birds, *SHARDS)
    assert result.exit_code == 1
    assert "pip install 'milvus-fghash[parquet]'" in result.stderr


@pytest.mark.parametrize("uri", ["x.db", "http://127.0.0.1:9"])
def test_an_import_that_cannot_be_is_one_line(run: Run, birds: Path, tmp_path: Path, uri: str) -> None:
    (tmp_path / "empty").mkdir()
    said = "Milvus Lite has no bulk import" if uri == "x.db" else "there are no shards in empty"
    result = run("bulk-import", "empty", "--uri", uri)
    assert (result.exit_code, said in result.stderr) == (1, True)
    document(run("ingest", GOLDEN, birds, *SHARDS, "--json"))
    min((tmp_path / "shards").glob("*.parquet")).unlink()
    said = "Milvus Lite has no bulk import" if uri == "x.db" else "1 of 4 shards in shards are missing"
    result = run("bulk-import", "shards", "--uri", uri)
    assert (result.exit_code, said in result.stderr) == (1, True)
    assert not (tmp_path / "x.db").exists()
