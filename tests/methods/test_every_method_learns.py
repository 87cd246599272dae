"""Every method learns, and the test that says so can fail: with the loss's sign flipped or the labels shuffled it does.

Queries are photos that training never saw; the gallery is encoded by the network. Methods that learn from labels are
judged by mAP; those that learn from features alone by how many of the nearest neighbours among the features they keep.

Labels are learned from discs of four colours on mixed backgrounds. Features of a random network follow the
backgrounds; a few dozen steps teach it the discs. The same tests on drawn birds take minutes and are marked `slow`. So
are the broken versions, except those of one method of each family: they try the lower bounds, not the methods.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from torch import Tensor, nn

import milvus_fghash.methods as table
from milvus_fghash.core.codes import hamming, pack
from milvus_fghash.datasets.dataset import Dataset
from milvus_fghash.datasets.read import read
from milvus_fghash.datasets.synthetic.drawings import draw_birds
from milvus_fghash.errors import NotFinite
from milvus_fghash.evaluation.metrics import distance_histogram, mean_average_precision
from milvus_fghash.methods import affine, sh
from milvus_fghash.methods.base import Batch, HashMethod
from milvus_fghash.recipes.loader import load_recipe
from milvus_fghash.recipes.schema import Recipe
from milvus_fghash.training.checkpoint import load_checkpoint
from milvus_fghash.training.photos import Loader, Photos
from milvus_fghash.training.run import run_training
from milvus_fghash.training.sources import centre_crop_features

pytestmark = pytest.mark.full

BITS, CLASSES, NEIGHBOURS = 16, 4, 10
LEARNED_FROM_DISCS = {
    "sdh": 0.40,
    "dpsh": 0.45,
    "dsh": 0.45,
    "hashnet": 0.42,
    "fph": 0.45,
    "dash": 0.45,
    "adsh": 0.50,
    "exchnet": 0.48,
    "baseline": 0.45,
    "fcaenet": 0.45,
    "a2net": 0.45,
    "a2net-pp": 0.45,
    "semicon": 0.45,
    "agmh": 0.60,
    "csq": 0.76,
    "dpn": 0.45,
    "orthohash": 0.76,
    "fish": 0.42,
    "posterior-itq": 0.70,
    "kinhash": 0.38,
}
"""mAP of the encoded gallery, nearer to the broken versions than to the training: other seeds reach less, some by 0.4.

By chance it is 0.25; codes of random planes give 0.36, shuffled labels at most 0.41. A loss that is turned round gives
0.37 at most, but for those that then learn another code for each class: agmh 0.48, orthohash 0.62, csq 0.64.
"""
LEARNED_FROM_BIRDS = {
    "sdh": 0.40,
    "dpsh": 0.45,
    "dsh": 0.40,
    "hashnet": 0.36,
    "fph": 0.36,
    "dash": 0.40,
    "adsh": 0.45,
    "exchnet": 0.45,
    "baseline": 0.45,
    "fcaenet": 0.45,
    "a2net": 0.40,
    "a2net-pp": 0.40,
    "semicon": 0.45,
    "agmh": 0.45,
    "csq": 0.45,
    "dpn": 0.50,
    "orthohash": 0.45,
    "fish": 0.45,
    "posterior-itq": 0.45,
    "kinhash": 0.50,
}
"""mAP of the encoded gallery. By chance it is 0.25; codes of random planes give 0.28."""
BROKEN_IN_CI = ("adsh", "baseline", "csq", "dpsh")
"""Methods whose broken versions are tried by `./.ci/test`, one of each family."""
BROKEN = [pytest.param(name, marks=[] if name in BROKEN_IN_CI else pytest.mark.slow) for name in LEARNED_FROM_DISCS]
CHANGES = {
    **dict.fromkeys(("fcaenet", "csq", "orthohash"), ("training.rounds=10",)),
    **dict.fromkeys(("fish", "kinhash"), ("training.learning_rate=0.01",)),
}
"""Trainings on discs that differ from the others."""
RECALL = {"lsh": 0.28, "sh": 0.37, "itq": 0.4}
"""Share of the ten nearest training photos by feature that are among the ten nearest by code; 0.1 by chance.

