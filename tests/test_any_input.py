"""Whatever is given to an entry of the library, what it raises on purpose is of its own tree of errors.

A `TypeError` is allowed where an argument is of a type that the signature does not name.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pymilvus import MilvusClient

from milvus_fghash.bundle.bundle import MANIFEST, read_bundle
from milvus_fghash.core.images import Limits
from milvus_fghash.core.text_file import parse_json
from milvus_fghash.datasets.dataset import Dataset, split_by_class
from milvus_fghash.datasets.read import read
from milvus_fghash.datasets.tables.columns import TYPES, Column, ExtraColumns
from milvus_fghash.dedupe.report import Duplicates
from milvus_fghash.encoding.encoder import Encoder
from milvus_fghash.errors import FghashError
from milvus_fghash.evaluation.record import read_evaluation
from milvus_fghash.ingest.delete import delete_ids, delete_named, delete_where, read_ids
from milvus_fghash.milvus.collection import HashCollection
from milvus_fghash.milvus.connection import ConnectionConfig, connect
from milvus_fghash.milvus.rows import Rows, check_metas, photo_id
from milvus_fghash.milvus.schema import read_metadata
from milvus_fghash.recipes.loader import load_recipe
from milvus_fghash.search.search import SearchParams, search_codes, search_hex, search_id
from milvus_fghash.state.journal import Journal, journal_file
from tests.helpers.commands import GOLDEN, release_databases

pytestmark = pytest.mark.full

QUICK = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
ODD = ("", "\0", "a\0b", "\udcff", "\ud800", "..", "/", "\x1b[2J", "nan", "1e999", "\ufeff", "9" * 5000, "'", '"', "\\")
ANY_TEXT = st.text(st.characters(codec=None), max_size=20) | st.sampled_from(ODD)
NUMBER = st.integers() | st.floats() | st.sampled_from([2**63, -(2**63) - 1, 10**400, math.nan, math.inf, -0.0])
SCALAR = st.none() | st.booleans() | NUMBER | ANY_TEXT
VALUE = st.recursive(SCALAR, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3))


@contextmanager
def only_ours(*more: type[BaseException]) -> Iterator[None]:
    """What the library may raise."""
    with suppress(FghashError, *more):
        yield


def toml(value: Any) -> str:
    """A value as TOML, or something like it."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(name)} = {toml(inner)}" for name, inner in value.items()) + "}"
    if isinstance(value, list):
        return f"[{', '.join(map(toml, value))}]"
    if isinstance(value, float):
        return repr(value)
    return json.dumps(value)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("any")


def written(folder: Path, name: str, content: str | bytes) -> Path:
    file = folder / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
    return file


@QUICK
@given(st.lists(st.lists(ANY_TEXT, min_size=1, max_size=4), max_size=4), st.booleans(), st.binary(max_size=30))
def test_csv(folder: Path, rows: list[list[str]], named: bool, junk: bytes) -> None:
    lines = [["path", "id", "label", "x"], *rows] if named else rows
    content = "\n".join(",".join(json.dumps(cell, ensure_ascii=False) for cell in row) for row in lines)
    for raw in (content, content.encode("utf-8", "surrogatepass") + junk):
        with only_ours():
            read("table", written(folder, "photos.csv", raw)).as_columns([Column("x", "int64")])


@QUICK
@given(st.lists(st.fixed_dictionaries(dict.fromkeys(("path", "id", "label", "x"), SCALAR)), min_size=1, max_size=3))
def test_parquet(folder: Path, rows: list[dict[str, Any]]) -> None:
    from pyarrow import lib
    from pyarrow import parquet as writer

    columns = {name: [row[name] for row in rows] for name in rows[0]}
    with suppress(lib.ArrowException, UnicodeEncodeError, OverflowError):  # cells that a file cannot hold
        table = lib.table(columns)
        writer.write_table(table, folder / "photos.parquet")  # type: ignore[no-untyped-call]
        with only_ours():
            dataset = read("table", folder / "photos.parquet")
            for row in range(len(dataset)):
                check_metas([dataset.extra_columns.meta(row)])


