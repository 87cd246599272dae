"""The weight of the features in the codes of `posterior_itq`, chosen with held-out training photos."""

from __future__ import annotations

import copy
from typing import Final

import torch
from torch import Tensor

from milvus_fghash.methods.base import generator
from milvus_fghash.methods.posterior_code import Config, PosteriorCode, fit_code, fit_space, train_briefly

WEIGHTS: Final = (0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0)
"""Candidates for the weight of the features, w."""
MIN_TOLERANCE, MAX_TOLERANCE, TOLERANCE_OF_CLASSES = 0.015, 0.1, 3
"""Share of the held-out mAP that the features may cost: `TOLERANCE_OF_CLASSES` / number of classes, within the other
two. Posteriors of few classes have so few dimensions that new classes are found by the features alone, as by ITQ."""
MAX_TRIAL_PHOTOS, MAX_HELD_OUT_CLASSES = 10_000, 200
"""Photos, and classes, with which w is chosen."""


def chosen_weight(code: PosteriorCode, features: Tensor, labels: Tensor, config: Config) -> float:
    """The largest of `WEIGHTS` whose mAP among held-out photos is within `tolerance` of the best.

    Args:
        code: with standardised features fitted; not changed.
        features: (n, n_features) of the training photos.
        labels: (n,) their class numbers.
        config: options.
    """
    n_classes = int((torch.bincount(labels) > 0).sum())
    kept, held_out = hold_out(labels.cpu(), config.seed)
    if not len(held_out):
        usual: float = 0.6 * (100 / n_classes) ** 0.6  # close to what is chosen with 5 to 100 classes of birds
        return min(max(usual, WEIGHTS[0]), WEIGHTS[-1])
    trial = copy.deepcopy(code)
    fit_space(trial, features[kept], labels[kept], config)  # not of the held-out photos, which it would know
    targets = labels[kept, None].expand(-1, len(trial.heads.weight))
    train_briefly(trial.heads, trial.standardise(features[kept]), targets, config.label_smoothing, config.seed)
    quality: dict[float, float] = {}
    for weight in WEIGHTS:
        fit_code(trial, features[kept], weight, config)
        codes = torch.where(trial.bits(trial.embed(features[held_out])) > 0, 1.0, -1.0)
        quality[weight] = leave_one_out_map(codes, labels[held_out])
    least = (1 - tolerance(n_classes)) * max(quality.values())
    return max(weight for weight, reached in quality.items() if reached >= least)


def tolerance(n_classes: int) -> float:
    """Share of the held-out mAP that the features may cost, with this number of known classes."""
    return min(max(TOLERANCE_OF_CLASSES / n_classes, MIN_TOLERANCE), MAX_TOLERANCE)


def hold_out(labels: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Rows to train on, and a third of each class of at least four photos held out of them; at most
    `MAX_HELD_OUT_CLASSES` classes and `MAX_TRIAL_PHOTOS` photos."""
    random = generator(seed, 6)
    counts = torch.bincount(labels)
    classes = (counts >= 4).nonzero()[:, 0]
    classes = classes[torch.randperm(len(classes), generator=random)][:MAX_HELD_OUT_CLASSES]
    kept, held_out = [labels.new_zeros(0)], [labels.new_zeros(0)]
    for number in classes if len(classes) > 1 else []:
        rows = (labels == number).nonzero()[:, 0]
        rows = rows[torch.randperm(len(rows), generator=random)][: max(4, MAX_TRIAL_PHOTOS // len(classes))]
        held_out.append(rows[: max(2, len(rows) // 3)])
        kept.append(rows[len(held_out[-1]) :])
    return torch.cat(kept), torch.cat(held_out)


def leave_one_out_map(codes: Tensor, labels: Tensor) -> float:
    """mAP of photos that each ask among all others, codes (n, n_bits) of +1 and -1; ties are in order of their rows,
    which are random within a class, so that longer codes are not favoured for having fewer."""
    places = torch.arange(1, len(codes), device=codes.device)
    total = 0.0
    for rows in torch.split(torch.arange(len(codes), device=codes.device), 512):
        similar = codes[rows] @ codes.T
        similar[torch.arange(len(rows)), rows] = -torch.inf
        order = similar.argsort(dim=1, descending=True, stable=True)[:, :-1]
        relevant = (labels[order] == labels[rows, None]).float()
        precision = relevant.cumsum(dim=1) / places
        total += float(((precision * relevant).sum(dim=1) / relevant.sum(dim=1).clamp(min=1)).sum())
    return float(total / len(codes))
