"""The public object over collection, encoder and journal, on Milvus Lite."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import milvus_fghash as fg
from milvus_fghash.datasets.in_memory import ImageLike
from tests.helpers.small_bundle import write_small_bundle
from tests.helpers.small_catalog import N, draw_photos, paint

pytestmark = pytest.mark.full


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_bundle(tmp_path_factory.mktemp("bundle") / "small")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One Milvus Lite for the module; each test has a collection of its own."""
    path = tmp_path_factory.mktemp("lite") / "test.db"
    yield path
    from milvus_lite.server_manager import server_manager_instance

    server_manager_instance.release_server(str(path))


@pytest.fixture
def new_name() -> str:
    """A collection name nobody uses."""
    return f"test_{uuid.uuid4().hex[:12]}"


@pytest.fixture
def catalog(file: Path, bundle: Path, new_name: str) -> Iterator[fg.Catalog]:
    with fg.Catalog.open(file, new_name, bundle=bundle) as opened:
        yield opened


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return draw_photos(tmp_path / "photos")


HERE = fg.IngestOptions(workers=0)


def test_a_second_ingest_writes_nothing_and_a_changed_photo_is_written_again(catalog: fg.Catalog, photos: Path) -> None:
    first = catalog.ingest(photos, options=HERE)
    assert (first.stored, first.unchanged, catalog.count()) == (N, 0, N)
    paint(photos / "07.png", "red")
    second = catalog.ingest(str(photos), options=HERE)
    assert (second.stored, second.unchanged) == (1, N - 1)


def test_hits_of_a_photo_an_id_and_a_code_are_the_same(catalog: fg.Catalog, photos: Path) -> None:
    catalog.ingest(photos, options=HERE)
    query = photos / "03.png"
    by_photo = catalog.search(query, k=5)
    (row,) = [row for row in catalog.get([hit.id for hit in by_photo]) if row.path == "03.png"]
    assert [hit.distance for hit in by_photo] == sorted(hit.distance for hit in by_photo)
    assert len(by_photo) == 5
    assert by_photo[0].distance == 0
    forms: list[ImageLike] = [
        str(query),
        query.read_bytes(),
        Image.open(query),
        np.asarray(Image.open(query).convert("RGB")),
    ]
    by_form = [catalog.search(form) for form in forms]
    for found in (*by_form, catalog.search(id=row.id), catalog.search(code=row.code.tobytes().hex())):
        assert {hit.id for hit in found if hit.distance == 0} == {hit.id for hit in by_photo if hit.distance == 0}


def test_what_was_deleted_stays_out_until_its_content_changes(catalog: fg.Catalog, photos: Path) -> None:
    catalog.ingest(photos, options=HERE)
    gone = catalog.search(photos / "05.png", k=1)[0]
    assert catalog.delete([gone.id], dry_run=True).deleted == 0
    assert catalog.count() == N
    assert catalog.delete([gone.id]).deleted == 1
    assert catalog.ingest(photos, options=HERE).deleted == 1
    assert catalog.count() == N - 1
    paint(photos / gone.path, "blue")
    assert catalog.ingest(photos, options=HERE).stored == 1
    assert catalog.delete(filter=f'path == "{gone.path}"').deleted == 1


def test_verify_finds_what_repair_writes_again(catalog: fg.Catalog, photos: Path) -> None:
    catalog.ingest(photos, options=HERE)
    assert catalog.verify(photos).is_consistent
    lost = catalog.search(photos / "09.png", k=1)[0].id
    catalog.collection.delete([lost])  # behind the journal's back
    assert catalog.verify(photos).missing.count == 1
    done = catalog.repair(photos, options=HERE)
    assert (done.before.missing.count, done.ingest.stored, done.after.is_consistent) == (1, 1, True)
    assert catalog.count() == N


