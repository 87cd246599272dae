"""Training on photos with few labels or none, and on the user's own catalog: from the outside, on drawn birds."""

from __future__ import annotations

import csv
import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import milvus_fghash as fg
from milvus_fghash.core.codes import unpack
from milvus_fghash.core.images import load
from milvus_fghash.datasets.dataset import Dataset
from milvus_fghash.encoding.encoder import Encoder
from milvus_fghash.errors import ConfigError, DataError
from milvus_fghash.recipes.schema import DataChoice
from milvus_fghash.training.checkpoint import RoundRecord, load_checkpoint
from milvus_fghash.training.run import Watcher
from milvus_fghash.training.training_set import sample_photos, training_set
from tests.helpers.commands import Run, release_databases
from tests.helpers.demo_recipe import FROZEN, QUICK, recipe, weights

pytestmark = pytest.mark.full

FLAGSHIP = recipe("posterior-itq", "method.options.photos_per_cluster=4")
LABELS_NEEDED = r"have no class, and fcaenet needs one for each: .* Without labels, use posterior-itq or itq"


class KilledError(Exception):
    """Stands for a kill after the first round."""


def kill(record: RoundRecord, rounds: int) -> None:
    raise KilledError


def train(photos: Dataset | Path | None, out: Path, **options: object) -> tuple[Path, list[str]]:
    """The checkpoint, and what was said."""
    said: list[str] = []
    options = {"bits": 16, "device": "cpu", "watcher": Watcher(notify=said.append), **options}
    return fg.train(FLAGSHIP, photos, out=out, **options), said  # type: ignore[arg-type]


@pytest.fixture
def flat(drawn_birds: Dataset, tmp_path: Path) -> Path:
    """24 photos in one folder, without classes."""
    folder = tmp_path / "flat"
    folder.mkdir()
    photos = drawn_birds.split("train")
    for row in range(len(photos)):
        shutil.copy(photos.file(row), folder / f"{row:02}.jpg")
    return folder


def relabelled(photos: Dataset, known: set[str]) -> Dataset:
    return replace(photos, labels=tuple(label if label in known else "" for label in photos.labels))


def test_a_folder_without_classes_is_trained_on_exported_and_searched(flat: Path, tmp_path: Path) -> None:
    checkpoint, said = train(flat, tmp_path / "run")
    assert "none of the 24 training photos has a class; they are divided into clusters" in said
    loaded = load_checkpoint(checkpoint)
    assert loaded.state.classes == ()
    assert loaded.record["photos_without_class"] == 24
    targets = loaded.method.targets
    assert isinstance(targets, torch.Tensor)
    assert torch.unique(targets).tolist() == list(range(6))
    bundle = fg.export(checkpoint, tmp_path / "bundle", check_count=4)
    files = sorted(flat.iterdir())
    codes = Encoder.open(bundle.path).encode_files(files).codes
    pixels = np.stack([load(file, loaded.state.recipe.preprocessing) for file in files])
    with torch.no_grad():
        images = loaded.method.backbone.normalise(torch.from_numpy(pixels).permute(0, 3, 1, 2))
        outputs = loaded.method(images).numpy()
    clear = np.abs(outputs) > 1e-4 * np.abs(outputs).max()
    assert (unpack(codes, 16) == (outputs > 0))[clear].all()
    with fg.Catalog.open(tmp_path / "birds.db", bundle=bundle.path) as catalog:
        assert catalog.ingest(flat).stored == 24
        assert catalog.search(files[5], k=1)[0].distance == 0
    release_databases(tmp_path)


def test_labels_of_a_part_of_a_list_are_used(drawn_birds: Dataset, tmp_path: Path) -> None:
    photos = drawn_birds.split("train")
    with (tmp_path / "list.csv").open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(("path", "label"))
        for row in range(len(photos)):
            lines.writerow((photos.file(row), photos.labels[row] if row % 6 < 3 else ""))
    root = Path(shutil.copytree(drawn_birds.root, tmp_path / "photos"))
    text = (tmp_path / "list.csv").read_text().replace(f"{drawn_birds.root}", "photos")
    (tmp_path / "list.csv").write_text(text)
    assert root.is_dir()
    checkpoint, said = train(tmp_path / "list.csv", tmp_path / "run")
    assert "12 of 24 training photos have a class; the others are divided into clusters" in said
    loaded = load_checkpoint(checkpoint)
    assert loaded.state.classes == photos.classes
    targets = loaded.method.targets
    assert isinstance(targets, torch.Tensor)
    labelled = torch.tensor([bool(label) for label in loaded.state.train_labels])
    assert bool((targets[labelled] < 4).all())
    assert bool((targets[~labelled] >= 4).all())


