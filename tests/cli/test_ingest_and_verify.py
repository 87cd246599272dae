"""ingest and verify on the committed bundle, drawn birds and Milvus Lite; no torch."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest

from milvus_fghash.milvus.connection import ConnectionConfig, connect
from tests.helpers.commands import GOLDEN, Run, document

pytestmark = pytest.mark.full


def test_ingest_counts_and_a_second_run_adds_nothing(run: Run, birds: Path) -> None:
    names = ("stored", "unchanged", "rejected", "rows_in_collection")
    for wanted in ((36, 0, 0, 36), (0, 36, 0, 36)):
        counts = document(run("ingest", GOLDEN, birds, "--json"))
        assert tuple(counts[name] for name in names) == wanted
    runs = [json.loads(file.read_text()) for file in sorted((Path(counts["journal"]) / "runs").iterdir())]
    assert [(one["outcome"], one["counts"]["stored"]) for one in runs] == [("done", 36), ("done", 0)]


def test_vanished_photos_are_counted_and_pruned_on_request(run: Run, birds: Path) -> None:
    assert run("ingest", GOLDEN, birds).exit_code == 0  # in this folder: the journal names the source of the photos
    gone = sorted(birds.rglob("*.jpg"))[:3]
    for file in gone:
        file.unlink()
    result = document(run("ingest", GOLDEN, birds, "--json"))
    assert (result["vanished"], result["pruned"], result["rows_in_collection"]) == (3, 0, 36)
    result = document(run("ingest", GOLDEN, birds, "--prune", "--json"))
    assert (result["vanished"], result["pruned"], result["rows_in_collection"]) == (3, 3, 33)
    assert document(run("ingest", GOLDEN, birds, "--json"))["vanished"] == 0


def test_a_part_that_is_not_asked_for_has_not_vanished(run: Run, birds: Path) -> None:
    assert run("ingest", GOLDEN, birds).exit_code == 0
    result = document(run("ingest", GOLDEN, birds, "--split", "test", "--prune", "--json"))
    assert (result["vanished"], result["stored"], result["rows_in_collection"]) == (0, 0, 36)


def test_a_dropped_collection_is_filled_again(filled: Run, birds: Path) -> None:
    assert document(filled("ingest", GOLDEN, birds, "--drop-if-exists", "--yes", "--json"))["stored"] == 36


def test_broken_photos_are_reported_and_the_others_get_in(run: Run, birds: Path, tmp_path: Path) -> None:
    (birds / "train" / "empty.jpg").write_bytes(b"")
    (birds / "train" / "text.jpg").write_text("no photo")
    result = run("ingest", GOLDEN, birds, "--report", "rejected.jsonl", "--json")
    assert result.exit_code == 3
    assert json.loads(result.stdout)["rows_in_collection"] == 36
    found, error = result.stderr.splitlines()
    assert found == f"38 photos in {birds}; 4 classes (from the folder of each photo), 2 photos without; " + (
        "splits: test 12, train 26"
    )
    assert error.startswith("Error: 2 of 38 photos were rejected, 0 are allowed (--max-errors); see rejected.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "rejected.jsonl").read_text().splitlines()]
    assert {line["path"]: line["reason"] for line in lines} == {"train/empty.jpg": "empty", "train/text.jpg": "format"}
    assert run("ingest", GOLDEN, birds, "--max-errors", "2").exit_code == 0
    assert run("ingest", GOLDEN, birds, "--max-errors", "1").exit_code == 3


def test_verify_finds_and_mends(filled: Run, birds: Path) -> None:
    assert document(filled("verify", GOLDEN, birds, "--json"))["consistent"]
    with closing(connect(ConnectionConfig("milvus-fghash.db"))) as client:
        client.delete("photos", filter='path like "test/%"')
    result = filled("verify", GOLDEN, birds)
    assert result.exit_code == 1
    assert (
        "Error: the collection photos is inconsistent: 12 missing; --repair rewrites the inconsistent rows"
        in result.stderr
    )
    outcome = document(filled("verify", GOLDEN, birds, "--repair", "--json"))
    assert (outcome["consistent"], outcome["repaired"], outcome["rows"]) == (True, {"missing": 12}, 36)
    assert filled("verify", GOLDEN, birds, "--delete-extra").exit_code == 2


def test_what_was_deleted_on_purpose_stays_away(filled: Run, birds: Path) -> None:
    assert document(filled("delete", "--filter", 'path like "test/%"', "--yes", "--json"))["deleted"] == 12
    result = document(filled("ingest", GOLDEN, birds, "--json"))
    assert (result["stored"], result["rejected"], result["rows_in_collection"]) == (0, 0, 24)
    assert document(filled("verify", GOLDEN, birds, "--json"))["consistent"]
    result = document(filled("ingest", GOLDEN, birds, "--retry-rejected", "--json"))
    assert (result["stored"], result["rows_in_collection"]) == (12, 36)


def test_duplicates_that_were_deleted_stay_away(run: Run, birds: Path) -> None:
    photo = min(birds.rglob("*.jpg"))
    (photo.parent / "copy.jpg").write_bytes(photo.read_bytes())
    assert document(run("ingest", GOLDEN, birds, "--json"))["rows_in_collection"] == 37
    assert document(run("dedupe", "--delete", "exact", "--yes", "--json"))["deletion"]["deleted"] == 1
    result = document(run("ingest", GOLDEN, birds, "--json"))
    assert (result["stored"], result["rejected"], result["rows_in_collection"]) == (0, 0, 36)


@pytest.fixture
def catalog(birds: Path, tmp_path: Path) -> Path:
    """A list of the birds: prices 0, 0.5, 1 and so on, every third one out of stock."""
    lines = ["path,label,price,in_stock,brand"]
    for number, file in enumerate(sorted(birds.rglob("*.jpg"))):
        brand = "acme" if number % 2 else ""
        lines.append(f"{file.relative_to(tmp_path)},{file.parent.name},{number / 2},{number % 3 > 0},{brand}")
    (tmp_path / "catalog.csv").write_text("\n".join(lines) + "\n")
    return tmp_path / "catalog.csv"


TYPED = ("--column", "price:double", "--column", "in_stock:bool")


def test_columns_of_a_list_can_be_filtered_by(run: Run, catalog: Path, tmp_path: Path) -> None:
    for stored in (36, 0):
        assert document(run("ingest", GOLDEN, catalog, *TYPED, "--json"))["stored"] == stored
    words = ["search", "--code", "fff0", "-k", "36", "--filter", "price < 3 and in_stock == true"]
    page = ("--html", "hits.html", "--photos", str(tmp_path))
    (answer,) = document(run(*words, *page, "--json"))
    assert sorted(hit["columns"]["price"] for hit in answer["hits"]) == [0.5, 1, 2, 2.5]
    assert {hit["columns"]["in_stock"] for hit in answer["hits"]} == {True}
    assert [hit["meta"] for hit in answer["hits"] if hit["columns"]["price"] == 0.5] == [{"brand": "acme"}]
    assert all(f"price: {price}<" in (tmp_path / "hits.html").read_text() for price in (0.5, 1.0, 2.0, 2.5))
    header, *_ = run(*words).stdout.splitlines()[1:]
    assert header.split() == ["distance", "label", "path", "id", "price", "in_stock", "meta"]
    result = document(run("inspect", "--json"))
    assert (result["columns"], result["partition_key"]) == ({"price": "double", "in_stock": "bool"}, None)
    assert document(run("delete", "--filter", "price >= 9", "--yes", "--json"))["deleted"] == 18
    assert document(run("verify", GOLDEN, catalog, "--json"))["consistent"]
    assert document(run("ingest", GOLDEN, catalog, "--retry-rejected", "--json"))["stored"] == 18
    assert document(run("inspect", "--json"))["rows"] == 36


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--column", "brand:double"], "catalog.csv, line 2, column 'brand': the value is missing"),
        (["--column", "price:int64"], "catalog.csv, line 2, column 'price': '0.0' is not of type int64"),
        (["--column", "prize"], "no column 'prize'. Did you mean price?"),
        (["--column", "label"], "invalid column name 'label'"),
        (["--partition-key", "brand"], "the partition key 'brand' must be one of the typed columns"),
        (["--column", "brand", "--partition-key", "brand"], "Milvus Lite does not support partition keys"),
    ],
)
def test_columns_that_cannot_be_are_one_line_and_leave_nothing(
    run: Run, catalog: Path, words: list[str], message: str
) -> None:
    result = run("ingest", GOLDEN, catalog, *words)
    assert result.exit_code == 1
    *found, error = result.stderr.splitlines()
    assert message in error
    assert [line for line in found if not line.startswith("36 photos in ")] == []
    listed = run("collections", "list", "--json")
    assert listed.stdout.strip() == "[]" or "there is no Milvus Lite file" in listed.stderr


def test_an_open_collection_keeps_its_columns(run: Run, catalog: Path, birds: Path) -> None:
    assert run("ingest", GOLDEN, catalog, *TYPED).exit_code == 0
    for data, words, message in (
        (birds, [], "no column 'price', which the collection requires"),
        (catalog, ["--column", "brand"], "was created without the column brand:text, which cannot be changed"),
        (catalog, ["--column", "price:text"], "was created with the column price:double, which cannot be changed"),
        (catalog, [*TYPED, "--partition-key", "price"], "was created without a partition key"),
    ):
        result = run("ingest", GOLDEN, data, *words)
        assert result.exit_code == 1
        assert message in result.stderr
    assert document(run("ingest", GOLDEN, catalog, "--json"))["unchanged"] == 36