class TestAdd:
    def test_photos_in_every_form_get_in_and_others_are_rejected(self, catalog: fg.Catalog, photos: Path) -> None:
        pixels = np.full((20, 20, 3), (10, 200, 30), np.uint8)
        forms: dict[str, ImageLike] = {
            "file.png": photos / "00.png",
            "text.png": str(photos / "01.png"),
            "bytes.png": (photos / "02.png").read_bytes(),
            "image.png": Image.open(photos / "03.png"),
            "pixels.png": pixels,
            "missing.png": photos / "none.png",
            "noise.png": b"noise",
            "grey.png": np.zeros((4, 4), np.uint8),
        }
        done = catalog.add(
            forms,
            labels={"file.png": "robin"},
            columns={"file.png": {"price": 3}, "pixels.png": {"price": 4}},
        )
        assert {one.path: one.reason for one in done.rejected} == {
            "missing.png": "missing",
            "noise.png": "format",
            "grey.png": "format",
        }
        assert done.stored == len(done.ids) == catalog.count() == 5
        row = catalog.get([done.ids["file.png"]])[0]
        assert (row.path, row.label, row.meta) == ("file.png", "robin", {"price": 3})
        assert catalog.search(pixels, k=1, max_distance=0, filter='path == "pixels.png"')[0].meta == {"price": 4}

    def test_the_same_again_adds_nothing_and_another_photo_replaces_the_row(
        self, catalog: fg.Catalog, photos: Path
    ) -> None:
        photo = (photos / "00.png").read_bytes()
        assert catalog.add({"a.png": photo}).stored == 1
        assert catalog.add({"a.png": photo}).unchanged == 1
        assert catalog.add({"a.png": photos / "01.png"}).stored == 1
        assert catalog.count() == 1

    def test_later_ingests_and_adds_leave_added_photos_alone(self, catalog: fg.Catalog, photos: Path) -> None:
        catalog.add({"a.png": photos / "00.png"})
        catalog.add({"b.png": photos / "01.png"})
        pruning = fg.IngestOptions(workers=0, prune=True, prune_at_most=1)
        done = catalog.ingest(photos, options=pruning)
        assert (done.vanished, done.pruned, catalog.count()) == (0, 0, N + 2)
        assert catalog.verify(photos).is_consistent

    def test_half_a_folder_that_was_added_before_does_not_become_the_folders(
        self, catalog: fg.Catalog, photos: Path
    ) -> None:
        """A folder that is gone and shares half its photos with another one is taken for the same, moved."""
        catalog.add({f"{number:02}.png": photos / f"{number:02}.png" for number in range(4)} | {"own.png": b""})
        catalog.add({"other.png": photos / "00.png"})
        pruning = fg.IngestOptions(workers=0, prune=True, prune_at_most=1)
        assert catalog.ingest(photos, options=pruning).pruned == 0
        assert catalog.count(filter='path == "other.png"') == 1

    def test_a_path_that_leads_out_is_rejected_alone(self, catalog: fg.Catalog, photos: Path) -> None:
        done = catalog.add({"../up.png": photos / "00.png", "good.png": photos / "01.png"})
        assert [one.path for one in done.rejected] == ["../up.png"]
        assert catalog.count() == 1

    def test_a_photo_that_was_deleted_comes_back(self, catalog: fg.Catalog, photos: Path) -> None:
        key = catalog.add({"a.png": photos / "00.png"}).ids["a.png"]
        catalog.delete([key])
        assert catalog.add({"a.png": photos / "00.png"}).stored == 1
        assert len(catalog.get([key])) == 1

    def test_paths_may_be_paths_and_what_is_no_json_is_named(self, catalog: fg.Catalog, photos: Path) -> None:
        assert list(catalog.add({Path("in") / "a.png": photos / "00.png"}).ids) == ["in/a.png"]
        for wrong in ({"columns": {"b.png": {"day": {1, 2}}}}, {"labels": {"b.png": 7}}):
            with pytest.raises(fg.DataError, match=r"b\.png"):
                catalog.add({"b.png": photos / "01.png"}, **wrong)
        with pytest.raises(fg.DataError, match="no photos to add"):
            catalog.add({})

    def test_a_url_as_a_path_is_stored_without_secrets(self, catalog: fg.Catalog, photos: Path) -> None:
        url = "https://me:secret@host/a.png?X-Amz-Signature=0f3a"
        done = catalog.add({url: photos / "00.png"}, labels={url: "robin"}, columns={url: {"price": 3}})
        assert list(done.ids) == ["https://host/a.png"]
        (row,) = catalog.get(list(done.ids.values()))
        assert (row.path, row.label, row.meta) == ("https://host/a.png", "robin", {"price": 3})

    @pytest.mark.parametrize(
        ("value", "problem"),
        [
            (float("inf"), "contains a number that is not finite"),
            ([1.0, float("nan")], "contains a number that is not finite"),
            ({1, 2}, "contains a value of type set"),
            (np.int64(7), "contains a value of type int64"),
        ],
    )
    def test_values_that_json_cannot_hold(self, catalog: fg.Catalog, photos: Path, value: object, problem: str) -> None:
        with pytest.raises(fg.DataError, match=rf"the column 'price' of 'a\.png' {problem}.*; expected a text"):
            catalog.add({"a.png": photos / "00.png"}, columns={"a.png": {"price": value}})

    def test_nan_is_a_missing_value(self, catalog: fg.Catalog, photos: Path) -> None:
        done = catalog.add({"a.png": photos / "00.png"}, columns={"a.png": {"price": float("nan"), "stock": 3}})
        assert catalog.get([done.ids["a.png"]])[0].meta == {"stock": 3}

    def test_own_ids_are_taken_where_rows_are_named(self, catalog: fg.Catalog, photos: Path) -> None:
        (photos / "list.csv").write_text("path,id\n00.png,SKU-1\n01.png,SKU-2\n")
        catalog.ingest(photos / "list.csv", options=HERE)
        (row,) = catalog.get(["SKU-2"])
        assert (row.path, row.own_id) == ("01.png", "SKU-2")
        assert catalog.search(id="SKU-2", k=1)[0].id == row.id
        for code in (row.code, row.code.tobytes()):
            assert row.id in {hit.id for hit in catalog.search(code=code, k=2, max_distance=0)}
        assert catalog.delete(["SKU-2"]).deleted == 1

    def test_labels_of_unknown_photos_are_an_error(self, catalog: fg.Catalog, photos: Path) -> None:
        with pytest.raises(fg.ConfigError, match=r"'b\.png' is not one of the photos"):
            catalog.add({"a.png": photos / "00.png"}, labels={"b.png": "robin"})

    def test_typed_columns_of_a_new_collection(self, file: Path, bundle: Path, new_name: str, photos: Path) -> None:
        settings = fg.CollectionSettings(columns=("price:double",))
        with fg.Catalog.open(file, new_name, bundle=bundle, settings=settings) as catalog:
            catalog.add({"a.png": photos / "00.png"}, columns={"a.png": {"price": 2.5}})
            assert [hit.columns for hit in catalog.search(photos / "00.png", filter="price < 3")] == [{"price": 2.5}]


