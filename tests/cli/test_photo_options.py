"""What the commands say of the photos before they begin, and the options that choose photos and their classes."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from milvus_fghash.milvus.connection import ConnectionConfig, connect
from tests.helpers.commands import GOLDEN, Run, document
from tests.helpers.small_bundle import write_small_bundle

pytestmark = pytest.mark.full


def labels() -> dict[str, int]:
    """Label -> rows of the collection."""
    with closing(connect(ConnectionConfig("milvus-fghash.db"))) as client:
        rows = client.query("photos", filter='id != ""', output_fields=["label"], limit=1000)
    found = [row["label"] for row in rows]
    return {label: found.count(label) for label in sorted(set(found))}


@pytest.fixture
def deep(birds: Path) -> Path:
    """The birds in class folders in folders: SPLIT/CAP/KIND/*.jpg, 4 kinds of 3 caps."""
    for folder in sorted(birds.glob("*/*")):
        above = folder.parent / folder.name.partition("-")[0]
        above.mkdir(exist_ok=True)
        folder.rename(above / folder.name)
    return birds


def found_in(stderr: str) -> str:
    return stderr.partition("\n")[0].partition("; ")[2]


TOP = "3 classes (from the top folder); splits: test 12, train 24"
LEAF = "4 classes (from the innermost folder, at level 2); splits: test 12, train 24"


def test_a_changed_class_rule_is_told_with_the_rows_it_changes(run: Run, deep: Path, tmp_path: Path) -> None:
    ingest = ("ingest", GOLDEN, deep)
    first = run(*ingest, "--class-level", "top")
    assert (found_in(first.stderr), len(labels())) == (TOP, 3)
    assert first.stderr.count("\n") == 1
    again = run(*ingest, "--json")
    found, changed = again.stderr.splitlines()
    assert found.endswith(LEAF)
    assert changed == (
        "36 rows of the collection have another class or split than their photos have now, and are written again "
        "(classes now: from the innermost folder, at level 2; before: from the top folder)"
    )
    assert (json.loads(again.stdout)["stored"], len(labels())) == (36, 4)
    for level in ("leaf", "2"):  # another rule, the same classes
        result = run(*ingest, "--class-level", level, "--json")
        assert (result.stderr.count("\n"), json.loads(result.stdout)["unchanged"]) == (1, 36)
    (journal,) = tmp_path.glob("milvus-fghash.db.journals/*/journal-*.sqlite")
    with closing(sqlite3.connect(journal)) as connection:  # as an earlier version left it
        connection.execute("DROP TABLE class_rules")
        connection.commit()
    last = run(*ingest, "--split", "test", "--class-level", "top")
    assert "12 rows of the collection" in last.stderr
    assert last.stderr.endswith("(classes now: from the top folder)\n")
    assert len(labels()) == 7  # the test photos by cap, the others by kind
    assert run("verify", GOLDEN, deep, "--json").exit_code == 0


@pytest.mark.parametrize(
    "words",
    [
        lambda data: ["ingest", GOLDEN, data],
        pytest.param(lambda data: ["shards", "build", GOLDEN, data, "--out", "shards"], marks=pytest.mark.extras),
        lambda data: ["evaluate", GOLDEN, "--data", data],
        pytest.param(
            lambda data: ["train", "demo-lsh", "--bits", "8", "--data", data, "--out", "run"], marks=pytest.mark.extras
        ),
    ],
    ids=["ingest", "shards", "evaluate", "train"],
)
def test_photos_classes_and_what_is_left_out_are_told_at_the_start(
    run: Run, deep: Path, tmp_path: Path, words: Callable[[Path], list[str | Path]]
) -> None:
    shutil.copytree(next(deep.glob("train/*/*")), tmp_path / "linked")
    (deep / "train" / "linked").symlink_to(tmp_path / "linked")
    (deep / "train" / "@eaDir").mkdir()
    (deep / "train" / "IMG_1.hex").touch()
    (deep / "train" / "old").mkdir()
    shutil.copy(next(deep.glob("test/*/*/*.jpg")), deep / "train" / "old" / "x.jpg")
    result = run(*words(deep), "--exclude", "OLD")
    assert result.exit_code == 0, result.stderr
    found, left_out, *_ = result.stderr.splitlines()
    assert found == f"36 photos in {deep}; {LEAF}"
    assert left_out.startswith("left out: ")
    for part in (".hex (train/IMG_1.hex)", "linked folder (train/linked)", "@eaDir (train/@eaDir)", "OLD (train/old)"):
        assert f"1 {part}" in left_out
    assert left_out.endswith("follow links to read linked folders (--follow-links)")
    mixed = run(*words(deep), "--follow-links", *([] if "train" in words(deep) else ["--max-errors", "99"])).stderr
    assert "photos lie 1 to 2 folders deep, so folder 1 from the top is the class" in mixed
    assert "(--class-level)" in mixed


