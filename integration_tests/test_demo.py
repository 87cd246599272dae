"""The demo's promise: what it learned comes from the labels, and it is far better than random planes."""

from __future__ import annotations

from pathlib import Path

import pytest

from milvus_fghash.demo.training import DemoResult, run_demo
from milvus_fghash.errors import DataError


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> DemoResult:
    return run_demo(tmp_path_factory.mktemp("demo") / "out", seed=0)


@pytest.mark.timeout(900)
def test_fcaenet_finds_unseen_drawings_and_lsh_does_not(result: DemoResult) -> None:
    fcaenet, lsh = (result.records[method].map_exact for method in ("fcaenet", "lsh"))
    assert fcaenet >= 0.9
    assert fcaenet >= 2 * lsh
    assert result.learned is not None
    assert result.learned.map_exact >= 0.9


def test_everything_it_names_is_there(result: DemoResult) -> None:
    page = result.gallery.read_text()
    assert page.count("<section") == 8
    assert "data:image/jpeg" in page
    assert "http://" not in page
    for path in (*result.plots, *result.bundles.values(), result.database):
        assert path.exists()


@pytest.mark.timeout(900)
def test_with_shuffled_labels_quality_falls_to_chance(tmp_path: Path) -> None:
    record = run_demo(tmp_path / "out", seed=0, shuffle_labels=True).records["fcaenet"]
    assert record.map_exact < 1.5 * record.map_chance


def test_a_folder_in_use_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    with pytest.raises(DataError, match="not an empty folder"):
        run_demo(tmp_path)