class TestDuplicates:
    def test_a_result_that_is_out_of_date_deletes_nothing(self, catalog: fg.Catalog, photos: Path) -> None:
        """Else all copies of a photo could go, each for the sake of one that is not there any more."""
        photo = photos / "00.png"
        ids = catalog.add(dict.fromkeys(("a.png", "b.png", "c.png"), photo)).ids
        found = catalog.dedupe()
        assert catalog.delete_duplicates(found, dry_run=True) == 2
        catalog.delete([ids["a.png"]])  # the one that would have stayed
        with pytest.raises(fg.Inconsistent, match="search again"):
            catalog.delete_duplicates(found, delete_at_most=1)
        assert catalog.count() == 2
        assert catalog.delete_duplicates(catalog.dedupe(), delete_at_most=1) == 1
        catalog.add({"a.png": photo})
        found = catalog.dedupe()
        catalog.add({"b.png": photos / "01.png"})  # another content under a name that would go
        with pytest.raises(fg.Inconsistent):
            catalog.delete_duplicates(found, delete_at_most=1)

    def test_what_is_kept_and_how_much_may_go_is_checked(self, catalog: fg.Catalog, photos: Path) -> None:
        catalog.add(dict.fromkeys(("a.png", "b.png"), photos / "00.png"))
        found = catalog.dedupe()
        for arguments in ({"keep": "newest"}, {"kinds": ["equal"]}, {"kinds": "exact"}, {"delete_at_most": 10}):
            with pytest.raises(fg.ConfigError):
                catalog.delete_duplicates(found, **arguments)
        with pytest.raises(fg.TooManyDeleted):
            catalog.delete_duplicates(found)
        assert catalog.count() == 2


@pytest.mark.parametrize(
    "wrong", [{"prune_at_most": 10}, {"rows_per_write": 0}, {"prune_at_most": -0.1}, {"workers": -1}]
)
def test_options_that_cannot_be(wrong: dict[str, float]) -> None:
    with pytest.raises(fg.ConfigError):
        fg.IngestOptions(**wrong)  # type: ignore[arg-type]


