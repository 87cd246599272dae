"""Views of photos: the seed alone decides, in any process and order."""

import torch

from milvus_fghash.config import Augmentation
from milvus_fghash.data.listing import Listing
from milvus_fghash.images import Preprocessing, load
from milvus_fghash.training import photos as module
from milvus_fghash.training.photos import PLAIN, Photos
from milvus_fghash.training.photos import load as load_views

SMALL = Preprocessing(size=32, resize=40)


def test_the_plain_view_is_that_of_serving(drawn_birds: Listing) -> None:
    pixels = Photos(drawn_birds, SMALL, Augmentation())[3, PLAIN]
    assert torch.equal(pixels.permute(1, 2, 0), torch.from_numpy(load(drawn_birds.file(3), SMALL)))


def test_a_view_depends_on_its_seed_alone(drawn_birds: Listing) -> None:
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


def test_workers_give_the_same_batches_in_the_same_order(drawn_birds: Listing) -> None:
    photos = Photos(drawn_birds, SMALL, Augmentation())
    views = [[(0, 1), (1, 2)], [(2, 3)], [(0, 4), (5, 5), (6, PLAIN)]]
    alone = list(load_views(photos, views, workers=0))
    together = list(load_views(photos, views, workers=1))
    assert [len(batch) for batch in alone] == [2, 1, 3]
    assert all(torch.equal(first, second) for first, second in zip(alone, together, strict=True))


def test_photos_are_decoded_once_while_memory_lasts(drawn_birds: Listing) -> None:
    photos = Photos(drawn_birds, SMALL, Augmentation())
    first = photos[0, 7]
    photos.listing = None  # type: ignore[assignment]  # a kept photo needs no file
    assert torch.equal(photos[0, 7], first)
    crowded = Photos(drawn_birds, SMALL, Augmentation())
    crowded._kept_bytes = module.KEPT_BYTES
    assert torch.equal(crowded[0, 7], first)
    assert not crowded._kept
