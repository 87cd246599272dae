"""Attention maps over a photo: which of them are shown, and what each is called. Alike for checkpoints and bundles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from milvus_fghash.explaining.model import Heat, Pixels, View, Views
from milvus_fghash.explaining.pictures import overlay, stretched

READING = (
    "Attention: where the network looks, from the lowest to the highest place in this photo. Methods with attention of "
    "their own give a map, or one for each part or bit; the others the mean of their last feature maps."
)


def noted(caption: str, heat: Heat) -> str:
    """A map's caption, which says so where no two places of it differ by a step of brightness."""
    return caption if np.ptp(heat) >= 1 / 256 else f"{caption}, the same everywhere"


def attention_views(
    photo: Pixels, maps: NDArray[np.floating[Any]], bits: int, shown_bits: Sequence[int], most: int
) -> Views:
    """The first ``most`` maps, (M, h, w), or of maps that belong to bits those of ``shown_bits``."""
    of_bits = len(maps) == bits
    wanted = [bit for bit in shown_bits if bit < bits] if of_bits else range(len(maps))
    views = []
    for number in wanted[:most]:
        if len(maps) == 1:
            caption = "where it looks"
        else:
            caption = f"bit {number}" if of_bits else f"part {number + 1} of {len(maps)}"
        heat = stretched(maps[number])
        views.append(View("attention", noted(caption, heat), overlay(photo, heat)))
    chosen_by = "--bits-shown chooses which, --maps-shown how many" if of_bits else "--maps-shown chooses how many"
    left_out = f"{len(views)} of {len(maps)} attention maps are shown: {chosen_by}." if len(views) < len(maps) else ""
    return Views(views, left_out)
