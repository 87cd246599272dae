"""What of a photo the code rests on, found by hiding parts of it: for any model that answers, without gradients."""

from __future__ import annotations

import numpy as np

from milvus_fghash.explain.model import Heat, Model, Pixels, View
from milvus_fghash.explain.pictures import overlay, positive

PARTS = 8
"""A square that hides is two of so many parts of a photo's side wide, and moves by one."""

OCCLUSION = (
    "Hidden: occlusion. Squares of a quarter of the photo's side were painted over in the mean colour, one after the "
    "other. The logits lose most by bright places: the code rests on them. Dark ones do not matter, or speak against "
    "the code. Each map is scaled by itself, so that the brightest place can stand for much or for little: the caption "
    "says what the worst square costs, at 100 % the logits no longer speak for the code, and how many bits it turns."
)


def hidden_view(model: Model, photo: Pixels) -> View:
    """The map over a photo, and what its worst square does."""
    heat, worst, turned = occlusion(model, photo)
    cost = f"{round(100 * worst)}\N{NO-BREAK SPACE}%"
    caption = f"the worst square costs {cost}, turns {turned} of {model.bits} bits"
    return View("hidden", caption if worst > 0 else "no single square matters", overlay(photo, heat))


def occlusion(model: Model, photo: Pixels) -> tuple[Heat, float, int]:
    """Mean loss of the squares over each pixel, as a share of the highest; loss of the worst, and bits that it turns.

    The loss of a square is the part of sum |output| that goes when it is hidden: 1 leaves nothing for the code's
    bits in sum, more speaks for the opposite code.
    """
    side = len(photo)
    step = max(1, side // PARTS)
    starts = sorted({*range(0, side - 2 * step + 1, step), side - 2 * step})
    places = [(slice(top, top + 2 * step), slice(left, left + 2 * step)) for top in starts for left in starts]
    hidden = np.repeat(photo[None], len(places), axis=0)
    for one, place in zip(hidden, places, strict=True):
        one[place] = model.mean_colour
    (whole,), logits = model.run(photo[None]).logits, model.run(hidden).logits
    signs = np.where(whole > 0, 1.0, -1.0)
    strength = float(np.abs(whole).sum())
    if strength == 0:
        return np.zeros((side, side)), 0.0, 0
    losses = 1 - logits @ signs / strength
    total, times = np.zeros((2, side, side))
    for place, loss in zip(places, losses, strict=True):
        total[place] += loss
        times[place] += 1
    worst = int(losses.argmax())
    turned = int(((logits[worst] > 0) != (whole > 0)).sum())
    return positive(total / times), float(losses[worst]), turned
