"""reindex, promote and rollback as commands, on Milvus Lite; no torch."""

from __future__ import annotations

from pathlib import Path

import pytest

from milvus_fghash.bundle.bundle import read_bundle
from tests.helpers.commands import GOLDEN, Run, document
from tests.helpers.small_bundle import write_small_bundle

pytestmark = pytest.mark.full

BIRDS = ("--collection-name", "birds")


@pytest.fixture
def second(tmp_path: Path) -> Path:
    """Another model's bundle, in a folder of bundles that has the first one too."""
    (tmp_path / "bundles").mkdir()
    (tmp_path / "bundles" / "first").symlink_to(GOLDEN)
    return write_small_bundle(tmp_path / "bundles" / "second", bits=24, seed=3)


def test_a_catalog_changes_its_model_and_goes_back(filled: Run, birds: Path, second: Path) -> None:
    assert document(filled("promote", "birds", "photos", "--json"))["before"] is None
    done = document(filled("reindex", second, birds, *BIRDS, "--json"))
    new = f"birds_{read_bundle(second).manifest.fingerprint[:12]}"
    assert (done["old"], done["new"], done["consistent"], done["missing"]["count"]) == ("photos", new, True, 0)
    assert (done["ingest"]["stored"], done["comparison"]["photos"], done["comparison"]["classes"]) == (36, 36, 4)
    assert done["comparison"]["difference"] == pytest.approx(
        done["comparison"]["new"]["map_exact"] - done["comparison"]["old"]["map_exact"]
    )
    assert document(filled("inspect", *BIRDS, "--json"))["name"] == "photos", "nothing has changed for searches"

    program, *command = done["next"].split()
    assert program == "milvus-fghash"
    moved = document(filled(*command, "--json"))
    assert (moved["collection"], moved["before"], moved["rows"], moved["rows_before"]) == (new, "photos", 36, 36)
    photo = min(birds.glob("test/*/*.jpg"))
    for bundle, collection in ((second.parent, new), (second, new)):
        (answer,) = document(filled("search", bundle, "--image", photo, "-k", "36", *BIRDS, "--json"))
        assert len(answer["hits"]) == 36, collection
    result = filled("search", GOLDEN, "--image", photo, *BIRDS)
    assert result.exit_code == 1
    assert f"the collection {new} was filled by another model" in result.stderr

    outcome = document(filled("ingest", second, birds, *BIRDS, "--json"))
    assert (outcome["collection"], outcome["stored"], outcome["unchanged"]) == (new, 0, 36)
    assert document(filled("verify", second, birds, *BIRDS, "--json"))["consistent"]
    assert document(filled("delete", "--filter", 'path like "test/%"', "--yes", *BIRDS, "--json"))["collection"] == new
    back = document(filled("rollback", "birds", "--json"))
    assert (back["collection"], back["before"], back["rows"], back["rows_before"]) == ("photos", new, 36, 24)
    (answer,) = document(filled("search", second.parent, "--image", photo, "-k", "36", *BIRDS, "--json"))
    assert len(answer["hits"]) == 36
    listed = {one["name"]: one["aliases"] for one in document(filled("collections", "list", "--json"))}
    assert listed == {"photos": ["birds"], new: []}


def test_a_plain_collection_gets_its_alias_with_the_new_model(filled: Run, birds: Path, second: Path) -> None:
    result = filled("reindex", second, birds, "--into", "newer")
    assert "Next: milvus-fghash promote ALIAS newer" in result.stdout
    assert "mAP of the new model minus the old one: " in result.stdout
    moved = document(filled("promote", "birds", "newer", "--json"))
    assert (moved["before"], moved["previous"]) == ("photos", ["photos"])
    assert document(filled("rollback", "birds", "--json"))["collection"] == "photos"


def test_what_would_be_lost_is_said_and_not_promoted(filled: Run, birds: Path, second: Path) -> None:
    filled("promote", "birds", "photos")
    gone = sorted(birds.rglob("*.jpg"))[:2]
    for file in gone:
        file.unlink()
    (birds / "train" / "text.jpg").write_text("no photo")
    result = filled("reindex", second, birds, *BIRDS, "--json", "--report", "rejected.jsonl")
    assert result.exit_code == 3
    assert "Error: 1 of 35 photos were rejected, 0 are allowed (--max-errors); see rejected.jsonl" in result.stderr
    done = document(filled("reindex", second, birds, *BIRDS, "--json", "--max-errors", "1"))
    assert done["missing"]["examples"] == [file.relative_to(birds).as_posix() for file in gone]
    assert done["next"].startswith("2 rows of photos are not in ")
    result = filled("promote", "birds")
    assert result.exit_code == 1
    assert "Error: 2 rows of photos are not in " in result.stderr
    assert document(filled("inspect", *BIRDS, "--json"))["name"] == "photos"
    assert filled("promote", "birds", "--max-missing", "2").exit_code == 0


def test_photos_without_labels_are_not_compared(filled: Run, birds: Path, second: Path) -> None:
    done = document(filled("reindex", second, birds, "--compare-split", "nobody", "--json"))
    assert done["comparison"] is None
    assert done["not_compared"] == "no row of both versions has a label"
    result = filled("reindex", second, birds, "--compare-sample", "0")
    assert "The models were not compared: no row" in result.stdout


def test_older_versions_are_dropped_on_request(filled: Run, birds: Path, second: Path, tmp_path: Path) -> None:
    third = write_small_bundle(second.with_name("third"), bits=8, seed=4)
    filled("promote", "birds", "photos")
    names = ["photos", "newer", "newest"]
    for name, bundle in zip(names[1:], (second, third), strict=True):
        assert filled("reindex", bundle, birds, *BIRDS, "--into", name).exit_code == 0
        result = filled("promote", "birds", name, "--keep", "1")
        assert result.exit_code == 0, result.stderr
    assert "photos would be dropped; confirm with --yes" in result.stderr
    outcome = document(filled("promote", "birds", "newest", "--keep", "1", "--yes", "--json"))
    assert (outcome["dropped"], outcome["previous"]) == (["photos"], ["newer"])
    assert [one["name"] for one in document(filled("collections", "list", "--json"))] == ["newer", "newest"]
    result = filled("collections", "drop", "newest", "--yes")
    assert result.exit_code == 1
    assert "the alias birds refers to" in result.stderr
    assert filled("promote", "birds", "--yes").exit_code == 2


def test_dropping_takes_the_journal_too(filled: Run, birds: Path, tmp_path: Path) -> None:
    folder = tmp_path / "milvus-fghash.db.journals" / "photos"
    assert list(folder.glob("journal-*"))
    assert filled("collections", "drop", "photos", "--yes").exit_code == 0
    assert [file.name for file in folder.iterdir()] == ["runs"]
    assert document(filled("ingest", GOLDEN, birds, "--journal", "mine", "--json"))["stored"] == 36
    assert filled("collections", "drop", "photos", "--yes", "--journal", "mine").exit_code == 0
    assert [file.name for file in (tmp_path / "mine").iterdir()] == ["runs"]
