"""Photos added one by one, in every form, under names of the caller."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import milvus_fghash as fg
from milvus_fghash.datasets.in_memory import ImageLike
from tests.helpers.small_catalog import HERE, N

pytestmark = pytest.mark.full


def test_photos_in_every_form_get_in_and_others_are_rejected(catalog: fg.Catalog, photos: Path) -> None:
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


def test_the_same_again_adds_nothing_and_another_photo_replaces_the_row(catalog: fg.Catalog, photos: Path) -> None:
    photo = (photos / "00.png").read_bytes()
    assert catalog.add({"a.png": photo}).stored == 1
    assert catalog.add({"a.png": photo}).unchanged == 1
    assert catalog.add({"a.png": photos / "01.png"}).stored == 1
    assert catalog.count() == 1


def test_later_ingests_and_adds_leave_added_photos_alone(catalog: fg.Catalog, photos: Path) -> None:
    catalog.add({"a.png": photos / "00.png"})
    catalog.add({"b.png": photos / "01.png"})
    pruning = fg.IngestOptions(workers=0, prune=True, prune_at_most=1)
    done = catalog.ingest(photos, options=pruning)
    assert (done.vanished, done.pruned, catalog.count()) == (0, 0, N + 2)
    assert catalog.verify(photos).is_consistent


def test_half_a_folder_that_was_added_before_does_not_become_the_folders(catalog: fg.Catalog, photos: Path) -> None:
    """A folder that is gone and shares half its photos with another one is taken for the same, moved."""
    catalog.add({f"{number:02}.png": photos / f"{number:02}.png" for number in range(4)} | {"own.png": b""})
    catalog.add({"other.png": photos / "00.png"})
    pruning = fg.IngestOptions(workers=0, prune=True, prune_at_most=1)
    assert catalog.ingest(photos, options=pruning).pruned == 0
    assert catalog.count(filter='path == "other.png"') == 1


def test_a_path_that_leads_out_is_rejected_alone(catalog: fg.Catalog, photos: Path) -> None:
    done = catalog.add({"../up.png": photos / "00.png", "good.png": photos / "01.png"})
    assert [one.path for one in done.rejected] == ["../up.png"]
    assert catalog.count() == 1


def test_a_photo_that_was_deleted_comes_back(catalog: fg.Catalog, photos: Path) -> None:
    key = catalog.add({"a.png": photos / "00.png"}).ids["a.png"]
    catalog.delete([key])
    assert catalog.add({"a.png": photos / "00.png"}).stored == 1
    assert len(catalog.get([key])) == 1


def test_paths_may_be_paths_and_what_is_no_json_is_named(catalog: fg.Catalog, photos: Path) -> None:
    assert list(catalog.add({Path("in") / "a.png": photos / "00.png"}).ids) == ["in/a.png"]
    for wrong in ({"columns": {"b.png": {"day": {1, 2}}}}, {"labels": {"b.png": 7}}):
        with pytest.raises(fg.DataError, match=r"b\.png"):
            catalog.add({"b.png": photos / "01.png"}, **wrong)
    with pytest.raises(fg.DataError, match="no photos to add"):
        catalog.add({})


def test_a_url_as_a_path_is_stored_without_secrets(catalog: fg.Catalog, photos: Path) -> None:
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
def test_values_that_json_cannot_hold(catalog: fg.Catalog, photos: Path, value: object, problem: str) -> None:
    with pytest.raises(fg.DataError, match=rf"the column 'price' of 'a\.png' {problem}.*; expected a text"):
        catalog.add({"a.png": photos / "00.png"}, columns={"a.png": {"price": value}})


def test_nan_is_a_missing_value(catalog: fg.Catalog, photos: Path) -> None:
    done = catalog.add({"a.png": photos / "00.png"}, columns={"a.png": {"price": float("nan"), "stock": 3}})
    assert catalog.get([done.ids["a.png"]])[0].meta == {"stock": 3}


def test_own_ids_are_taken_where_rows_are_named(catalog: fg.Catalog, photos: Path) -> None:
    (photos / "list.csv").write_text("path,id\n00.png,SKU-1\n01.png,SKU-2\n")
    catalog.ingest(photos / "list.csv", options=HERE)
    (row,) = catalog.get(["SKU-2"])
    assert (row.path, row.own_id) == ("01.png", "SKU-2")
    assert catalog.search(id="SKU-2", k=1)[0].id == row.id
    for code in (row.code, row.code.tobytes()):
        assert row.id in {hit.id for hit in catalog.search(code=code, k=2, max_distance=0)}
    assert catalog.delete(["SKU-2"]).deleted == 1


def test_labels_of_unknown_photos_are_an_error(catalog: fg.Catalog, photos: Path) -> None:
    with pytest.raises(fg.ConfigError, match=r"'b\.png' is not one of the photos"):
        catalog.add({"a.png": photos / "00.png"}, labels={"b.png": "robin"})


def test_typed_columns_of_a_new_collection(file: Path, bundle: Path, new_name: str, photos: Path) -> None:
    settings = fg.CollectionSettings(columns=("price:double",))
    with fg.Catalog.open(file, new_name, bundle=bundle, settings=settings) as catalog:
        catalog.add({"a.png": photos / "00.png"}, columns={"a.png": {"price": 2.5}})
        assert [hit.columns for hit in catalog.search(photos / "00.png", filter="price < 3")] == [{"price": 2.5}]
