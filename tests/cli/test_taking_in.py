"""ingest and verify on the committed bundle, drawn birds and Milvus Lite; no torch."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

from milvus_fghash.serving.target import Target, connect
from tests.cli.at_hand import GOLDEN, Run, document


def test_ingest_counts_and_a_second_run_adds_nothing(run: Run, birds: Path) -> None:
    names = ("stored", "unchanged", "refused", "rows_in_collection")
    for wanted in ((36, 0, 0, 36), (0, 36, 0, 36)):
        counts = document(run("ingest", GOLDEN, birds, "--json"))
        assert tuple(counts[name] for name in names) == wanted
    runs = [json.loads(file.read_text()) for file in sorted((Path(counts["journal"]) / "runs").iterdir())]
    assert [(one["outcome"], one["counts"]["stored"]) for one in runs] == [("done", 36), ("done", 0)]


def test_vanished_photos_are_counted_and_pruned_on_request(filled: Run, birds: Path) -> None:
    gone = sorted(birds.rglob("*.jpg"))[:3]
    for file in gone:
        file.unlink()
    told = document(filled("ingest", GOLDEN, birds, "--json"))
    assert (told["vanished"], told["pruned"], told["rows_in_collection"]) == (3, 0, 36)
    told = document(filled("ingest", GOLDEN, birds, "--prune", "--json"))
    assert (told["vanished"], told["pruned"], told["rows_in_collection"]) == (3, 3, 33)
    assert document(filled("ingest", GOLDEN, birds, "--json"))["vanished"] == 0


def test_a_part_that_is_not_asked_for_has_not_vanished(run: Run, birds: Path) -> None:
    assert run("ingest", GOLDEN, birds).exit_code == 0
    told = document(run("ingest", GOLDEN, birds, "--split", "test", "--prune", "--json"))
    assert (told["vanished"], told["stored"], told["rows_in_collection"]) == (0, 0, 36)


def test_a_dropped_collection_is_filled_again(filled: Run, birds: Path) -> None:
    assert document(filled("ingest", GOLDEN, birds, "--drop-if-exists", "--yes", "--json"))["stored"] == 36


def test_broken_photos_are_reported_and_the_others_get_in(run: Run, birds: Path, tmp_path: Path) -> None:
    (birds / "train" / "empty.jpg").write_bytes(b"")
    (birds / "train" / "text.jpg").write_text("no photo")
    result = run("ingest", GOLDEN, birds, "--report", "refused.jsonl", "--json")
    assert result.exit_code == 3
    assert json.loads(result.stdout)["rows_in_collection"] == 36
    assert result.stderr.startswith(
        "Error: 2 of 38 photos were refused, 0 are allowed (--max-errors); see refused.jsonl"
    )
    lines = [json.loads(line) for line in (tmp_path / "refused.jsonl").read_text().splitlines()]
    assert {line["path"]: line["reason"] for line in lines} == {"train/empty.jpg": "empty", "train/text.jpg": "format"}
    assert run("ingest", GOLDEN, birds, "--max-errors", "2").exit_code == 0
    assert run("ingest", GOLDEN, birds, "--max-errors", "1").exit_code == 3


def test_verify_finds_and_mends(filled: Run, birds: Path) -> None:
    assert document(filled("verify", GOLDEN, birds, "--json"))["whole"]
    with closing(connect(Target("milvus-fghash.db"))) as client:
        client.delete("photos", filter='path like "test/%"')
    result = filled("verify", GOLDEN, birds)
    assert result.exit_code == 1
    assert "Error: the collection photos is not whole: 12 missing; --mend writes what is wrong again" in result.stderr
    told = document(filled("verify", GOLDEN, birds, "--mend", "--json"))
    assert (told["whole"], told["mended"], told["rows"]) == (True, {"missing": 12}, 36)
    assert filled("verify", GOLDEN, birds, "--delete-extra").exit_code == 2


def test_what_was_deleted_on_purpose_stays_away(filled: Run, birds: Path) -> None:
    assert document(filled("delete", "--filter", 'path like "test/%"', "--yes", "--json"))["deleted"] == 12
    told = document(filled("ingest", GOLDEN, birds, "--json"))
    assert (told["stored"], told["refused"], told["rows_in_collection"]) == (0, 0, 24)
    assert document(filled("verify", GOLDEN, birds, "--json"))["whole"]
    told = document(filled("ingest", GOLDEN, birds, "--retry-refused", "--json"))
    assert (told["stored"], told["rows_in_collection"]) == (12, 36)


def test_duplicates_that_were_deleted_stay_away(run: Run, birds: Path) -> None:
    photo = min(birds.rglob("*.jpg"))
    (photo.parent / "copy.jpg").write_bytes(photo.read_bytes())
    assert document(run("ingest", GOLDEN, birds, "--json"))["rows_in_collection"] == 37
    assert document(run("dedupe", "--delete", "exact", "--yes", "--json"))["deletion"]["deleted"] == 1
    told = document(run("ingest", GOLDEN, birds, "--json"))
    assert (told["stored"], told["refused"], told["rows_in_collection"]) == (0, 0, 36)
