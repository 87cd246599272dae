"""dedupe and delete on the committed bundle, drawn birds and Milvus Lite; no torch."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from milvus_fghash.dedupe.page import MAX_PHOTOS_PER_GROUP
from tests.helpers.commands import GOLDEN, Run, document

pytestmark = pytest.mark.full


@pytest.fixture
def birds(birds: Path) -> Path:
    """36 drawn birds and copies: two of one photo, one of another."""
    one, other = sorted(birds.glob("test/*/*.jpg"))[:2]
    for name in ("z1.jpg", "z2.jpg"):
        shutil.copy2(one, one.parent / name)
    shutil.copy2(other, other.parent / "z3.jpg")
    return birds


def n_rows(run: Run) -> int:
    return int(document(run("inspect", "--json"))["rows"])


def files(folder: Path) -> list[str]:
    return sorted(path.as_posix() for path in folder.rglob("*"))


def names(group: Any) -> list[str]:
    return [Path(one["path"]).name for one in group["members"]]


def test_copies_are_found(filled: Run) -> None:
    found = document(filled("dedupe", "--max-distance", "0", "--json"))
    exact = [group for group in found["groups"] if group["kind"] == "exact"]
    assert [names(group)[1:] for group in exact] == [["z1.jpg", "z2.jpg"], ["z3.jpg"]]
    assert found["exact"] == {"groups": 2, "rows": 5, "redundant": 3, "confirmed": 3}
    assert (found["n_rows"], found["bits"], found["deletion"]) == (39, 12, None)
    assert "rows" not in found


def test_codes_are_compared_on_request(filled: Run) -> None:
    found = document(filled("dedupe", "--json"))
    assert (found["max_distance"], found["confirmed_within"], found["n_searched"]) == (None, 3, 0)
    assert "near (perceptual hashes at most 3 of 64 bits apart): " in filled("dedupe").stdout


def test_a_table_and_its_counts(filled: Run) -> None:
    result = filled("dedupe", "--max-distance", "0")
    assert result.exit_code == 0
    assert "z1.jpg" in result.stdout
    said = (
        "39 rows; exact: 2 groups, 3 redundant rows; near (perceptual hashes at most 3 of 64 bits apart, or codes at "
    )
    assert f"{said}most 0 of 12 bits apart)" in result.stdout
    assert "deleted" not in result.stdout


def test_nothing_is_written_among_the_photos(run: Run, birds: Path) -> None:
    """The folder is known from --photos, and from the run that took the photos in."""
    assert run("ingest", GOLDEN, birds).exit_code == 0
    photo = min(birds.glob("test/*/*.jpg"))
    before = files(birds), photo.read_bytes()
    for option in ("--out", "--csv", "--html"):
        for photos in (("--photos", birds), ()):
            if option == "--html" and not photos:
                continue
            for place in (photo, birds / "groups.json", birds / "test" / "new" / "groups.json"):
                result = run("dedupe", option, place, *photos)
                assert (result.exit_code, result.stdout) == (1, ""), option
                assert "is inside the photo folder" in result.stderr
            assert (files(birds), photo.read_bytes()) == before
            assert run("dedupe", option, birds / ".work" / "groups", *photos).exit_code == 0
            before = files(birds), photo.read_bytes()


def test_the_list_of_the_photos_stays(run: Run, birds: Path, tmp_path: Path) -> None:
    paths = [path.relative_to(tmp_path).as_posix() for path in sorted(birds.glob("*/*/*.jpg"))]
    (tmp_path / "photos.csv").write_text("\n".join(["path", *paths]))
    assert run("ingest", GOLDEN, "photos.csv").exit_code == 0
    result = run("dedupe", "--csv", "photos.csv")
    assert (result.exit_code, "is the list or the archive of the photos" in result.stderr) == (1, True)
    assert run("dedupe", "--csv", "groups.csv").exit_code == 0
    assert (tmp_path / "photos.csv").read_text().startswith("path\n")


def test_files_hold_what_was_found(filled: Run, birds: Path, tmp_path: Path) -> None:
    before = files(birds)
    words = ["--max-distance", "1", "--out", "g.json", "--csv", "g.csv", "--html", "g.html", "--photos", str(birds)]
    shown = document(filled("dedupe", *words, "--json"))
    written = json.loads((tmp_path / "g.json").read_text())
    assert (len(written.pop("rows")), written.pop("phashes")) == (39, {})
    assert {**written, "deletion": None} == shown
    members = sum(len(group["members"]) for group in shown["groups"])
    with open(tmp_path / "g.csv", newline="") as lines:
        assert len(list(csv.DictReader(lines))) == members
    near = [{one["content_sha"] for one in group["members"]} for group in shown["groups"] if group["kind"] == "near"]
    exact = {group["members"][0]["content_sha"] for group in shown["groups"] if group["kind"] == "exact"}
    pictures = sum(min(len(contents), MAX_PHOTOS_PER_GROUP) for contents in near) + len(exact - set.union(*near))
    assert (tmp_path / "g.html").read_text().count("data:image/jpeg") == pictures
    assert files(birds) == before


def test_going_on_searches_only_what_is_new(filled: Run, birds: Path) -> None:
    full = document(filled("dedupe", "--max-distance", "1", "--out", "g.json", "--json"))
    again = document(filled("dedupe", "--previous", "g.json", "--json"))
    assert (again["n_searched"], again["groups"], again["max_distance"]) == (0, full["groups"], 1)
    shutil.copy(min(birds.glob("train/*/*.jpg")), birds / "train" / "new.jpg")
    assert filled("ingest", GOLDEN, birds).exit_code == 0
    more = document(filled("dedupe", "--previous", "g.json", "--out", "g.json", "--json"))
    assert more["n_searched"] == 1
    assert more["exact"]["groups"] == full["exact"]["groups"] + 1
    assert more["groups"] == document(filled("dedupe", "--max-distance", "1", "--json"))["groups"]


def test_nothing_is_deleted_without_yes(filled: Run, birds: Path) -> None:
    result = filled("dedupe", "--delete", "exact", "--max-distance", "0")
    assert result.exit_code == 0
    assert "3 rows would be deleted; confirm with --yes" in result.stdout
    assert document(filled("dedupe", "--delete", "exact", "--json"))["deletion"]["deleted"] == 0
    assert n_rows(filled) == 39


@pytest.mark.parametrize(("keep", "left"), [("first", ["0001.jpg", "0002.jpg"]), ("last", ["z2.jpg", "z3.jpg"])])
def test_of_each_group_one_row_stays_and_every_file(filled: Run, birds: Path, keep: str, left: list[str]) -> None:
    before = files(birds)
    found = document(filled("dedupe", "--delete", "exact", "--keep", keep, "--yes", "--json"))
    assert found["deletion"]["kinds"] == ["exact"]
    assert (len(found["deletion"]["ids"]), found["deletion"]["deleted"]) == (3, 3)
    kept = {one["id"]: one["path"] for group in found["groups"] for one in group["members"]}
    exact = [group for group in found["groups"] if group["kind"] == "exact"]
    stay = [[one["path"] for one in group["members"] if one["id"] not in found["deletion"]["ids"]] for group in exact]
    first = [group["members"][0 if keep == "first" else -1]["path"] for group in exact]
    assert stay == [[path] for path in first]
    assert keep == "first" or [Path(path).name for path in first] == left
    assert len(kept) >= 5
    assert n_rows(filled) == 36
    assert files(birds) == before
    again = document(filled("dedupe", "--delete", "exact", "--yes", "--json"))
    assert (again["exact"]["groups"], again["deletion"]["deleted"]) == (0, 0)


def test_of_near_groups_only_confirmed_copies_are_deleted(filled: Run, birds: Path) -> None:
    """At one bit, codes of 12 bits bring nearly all birds together: 36 of 39 rows went."""
    near = document(filled("dedupe", "--max-distance", "1", "--json"))["near"]
    assert near["redundant"] > 30
    assert near["confirmed"] == 3  # the equal files
    result = filled("dedupe", "--max-distance", "1")
    assert f"{near['redundant']} redundant rows, 3 of them confirmed copies" in result.stdout
    found = document(filled("dedupe", "--max-distance", "1", "--delete", "near", "--yes", "--json"))
    assert found["deletion"]["deleted"] == len(found["deletion"]["ids"]) == 3
    assert n_rows(filled) == 36
    assert document(filled("dedupe", "--max-distance", "1", "--json"))["near"]["confirmed"] == 0


def test_a_copy_saved_again_is_confirmed(run: Run, birds: Path) -> None:
    photo = min(birds.glob("train/*/*.jpg"))
    with Image.open(photo) as image:
        image.save(photo.with_name("saved again.jpg"), quality=50)
    assert run("ingest", GOLDEN, birds).exit_code == 0
    words = ["dedupe", "--max-distance", "12", "--delete", "near", "--json"]
    found = document(run(*words, "--delete-at-most", "1"))
    again = [one for group in found["groups"] if group["kind"] == "near" for one in group["members"]]
    (key,) = [one["id"] for one in again if one["path"].endswith("saved again.jpg")]
    assert key in found["deletion"]["ids"]
    assert key not in document(run(*words, "--confirm-within", "0", "--keep", "last"))["deletion"]["ids"]


def test_copies_of_another_run_and_folder_are_found(filled: Run, birds: Path, tmp_path: Path) -> None:
    """By their perceptual hashes: no code is compared, in a full search or after an earlier one."""
    photo = min(birds.glob("train/*/*.jpg"))
    filled("dedupe", "--out", "g.json")
    (tmp_path / "second").mkdir()
    with Image.open(photo) as image:
        image.resize((image.width // 2, image.height // 2)).save(tmp_path / "second" / "small.jpg", quality=80)
    assert filled("ingest", GOLDEN, tmp_path / "second", "--namespace", "second").exit_code == 0
    for words in ([], ["--previous", "g.json"]):
        found = document(filled("dedupe", *words, "--json"))
        (group,) = [group for group in found["groups"] if "small.jpg" in names(group)]
        assert sorted(names(group)) == sorted([photo.name, "small.jpg"])
        assert (group["kind"], group["confirmed"], found["n_searched"]) == ("near", 1, 0)


def test_a_brake_on_what_goes(filled: Run, tmp_path: Path) -> None:
    words = ["dedupe", "--delete", "exact", "--max-distance", "0", "--delete-at-most", "0.05", "--out", "g.json"]
    result = filled(*words)
    assert (result.exit_code, n_rows(filled)) == (0, 39)
    assert "3 rows would be deleted; confirm with --yes\nThat is more than --delete-at-most 0.05" in result.stdout
    result = filled(*words, "--yes")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.count("\n") == 1
    assert "3 of 39 rows of photos would be deleted, more than the allowed fraction 0.05" in result.stderr
    assert "(--delete-at-most)" in result.stderr
    assert (tmp_path / "g.json").exists()  # what was found is on record all the same
    assert n_rows(filled) == 39
    assert filled(*words, "--yes", "--delete-at-most", "0.08").exit_code == 0
    assert n_rows(filled) == 36


def test_a_collection_made_before_is_confirmed_by_its_photos(run: Run, birds: Path, tmp_path: Path) -> None:
    """They lie where the run took them from, or in --photos."""
    assert run("ingest", GOLDEN, birds, "--no-phash").exit_code == 0
    assert document(run("inspect", "--json"))["phash"] is False
    words = ["dedupe", "--max-distance", "1", "--json"]
    assert document(run(*words))["n_without_phash"] == 0
    moved = birds.rename(tmp_path / "moved")
    found = document(run(*words))
    assert found["n_without_phash"] == found["n_rows"]
    assert "no perceptual hash is known" in found["note"]
    assert found["near"]["confirmed"] == 3  # equal files need no photo
    assert "no perceptual hash" in run("dedupe", "--max-distance", "1").stdout
    assert document(run(*words, "--photos", moved))["n_without_phash"] == 0
    result = run("ingest", GOLDEN, moved, "--phash")
    assert result.exit_code == 1
    assert "was created without phash, which cannot be changed" in result.stderr


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--html", "g.html"], 2, "--html needs --photos"),
        (["--yes"], 2, "--yes needs --delete exact or --delete near"),
        (["--delete", "all"], 2, "'exact', 'near'"),
        (["--out", "birds"], 2, "is a folder"),
        (["--csv", "birds"], 2, "is a folder"),
        (["--max-distance", "13"], 1, "0 to 12, the code length"),
        (["--collection-name", "fotos"], 1, "Did you mean photos?"),
        (["--previous", "milvus-fghash.db"], 1, "is not valid JSON"),
    ],
)
def test_what_cannot_be_is_one_line(filled: Run, words: list[str], code: int, message: str) -> None:
    result = filled("dedupe", *words)
    assert result.exit_code == code
    assert message in result.stderr
    assert code == 2 or result.stderr.count("\n") == 1


def test_an_earlier_result_of_another_model_is_rejected(filled: Run, tmp_path: Path) -> None:
    document(filled("dedupe", "--out", "g.json", "--json"))
    values = json.loads((tmp_path / "g.json").read_text())
    (tmp_path / "g.json").write_text(json.dumps({**values, "fingerprint": "0" * 64}))
    result = filled("dedupe", "--previous", "g.json")
    assert result.exit_code == 1
    assert "the earlier result has the model 000000000000" in result.stderr


def test_delete_by_id_and_file(filled: Run, birds: Path, tmp_path: Path) -> None:
    before = files(birds)
    hits = document(filled("search", "--code", "fff0", "-k", "3", "--json"))[0]["hits"]
    one, two, three = (hit["id"] for hit in hits)
    (tmp_path / "ids.txt").write_text(f"{two}\n{three}\nnobody\n")
    words = ["delete", "--id", one, "--ids-file", "ids.txt"]
    wanted = document(filled(*words, "--json"))
    assert wanted == {"collection": "photos", "found": 3, "missing": 1, "deleted": 0, "rows_in_collection": 39}
    result = filled(*words)
    assert result.exit_code == 0
    assert "3 rows would be deleted; confirm with --yes" in result.stdout
    assert n_rows(filled) == 39
    done = document(filled(*words, "--yes", "--json"))
    assert done == {"collection": "photos", "found": 3, "missing": 1, "deleted": 3, "rows_in_collection": 36}
    assert filled("search", "--id", two).exit_code == 1
    assert files(birds) == before


def test_delete_by_filter(filled: Run, birds: Path) -> None:
    result = filled("delete", "--filter", 'meta["split"] == "test"', "--yes")
    assert result.exit_code == 0
    assert "would be" not in result.stdout
    assert n_rows(filled) == 24
    assert document(filled("delete", "--filter", 'meta["split"] == "test"', "--yes", "--json"))["deleted"] == 0


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ([], 2, "select the rows either by"),
        (["--yes"], 2, "select the rows either by"),
        (["--id", "7", "--filter", 'label == "x"'], 2, "select the rows either by"),
        (["--filter", "label =="], 1, "at its end: expected a column or a value"),
        (["--filter", ""], 1, "matches every row"),
        (["--filter", "label == 'x')"], 1, "no open bracket matches"),
        (["--ids-file", "empty.txt"], 1, "there is no id in empty.txt"),
        (["--id", "7", "--collection-name", "fotos"], 1, "Did you mean photos?"),
    ],
)
def test_a_deletion_that_cannot_be_is_one_line(
    filled: Run, tmp_path: Path, words: list[str], code: int, message: str
) -> None:
    (tmp_path / "empty.txt").write_text("\n")
    result = filled("delete", *words, *(["--yes"] if code == 1 else []))
    assert result.exit_code == code
    assert message in result.stderr
    assert code == 2 or result.stderr.count("\n") == 1
    assert n_rows(filled) == 39


def test_deleting_makes_no_milvus_lite_file(run: Run, tmp_path: Path) -> None:
    for words in (["delete", "--id", "7", "--yes"], ["dedupe"]):
        result = run(*words)
        assert result.exit_code == 1
        assert "there is no Milvus Lite file" in result.stderr
    assert list(tmp_path.iterdir()) == []