@QUICK
@given(st.sampled_from(["table", "archive", "folder", "cub", "auto", "nobody"]), ANY_TEXT)
@example("folder", "9" * 5000)
@example("archive", "\0")
def test_layouts_and_places(kind: str, text: str) -> None:
    with only_ours():
        read(kind, Path(text))
    with only_ours():
        read(text, GOLDEN)


@QUICK
@given(st.lists(st.tuples(ANY_TEXT, ANY_TEXT, ANY_TEXT, SCALAR), max_size=4), SCALAR, SCALAR)
def test_listing(rows: list[tuple[str, str, str, Any]], fraction: Any, seed: Any) -> None:
    ids, paths, labels, cells = ([row[at] for row in rows] for at in range(4))
    with only_ours():
        dataset = Dataset(
            Path("photos"),
            tuple(ids),
            tuple(paths),
            tuple(labels),
            tuple(paths),
            extra_columns=ExtraColumns({"x": tuple(cells)}),
        )
        dataset.check_paths()
        dataset.label_numbers(["jay"])
        for kind in TYPES:
            with only_ours():
                dataset.as_columns([Column("x", kind)])
        with only_ours(TypeError):
            split_by_class(dataset, fraction, seed)


TABLES = st.sampled_from(["method", "data", "backbone", "head", "preprocessing", "augmentation", "training", "by_bits"])
KEYS = st.sampled_from(["name", "options", "rounds", "learning_rate", "drop_at", "seed", "scale", "size", "48", "kind"])


@QUICK
@given(st.dictionaries(TABLES | ANY_TEXT, st.dictionaries(KEYS | ANY_TEXT, VALUE, max_size=3) | VALUE, max_size=4))
def test_recipes(folder: Path, tables: dict[str, Any]) -> None:
    text = "\n".join(f"{json.dumps(name)} = {toml(value)}" for name, value in tables.items())
    with only_ours():
        load_recipe(str(written(folder, "recipe.toml", text))).at(48)
    for name, value in tables.items():
        with only_ours():
            load_recipe("frozen-lsh", [f"{name}={toml(value)}", f"training.{name}={toml(value)}"]).at(48)


@QUICK
@given(ANY_TEXT, SCALAR)
@example("method.options.x", "9" * 5000)
@example("\ud800", None)
def test_recipe_names_and_changes(name: str, value: Any) -> None:
    with only_ours():
        load_recipe(name)
    with only_ours():
        load_recipe(f"{name}.toml")
    with only_ours():
        load_recipe("frozen-lsh", [name, f"{name}={value}"])


DOCUMENTS: dict[str, Callable[[Path], object]] = {
    MANIFEST: lambda file: read_bundle(file.parent),
    "groups.json": Duplicates.read,
    "evaluation.json": read_evaluation,
    "ids.txt": read_ids,
}


@pytest.mark.parametrize("name", DOCUMENTS)
@QUICK
@given(VALUE | st.binary(max_size=40), ANY_TEXT)
@example({"format_version": 10**400}, "bits")
@example({"format_version": True}, "bits")
def test_documents(folder: Path, name: str, value: Any, key: str) -> None:
    good = json.loads((GOLDEN / MANIFEST).read_text())
    documents = (value, {"what": "duplicates", key: value}, {**good, key: value}, {**good, "bits": value})
    for content in (value,) if isinstance(value, bytes) else documents:
        raw = content if isinstance(content, bytes) else json.dumps(content).encode()
        with only_ours():
            DOCUMENTS[name](written(folder, name, raw))
    with suppress(ValueError):
        parse_json(json.dumps(value, default=repr))
    with only_ours():
        read_metadata("photos", json.dumps({"milvus_fghash": value}, default=repr))


@QUICK
@given(ANY_TEXT, st.none() | ANY_TEXT, st.none() | ANY_TEXT, st.booleans())
@example("", None, "9" * 5000, False)
def test_connection_settings(uri: str, token: str | None, path: str | None, secure: bool) -> None:
    for start in ("", "http://", "http://user:", "milvus://"):
        with only_ours():
            ConnectionConfig(start + uri, token, secure=secure, server_pem_path=Path(path) if path else None)


