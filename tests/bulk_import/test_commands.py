"""`shards build` and `shards import` as commands, without a server."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click
import pytest

from milvus_fghash.cli import main
from milvus_fghash.cli.options.connection import NAMES
from tests.helpers.commands import GOLDEN, Run, document

SHARDS = ("--out", "shards", "--shard-rows", "10", "--workers", "0")
LITE = "Milvus Lite has no bulk import; name a server, or ingest the photos (--uri)"
BUILD = ("shards", "build", GOLDEN)


def test_shards_need_no_milvus_and_are_made_once(run: Run, birds: Path, tmp_path: Path) -> None:
    first = document(run(*BUILD, birds, *SHARDS, "--json"))
    assert (first["photos"], first["rows"], first["shards"], first["made"]) == (36, 36, 4, 4)
    assert document(run(*BUILD, birds, *SHARDS, "--json"))["made"] == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["birds", "shards"]
    manifest = json.loads((tmp_path / "shards" / "manifest.json").read_text())
    assert manifest["source"] == {"photos": str(birds), "part": ""}


def test_rejected_photos_are_told_as_for_milvus(run: Run, birds: Path, tmp_path: Path) -> None:
    bad = min(birds.rglob("*.jpg"))
    bad.write_bytes(b"")
    outcomes = []
    for words in ((*BUILD, birds, *SHARDS), ("ingest", GOLDEN, birds, "--workers", "0")):
        result = run(*words, "--report", "rejected.jsonl")
        outcomes.append(
            (result.exit_code, (tmp_path / "rejected.jsonl").read_text(), result.stderr.partition(". All")[0])
        )
        assert run(*words, "--max-errors", "1").exit_code == 0
    assert outcomes[0] == outcomes[1]
    assert outcomes[0][0] == 3
    assert json.loads(outcomes[0][1])["path"] == bad.relative_to(birds).as_posix()


def test_a_link_that_leads_out_is_rejected_unless_links_are_followed(run: Run, birds: Path, tmp_path: Path) -> None:
    first = min(birds.rglob("*.jpg"))
    first.rename(tmp_path / "elsewhere.jpg")
    first.symlink_to(tmp_path / "elsewhere.jpg")
    result = run(*BUILD, birds, *SHARDS, "--report", "rejected.jsonl")
    assert result.exit_code == 3
    (outcome,) = map(json.loads, (tmp_path / "rejected.jsonl").read_text().splitlines())
    assert (outcome["path"], outcome["reason"]) == (first.relative_to(birds).as_posix(), "outside")
    followed = run(*BUILD, birds, *SHARDS, "--follow-links", "--retry-rejected", "--json")
    assert document(followed)["rows"] == 36


def test_columns_and_the_partition_key_go_into_the_shards(run: Run, birds: Path, tmp_path: Path) -> None:
    lines = [
        f"{file.relative_to(tmp_path).as_posix()},{row / 2},b{row}" for row, file in enumerate(birds.rglob("*.jpg"))
    ]
    (tmp_path / "catalog.csv").write_text("\n".join(["path,price,brand", *lines]))
    words = (*BUILD, "catalog.csv", *SHARDS, "--column", "price:double", "--column", "brand", "--json")
    result = run(*words, "--partition-key", "price")
    assert result.exit_code == 1
    assert "the partition key 'price' must be a column of type text or int64" in result.stderr
    assert not (tmp_path / "shards").exists()
    assert document(run(*words, "--partition-key", "brand"))["rows"] == 36
    manifest = json.loads((tmp_path / "shards" / "manifest.json").read_text())
    assert (manifest["typed_columns"], manifest["partition_key"]) == ({"brand": "text", "price": "double"}, "brand")
    result = run(*words)
    assert result.exit_code == 1
    assert "has shards whose partition key is 'brand', not None; choose another folder" in result.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "Missing option '--out'"),
        ([*SHARDS, "--index", "bin_flat"], "--index"),
        ([*SHARDS, "--uri", "http://localhost:19530"], "--uri"),
        ([*SHARDS, "--ray-actors", "2"], "--ray-actors needs --engine ray"),
        (["--ray-address", "auto", *SHARDS, "--engine", "local"], "--ray-address needs --engine ray"),
        ([*SHARDS, "--shard-rows", "0"], "0 is not in the range"),
    ],
)
def test_options_that_mean_nothing_are_wrong_usage(
    run: Run, birds: Path, tmp_path: Path, words: list[str], message: str
) -> None:
    result = run(*BUILD, birds, *words)
    assert (result.exit_code, message in result.stderr) == (2, True)
    assert [path.name for path in tmp_path.iterdir()] == ["birds"]


def test_the_address_of_a_cluster_in_the_environment_does_not_ask_for_it(run: Run, birds: Path) -> None:
    assert run(*BUILD, birds, *SHARDS, env={"RAY_ADDRESS": "ray://nowhere:1"}).exit_code == 0


def test_ingest_and_shards_have_no_options_of_each_other() -> None:
    group = main.commands["shards"]
    assert isinstance(group, click.Group)
    names = {
        name: {parameter.name for parameter in command.params}
        for name, command in {"ingest": main.commands["ingest"], **group.commands}.items()
    }
    own = {"out", "shard_rows", "engine", "ray_actors", "gpus_per_actor", "ray_address"}
    assert names["build"] - names["ingest"] == own
    assert not {*NAMES, "index", "nlist", "retry", "journal", "consistency", "rows_per_write"} & names["build"]
    assert names["import"] - names["ingest"] == {"folder", "bucket", "at_once", "deadline", "sample"}


def test_shards_do_not_go_among_the_photos(run: Run, birds: Path) -> None:
    result = run(*BUILD, birds, "--out", birds / "train" / "shards")
    assert result.exit_code == 1
    assert "lies among the photos" in result.stderr


def test_without_pyarrow_the_extra_is_named(run: Run, birds: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("milvus_fghash.bulk_import")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    result = run(*BUILD, birds, *SHARDS)
    assert result.exit_code == 1
    assert "pip install 'milvus-fghash[parquet]'" in result.stderr


@pytest.mark.parametrize("uri", ["x.db", "http://127.0.0.1:9"])
def test_an_import_that_cannot_be_is_one_line(run: Run, birds: Path, tmp_path: Path, uri: str) -> None:
    (tmp_path / "empty").mkdir()
    message = LITE if uri == "x.db" else "there are no shards in empty"
    result = run("shards", "import", "empty", "--uri", uri)
    assert (result.exit_code, message in result.stderr) == (1, True)
    document(run(*BUILD, birds, *SHARDS, "--json"))
    min((tmp_path / "shards").glob("*.parquet")).unlink()
    message = LITE if uri == "x.db" else "1 of 4 shards in shards are missing"
    result = run("shards", "import", "shards", "--uri", uri)
    assert (result.exit_code, message in result.stderr) == (1, True)
    assert not (tmp_path / "x.db").exists()