Random planes of seed 0 keep 0.345 of them, so those that learn axes have to keep more. That ITQ's rotation is solved is
tested in `tests/methods/test_rotation.py`.
"""
RECALL_BITS = {"itq": 32}
"""Code lengths other than `BITS`: with 16 bits the start of ITQ's rotation decides between 0.27 and 0.43; with 32 it
keeps 0.44 with a deviation of 0.03, and random planes 0.37."""


class FirstBitAlone(nn.Module):
    """A head that says the same bit over and over."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, features: Tensor) -> Tensor:
        outputs: Tensor = self.head(features)
        return outputs[:, :1].expand_as(outputs)


@dataclass(frozen=True)
class Lesson:
    """Photos to learn from, how they are trained on, and the mAP that a method must reach."""

    photos: Dataset
    size: int
    floors: Mapping[str, float]
    shorter: bool

    def recipe(self, name: str) -> Recipe:
        """The demo's, shortened."""
        shorter = ("training.rounds=6", *CHANGES.get(name, ())) if self.shorter else ()
        size = (f"preprocessing.size={self.size}", f"preprocessing.resize={self.size}")
        # Neighbours are judged by the features as they are.
        unscaled = ("method.options.normalise=false",) if name == "itq" else ()
        return load_recipe(f"demo-{name}", [*size, *shorter, *unscaled])


def draw_discs(folder: Path, train_per_class: int, test_per_class: int, size: int) -> Dataset:
    """Discs of a colour per class, somewhere on a mixture of nine colours."""
    rng = np.random.default_rng(0)
    for split, count in (("train", train_per_class), ("test", test_per_class)):
        for number, colour in enumerate(((200, 60, 60), (60, 170, 60), (70, 70, 210), (200, 190, 50))):
            (folder / split / f"class{number}").mkdir(parents=True)
            for photo in range(count):
                patches = Image.fromarray(rng.integers(0, 256, (3, 3, 3), np.uint8))
                image = patches.resize((size, size), Image.Resampling.BICUBIC)
                radius = size * rng.uniform(0.18, 0.26)
                x, y = rng.uniform(radius, size - radius, 2)
                shade = tuple(int(np.clip(value + rng.normal(0, 15), 0, 255)) for value in colour)
                ImageDraw.Draw(image).ellipse((x - radius, y - radius, x + radius, y + radius), fill=shade)
                image.save(folder / split / f"class{number}" / f"{photo}.png")
    return read("folder", folder)


@pytest.fixture(scope="module")
def discs(tmp_path_factory: pytest.TempPathFactory) -> Lesson:
    photos = draw_discs(tmp_path_factory.mktemp("discs"), train_per_class=12, test_per_class=10, size=32)
    return Lesson(photos, 32, LEARNED_FROM_DISCS, shorter=True)


@pytest.fixture(scope="module")
def birds(tmp_path_factory: pytest.TempPathFactory) -> Lesson:
    folder = tmp_path_factory.mktemp("birds")
    photos = draw_birds(folder, classes=CLASSES, train_per_class=24, test_per_class=10, size=48)
    return Lesson(photos, 48, LEARNED_FROM_BIRDS, shorter=False)


@pytest.fixture(scope="module", params=["discs", pytest.param("birds", marks=pytest.mark.slow)])
def lesson(request: pytest.FixtureRequest) -> Lesson:
    found: Lesson = request.getfixturevalue(request.param)
    return found


def taught(name: str, lesson: Lesson, folder: Path, photos: Dataset | None = None, bits: int = BITS) -> HashMethod:
    """Trained on the lesson's training photos, or on others."""
    photos = lesson.photos.split("train") if photos is None else photos
    return load_checkpoint(run_training(lesson.recipe(name), bits, photos, folder, device="cpu")).method


@torch.no_grad()
def features_of(method: HashMethod, name: str, lesson: Lesson, split: str) -> Tensor:
    recipe = lesson.recipe(name)
    views = Photos(lesson.photos.split(split), recipe.preprocessing, recipe.augmentation)
    return centre_crop_features(method, Loader(views, 0), torch.device("cpu"))