@pytest.mark.parametrize("changes", [(), FROZEN[:3]], ids=["whole network", "frozen backbone"])
def test_one_class_among_photos_without_is_enough_and_training_resumes(
    drawn_birds: Dataset, tmp_path: Path, changes: tuple[str, ...]
) -> None:
    photos = relabelled(drawn_birds, {drawn_birds.classes[0]})
    plan = recipe("posterior-itq", *changes)
    options = {"bits": 16, "device": "cpu"}
    whole = fg.train(plan, photos, out=tmp_path / "whole", **options)  # type: ignore[arg-type]
    with pytest.raises(KilledError):
        fg.train(plan, photos, out=tmp_path / "two", watcher=Watcher(round=kill), **options)  # type: ignore[arg-type]
    resumed = fg.train(plan, photos, out=tmp_path / "two", resume=True, **options)  # type: ignore[arg-type]
    first, second = weights(whole), weights(resumed)
    assert load_checkpoint(whole).state.classes == drawn_birds.classes[:1]
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_only_labelled_photos_are_held_out_for_validation(drawn_birds: Dataset) -> None:
    photos = relabelled(drawn_birds, {drawn_birds.classes[0], drawn_birds.classes[1]})
    selected = training_set(photos, None, DataChoice(validation=0.34), 0)
    assert selected.held_out is not None
    assert (len(selected.photos), len(selected.held_out)) == (20, 4)
    assert "" not in selected.held_out.labels
    assert not set(selected.photos.ids) & set(selected.held_out.ids)
    with pytest.raises(DataError, match=r"no training photo has a class: none can be held out. Set data.validation=0"):
        training_set(relabelled(drawn_birds, set()), None, DataChoice(validation=0.34), 0)


def test_the_map_of_validation_photos_counts_no_photo_without_a_class(drawn_birds: Dataset, tmp_path: Path) -> None:
    photos = relabelled(drawn_birds, set(drawn_birds.classes[:2]))
    checkpoint, _ = train(photos, tmp_path / "run")
    plan = recipe("posterior-itq", "data.validation=0.34")
    seen: list[float | None] = []
    watcher = Watcher(round=lambda record, rounds: seen.append(record.validation_map))
    checkpoint = fg.train(plan, photos, out=tmp_path / "held out", bits=16, device="cpu", watcher=watcher)
    assert len(seen) == 3
    assert all(value is not None and 0 < value <= 1 for value in seen)
    assert len(load_checkpoint(checkpoint).state.train_ids) == 20


def test_methods_that_need_labels_name_those_that_do_not(flat: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=LABELS_NEEDED):
        fg.train(recipe("fcaenet"), flat, out=tmp_path / "run", bits=16)
    said: list[str] = []
    fg.train(recipe("itq"), flat, out=tmp_path / "run", bits=16, device="cpu", watcher=Watcher(notify=said.append))
    assert said == ["itq learns without labels"]


def test_equal_photos_are_rejected_in_one_sentence(drawn_birds: Dataset, tmp_path: Path) -> None:
    folder = tmp_path / "equal"
    folder.mkdir()
    for number in range(9):
        shutil.copy(drawn_birds.file(0), folder / f"{number}.jpg")
    with pytest.raises(DataError, match="equal features for all 9 training photos"):
        train(folder, tmp_path / "run")


# The user's own catalog


def test_a_catalog_is_trained_on_with_the_data_and_its_labels_are_used(
    drawn_birds: Dataset, flat: Path, tmp_path: Path
) -> None:
    first, second = (name for name in drawn_birds.classes[:2])
    data = drawn_birds.take([row for row, label in enumerate(drawn_birds.labels) if label == first])
    shutil.copytree(drawn_birds.root / "train" / second, tmp_path / "own" / second)
    shutil.copytree(flat, tmp_path / "own" / "flat")
    own = fg.read_dataset(tmp_path / "own")
    own = replace(own, labels=tuple("" if label == "flat" else label for label in own.labels))
    checkpoint, said = train(data, tmp_path / "run", catalog=own)
    assert said[0] == (
        "6 photos of the data set and 30 of the catalog, 6 of these with a class; "
        "12 of 36 training photos have a class; the others are divided into clusters"
    )
    loaded = load_checkpoint(checkpoint)
    assert loaded.state.classes == (first, second)
    assert loaded.state.train_ids[:6] == data.split("train").ids
    assert loaded.state.train_ids[6:] == tuple(f"catalog:{key}" for key in own.ids)
    assert loaded.record["photos"] == 36
    assert loaded.record["photos_without_class"] == 24
    assert loaded.record["catalog"] == {"photos": 30, "photos_without_class": 24}
    assert str(tmp_path) not in (checkpoint / "checkpoint.json").read_text()
    trained = loaded.training_photos()
    assert trained is not None
    assert (len(trained.labelled), len(trained.unlabelled)) == (12, 24)
    with pytest.raises(ConfigError, match="other training photos"):
        train(drawn_birds, tmp_path / "run", resume=True)


