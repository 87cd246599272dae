"""Views of photos: the seed alone decides, in any process and order."""

from pathlib import Path

import numpy as np
import pytest
import torch

from milvus_fghash.core.images import Preprocessing, load, open_rgb
from milvus_fghash.datasets.dataset import Dataset
from milvus_fghash.recipes.schema import Augmentation
from milvus_fghash.training import photos as module
from milvus_fghash.training.photos import CENTRE_CROP, Loader, Photos
from tests.helpers.image_bytes import noise

pytestmark = pytest.mark.full

SMALL = Preprocessing(size=32, resize=40)


def test_the_plain_view_is_that_of_serving(drawn_birds: Dataset) -> None:
    pixels = Photos(drawn_birds, SMALL, Augmentation())[3, CENTRE_CROP]
    assert torch.equal(pixels.permute(1, 2, 0), torch.from_numpy(load(drawn_birds.file(3), SMALL)))


def test_a_large_photo_is_reduced_for_the_plain_view_only(drawn_birds: Dataset, tmp_path: Path) -> None:
    pictures = {"large.jpg": (400, 300), "medium.jpg": (200, 150), "small.jpg": (50, 40), "large.png": (400, 300)}
    for name, size in pictures.items():
        noise(*size).save(tmp_path / name)
    names = tuple(pictures)
    photos = Photos(Dataset(tmp_path, names, names, names, ("",) * 4), SMALL, Augmentation())
    for order in ((False, True), (True, False), (False, True)):  # the last from what was kept
        for whole in order:
            for row, size in enumerate(pictures.values()):
                reduced = row == 0 and not whole
                assert photos.open(row, whole).size == ((200, 150) if reduced else size)
        for row in range(4):
            plain = torch.from_numpy(load(photos.dataset.file(row), SMALL)).permute(2, 0, 1)
            assert torch.equal(photos[row, CENTRE_CROP], plain)
        if order == (True, False):
            photos._kept.clear()
            photos._kept_bytes = 0
    assert sorted(photos._kept) == [(0, False), (0, True), (1, False), (1, True), (2, True), (3, False), (3, True)]


def test_a_random_view_is_one_of_the_whole_photo(tmp_path: Path) -> None:
    noise(400, 300).save(tmp_path / "a.jpg")
    photos = Photos(Dataset(tmp_path, ("a",), ("a.jpg",), ("a",), ("",)), SMALL, Augmentation())
    with torch.random.fork_rng():
        torch.manual_seed(7)
        expected = photos.random_view(open_rgb(tmp_path / "a.jpg"))
    assert np.array_equal(photos[0, 7].permute(1, 2, 0).numpy(), expected)


def test_a_view_depends_on_its_seed_alone(drawn_birds: Dataset) -> None:
    first, second = (Photos(drawn_birds, SMALL, Augmentation()) for _ in range(2))
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    views = [first[0, 5], first[0, 6], first[1, 5]]
    assert torch.equal(torch.rand(1), expected)  # the caller's random numbers are untouched
    torch.manual_seed(2)
    assert torch.equal(views[0], second[0, 5])
    assert not torch.equal(views[0], views[1])
    assert all(view.shape == (3, 32, 32) and view.dtype == torch.uint8 for view in views)


def test_workers_give_the_same_batches_in_the_same_order(drawn_birds: Dataset) -> None:
    photos = Photos(drawn_birds, SMALL, Augmentation())
    views = [[(0, 1), (1, 2)], [(2, 3)], [(0, 4), (5, 5), (6, CENTRE_CROP)]]
    alone, together = Loader(photos, 0), Loader(photos, 1)
    processes = set()
    for asked in (views, views[:1], [[(7, 8)]]):
        expected = list(alone.batches(asked))
        assert [len(batch) for batch in expected] == list(map(len, asked))
        assert all(torch.equal(one, other) for one, other in zip(together.batches(asked), expected, strict=True))
        processes |= {worker.pid for worker in together._loader._iterator._workers}  # type: ignore[union-attr]
    assert len(processes) == 1, "starting one takes seconds"


def test_what_was_left_half_read_is_not_seen_again(drawn_birds: Dataset) -> None:
    photos = Photos(drawn_birds, SMALL, Augmentation())
    loader = Loader(photos, 1)
    next(loader.batches([[(row, 1)] for row in range(8)]))
    (seen,) = loader.batches([[(9, CENTRE_CROP)]])
    assert torch.equal(seen[0], photos[9, CENTRE_CROP])


def test_a_view_leaves_the_gpus_random_numbers_alone(drawn_birds: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    seeded: list[int] = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    torch.manual_seed(3)
    assert seeded, "the stub is where torch seeds the GPUs"
    seeded.clear()
    assert Photos(drawn_birds, SMALL, Augmentation())[0, 5].shape == (3, 32, 32)
    assert not seeded


def test_photos_are_decoded_once_while_memory_lasts(drawn_birds: Dataset) -> None:
    photos = Photos(drawn_birds, SMALL, Augmentation())
    first = photos[0, 7]
    photos.dataset = None  # type: ignore[assignment]  # a kept photo needs no file
    assert torch.equal(photos[0, 7], first)
    crowded = Photos(drawn_birds, SMALL, Augmentation())
    crowded._kept_bytes = module.MAX_KEPT_BYTES
    assert torch.equal(crowded[0, 7], first)
    assert not crowded._kept