@torch.no_grad()
def quality(method: HashMethod, name: str, lesson: Lesson) -> float:
    codes = [pack(method.head(features_of(method, name, lesson, split)).numpy()) for split in ("test", "train")]
    classes = lesson.photos.classes
    labels = [lesson.photos.split(split).label_numbers(classes) for split in ("test", "train")]
    return mean_average_precision(distance_histogram(codes[0], labels[0], codes[1], labels[1], BITS))


@torch.no_grad()
def recall(method: HashMethod, name: str, lesson: Lesson) -> float:
    queries, gallery = (features_of(method, name, lesson, split) for split in ("test", "train"))
    near = torch.cdist(queries, gallery).argsort(dim=1)[:, :NEIGHBOURS].numpy()
    distances = hamming(pack(method.head(queries).numpy()), pack(method.head(gallery).numpy()))
    found = distances.argsort(axis=1, kind="stable")[:, :NEIGHBOURS]
    return float(np.mean([len(set(a) & set(b)) / NEIGHBOURS for a, b in zip(near, found, strict=True)]))


@pytest.mark.parametrize("name", LEARNED_FROM_DISCS)
def test_labels_are_learned(name: str, lesson: Lesson, tmp_path: Path) -> None:
    assert quality(taught(name, lesson, tmp_path / "run"), name, lesson) >= lesson.floors[name]


@pytest.mark.parametrize("name", BROKEN)
def test_nothing_is_learned_from_shuffled_labels(name: str, lesson: Lesson, tmp_path: Path) -> None:
    photos = lesson.photos.split("train")
    order = np.random.default_rng(0).permutation(len(photos))
    shuffled = replace(photos, labels=tuple(photos.labels[row] for row in order))
    assert quality(taught(name, lesson, tmp_path / "run", shuffled), name, lesson) < lesson.floors[name]


@pytest.mark.parametrize("name", [case for case in BROKEN if table.card(str(case.values[0])).by_gradient])
def test_less_is_learned_when_the_loss_is_turned_round(
    name: str, lesson: Lesson, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = table.load(name)
    loss = module.Method.loss

    def turned(method: HashMethod, batch: Batch) -> dict[str, Tensor]:
        return {term: -value for term, value in loss(method, batch).items()}

    monkeypatch.setattr(module.Method, "loss", turned)
    try:
        method = taught(name, lesson, tmp_path / "run")
    except NotFinite:
        return  # climbing without end, the loss left the range of numbers
    assert quality(method, name, lesson) < lesson.floors[name]


@pytest.mark.parametrize("name", RECALL)
def test_neighbours_are_kept(name: str, birds: Lesson, tmp_path: Path) -> None:
    method = taught(name, birds, tmp_path / "run", bits=RECALL_BITS.get(name, BITS))
    assert recall(method, name, birds) >= RECALL[name]


def test_neighbours_are_lost_when_all_planes_are_one(birds: Lesson, tmp_path: Path) -> None:
    method = taught("lsh", birds, tmp_path / "run")
    method.head = FirstBitAlone(method.head)
    assert recall(method, "lsh", birds) < RECALL["lsh"]


@pytest.mark.parametrize(("name", "module"), [("sh", sh), ("itq", affine)])
def test_neighbours_are_lost_on_axes_of_least_variance(
    name: str, module: ModuleType, birds: Lesson, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    principal_axes = module.principal_axes

    def last_axes(centred: Any, count: int) -> Any:
        return principal_axes(centred, centred.shape[1])[:, -count:]

    monkeypatch.setattr(module, "principal_axes", last_axes)
    method = taught(name, birds, tmp_path / "run", bits=RECALL_BITS.get(name, BITS))
    assert recall(method, name, birds) < RECALL[name]


@pytest.mark.parametrize("floors", [LEARNED_FROM_DISCS, LEARNED_FROM_BIRDS], ids=["discs", "birds"])
def test_every_method_is_judged(floors: Mapping[str, float]) -> None:
    assert floors.keys() | RECALL.keys() == table.METHODS.keys()
    assert not floors.keys() & RECALL.keys()
