"""Attention maps over a photo: which of them are shown, and their captions; the same for checkpoints and bundles."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from milvus_fghash.explain.model import Heat, Pixels, View, Views
from milvus_fghash.explain.pictures import overlay, stretched

DESCRIPTION = (
    "Where the network looks, from the least to the most attended place of this photo. Methods with attention of their "
    "own have one map, or one for each part; for other methods this is the mean of the last feature maps."
)


def noted(caption: str, heat: Heat) -> str:
    """The caption of a map, with a note if no two places of it differ by a step of brightness."""
    return caption if np.ptp(heat) >= 1 / 256 else f"{caption}, the same everywhere"


def attention_views(photo: Pixels, maps: NDArray[np.floating[Any]], max_maps: int) -> Views:
    """The first ``max_maps`` maps, (M, h, w).

    A map is that of a part, even where there are as many parts as bits: every bit depends on all parts.
    """
    views = []
    for number, one in enumerate(maps[:max_maps], 1):
        caption = "where the network looks" if len(maps) == 1 else f"part {number} of {len(maps)}"
        heat = stretched(one)
        views.append(View("attention", noted(caption, heat), overlay(photo, heat)))
    left_out = f"{len(views)} of {len(maps)} attention maps are shown."
    return Views(views, left_out if len(views) < len(maps) else "")
