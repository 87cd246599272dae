"""The demonstration that needs no training, and the bundle it searches with."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.demo_bundle import make
from milvus_fghash.bundle.bundle import read_bundle
from milvus_fghash.demo.shipped import COPIES, ShippedDemo, run_shipped, shipped_bundle
from milvus_fghash.errors import DataError

MOST_BYTES = 2_000_000


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> ShippedDemo:
    return run_shipped(tmp_path_factory.mktemp("demo") / "out")


def test_new_photos_and_new_classes_are_found(result: ShippedDemo) -> None:
    for gallery, floor in (("trained photos", 0.98), ("new photos", 0.98), ("new classes", 0.9)):
        record = result.records[gallery]
        assert record.map_exact >= floor >= 5 * record.map_chance, gallery


def test_the_planted_copies_are_found_and_nothing_else(result: ShippedDemo) -> None:
    assert (result.exact, result.again, result.mistaken) == (COPIES, COPIES, 0)


def test_the_page_shows_known_and_new_classes(result: ShippedDemo) -> None:
    page = result.page.read_text()
    assert page.count("<section") == 8
    assert page.count("data:image/jpeg") == 8 * 8
    assert "http://" not in page


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_bundle_made_anew_is_as_good(result: ShippedDemo, tmp_path: Path) -> None:
    """Not byte for byte: processors and versions of torch round otherwise."""
    made = make(tmp_path / "bundle", tmp_path / "work", [])
    again = run_shipped(tmp_path / "out", bundle=made.path)
    for gallery, record in result.records.items():
        assert abs(again.records[gallery].map_exact - record.map_exact) < 0.05, gallery
    assert (again.exact, again.again, again.mistaken) == (COPIES, COPIES, 0)


def test_a_folder_in_use_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    with pytest.raises(DataError, match="not an empty folder"):
        run_shipped(tmp_path)


def test_the_shipped_bundle_is_small_whole_and_names_no_photo() -> None:
    bundle = read_bundle(shipped_bundle())
    assert sum(file.stat().st_size for file in bundle.path.iterdir()) < MOST_BYTES
    assert bundle.learned() is None