@QUICK
@given(ANY_TEXT, ANY_TEXT, st.binary(max_size=60))
@example("a\0b", "x", b"")
@example("x", "a\0b", b"")
@example("x", "\ud800", b"")
def test_journals(folder: Path, place: str, uid: str, junk: bytes) -> None:
    with only_ours(), closing(Journal.open(folder / "journal" / place.replace("/", "_"), uid)):
        pass
    with only_ours():
        photo_id(place, uid)
    journal_file(folder, "junk").write_bytes(junk)
    with only_ours(), closing(Journal.open(folder, "junk")) as journal:
        journal.mark_deleted([uid])


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder.open(GOLDEN)


PIXELS = st.builds(
    lambda shape, kind: np.zeros(shape, kind),
    st.lists(st.integers(0, 5), max_size=4),
    st.sampled_from([np.uint8, np.float32, np.int64, object, "U1"]),
)


@QUICK
@given(PIXELS | st.binary(max_size=80) | ANY_TEXT | ANY_TEXT.map(Path))
def test_photos(encoder: Encoder, photo: Any) -> None:
    if isinstance(photo, str) and "://" in photo:
        return
    with only_ours():
        encoder.encode_image(photo)
    with only_ours():
        encoder.encode_image(photo, Limits(max_bytes=10))
    if isinstance(photo, np.ndarray):
        with only_ours():
            encoder.run(photo)
    if isinstance(photo, Path):
        assert len(encoder.encode_files([photo]).rejected) == 1


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory, encoder: Encoder) -> Iterator[HashCollection]:
    path = tmp_path_factory.mktemp("lite") / "any.db"
    with closing(connect(ConnectionConfig(str(path)))) as client:
        columns = [Column("price", "double"), Column("brand", "text")]
        yield HashCollection.create(client, "photos", encoder.bundle.manifest, columns=columns)
    release_databases(path.parent)


@QUICK
@given(ANY_TEXT, ANY_TEXT, ANY_TEXT, VALUE, SCALAR, SCALAR)
@example("7", "", "", [], 1.0, "")
@example("7", "", "", {"x": "\ud800"}, 1.0, "")
@example("7", "", "", {}, 10**400, "")
def test_rows_that_are_written(
    collection: HashCollection, key: str, path: str, label: str, meta: Any, price: Any, brand: Any
) -> None:
    codes = np.zeros((1, collection.bits // 8 + 1), np.uint8)
    for given_meta in (meta, {"x": meta}):
        with only_ours():
            one: dict[str, Any] = {"price": (price,), "brand": (brand,)}
            rows = Rows((key,), codes[:, : (collection.bits + 7) // 8], (path,), (label,), ("",), (given_meta,), one)
            collection.upsert(rows)
            (stored,) = collection.get([key]).metas
            assert stored == json.loads(json.dumps(given_meta))


@QUICK
@given(st.lists(ANY_TEXT, max_size=3), st.none() | ANY_TEXT)
def test_ids_that_are_asked_for(collection: HashCollection, ids: list[str], namespace: str | None) -> None:
    with only_ours():
        collection.get(ids)
    with only_ours():
        delete_ids(collection, ids)
    with only_ours():
        delete_named(collection, ids, namespace=namespace)
    for key in ids:
        with only_ours():
            search_id(collection, key, namespace=namespace)


@QUICK
@given(SCALAR, st.none() | NUMBER, st.none() | NUMBER, ANY_TEXT)
@example(3, None, None, "9" * 5000)
def test_searches(collection: HashCollection, k: Any, within: Any, nprobe: Any, text: str) -> None:
    with only_ours(TypeError):
        SearchParams(k, max_distance=within, nprobe=nprobe)
    with only_ours():
        search_hex(collection, text)
    with only_ours():
        search_codes(collection, np.zeros((1, (collection.bits + 7) // 8), np.uint8), SearchParams(3, filter=text))
    with only_ours():
        delete_where(collection, text)


@QUICK
@given(ANY_TEXT)
def test_collections(collection: HashCollection, name: str) -> None:
    client: MilvusClient = collection.client
    for call in (HashCollection.open, HashCollection.drop):
        with only_ours():
            call(client, name)
