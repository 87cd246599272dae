"""Search, evaluate, inspect and collections on the committed bundle, drawn birds and Milvus Lite; no torch."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from milvus_fghash.cli.ingest import ingest
from milvus_fghash.encoding.decode_options import DECODE_TIMEOUT
from milvus_fghash.encoding.encoder import Encoder
from tests.helpers.commands import GOLDEN, Run, document
from tests.helpers.html_page import Page

pytestmark = pytest.mark.full


def test_an_empty_folder_is_one_line_and_makes_nothing(run: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    result = run("ingest", GOLDEN, "empty")
    assert result.exit_code == 1
    assert result.stderr == "Error: no photos found in empty\n"
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_a_report_replaces_no_photo_and_no_list(run: Run, birds: Path, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text(f"path\n{min(birds.rglob('*.jpg')).relative_to(tmp_path)}\n")
    (tmp_path / "other").mkdir()
    before = sorted((path, path.is_file() and path.read_bytes()) for path in tmp_path.rglob("*"))
    for source, report, why in (
        (birds, birds, "is the folder of the photos"),
        (birds, min(birds.rglob("*.jpg")), "is one of the photos"),
        (birds, birds / "train" / "new.jsonl", "lies among the photos"),
        (tmp_path / "list.csv", tmp_path / "list.csv", "is the list or the archive of the photos"),
        (tmp_path / "list.csv", tmp_path / "other", "cannot write"),
    ):
        result = run("ingest", GOLDEN, source, "--report", report)
        assert result.exit_code == 1
        assert why in result.stderr
        assert sorted((path, path.is_file() and path.read_bytes()) for path in tmp_path.rglob("*")) == before


def test_an_embedding_that_the_bundle_does_not_have_is_no_wish_to_forget(
    run: Run, birds: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Encoder, "embedding_dim", None)
    result = run("ingest", GOLDEN, birds, "--embedding")
    assert result.exit_code == 1
    assert "has no embedding; export it again with one" in result.stderr


def test_what_an_existing_collection_does_not_have_is_told(filled: Run, birds: Path) -> None:
    result = filled("ingest", GOLDEN, birds, "--code-hex", "--embedding", "--index", "bin_flat")
    assert result.exit_code == 1
    assert (
        "the collection photos was created without code_hex and without embeddings, which cannot be changed"
        in result.stderr
    )
    result = filled("ingest", GOLDEN, birds, "--index", "bin_ivf_flat")
    assert result.exit_code == 1
    assert "was created with the index BIN_FLAT" in result.stderr
    assert filled("ingest", GOLDEN, birds, "--index", "bin_flat").exit_code == 0


def test_the_own_ids_of_a_list_are_searched_by_and_deleted(run: Run, birds: Path, tmp_path: Path) -> None:
    photos = sorted(birds.rglob("test/*/*.jpg"))[:3]
    lines = [f"{path.relative_to(tmp_path)},{own}" for path, own in zip(photos, ("SKU-1", "1002", ""), strict=True)]
    (tmp_path / "list.csv").write_text("\n".join(["path,id", *lines]))
    for space in ("", "shop"):
        assert document(run("ingest", GOLDEN, "list.csv", "--namespace", space, "--json"))["stored"] == 3
    words = ["search", "--id", "SKU-1", "--id", "1002", "--namespace", "shop", "--max-distance", "0"]
    found = document(run(*words, "--json"))
    for one, path in zip(found, photos, strict=False):
        (hit,) = (h for h in one["hits"] if (h["own_id"], h["meta"].get("namespace")) == (one["query"], "shop"))
        assert hit["path"] == path.relative_to(tmp_path).as_posix()
    assert "own id" in (shown := run(*words).stdout)
    assert "SKU-1" in shown
    assert "2 rows of photos have the own id 'SKU-1'" in run("search", "--id", "SKU-1").stderr
    (tmp_path / "ids").write_text("SKU-1\r\n1002\r\nSKU-3\r\n", encoding="utf-8-sig")
    gone = document(run("delete", "--ids-file", "ids", "--namespace", "", "--yes", "--json"))
    assert (gone["deleted"], gone["missing"], gone["rows_in_collection"]) == (2, 1, 4)
    assert run("delete", "--filter", 'label == ""', "--namespace", "shop").exit_code == 2


def test_an_evaluation_knows_before_the_work_where_it_cannot_write(run: Run, birds: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for words in (["--out", tmp_path], ["--plots", tmp_path / "file"]):
        result = run("evaluate", GOLDEN, "--data", birds, *words)
        assert result.exit_code == 2
        assert result.stdout == ""


@pytest.mark.parametrize("words", [["--workers", "0"], ["--workers", "1", "--decode-timeout", "20"]])
def test_ingest_decodes_here_or_in_workers(run: Run, birds: Path, words: list[str]) -> None:
    assert document(run("ingest", GOLDEN, birds, "--split", "test", "--json", *words))["stored"] == 12


@pytest.mark.parametrize("words", [["--workers", "-1"], ["--decode-timeout", "0"]])
def test_decoding_that_cannot_be_asked_for_is_wrong_usage(run: Run, birds: Path, words: list[str]) -> None:
    assert run("ingest", GOLDEN, birds, *words).exit_code == 2


def test_the_timeout_of_the_command_is_that_of_the_library() -> None:
    (option,) = (one for one in ingest.params if one.name == "decode_timeout")
    assert option.default == DECODE_TIMEOUT


def test_ingest_takes_one_split_and_names_the_others(run: Run, birds: Path) -> None:
    assert document(run("ingest", GOLDEN, birds, "--split", "test", "--json"))["stored"] == 12
    result = run("ingest", GOLDEN, birds, "--split", "tset")
    assert result.exit_code == 1
    assert "Did you mean test?" in result.stderr


def test_dropping_needs_yes(filled: Run, birds: Path) -> None:
    result = filled("ingest", GOLDEN, birds, "--drop-if-exists")
    assert result.exit_code == 2
    assert document(filled("inspect", "--json"))["rows"] == 36
    again = document(filled("ingest", GOLDEN, birds, "--split", "test", "--drop-if-exists", "--yes", "--json"))
    assert again["rows_in_collection"] == 12


def test_milvus_lite_has_no_bin_ivf_flat(run: Run, birds: Path) -> None:
    result = run("ingest", GOLDEN, birds, "--index", "bin_ivf_flat")
    assert result.exit_code == 1
    assert "BIN_IVF_FLAT" in result.stderr
    assert document(run("collections", "list", "--json")) == []


def test_collections_are_listed_and_dropped(filled: Run) -> None:
    (only,) = document(filled("collections", "list", "--json"))
    assert (only["name"], only["rows"], only["index"], only["bits"]) == ("photos", 36, "BIN_FLAT", 12)
    assert filled("collections", "drop", "photos", "--yes").exit_code == 0
    assert document(filled("collections", "list", "--json")) == []


@pytest.mark.parametrize("words", [["list"], ["drop", "photos", "--yes"]])
def test_collections_takes_no_collection_name_beside_its_own(filled: Run, words: list[str], tmp_path: Path) -> None:
    result = filled("collections", *words, "--collection-name", "other")
    assert result.exit_code == 2
    assert "No such option" in result.stderr
    assert "--collection-name" in result.stderr
    settings = tmp_path / "settings.toml"
    settings.write_text('[milvus]\ncollection_name = "other"\n')  # of all commands: it may well be there
    assert filled("collections", *words, "--config", str(settings)).exit_code == 0


def test_a_photo_finds_itself_first(filled: Run, birds: Path) -> None:
    photo = min(birds.glob("test/*/*.jpg"))
    (answer,) = document(filled("search", GOLDEN, "--image", photo, "-k", "36", "--json"))
    assert (answer["by"], answer["query"]) == ("image", str(photo))
    nearest = [hit["path"] for hit in answer["hits"] if hit["distance"] == 0]
    assert photo.relative_to(birds).as_posix() in nearest
    assert [hit["distance"] for hit in answer["hits"]] == sorted(hit["distance"] for hit in answer["hits"])


def test_photo_id_and_code_give_the_same_hits(filled: Run, birds: Path) -> None:
    photo = min(birds.glob("test/*/*.jpg"))
    (by_photo,) = document(filled("search", GOLDEN, "--image", photo, "-k", "36", "--json"))
    path = photo.relative_to(birds).as_posix()
    key = next(hit["id"] for hit in by_photo["hits"] if hit["path"] == path)
    (by_id,) = document(filled("search", "--id", key, "-k", "36", "--json"))
    assert by_id["hits"] == by_photo["hits"]


def test_a_distance_limit_includes_its_distance(filled: Run, birds: Path) -> None:
    photo = min(birds.glob("test/*/*.jpg"))
    everything, near = (
        document(filled("search", GOLDEN, "--image", photo, "-k", "36", "--json", *limit))[0]["hits"]
        for limit in ([], ["--max-distance", "2"])
    )
    assert near == [hit for hit in everything if hit["distance"] <= 2]


def test_several_queries_are_one_document(filled: Run) -> None:
    answers = document(filled("search", "--code", "fff0", "--code", "0000", "-k", "1", "--json"))
    assert [answer["query"] for answer in answers] == ["fff0", "0000"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--code", "ffff"], "last 4 bits"),
        (["--code", "ff"], "4"),
        (["--id", "nobody"], "no row with the id 'nobody'"),
        (["--code", "fff0", "--filter", "label ="], "The columns are id, path, label, content_sha, meta"),
        (["--code", "fff0", "--nprobe", "3"], "nprobe does not apply"),
        (["--code", "fff0", "--collection-name", "fotos"], "Did you mean photos?"),
    ],
)
def test_a_search_that_cannot_be_is_one_line(filled: Run, words: list[str], message: str) -> None:
    result = filled("search", *words)
    assert result.exit_code == 1
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("words", [[], ["--image", "photo.jpg"], ["--code", "fff0", "--html", "hits.html"]])
def test_a_search_without_what_it_needs_is_wrong_usage(filled: Run, tmp_path: Path, words: list[str]) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"")
    assert filled("search", *words).exit_code == 2


def test_the_html_page_stands_alone(filled: Run, birds: Path, tmp_path: Path) -> None:
    photo = min(birds.glob("test/*/*.jpg"))
    words = ["--image", str(photo), "-k", "5", "--html", "hits.html", "--photos", str(birds)]
    assert filled("search", GOLDEN, *words).exit_code == 0
    page = Page.read(tmp_path / "hits.html")
    page.check_self_contained()
    assert len(page.sources) == 6
    assert "Collection photos" in page.text
    assert " class " not in page.text, "the class of a photo is not known"


def test_the_html_page_of_a_row_shows_its_photo_and_marks_its_class(filled: Run, birds: Path, tmp_path: Path) -> None:
    hits = document(filled("search", "--code", "fff0", "-k", "39", "--json"))[0]["hits"]
    to_page = ("--html", "hits.html", "--photos", birds)
    assert filled("search", "--id", hits[0]["id"], "-k", "39", "--filter", "label != ''", *to_page).exit_code == 0
    page = Page.read(tmp_path / "hits.html")
    right = sum(hit["label"] == hits[0]["label"] for hit in hits)
    assert (page.kinds.count("right"), page.kinds.count("wrong")) == (right, len(hits) - right)
    assert page.text.count("right class") == right
    assert len(page.sources) == 1 + len(hits)
    assert "Filter label != ''" in page.text
    assert "--" not in page.text


def test_a_table_says_what_may_be_missing(filled: Run) -> None:
    result = filled("search", "--code", "fff0", "-k", "1")
    assert result.exit_code == 0
    assert "--complete-ties" in result.stdout


def test_evaluation_of_photos_and_of_the_collection_agree(filled: Run, birds: Path, tmp_path: Path) -> None:
    filled("ingest", GOLDEN, birds, "--split", "train", "--collection-name", "gallery")
    words = ["evaluate", str(GOLDEN), "--data", str(birds), "--json"]
    plain = document(filled(*words, "--out", "record.json"))["encoded"]
    stored = document(filled(*words, "--collection-name", "gallery"))["encoded"]
    figures = ["map_exact", "precision_at", "recall_at", "same_class_distances", "n_gallery", "n_queries"]
    assert {name: plain[name] for name in figures} == {name: stored[name] for name in figures}
    assert json.loads((tmp_path / "record.json").read_text())["encoded"] == plain


def test_evaluation_counts_what_it_cannot_read(run: Run, birds: Path) -> None:
    (min(birds.glob("test/*/*.jpg")).parent / "empty.jpg").write_bytes(b"")
    words = ["evaluate", str(GOLDEN), "--data", str(birds)]
    result = run(*words, "--json")
    assert result.exit_code == 3
    found, named, last = result.stderr.splitlines()
    assert found == f"37 photos in {birds}; 4 classes (from the folder of each photo); splits: test 13, train 24"
    assert "query photo" in named
    assert "empty.jpg rejected (empty)" in named
    assert last.startswith("Error: 1 photos could not be read and were not evaluated, 0 are allowed")
    assert json.loads(result.stdout)["encoded"]["rejected_queries"] == 1
    assert run(*words, "--max-errors", "1").exit_code == 0


def test_evaluation_has_a_dash_where_there_are_no_learned_codes(filled: Run, birds: Path) -> None:
    result = filled("evaluate", GOLDEN, "--data", birds, "--collection-name", "photos")
    assert result.exit_code == 0
    (row,) = [line.split() for line in result.stdout.splitlines() if " learned " in line and " - " in line]
    assert row[1:4] == ["12", "learned", "-"]
    assert set(row[3:]) == {"-"}


def test_evaluation_takes_one_gallery(filled: Run, birds: Path) -> None:
    words = ["evaluate", str(GOLDEN), "--data", str(birds), "--collection-name", "photos", "--gallery-split", "train"]
    assert filled(*words).exit_code == 2


@pytest.mark.parametrize("command", ["inspect", "ingest", "search"])
def test_a_changed_bundle_is_rejected(run: Run, birds: Path, tmp_path: Path, command: str) -> None:
    bundle = Path(shutil.copytree(GOLDEN, tmp_path / "bundle"))
    with open(bundle / "encoder.onnx", "ab") as graph:
        graph.write(b"more")
    photo = min(birds.glob("test/*/*.jpg"))
    rest: dict[str, list[str | Path]] = {"inspect": [], "ingest": [birds], "search": ["--image", photo]}
    result = run(command, bundle, *rest[command])
    assert result.exit_code == 1
    assert "Traceback" not in result.stderr


def test_inspect_says_what_it_looks_at(filled: Run) -> None:
    assert document(filled("inspect", GOLDEN, "--json"))["kind"] == "bundle"
    collection = document(filled("inspect", "--json"))
    assert (collection["kind"], collection["rows"]) == ("collection", 36)
    assert collection["fingerprint"] == document(filled("inspect", GOLDEN, "--json"))["fingerprint"]
