"""SREM, the selective region erasing module of FCAENet (section 3.3, eq. 3-5, algorithm 1).

The hottest places of the last feature map are covered by square boxes; the network sees the rest of the photo again.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own habit
from torch import Tensor

EPSILON = 1e-8
"""Not stated in the paper."""

BoxAt = Literal["corner", "centre"]
"""Which point of a box lies on its hot pixel: the top-left corner, or the middle (the lower right of an even one)."""


def attention(maps: Tensor) -> Tensor:
    """Eq. 3-4: channel mean of the last feature maps, stretched to [0, 1] per photo; (b, k, h, w) -> (b, h, w).

    A constant map gives zeros.
    """
    return _stretch(maps.mean(dim=1))


def side_of_box(box_size: int, photo_size: int) -> int:
    """The side in a photo of ``photo_size`` pixels of a box that has ``box_size`` in one of 224; at least 1."""
    return max(1, round(box_size * photo_size / 224))


def erasing_mask(maps: Tensor, size: tuple[int, int], boxes: int, box_size: int, box_at: BoxAt = "corner") -> Tensor:
    """Algorithm 1: 0 where a box lies, 1 elsewhere; maps (b, k, h, w) -> (b, 1, H, W) for photos of ``size`` (H, W).

    The channel mean is resized bilinearly to the photo (eq. 3), stretched to [0, 1] (eq. 4; a constant map has no hot
    place and gives zeros), and the ``boxes`` hottest pixels become the top-left corners of boxes of ``box_size``
    pixels. The map is padded on the right and below so that every box fits; what lies in the padding is cut off again.
    That the corner lies there, how much is padded and that the mask is cut back to H x W are a reading of the text,
    which has the padding but says none of this. Equal values are taken in reading order.
    """
    heat = _stretch(F.interpolate(maps.mean(dim=1, keepdim=True), size=size, mode="bilinear")[:, 0])
    height, width = size
    hottest = heat.flatten(1).argsort(dim=1, descending=True, stable=True)[:, :boxes]
    hot = heat.new_zeros(len(heat), height * width).scatter_(1, hottest, 1.0).view(-1, 1, height, width)
    # A pixel is covered if a hot one lies in the box that is turned round on it: a running maximum, for corners over
    # the pixels above and left.
    after = box_size // 2 if box_at == "centre" else 0
    padded = F.pad(hot, (box_size - 1 - after, after) * 2)
    covered = F.max_pool2d(F.max_pool2d(padded, (box_size, 1), stride=1), (1, box_size), stride=1)
    return 1.0 - covered


@torch.no_grad()
def erase(
    images: Tensor, maps: Tensor, boxes: int, box_size: int, box_at: BoxAt = "corner", colour: Tensor | None = None
) -> Tensor:
    """Eq. 5: normalised photos with their hottest region erased; (b, 3, H, W). No gradient flows through the mask.

    Args:
        maps: of these very photos (after cropping and flipping).
        colour: normalised, (1, 3, 1, 1), of what is erased; None: 0, the mean colour.
    """
    height, width = images.shape[2:]
    mask = erasing_mask(maps.detach().float(), (height, width), boxes, box_size, box_at).to(images.dtype)
    return images * mask if colour is None else images * mask + colour.to(images.dtype) * (1 - mask)


def _stretch(heat: Tensor) -> Tensor:
    """Each photo's map to [0, 1]: (b, h, w) -> (b, h, w)."""
    lowest, highest = heat.amin(dim=(1, 2), keepdim=True), heat.amax(dim=(1, 2), keepdim=True)
    return (heat - lowest) / (highest - lowest + EPSILON)
