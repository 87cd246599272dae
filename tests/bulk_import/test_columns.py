"""Typed columns of a list of photos: in the shards, in what says which shards there are, and in the collection."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pymilvus import MilvusClient

from milvus_fghash.bulk_import.destination import collection_for
from milvus_fghash.bulk_import.shards.builder import ShardOptions, ShardsResult, build_shards
from milvus_fghash.bulk_import.shards.folder import ShardsManifest
from milvus_fghash.bulk_import.shards.parquet import read_rows
from milvus_fghash.core.images import open_rgb
from milvus_fghash.core.perceptual_hash import perceptual_hash
from milvus_fghash.datasets.read import read
from milvus_fghash.datasets.tables.columns import Column
from milvus_fghash.errors import ConfigError, DataError, Inconsistent, StoreError
from milvus_fghash.milvus.collection import HashCollection
from milvus_fghash.milvus.rows import Rows
from milvus_fghash.milvus.scalar_fields import requested_columns
from tests.helpers.drawn_scenes import scene
from tests.helpers.import_bench import ImportBench
from tests.helpers.import_server import ImportServer, import_server
from tests.helpers.small_rows import records_of
from tests.helpers.small_shards import SmallShards

pytestmark = pytest.mark.full

COLUMNS = ("price:double", "stock:int64", "sold:bool", "brand")
NAMES = [word.partition(":")[0] for word in COLUMNS]
BRANDS = ("acme", 'bolt "n" nut', "Ärger", "")


@dataclass
class Catalog:
    """The 40 photos of `SmallShards` in a list with columns, in three shards."""

    shards: SmallShards
    words: tuple[str, ...] = COLUMNS
    cells: list[dict[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.cells = [
            {"price": str(row / 4), "stock": str(row - 20), "sold": str(row % 3 == 0), "note": f"n{row % 5}"}
            | {"brand": '"' + BRANDS[row % 4].replace('"', '""') + '"'}
            for row in range(40)
        ]

    def build(self, *words: str, **options: Any) -> ShardsResult:
        lines = [f"photos/{row:02}.png,{','.join(cells.values())}" for row, cells in enumerate(self.cells)]
        path = self.shards.photos.parent / "catalog.csv"
        path.write_text("\n".join([f"path,{','.join(self.cells[0])}", *lines]))
        dataset = read("table", path)
        dataset = dataset.as_columns(requested_columns(words or self.words, dataset.extra_columns))
        asked = ShardOptions(shard_rows=16, workers=0, **options)
        return build_shards(self.shards.encoder, dataset, self.shards.folder, options=asked)

    @property
    def manifest(self) -> ShardsManifest:
        found = self.shards.folder.manifest()
        assert found
        return found

    def rows(self) -> Rows:
        return Rows.concatenate(
            [
                read_rows(self.shards.folder.data(name), range(marker.rows), 12, NAMES)
                for name, marker in self.shards.folder.check_all().items()
            ],
            2,
        )


@pytest.fixture
def catalog(shards: SmallShards) -> Catalog:
    return Catalog(shards)


def test_shards_hold_the_values_beside_their_photos(catalog: Catalog) -> None:
    (catalog.shards.photos / "03.png").write_bytes(b"")  # a photo that is in no shard takes its values along
    assert (catalog.build().rows, catalog.build().made) == (39, 0)
    rows = catalog.rows()
    numbers = [int(Path(path).stem) for path in rows.paths]
    assert numbers == [row for row in range(40) if row != 3]
    assert rows.columns == {
        "price": tuple(row / 4 for row in numbers),
        "stock": tuple(row - 20 for row in numbers),
        "sold": tuple(row % 3 == 0 for row in numbers),
        "brand": tuple(BRANDS[row % 4] for row in numbers),
    }
    assert list(rows.metas) == [{"note": f"n{row % 5}"} for row in numbers]


def test_the_manifest_says_which_columns(catalog: Catalog) -> None:
    catalog.build(partition_key="brand")
    assert catalog.manifest.typed_columns == {"brand": "text", "price": "double", "sold": "bool", "stock": "int64"}
    assert catalog.manifest.partition_key == "brand"
    arrow = {name: kind for name, kind in catalog.manifest.columns.items() if name in NAMES}
    assert arrow == {"brand": "string", "price": "double", "sold": "bool", "stock": "int64"}


def test_the_order_of_the_columns_changes_no_byte(catalog: Catalog) -> None:
    catalog.build()
    before = catalog.shards.files()
    assert catalog.build(*COLUMNS[::-1]).made == 0
    shutil.rmtree(catalog.shards.path)
    catalog.build(*COLUMNS[::-1])
    assert catalog.shards.files() == before


@pytest.mark.parametrize(("column", "value"), [*zip(NAMES, ("99.5", "7", "True", "new"), strict=True), ("note", "x")])
def test_a_changed_value_makes_its_own_shard_anew(catalog: Catalog, column: str, value: str) -> None:
    catalog.build()
    before = catalog.shards.names()
    catalog.cells[20][column] = value  # of the second shard
    assert (catalog.build().made, catalog.build().made) == (1, 0)
    after = catalog.shards.names()
    assert [old == new for old, new in zip(before, after, strict=True)] == [True, False, True]


@pytest.mark.parametrize(
    ("words", "key", "message"),
    [
        (COLUMNS[:3], None, "has shards whose typed columns is"),
        ((*COLUMNS[:3], "note"), None, "has shards whose typed columns is"),
        (("price:text", *COLUMNS[1:]), None, "has shards whose typed columns is"),
        (COLUMNS, "brand", "has shards whose partition key is None, not 'brand'"),
    ],
)
def test_shards_of_other_columns_are_not_mixed_in(
    catalog: Catalog, words: tuple[str, ...], key: str | None, message: str
) -> None:
    catalog.build()
    before = catalog.shards.files()
    with pytest.raises(ConfigError, match=message):
        catalog.build(*words, partition_key=key)
    assert catalog.shards.files() == before


@pytest.mark.parametrize(
    ("words", "key", "message"),
    [
        (COLUMNS, "price", "must be a column of type text or int64, not double"),
        (COLUMNS[:3], "brand", "the partition key 'brand' must be one of the typed columns"),
        ((*COLUMNS, "brand"), None, "a column is given twice"),
    ],
)
def test_what_no_collection_can_have_is_rejected_before_any_work(
    catalog: Catalog, words: tuple[str, ...], key: str | None, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        catalog.build(*words, partition_key=key)
    assert not catalog.shards.path.exists()


def test_a_value_of_another_type_is_told_with_its_line(catalog: Catalog) -> None:
    catalog.cells[20]["price"] = "cheap"
    with pytest.raises(DataError, match=r"catalog.csv, line 22, column 'price': 'cheap' is not of type double"):
        catalog.build()
    assert not catalog.shards.path.exists()


@pytest.fixture
def bench(catalog: Catalog, lite: MilvusClient, new_name: str) -> Iterator[ImportBench]:
    """The shards, and a collection made for them."""
    catalog.build()
    with import_server(ImportServer()) as server:
        made = ImportBench(catalog.shards, collection_for(catalog.manifest, lite, new_name), server)
        server.imports = made.insert
        yield made


def test_a_collection_is_made_with_these_columns_and_is_found_by_them(bench: ImportBench) -> None:
    assert set(bench.collection.columns) == set(map(column_of, COLUMNS))
    assert bench.run(sample=1000).compared == 40
    (rows,) = bench.collection.scan(filter='brand == "acme" and price < 5 and stock > -20 and sold == true')
    assert sorted(rows.paths) == ["photos/12.png"]
    assert rows.metas == ({"note": "n2"},)


@pytest.mark.parametrize(("column", "value"), [("price", -1.0), ("stock", 77), ("sold", None), ("brand", "x")])
def test_a_value_that_is_not_as_in_the_shard_is_seen(bench: ImportBench, column: str, value: Any) -> None:
    def imports(file: str) -> int:
        size = bench.insert(file)
        (row,) = records_of(bench.collection, read_rows(Path(file), [0], 12, NAMES))
        row[column] = not row[column] if value is None else value
        bench.collection.client.upsert(bench.collection.name, [row])
        return size

    bench.server.imports = imports
    with pytest.raises(Inconsistent, match="1 of 14 rows of"):
        bench.run(sample=40)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"it has the columns \(none\), not brand:text, price:double, sold:bool, stock:int64; import them into"),
        ({"columns": COLUMNS[1:]}, "the columns brand:text, sold:bool, stock:int64, not brand:text, price:double"),
        (
            {"columns": ("price:int64", *COLUMNS[1:])},
            "the columns brand:text, price:int64, .*, not brand:text, price:d",
        ),
        (
            {"columns": COLUMNS, "code_hex": True},
            "the columns brand:text, code_hex, price:double, .*, not brand:text, p",
        ),
    ],
)
def test_a_collection_of_other_columns_is_rejected(
    catalog: Catalog, lite: MilvusClient, new_name: str, options: dict[str, Any], message: str
) -> None:
    catalog.build()
    asked = options | {"columns": tuple(map(column_of, options.get("columns", ())))}
    HashCollection.create(lite, new_name, catalog.manifest.model, **asked)
    with pytest.raises(ConfigError, match=f"the collection {new_name} was not made for these shards: .*{message}"):
        collection_for(catalog.manifest, lite, new_name)


def test_columns_in_another_order_are_the_same(catalog: Catalog, lite: MilvusClient, new_name: str) -> None:
    catalog.build()
    HashCollection.create(lite, new_name, catalog.manifest.model, columns=tuple(map(column_of, COLUMNS)))
    assert collection_for(catalog.manifest, lite, new_name).count() == 0


def test_a_milvus_without_partition_keys_is_rejected(catalog: Catalog, lite: MilvusClient, new_name: str) -> None:
    catalog.build(partition_key="brand")
    with pytest.raises(StoreError, match="Milvus Lite does not support partition keys"):
        collection_for(catalog.manifest, lite, new_name)
    assert not lite.has_collection(new_name)
    HashCollection.create(lite, new_name, catalog.manifest.model, columns=catalog.manifest.collection_columns)
    with pytest.raises(ConfigError, match=r"it has the partition key \(none\), not brand; import"):
        collection_for(catalog.manifest, lite, new_name)


def column_of(word: str) -> Column:
    name, _, kind = word.partition(":")
    return Column(name, kind or "text")  # type: ignore[arg-type]


def test_shards_keep_perceptual_hashes_and_folders_made_without_go_on_without(
    catalog: Catalog, lite: MilvusClient, new_name: str
) -> None:
    for number in range(3):
        scene(number, (40, 30)).save(catalog.shards.photos / f"{number:02}.png")
    catalog.build(phash=False)
    before = catalog.shards.files()
    assert (catalog.manifest.phash, catalog.build().made) == (False, 0)  # nothing is asked for, and nothing remade
    assert catalog.shards.files() == before
    assert not collection_for(catalog.manifest, lite, new_name).has_phash
    shutil.rmtree(catalog.shards.path)
    assert catalog.build().made == 3
    rows = Rows.concatenate(
        [
            read_rows(catalog.shards.folder.data(name), range(marker.rows), 12, phash=True)
            for name, marker in catalog.shards.folder.check_all().items()
        ],
        2,
    )
    photos = (catalog.shards.photos.parent / path for path in rows.paths)
    assert list(rows.phashes) == [perceptual_hash(open_rgb(photo)) for photo in photos]
    assert len(set(rows.phashes)) == 4
    assert collection_for(catalog.manifest, lite, f"{new_name}_b").has_phash
    with pytest.raises(ConfigError, match=r"the column of perceptual hashes \(none\), not phash"):
        collection_for(catalog.manifest, lite, new_name)
    with pytest.raises(ConfigError, match="has shards whose columns"):
        catalog.build(phash=False)
