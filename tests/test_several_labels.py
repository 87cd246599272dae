"""Photos with several labels from NUS-WIDE's files to hits: train, export, ingest, search, evaluate, compare."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import milvus_fghash as fg
from milvus_fghash.core.codes import hamming
from milvus_fghash.core.labels import share_label, split_labels
from milvus_fghash.errors import DataError
from milvus_fghash.methods import METHODS
from milvus_fghash.recipes.loader import load_recipe
from milvus_fghash.training.checkpoint import load_checkpoint
from milvus_fghash.training.run import run_training
from tests.helpers.commands import Run, document, release_databases
from tests.helpers.grid_commands import words

pytestmark = pytest.mark.full

COLOURS = {"fire": (230, 60, 30), "grass": (40, 200, 40), "sky": (90, 150, 250)}
SETS = ("fire", "grass", "sky", "fire grass", "fire sky", "grass sky")
BITS = 12
QUICK = ("preprocessing.size=32", "preprocessing.resize=32", "augmentation.scale=[0.9,1.0]", "training.rounds=2",
         "training.epochs_per_round=1", "training.batch_size=8")  # fmt: skip
SUPERVISED = [name for name, card in METHODS.items() if card.several_labels]


@pytest.fixture(scope="module")
def nus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """36 photos to train on and 18 to ask with, a stripe in the colour of each label; one listed photo is missing."""
    root = tmp_path_factory.mktemp("nus")
    rng = np.random.default_rng(0)
    lists: dict[str, list[str]] = {"Imagelist": [], "TrainImagelist": [], "TestImagelist": []}
    flags: dict[str, list[str]] = {name: [] for name in COLOURS}
    (root / "Flickr" / "all").mkdir(parents=True)
    for number in range(55):
        names = SETS[number % len(SETS)].split()
        line = f"all\\{number:04}.jpg"
        lists["Imagelist"].append(line)
        lists["TestImagelist" if number % 18 >= 12 else "TrainImagelist"].append(line)
        for name, column in flags.items():
            column.append(str(int(name in names)))
        if number < 54:  # the last one is listed only
            pixels = rng.integers(0, 256, (32, 32, 3)).astype(np.uint8)
            for place, name in enumerate(rng.permutation(names)):
                pixels[4 + 14 * place : 14 + 14 * place] = COLOURS[name]
            Image.fromarray(pixels).save(root / "Flickr" / "all" / f"{number:04}.jpg", quality=95)
    (root / "ImageList").mkdir()
    (root / "Groundtruth" / "AllLabels").mkdir(parents=True)
    (root / "Concepts81.txt").write_text("".join(f"{name}\n" for name in COLOURS))
    for name, lines in lists.items():
        (root / "ImageList" / f"{name}.txt").write_text("".join(f"{line}\n" for line in lines))
    for name, column in flags.items():
        (root / "Groundtruth" / "AllLabels" / f"Labels_{name}.txt").write_text("".join(f"{flag}\n" for flag in column))
    return root


@pytest.fixture(scope="module")
def bundle(nus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of `fcaenet`, which has learned codes and draws positives."""
    folder = tmp_path_factory.mktemp("training")
    recipe = load_recipe("demo-fcaenet", (*QUICK, "training.rounds=3", "data.validation=0.2"))
    run_training(recipe, BITS, fg.read_dataset(nus), folder / "run", device="cpu")
    fg.export(folder / "run", folder / "bundle", check_count=4)
    return folder / "bundle"


