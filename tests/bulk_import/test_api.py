"""Shards by name: what the caller names, and what comes back."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from pymilvus import MilvusClient

import milvus_fghash as fg
from milvus_fghash.bulk_import.destination import collection_for
from tests.helpers.small_shards import SmallShards

ALONE = fg.ShardOptions(shard_rows=16, workers=0)


def list_of(photos: Path, file: Path, columns: dict[str, Callable[[int], str]]) -> Path:
    """A list of the photos, with cells by their row."""
    paths = sorted(path.relative_to(file.parent).as_posix() for path in photos.iterdir())
    rows = [",".join([path, *(cell(row) for cell in columns.values())]) for row, path in enumerate(paths)]
    file.write_text("\n".join([",".join(["path", *columns]), *rows]))
    return file


def test_photos_by_their_place_become_shards_and_what_is_rejected_is_reported(
    shards: SmallShards, bundle: Path, tmp_path: Path
) -> None:
    (shards.photos / "03.png").write_bytes(b"")
    (shards.photos / "04.png").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    (tmp_path / "report.jsonl").write_text("of before")
    messages: list[str] = []
    counted: list[tuple[int, int]] = []
    result = fg.build_shards(
        str(bundle), str(shards.photos), out=shards.path, options=ALONE, report=tmp_path / "report.jsonl",
        notify=messages.append, progress=lambda *done: counted.append(done),
    )  # fmt: skip
    assert (result.photos, result.rows, result.shards, result.reasons) == (40, 38, 3, {"empty": 1, "pointer": 1})
    reported = [json.loads(line)["path"] for line in (tmp_path / "report.jsonl").read_text().splitlines()]
    assert reported == ["03.png", "04.png"]
    assert [line.partition(":")[0] for line in messages] == ["files that are Git LFS pointers"]
    assert counted[0] == (0, 40)
    assert counted[-1] == (40, 40)
    assert fg.build_shards(bundle, shards.photos, out=shards.path, options=ALONE).made == 0


def test_a_part_with_typed_columns(shards: SmallShards, bundle: Path, tmp_path: Path) -> None:
    list_of(shards.photos, tmp_path / "list.csv", {"split": lambda row: "ab"[row % 2], "price": str})
    options = fg.ShardOptions(workers=0, columns=["price:int64"], partition_key="price")
    result = fg.build_shards(bundle, tmp_path / "list.csv", out=shards.path, split="a", options=options)
    manifest = shards.folder.manifest()
    assert manifest
    assert (result.rows, manifest.typed_columns, manifest.partition_key) == (20, {"price": "int64"}, "price")
    assert manifest.source["part"] == "a"


def test_links_are_followed_as_the_selection_says(shards: SmallShards, bundle: Path, tmp_path: Path) -> None:
    (shards.photos / "03.png").rename(tmp_path / "elsewhere.png")
    (shards.photos / "03.png").symlink_to(tmp_path / "elsewhere.png")
    assert fg.build_shards(bundle, shards.photos, out=shards.path, options=ALONE).reasons == {"outside": 1}
    selection = fg.Selection(follow_links=True)
    place = tmp_path / "followed"
    assert fg.build_shards(bundle, shards.photos, out=place, options=ALONE, selection=selection).rejected == 0


@pytest.mark.parametrize("file", ["out", "report"])
def test_a_list_is_not_written_over(shards: SmallShards, bundle: Path, tmp_path: Path, file: str) -> None:
    catalog = list_of(shards.photos, tmp_path / "list.csv", {})
    before = catalog.read_bytes()
    out, report = (catalog, None) if file == "out" else (shards.path, catalog)
    with pytest.raises(fg.ConfigError, match="is the list or the archive of the photos"):
        fg.build_shards(bundle, catalog, out=out, report=report)
    with (
        fg.Catalog.open(tmp_path / "x.db", bundle=bundle) as opened,
        pytest.raises(fg.ConfigError, match="is the list or the archive of the photos"),
    ):
        opened.ingest(catalog, report=catalog)
    assert catalog.read_bytes() == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shard_rows": 0}, "a shard has at least one photo, got 0"),
        ({"columns": "price"}, "columns must be a sequence"),
    ],
)
def test_options_that_cannot_be(options: dict[str, object], message: str) -> None:
    with pytest.raises(fg.ConfigError, match=message):
        fg.ShardOptions(**options)  # type: ignore[arg-type]


def test_a_bundle_without_embedding_is_rejected_before_anything_is_written(shards: SmallShards, bundle: Path) -> None:
    with pytest.raises(fg.ConfigError, match="has no embedding; export it again with one"):
        fg.build_shards(bundle, shards.photos, out=shards.path, options=fg.ShardOptions(embedding=True))
    assert not shards.path.exists()


def test_an_import_needs_shards_and_a_server(shards: SmallShards, tmp_path: Path) -> None:
    for uri in ("x.db", fg.ConnectionConfig("x.db")):
        with pytest.raises(fg.StoreError, match="Milvus Lite has no bulk import") as caught:
            fg.import_shards(tmp_path, uri)
        assert caught.value.setting == "uri"
    with pytest.raises(fg.Inconsistent, match=r"there is no folder .*nowhere; build the shards first"):
        fg.import_shards(tmp_path / "nowhere", "http://127.0.0.1:9")
    assert not (tmp_path / "nowhere").exists()
    with pytest.raises(fg.ConfigError, match="the token is given twice"):
        fg.import_shards(tmp_path, fg.ConnectionConfig("http://127.0.0.1:9"), token="root:Milvus")
    shards.build()
    stop = threading.Event()
    stop.set()
    with pytest.raises(fg.Stopped, match="nothing was sent"):
        fg.import_shards(shards.path, "http://127.0.0.1:9", stop=stop)


def test_a_new_collection_is_as_asked_for_and_an_old_one_stays(
    shards: SmallShards, lite: MilvusClient, new_name: str
) -> None:
    shards.build()
    manifest, messages = shards.folder.manifest(), list[str]()
    assert manifest
    made = collection_for(manifest, lite, new_name, index="BIN_FLAT", nlist=7, notify=messages.append)
    assert (made.index, made.count(), messages) == ("BIN_FLAT", 0, [])
    assert collection_for(manifest, lite, new_name).index == "BIN_FLAT"
    with pytest.raises(fg.ConfigError, match="it has the index BIN_FLAT, not BIN_IVF_FLAT; import them"):
        collection_for(manifest, lite, new_name, index="BIN_IVF_FLAT")
    lite.release_collection(new_name)
    lite.drop_index(new_name, "code")
    assert collection_for(manifest, lite, new_name, notify=messages.append).count() == 0
    assert "it was built again" in messages[0]