class TestSlips:
    """What a newcomer gets wrong has one clear sentence, and creates nothing."""

    def test_a_mistyped_file_or_collection_is_no_empty_catalog(self, tmp_path: Path, catalog: fg.Catalog) -> None:
        with fg.Catalog.open(tmp_path / "typo.db") as other, pytest.raises(fg.StoreError, match="there is no Milvus"):
            other.search(code="0000")
        assert not list(tmp_path.glob("typo*"))
        with pytest.raises(fg.StoreError, match="there is no"):
            catalog.count()

    @pytest.mark.parametrize("uri", ["http://", "birds", "http://host:port"])
    def test_what_is_no_uri(self, uri: str) -> None:
        with pytest.raises(fg.ConfigError, match="the Milvus URI must be"):
            fg.Catalog.open(uri)

    def test_one_text_is_no_sequence_of_texts(self, catalog: fg.Catalog, photos: Path) -> None:
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

    def test_a_bad_photo_does_not_hide_the_codes_of_others(self, catalog: fg.Catalog, photos: Path) -> None:
        images: list[ImageLike] = [photos / "00.png", photos / "none.png", b"noise", photos / "01.png"]
        with pytest.raises(fg.ImageRejected, match=r"2 of 4 photos .*number 1: .*none.png.*number 2: "):
            catalog.encoder.encode_documents(images)
        assert len(catalog.encoder.encode_documents([images[0], images[3]])) == 2

    def test_nothing_or_two_things_to_search_by(self, catalog: fg.Catalog) -> None:
        for query in ({}, {"id": "a", "code": "000"}):
            with pytest.raises(fg.ConfigError, match="needs exactly one of"):
                catalog.search(**query)  # type: ignore[arg-type]
        for rows in ({}, {"ids": ["a"], "filter": "x"}):
            with pytest.raises(fg.ConfigError, match="select the rows either"):
                catalog.delete(**rows)  # type: ignore[arg-type]

    def test_without_a_bundle(self, file: Path, catalog: fg.Catalog, photos: Path) -> None:
        catalog.ingest(photos, options=HERE)
        with fg.Catalog.open(file, catalog.name) as other:
            assert len(other.search(code="0000", k=3)) == 3
            for call in (lambda: other.search(photos / "00.png"), lambda: other.ingest(photos)):
                with pytest.raises(fg.ConfigError, match="open the catalog with"):
                    call()

    def test_what_an_existing_collection_cannot_give(
        self, file: Path, bundle: Path, catalog: fg.Catalog, photos: Path
    ) -> None:
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

    def test_an_embedding_that_the_bundle_does_not_give(self, file: Path, bundle: Path, photos: Path) -> None:
        settings = fg.CollectionSettings(embedding=True)
        with fg.Catalog.open(file, "never_made", bundle=bundle, settings=settings) as other:
            with pytest.raises(fg.ConfigError, match="has no embedding"):
                other.ingest(photos)
            with pytest.raises(fg.StoreError, match="there is no"):
                other.count()

    def test_what_is_no_url_and_no_path_is_said_in_a_sentence(self, catalog: fg.Catalog, photos: Path) -> None:
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

    def test_rows_of_other_programs_may_have_any_meta(self, catalog: fg.Catalog, photos: Path) -> None:
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

    def test_a_folder_that_is_not_there(self, catalog: fg.Catalog, tmp_path: Path) -> None:
        with pytest.raises(fg.DataError, match="there is no file or folder"):
            catalog.ingest(tmp_path / "nowhere")


def test_two_bundles_one_name(file: Path, tmp_path: Path, new_name: str, photos: Path) -> None:
    """The name stands for the new model's collection after `promote`, and the folder of bundles has the right one."""
    bundles = tmp_path / "bundles"
    bundles.mkdir()
    one, two = (write_small_bundle(bundles / f"model{seed}", seed=seed) for seed in (1, 2))
    first = f"{new_name}_first"
    with fg.Catalog.open(file, first, bundle=one) as old:
        old.ingest(photos, options=HERE)
    with fg.Catalog.open(file, new_name, bundle=bundles) as catalog:
        assert catalog.promote(first).collection == first
        before = catalog.search(photos / "00.png", k=3)
        done = catalog.reindex(two, photos, options=HERE)
        assert (done.old, done.ingest.stored, done.verification.is_consistent) == (first, N, True)
        moved = catalog.promote()
        assert (moved.before, moved.collection) == (first, done.new)
        assert catalog.collection.name == done.new
        assert catalog.search(photos / "00.png", k=1)[0].distance == 0
        assert catalog.rollback().collection == first
        assert catalog.search(photos / "00.png", k=3) == before


def test_dedupe_and_evaluate(catalog: fg.Catalog, photos: Path) -> None:
    birds = photos.parent / "birds"
    for path, colour in (
        ("train/red/0.png", "red"),
        ("train/red/1.png", "red"),
        ("train/blue/0.png", "blue"),
        ("test/red/0.png", "#fe0000"),
        ("test/blue/0.png", "#0000fe"),
    ):
        (birds / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 20), colour).save(birds / path)
    catalog.ingest(birds, split="train", options=HERE)
    found = catalog.dedupe()
    assert [len(group.members) for group in found.groups if group.kind == "exact"] == [2]
    assert catalog.evaluate(birds, query_split="test").encoded.map_exact == 1


def test_the_module_runs_as_the_command() -> None:
    command = [sys.executable, "-m", "milvus_fghash", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"milvus-fghash, version {fg.__version__}"
