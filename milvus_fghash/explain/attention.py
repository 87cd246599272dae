"""Attention maps over a photo: which of them are shown, and what each is called. Alike for checkpoints and bundles."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from milvus_fghash.explain.model import Heat, Pixels, View, Views
from milvus_fghash.explain.pictures import overlay, stretched

READING = (
    "Attention: where the network looks, from the lowest to the highest place in this photo. Methods with attention of "
    "their own give a map, or one for each part; the others the mean of their last feature maps."
)


def noted(caption: str, heat: Heat) -> str:
    """A map's caption, which says so where no two places of it differ by a step of brightness."""
    return caption if np.ptp(heat) >= 1 / 256 else f"{caption}, the same everywhere"


def attention_views(photo: Pixels, maps: NDArray[np.floating[Any]], most: int) -> Views:
    """The first ``most`` maps, (M, h, w).

    A map is that of a part, also where there are as many parts as bits: every bit reads all parts.
    """
    views = []
    for number, one in enumerate(maps[:most], 1):
        caption = "where it looks" if len(maps) == 1 else f"part {number} of {len(maps)}"
        heat = stretched(one)
        views.append(View("attention", noted(caption, heat), overlay(photo, heat)))
    left_out = f"{len(views)} of {len(maps)} attention maps are shown."
    return Views(views, left_out if len(views) < len(maps) else "")
