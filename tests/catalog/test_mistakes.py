"""What a newcomer gets wrong has one clear sentence, and creates nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

import milvus_fghash as fg
from milvus_fghash.datasets.in_memory import ImageLike
from tests.helpers.small_catalog import HERE

pytestmark = pytest.mark.full


@pytest.mark.parametrize(
    "wrong", [{"prune_at_most": 10}, {"rows_per_write": 0}, {"prune_at_most": -0.1}, {"workers": -1}]
)
def test_options_that_cannot_be(wrong: dict[str, float]) -> None:
    with pytest.raises(fg.ConfigError):
        fg.IngestOptions(**wrong)  # type: ignore[arg-type]


def test_a_mistyped_file_or_collection_is_no_empty_catalog(tmp_path: Path, catalog: fg.Catalog) -> None:
    with fg.Catalog.open(tmp_path / "typo.db") as other, pytest.raises(fg.StoreError, match="there is no Milvus"):
        other.search(code="0000")
    assert not list(tmp_path.glob("typo*"))
    with pytest.raises(fg.StoreError, match="there is no"):
        catalog.count()


@pytest.mark.parametrize("uri", ["http://", "birds", "http://host:port"])
def test_what_is_no_uri(uri: str) -> None:
    with pytest.raises(fg.ConfigError, match="the Milvus URI must be"):
        fg.Catalog.open(uri)


def test_one_text_is_no_sequence_of_texts(catalog: fg.Catalog, photos: Path) -> None:
    catalog.add({"a.png": photos / "00.png"})
    for call in (
        lambda: catalog.delete("a17"),
        lambda: catalog.get("a17"),
        lambda: fg.CollectionSettings(columns="price"),
        lambda: catalog.encoder.encode_documents("photo.png"),
        lambda: catalog.encoder.encode_queries("photo.png"),
        lambda: catalog.encoder("photo.png"),
        lambda: fg.load_recipe("frozen-itq", "training.rounds=3"),
    ):
        with pytest.raises(fg.ConfigError, match="put it into a list"):
            call()


def test_a_bad_photo_does_not_hide_the_codes_of_others(catalog: fg.Catalog, photos: Path) -> None:
    images: list[ImageLike] = [photos / "00.png", photos / "none.png", b"noise", photos / "01.png"]
    with pytest.raises(fg.ImageRejected, match=r"2 of 4 photos .*number 1: .*none.png.*number 2: "):
        catalog.encoder.encode_documents(images)
    assert len(catalog.encoder.encode_documents([images[0], images[3]])) == 2


def test_nothing_or_two_things_to_search_by(catalog: fg.Catalog) -> None:
    for query in ({}, {"id": "a", "code": "000"}):
        with pytest.raises(fg.ConfigError, match="needs exactly one of"):
            catalog.search(**query)  # type: ignore[arg-type]
    for rows in ({}, {"ids": ["a"], "filter": "x"}):
        with pytest.raises(fg.ConfigError, match="select the rows either"):
            catalog.delete(**rows)  # type: ignore[arg-type]


def test_without_a_bundle(file: Path, catalog: fg.Catalog, photos: Path) -> None:
    catalog.ingest(photos, options=HERE)
    with fg.Catalog.open(file, catalog.name) as other:
        assert len(other.search(code="0000", k=3)) == 3
        for call in (lambda: other.search(photos / "00.png"), lambda: other.ingest(photos)):
            with pytest.raises(fg.ConfigError, match="open the catalog with"):
                call()


def test_what_an_existing_collection_cannot_give(file: Path, bundle: Path, catalog: fg.Catalog, photos: Path) -> None:
    catalog.add({"a.png": photos / "00.png"})
    for settings, message in (
        (fg.CollectionSettings(code_hex=True), "without code_hex"),
        (fg.CollectionSettings(columns=("price:double",)), "without the column price:double"),
        (fg.CollectionSettings(index="BIN_IVF_FLAT"), "with the index BIN_FLAT"),
    ):
        with (
            fg.Catalog.open(file, catalog.name, bundle=bundle, settings=settings) as other,
            pytest.raises(fg.ConfigError, match=f"was created {message}"),
        ):
            other.add({"a.png": photos / "01.png"}, columns={"a.png": {"price": 1.0}})
    assert catalog.count() == 1


def test_an_embedding_that_the_bundle_does_not_give(file: Path, bundle: Path, photos: Path) -> None:
    settings = fg.CollectionSettings(embedding=True)
    with fg.Catalog.open(file, "never_made", bundle=bundle, settings=settings) as other:
        with pytest.raises(fg.ConfigError, match="has no embedding"):
            other.ingest(photos)
        with pytest.raises(fg.StoreError, match="there is no"):
            other.count()


def test_what_is_no_url_and_no_path_is_said_in_a_sentence(catalog: fg.Catalog, photos: Path) -> None:
    catalog.add({"a.png": photos / "00.png"})
    for call in (
        lambda: catalog.search("http://[bad/"),
        lambda: catalog.encoder.encode_documents(["http://[bad/"]),
        lambda: catalog.ingest("x" * 9000),
        lambda: catalog.ingest(None),  # type: ignore[arg-type]
        lambda: fg.Selection(exclude="wren"),  # type: ignore[arg-type]
        lambda: catalog.add({"b.png": photos / "01.png"}, columns={"b.png": {"n": 10**5000}}),
        lambda: catalog.add({"b.png": photos / "01.png"}, columns={"b.png": ["n"]}),  # type: ignore[dict-item]
    ):
        with pytest.raises(fg.FghashError):
            call()
    assert [one.reason for one in catalog.add({"u.png": "http://[bad/"}).rejected] == ["format"]


def test_rows_of_other_programs_may_have_any_meta(catalog: fg.Catalog, photos: Path) -> None:
    catalog.add({"a.png": photos / "00.png"})
    collection = catalog.collection
    (row,) = collection.client.query(collection.name, filter="", limit=1, output_fields=["*"])
    strange = {**row, "id": "strange", "code": row["code"][0], "meta": [1]}
    with pytest.raises(fg.StoreError, match="meta of the row 'strange' is list"):
        collection.write({name: [value] for name, value in strange.items()})
    collection.client.insert(collection.name, [strange])
    assert "strange" in {hit.id for hit in catalog.search(photos / "00.png", consistency="Strong")}
    assert catalog.dedupe().n_rows == 2
    assert catalog.verify(photos).extra.count >= 0


def test_a_folder_that_is_not_there(catalog: fg.Catalog, tmp_path: Path) -> None:
    with pytest.raises(fg.DataError, match="there is no file or folder"):
        catalog.ingest(tmp_path / "nowhere")