def test_links_are_followed_by_all_who_read_the_photos(run: Run, birds: Path, tmp_path: Path) -> None:
    (moved := birds / "train").rename(tmp_path / "elsewhere")
    moved.symlink_to(tmp_path / "elsewhere")
    follow = ("--follow-links", "--json")
    assert document(run("ingest", GOLDEN, birds, *follow))["stored"] == 36
    assert document(run("verify", GOLDEN, birds, *follow))["photos"] == 36
    with closing(connect(ConnectionConfig("milvus-fghash.db"))) as client:
        client.delete("photos", filter='path like "train/%"')
    result = document(run("verify", GOLDEN, birds, *follow, "--repair"))
    assert (result["consistent"], result["repaired"], result["rows"]) == (True, {"missing": 24}, 36)
    assert document(run("evaluate", GOLDEN, "--data", birds, *follow))["encoded"]["n_gallery"] == 24
    second = write_small_bundle(tmp_path / "second", bits=24, seed=3)
    assert document(run("reindex", second, birds, *follow))["ingest"]["stored"] == 36
    assert document(run("ingest", GOLDEN, birds, "--json"))["vanished"] == 24


def test_several_splits(run: Run, birds: Path) -> None:
    shutil.copytree(birds / "test", birds / "val")
    assert document(run("ingest", GOLDEN, birds, "--split", "val,test", "--json"))["rows_in_collection"] == 24
    result = document(run("ingest", GOLDEN, birds, "--split", "test", "--split", "val", "--prune", "--json"))
    assert (result["unchanged"], result["vanished"]) == (24, 0)
    evaluated = document(run("evaluate", GOLDEN, "--data", birds, "--gallery-split", "train,val", "--json"))
    assert (evaluated["encoded"]["n_gallery"], evaluated["encoded"]["gallery_split"]) == (36, "train,val")
    galleries = [word for split in ("train", "train,test", "test") for word in ("--gallery-split", split)]
    evaluated = document(run("evaluate", GOLDEN, "--data", birds, *galleries, "--json"))
    records = [evaluated["encoded"], *evaluated["further"]]
    assert [record["n_gallery"] for record in records] == [24, 36, 12]
    assert [record["gallery_split"] for record in records] == ["train", "train,test", "test"]
    wrong = run("ingest", GOLDEN, birds, "--split", "test,trian")
    assert (wrong.exit_code, "no photo belongs to the split 'trian'" in wrong.stderr) == (1, True)
    assert "Did you mean train?" in wrong.stderr


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--class-level", "0"), 2, "must be auto, top, leaf, or a number from 1"),
        (("--class-level", "leaves"), 2, "must be auto, top, leaf, or a number from 1"),
        (("--exclude", "../x"), 2, "matches nothing"),
        (("--class-level", "2"), 1, "lies 2 class folders deep, the deepest 1"),
        (("--exclude", "*.jpg"), 1, "left out: 36 *.jpg ("),
        (("--layout", "table"), 1, "expected a file ending in"),
    ],
)
def test_choices_that_cannot_be_are_one_line(
    run: Run, birds: Path, words: tuple[str, ...], code: int, message: str
) -> None:
    result = run("ingest", GOLDEN, birds, *words)
    assert (result.exit_code, message in result.stderr) == (code, True), result.stderr
    assert "Traceback" not in result.stderr


def test_a_wrong_folder_of_photos_for_a_page_is_told(run: Run, birds: Path, tmp_path: Path) -> None:
    copied = birds / "test" / "copy"
    shutil.copytree(next(birds.glob("test/*")), copied)
    assert run("ingest", GOLDEN, birds).exit_code == 0
    search = ("search", "--code", "fff0", "-k", "39", "--html", tmp_path / "hits.html", "--photos")
    dedupe = ("dedupe", "--html", tmp_path / "groups.html", "--photos")
    for words in (search, dedupe):
        wrong = run(*words, birds / "train")
        assert wrong.exit_code == 0
        assert "Warning: none of the " in wrong.stderr
        assert f"is in {birds / 'train'}; expected the folder that was ingested (--photos)\n" in wrong.stderr
        assert run(*words, birds).stderr == ""
    shutil.rmtree(copied)
    assert f"3 of the 39 photos of the page are not in {birds}" in run(*search, birds).stderr
