"""SREM against a naive reading of its algorithm: sort, pad, draw boxes, crop."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from milvus_fghash.methods.erasing import BoxAt, attention, erase, erasing_mask


def naive_mask(maps: Tensor, size: tuple[int, int], boxes: int, box_size: int, box_at: BoxAt) -> Tensor:
    """Algorithm 1 of FCAENet with plain loops, one photo at a time."""
    height, width = size
    masks = []
    for photo in maps:
        mean = photo.sum(dim=0) / len(photo)  # eq. 3
        heat = torch.nn.functional.interpolate(mean[None, None], size=size, mode="bilinear")[0, 0]
        heat = (heat - heat.min()) / (heat.max() - heat.min() + 1e-8)  # eq. 4
        places = [(-float(heat[y, x]), y * width + x, y, x) for y in range(height) for x in range(width)]
        shift = box_size // 2 if box_at == "centre" else 0
        mask = torch.ones(height + 2 * box_size, width + 2 * box_size)  # padded on all sides
        for _, _, y, x in sorted(places)[:boxes]:
            top, left = y + box_size - shift, x + box_size - shift
            mask[top : top + box_size, left : left + box_size] = 0
        masks.append(mask[box_size:-box_size, box_size:-box_size])
    return torch.stack(masks)[:, None]


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 10_000),
    st.integers(1, 12),
    st.integers(1, 9),
    st.sampled_from([(12, 12), (9, 14)]),
    st.sampled_from(["corner", "centre"]),
)
def test_the_mask_is_that_of_the_naive_reading(
    seed: int, boxes: int, box_size: int, size: tuple[int, int], box_at: BoxAt
) -> None:
    maps = torch.rand(2, 3, 3, 3, generator=torch.Generator().manual_seed(seed))
    mask = erasing_mask(maps, size, boxes, box_size, box_at)
    assert torch.equal(mask, naive_mask(maps, size, boxes, box_size, box_at))


def test_one_box_starts_at_the_hottest_pixel_and_reaches_right_and_down() -> None:
    maps = torch.zeros(1, 2, 4, 4)
    maps[0, :, 1, 2] = 1.0
    mask = erasing_mask(maps, (4, 4), boxes=1, box_size=2)[0, 0]
    assert mask.tolist() == [[1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 1, 1]]


def test_a_box_at_the_corner_is_cut_off() -> None:
    maps = torch.zeros(1, 1, 3, 3)
    maps[0, 0, 2, 2] = 1.0
    assert erasing_mask(maps, (3, 3), boxes=1, box_size=5).sum() == 8


def test_equal_values_are_taken_in_reading_order() -> None:
    mask = erasing_mask(torch.ones(1, 1, 2, 2), (4, 4), boxes=2, box_size=1)[0, 0]
    assert mask[0].tolist() == [0, 0, 1, 1]
    assert mask[1:].min() == 1


def test_more_boxes_than_pixels_erase_everything() -> None:
    assert erasing_mask(torch.rand(1, 1, 2, 2), (4, 4), boxes=99, box_size=1).sum() == 0


def test_the_union_is_about_a_box_and_a_bit() -> None:
    """50 boxes of 32 px around one hot place of a 7 x 7 map of a 224 px photo cover a (32+7) to (32+10) px square."""
    maps = torch.zeros(1, 1, 7, 7)
    maps[0, 0, 2, 3] = 1.0
    erased = float((1 - erasing_mask(maps, (224, 224), 50, 32)).sum())
    assert 38**2 <= erased <= 43**2


def test_attention_is_stretched_to_zero_and_one() -> None:
    heat = attention(torch.rand(3, 8, 7, 7, generator=torch.Generator().manual_seed(0)))
    assert heat.shape == (3, 7, 7)
    torch.testing.assert_close(heat.amin(dim=(1, 2)), torch.zeros(3))
    torch.testing.assert_close(heat.amax(dim=(1, 2)), torch.ones(3))
    assert attention(torch.ones(1, 2, 3, 3)).abs().max() == 0


def test_erasing_sets_pixels_to_zero_and_stops_gradients() -> None:
    images = torch.ones(1, 3, 8, 8)
    maps = torch.rand(1, 4, 2, 2, requires_grad=True)
    erased = erase(images, maps, boxes=1, box_size=3)
    assert set(erased.flatten().tolist()) == {0.0, 1.0}
    assert torch.equal(erased[0, 0], erased[0, 2])
    assert not erased.requires_grad


def test_erased_pixels_take_a_colour() -> None:
    images, colour = torch.rand(2, 3, 8, 8), torch.tensor([-2.0, -3.0, -4.0]).view(1, 3, 1, 1)
    maps = torch.rand(2, 4, 2, 2)
    kept = erasing_mask(maps, (8, 8), 1, 3).bool().expand_as(images)
    found = erase(images, maps, 1, 3, colour=colour)
    assert torch.equal(found[kept], images[kept])
    assert torch.equal(found[~kept], colour.expand_as(images)[~kept])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_erasing_keeps_the_type_of_the_photos(dtype: torch.dtype) -> None:
    assert erase(torch.ones(1, 3, 8, 8, dtype=dtype), torch.rand(1, 4, 2, 2).to(dtype), 1, 3).dtype == dtype
