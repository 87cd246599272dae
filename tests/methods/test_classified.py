"""What FISH and KinHash erase of a photo: by hand, and against loops."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own habit
from torch import Tensor

from milvus_fghash.methods.classified import chance, erase_hottest


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def erased_by_loops(photo: Tensor, heat: Tensor, lowest: float, share: float) -> Tensor:
    resized = F.interpolate(heat[None, None], size=photo.shape[1:], mode="bilinear")[0, 0]
    result = photo.clone()
    t = lowest + (1 - lowest) * share
    for i in range(photo.shape[1]):
        for j in range(photo.shape[2]):
            if resized[i, j] >= t * resized.max():
                result[:, i, j] = 0
    return result


@pytest.mark.parametrize("lowest", [0.9, 0.3])
def test_the_hottest_pixels_of_each_photo_are_erased(lowest: float) -> None:
    images, maps = random(5, 3, 16, 16).float(), random(5, 4, 4, 4, seed=1).float().abs()
    erased = erase_hottest(images, maps, lowest)
    for photo, its_maps, result in zip(images, maps, erased, strict=True):
        number = float(chance(photo[None]))
        torch.testing.assert_close(result, erased_by_loops(photo, its_maps.sum(dim=0), lowest, number))
    gone = (erased == 0).all(dim=1).sum(dim=(1, 2))
    assert (gone >= 1).all()
    assert (gone < 16 * 16).all()


def test_the_hottest_pixels_go_whatever_the_sign_of_the_maps() -> None:
    images, maps = torch.ones(1, 3, 4, 4), -torch.ones(1, 2, 4, 4)
    maps[0, :, 2, 1] = -0.1
    erased = erase_hottest(images, maps, 0.9)
    assert (erased == 0).all(dim=1).nonzero().tolist() == [[0, 2, 1]]
    for constant in (0.0, 1.0):  # nothing is hotter than the rest, so all goes
        assert (erase_hottest(images, torch.full((1, 2, 4, 4), constant), 0.9) == 0).all()


def test_chance_worked_by_hand() -> None:
    images = torch.zeros(4, 3, 1, 2)
    images[1:, 0, 0, 0] = torch.tensor([1008, 1009, -1]) / 4096
    assert chance(images).flatten().tolist() == pytest.approx([0, 1008 / 1009, 0, 1008 / 1009])


def test_chance_is_spread_evenly_and_follows_from_the_photo_alone() -> None:
    images = random(300, 3, 8, 8).float()
    numbers = chance(images)
    assert numbers.shape == (300, 1, 1, 1)
    counts = torch.histc(numbers.flatten(), 5, 0, 1)
    assert (counts > 35).all()
    alone = torch.cat([chance(photo[None]) for photo in images])
    assert torch.equal(numbers, alone)
    assert torch.equal(numbers, chance(images.contiguous(memory_format=torch.channels_last)))
