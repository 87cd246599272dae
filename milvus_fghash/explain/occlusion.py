"""Occlusion: which places of a photo its code depends on, found by covering them. For any model, without gradients."""

from __future__ import annotations

import numpy as np

from milvus_fghash.explain.model import Heat, Model, Pixels, View
from milvus_fghash.explain.pictures import overlay, positive

STEPS = 8
"""A square is two steps wide and moves by one; this many steps make the photo's side."""

DESCRIPTION = (
    "Squares of a quarter of the photo's side are covered with the mean colour, one at a time. Bright places are those "
    "the code depends on: covering them weakens its logits most. Dark places do not matter, or weaken the code "
    "themselves. Each map is scaled to its own maximum, so the caption gives the effect of the most important square: "
    "how much of the logits' strength it takes (at 100% they no longer support the code) and how many bits it flips."
)


def occlusion_view(model: Model, photo: Pixels) -> View:
    """The map over a photo, with the effect of the most important square in its caption."""
    heat, loss, flipped = occlusion(model, photo)
    caption = f"the most important square takes {round(100 * loss)}%, flips {flipped} of {model.bits} bits"
    return View("occlusion", caption if loss > 0 else "no single square matters", overlay(photo, heat))


def occlusion(model: Model, photo: Pixels) -> tuple[Heat, float, int]:
    """Cover squares of a photo, one at a time.

    The loss of a square is the fraction of sum |logit| that covering it takes away: at 1 the logits no longer support
    the code's bits in sum, above 1 they support the opposite code.

    Returns:
        The mean loss over each pixel's squares, divided by the highest and cut at 0; the loss of the most important
        square; the number of bits it flips.
    """
    side = len(photo)
    step = max(1, side // STEPS)
    starts = sorted({*range(0, side - 2 * step + 1, step), side - 2 * step})
    places = [(slice(top, top + 2 * step), slice(left, left + 2 * step)) for top in starts for left in starts]
    covered = np.repeat(photo[None], len(places), axis=0)
    for one, place in zip(covered, places, strict=True):
        one[place] = model.mean_colour
    (original,), logits = model.run(photo[None]).logits, model.run(covered).logits
    signs = np.where(original > 0, 1.0, -1.0)
    strength = float(np.abs(original).sum())
    if strength == 0:
        return np.zeros((side, side)), 0.0, 0
    losses = 1 - logits @ signs / strength
    total, times = np.zeros((2, side, side))
    for place, loss in zip(places, losses, strict=True):
        total[place] += loss
        times[place] += 1
    worst = int(losses.argmax())
    flipped = int(((logits[worst] > 0) != (original > 0)).sum())
    return positive(total / times), float(losses[worst]), flipped