def test_each_photo_comes_from_its_own_folder(drawn_birds: Dataset, flat: Path) -> None:
    own = fg.read_dataset(flat)
    joined = training_set(drawn_birds, own, DataChoice(), 0).photos
    photos = drawn_birds.split("train")
    assert [joined.file(row).read_bytes() for row in range(48)] == [
        *(photos.file(row).read_bytes() for row in range(24)),
        *(own.file(row).read_bytes() for row in range(24)),
    ]


def test_a_catalog_alone_is_trained_on_whatever_its_splits(drawn_birds: Dataset) -> None:
    selected = training_set(None, drawn_birds, DataChoice(), 0)
    assert (len(selected.photos), selected.n_catalog) == (36, 36)
    with pytest.raises(ConfigError, match="no photos to train on"):
        training_set(None, None, DataChoice(), 0)


def test_a_photo_of_both_is_taken_once_with_the_label_of_the_data_and_held_out_photos_stay_out(
    drawn_birds: Dataset,
) -> None:
    whole = relabelled(drawn_birds, set())
    selected = training_set(drawn_birds, whole, DataChoice(validation=0.34), 0)
    assert selected.held_out is not None
    assert (len(selected.photos), len(selected.held_out), selected.n_catalog) == (28, 8, 12)  # the 12 of the test split
    assert selected.photos.labels.count("") == 12
    files = {selected.photos.file(row) for row in range(28)}
    assert len(files) == 28
    assert not files & {selected.held_out.file(row) for row in range(8)}


@pytest.mark.parametrize(
    ("sizes", "most", "drawn"),
    [
        ({"a": 90, "b": 5, "c": 2}, 20, {"a": 13, "b": 5, "c": 2}),  # no rare class is lost
        ({"": 900, "a": 30, "b": 2}, 20, {"": 10, "a": 8, "b": 2}),
        ({"": 900, "a": 3}, 20, {"": 17, "a": 3}),
        ({"": 4, "a": 30, "b": 30}, 20, {"": 4, "a": 8, "b": 8}),
        ({"": 50}, 20, {"": 20}),
        ({"a": 3, "": 4}, 20, {"a": 3, "": 4}),
    ],
)
def test_labelled_photos_are_half_of_a_sample_and_each_label_has_as_many(
    sizes: dict[str, int], most: int, drawn: dict[str, int]
) -> None:
    labels = [label for label, count in sizes.items() for _ in range(count)]
    rows = sample_photos(labels, most, 0)
    assert Counter(labels[row] for row in rows) == drawn
    assert rows.tolist() == sorted(set(rows.tolist()))
    assert np.array_equal(rows, sample_photos(labels, most, 0))
    if most < len(labels):
        assert not np.array_equal(rows, sample_photos(labels, most, 1))


def test_of_more_photos_than_are_wanted_a_sample_is_trained_on(drawn_birds: Dataset, flat: Path) -> None:
    own = fg.read_dataset(flat)
    selected = training_set(drawn_birds, own, DataChoice(max_photos=20), 0)
    assert (len(selected.photos), selected.n_catalog, selected.photos.labels.count("")) == (20, 10, 10)
    notice = selected.notice("posterior-itq")
    assert notice.startswith("a random sample of 20 of 48 photos is trained on; 10 photos of the data set and 10 of")
    whole = training_set(drawn_birds, own, DataChoice(max_photos=48), 0)
    assert len(whole.photos) == 48
    assert "sample" not in whole.notice("posterior-itq")


def test_the_command_trains_on_a_catalog_by_the_default_recipe(
    run: Run, drawn_birds: Dataset, flat: Path, tmp_path: Path
) -> None:
    quick = [*QUICK, *("backbone.name='tiny'", "backbone.weights='none'", "backbone.views=1")]
    words = [word for change in quick for word in ("--set", change)]
    result = run("train", "--bits", "16", "--device", "cpu", "--catalog", flat, *words, "--out", "run", "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["method"] == "posterior-itq"
    assert "none of the 24 training photos has a class; they are" in result.stderr
    missing = run("train", "--out", "other")
    assert missing.exit_code == 2
    assert "Missing option '--data' or '--catalog'." in missing.stderr
    result = run("train", "demo-fcaenet", "--bits", "16", "--catalog", flat, "--out", "other")
    assert result.exit_code == 1
    assert "Without labels, use posterior-itq or itq" in result.stderr


def test_on_a_frozen_backbone_a_sample_is_trained_on_unless_the_recipe_wants_all(
    drawn_birds: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("milvus_fghash.training.training_set.MAX_PHOTOS", 20)
    counts = {
        (frozen, most): len(training_set(drawn_birds, None, DataChoice(max_photos=most), 0, frozen=frozen).photos)
        for frozen in (True, False)
        for most in (None, 0, 10)
    }
    every = counts[True, 0]
    assert every > 20
    assert counts == {
        (True, None): 20, (True, 0): every, (True, 10): 10, (False, None): every, (False, 0): every, (False, 10): 10,
    }  # fmt: skip
