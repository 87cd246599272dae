"""Shards of photos that are in archives and behind URLs."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from milvus_fghash.bulk_import.shards.builder import ShardsResult, build_shards, local_engine
from milvus_fghash.bulk_import.shards.folder import Marker
from milvus_fghash.bulk_import.shards.parquet import read_rows
from milvus_fghash.bulk_import.shards.plan import ShardTask
from milvus_fghash.bulk_import.shards.writer import ShardWriter, Tick
from milvus_fghash.datasets.read import Url, read
from tests.helpers.archives import tar_of
from tests.helpers.http_server import Site, serving
from tests.helpers.image_bytes import encode
from tests.helpers.small_shards import SIXTEEN, SmallShards

pytestmark = pytest.mark.full


@pytest.fixture
def site() -> Iterator[Site]:
    with serving() as site:
        yield site


def in_other_processes(maker: ShardWriter, tasks: Iterable[ShardTask], tick: Tick) -> Iterator[Marker]:
    """What Ray does with tasks, here."""
    return local_engine(maker, (pickle.loads(pickle.dumps(task)) for task in tasks), tick)


def build(shards: SmallShards, place: Path | Url, layout: str) -> ShardsResult:
    dataset = read(layout, place)
    return build_shards(shards.encoder, dataset, shards.folder, "", SIXTEEN, engine=in_other_processes)


def rows_of(shards: SmallShards) -> list[tuple[str, bytes]]:
    sizes = {name: marker.rows for name, marker in shards.folder.check_all().items()}
    parts = [read_rows(shards.folder.data(name), range(sizes[name]), 12) for name in shards.names()]
    return [(key, code.tobytes()) for rows in parts for key, code in zip(rows.ids, rows.codes, strict=True)]


def test_shards_of_an_archive_hold_the_rows_of_its_folder(shards: SmallShards, tmp_path: Path) -> None:
    shards.build()
    photos = {file.relative_to(shards.photos).as_posix(): file.read_bytes() for file in shards.photos.rglob("*.png")}
    (tmp_path / "photos.tar").write_bytes(tar_of(photos))
    packed = SmallShards(shards.encoder, shards.photos, tmp_path / "packed")
    assert build(packed, tmp_path / "photos.tar", "archive").made == 3
    assert rows_of(packed) == rows_of(shards)
    assert build(packed, tmp_path / "photos.tar", "archive").made == 0


@pytest.mark.parametrize("known", [True, False])
def test_shards_of_a_list_at_a_url_are_made_again_by_versions(shards: SmallShards, site: Site, known: bool) -> None:
    photos = {file.name: file.read_bytes() for file in sorted(shards.photos.rglob("*.png"))}
    site.etags = known
    site.files = {f"/{name}": raw for name, raw in photos.items()}
    site.files["/list.csv"] = "\n".join(["path", *photos]).encode()
    place = Url(f"{site.url}/list.csv?signature=SECRET")
    assert build(shards, place, "table").made == 3
    site.gets()
    site.files["/20.png"] = encode(Image.new("RGB", (20, 20), "red"))
    assert build(shards, place, "table").made == (1 if known else 0)
    assert sum(path != "/list.csv" for path in site.gets()) == (16 if known else 0)
    kept = b"".join(file.read_bytes() for file in shards.path.rglob("*") if file.is_file())
    assert b"SECRET" not in kept


def test_a_name_that_cannot_be_kept_bars_only_its_photo(shards: SmallShards, tmp_path: Path) -> None:
    next(shards.photos.rglob("*.png")).rename(shards.photos / "a\\..\\a.png")
    result = shards.build()
    assert (result.rows, result.reasons) == (39, {"name": 1})
    (tmp_path / "photos.tar").write_bytes(tar_of({"../a.png": b"", "b.png": encode(Image.new("RGB", (9, 9)))}))
    packed = SmallShards(shards.encoder, shards.photos, tmp_path / "packed")
    result = build(packed, tmp_path / "photos.tar", "archive")
    assert (result.rows, result.reasons) == (1, {"name": 1})