@pytest.fixture(scope="module")
def catalog(nus: Path, bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[fg.Catalog]:
    folder = tmp_path_factory.mktemp("lite")
    with fg.Catalog.open(folder / "nus.db", "nus", bundle=bundle) as opened:
        opened.ingest(nus, split="train", options=fg.IngestOptions(workers=0))
        yield opened
    release_databases(folder)


def slow_map(queries: np.ndarray, query_labels: list[str], gallery: np.ndarray, gallery_labels: list[str]) -> float:
    """mAP over 200 random orders of ties."""
    rng = np.random.default_rng(1)
    found = []
    for code, label in zip(queries, query_labels, strict=True):
        distances = hamming(code[None], gallery)[0]
        relevant = np.array([share_label(label, other) for other in gallery_labels])
        for _ in range(200):
            ranked = relevant[np.lexsort((rng.random(len(gallery)), distances))]
            ranks = np.flatnonzero(ranked)
            found.append((np.arange(1, len(ranks) + 1) / (ranks + 1)).mean())
    return float(np.mean(found))


def test_rows_have_all_labels_and_a_filter_finds_each(catalog: fg.Catalog, nus: Path) -> None:
    photos = fg.read_dataset(nus, split="train")
    assert catalog.count() == len(photos) == 36  # the missing one was to train on, too
    rows = {row.path: row for part in catalog.collection.scan() for row in part}
    for path, label in zip(photos.paths, photos.labels, strict=True):
        assert rows[path].label == label
        assert rows[path].meta["labels"] == list(split_labels(label))
    hits = catalog.search(nus / photos.paths[0], k=36, filter='json_contains(meta["labels"], "sky")')
    assert {hit.path for hit in hits} == {path for path, row in rows.items() if "sky" in row.label}
    assert {hit.labels for hit in hits} == {("sky",), ("fire", "sky"), ("grass", "sky")}


def test_a_second_ingest_writes_nothing_and_verify_agrees(catalog: fg.Catalog, nus: Path) -> None:
    again = catalog.ingest(nus, split="train", options=fg.IngestOptions(workers=0))
    assert (again.stored, again.unchanged) == (0, 36)
    assert catalog.verify(nus, split="train").is_consistent


def test_photos_are_added_with_several_labels(catalog: fg.Catalog, nus: Path) -> None:
    done = catalog.add({"new.jpg": nus / "Flickr/all/0000.jpg"}, labels={"new.jpg": ["sky", "fire"]})
    (row,) = catalog.get(list(done.ids.values()))
    assert (row.label, row.meta["labels"]) == ("|fire|sky|", ["fire", "sky"])
    catalog.delete(list(done.ids.values()))
    with pytest.raises(DataError, match="must be a string or a list of strings, got int"):
        catalog.add({"new.jpg": nus / "Flickr/all/0000.jpg"}, labels={"new.jpg": 7})  # type: ignore[dict-item]


def test_the_figures_are_those_of_shared_labels(catalog: fg.Catalog, bundle: Path, nus: Path) -> None:
    encoder = fg.Encoder.open(bundle)
    parts = [fg.read_dataset(nus, split=split) for split in ("test", "train")]
    codes = [encoder.encode_files([part.file(row) for row in range(len(part))]).codes for part in parts]
    expected = slow_map(codes[0], list(parts[0].labels), codes[1], list(parts[1].labels))
    figures = catalog.evaluate(nus)
    assert figures.encoded.map_exact == pytest.approx(expected, abs=0.01)
    assert "shares a label with the query" in figures.encoded.relevance
    assert (figures.encoded.n_classes, figures.encoded.queries_without_relevant) == (3, 0)
    assert figures.encoded.training_overlap is not None
    assert figures.encoded.training_overlap.new_classes == 0


def test_learned_codes_belong_to_their_photos(bundle: Path, nus: Path) -> None:
    learned = fg.read_bundle(bundle).learned()
    assert learned is not None
    label_of = dict(zip(fg.read_dataset(nus).ids, fg.read_dataset(nus).labels, strict=True))
    assert 0 < len(learned.ids) < 36  # some were held out for validation
    assert [label_of[key] for key in learned.ids] == list(learned.labels)


@pytest.mark.parametrize("name", SUPERVISED)
def test_each_method_for_several_labels_trains_on_them(name: str, nus: Path, tmp_path: Path) -> None:
    photos = fg.read_dataset(nus, split="train").take(range(24))
    run_training(load_recipe(f"demo-{name}", (*QUICK, "training.rounds=1")), BITS, photos, tmp_path, device="cpu")
    checkpoint = load_checkpoint(tmp_path)
    assert checkpoint.state.classes == ("fire", "grass", "sky")
    assert checkpoint.method.sizes.n_labels == 6
    assert all(np.isfinite(value) for value in checkpoint.state.history[-1].terms.values())


@pytest.mark.parametrize("name", sorted({name for name, card in METHODS.items() if card.labels} - set(SUPERVISED)))
def test_the_others_say_which_methods_can(name: str, nus: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"several labels each, and {name} learns from one class .* csq"):
        run_training(load_recipe(f"demo-{name}", QUICK), BITS, fg.read_dataset(nus), tmp_path / "run", device="cpu")


def test_compare(run: Run, nus: Path, tmp_path: Path) -> None:
    grid = ("--methods", "itq,csq", "--bits", "8", "--seeds", "1", "--heads", "linear", "--trials", "1")
    result = run("compare", *words(nus, tmp_path / "out", *grid))
    assert result.exit_code == 0, result.stderr
    assert "shares a label with the query" in (tmp_path / "out/table.md").read_text()
    photos = fg.read_dataset(nus)
    labels = [list(photos.split(split).labels) for split in ("test", "train")]
    cells = [json.loads(line) for line in (tmp_path / "out/cells.jsonl").read_text().splitlines()]
    assert {cell["identity"]["recipe"]["method"]["name"] for cell in cells} == {"itq", "csq"}
    for cell in cells:
        with np.load(tmp_path / f"out/codes/{cell['name']}.npz") as stored:
            expected = slow_map(stored["queries"], labels[0], stored["encoded"], labels[1])
        assert cell["encoded"]["map_exact"] == pytest.approx(expected, abs=0.01)


def test_the_frequent_concepts_are_chosen_by_their_layout(run: Run, nus: Path, bundle: Path) -> None:
    result = run("ingest", bundle, nus, "--layout", "nus-wide-21")
    assert result.exit_code != 0
    assert "Labels_animal.txt; was the ground truth of NUS-WIDE unpacked completely?" in result.stderr
    result = run("ingest", bundle, nus, "--layout", "nus-wide", "--split", "test", "--json", "--workers", "0")
    assert document(result)["stored"] == 18
