"""Randomness: the seed, the photos of a round, and the batches of an epoch.

Every draw depends only on the seed, the round and the epoch, so a resumed training draws the same photos without any
stored state.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from milvus_fghash.methods import load
from milvus_fghash.methods.base import generator
from milvus_fghash.recipes.schema import Recipe, TrainingPlan


def with_seed(recipe: Recipe, seed: int) -> Recipe:
    """A recipe with one seed for all that is random: the training, and the method's own draws."""
    method = recipe.method
    if "seed" in load(method.name).Config.model_fields:
        method = method.model_copy(update={"options": {**method.options, "seed": seed}})
    training = recipe.training.model_copy(update={"seed": seed})
    return recipe.model_copy(update={"method": method, "training": training})


@dataclass(frozen=True)
class Step:
    """One batch to load: rows of the training set, and a seed for the views of each."""

    rows: Tensor
    """(b,) int64."""
    positives: Tensor | None
    """(b,) int64, for each row another photo of its class."""
    seeds: Tensor
    """(b,) int64, determine the random crops of the photos; plus 1, those of their positives."""

    def views(self) -> list[tuple[int, int]]:
        """(row, seed) of each photo, then of each positive."""
        pairs = [(self.rows, self.seeds)]
        if self.positives is not None:
            pairs.append((self.positives, self.seeds + 1))
        return [view for rows, seeds in pairs for view in zip(rows.tolist(), seeds.tolist(), strict=True)]


def round_rows(n: int, plan: TrainingPlan, number: int) -> Tensor:
    """The photos of one round: all, or a sample without replacement."""
    order = torch.randperm(n, generator=generator(plan.seed, number))
    return order[: plan.samples_per_round or n]


def with_least_steps(plan: TrainingPlan, n: int) -> TrainingPlan:
    """The plan with as many epochs a round as `TrainingPlan.least_steps` needs with n training photos."""
    batches = math.ceil(min(plan.samples_per_round or n, n) / plan.batch_size)
    steps = plan.rounds * math.ceil(batches / plan.gradient_steps)
    epochs = max(plan.epochs_per_round, math.ceil(plan.least_steps / steps))
    return plan.model_copy(update={"epochs_per_round": epochs})


def epoch_steps(
    rows: Tensor,
    labels: Tensor,
    plan: TrainingPlan,
    number: int,
    epoch: int,
    positives: bool,
    label_sets: Tensor | None = None,
) -> list[Step]:
    """One pass over the photos of a round, in random order, as batches.

    Args:
        rows: (m,) photos of the round.
        labels: (n,) labels of the training set, numbers as in `Batch`.
        plan: batch size and seed.
        number: the round.
        epoch: the epoch within the round.
        positives: whether to draw another photo of its class for each.
        label_sets: as in `Sizes`.
    """
    random = generator(plan.seed, number, epoch)
    rows = rows[torch.randperm(len(rows), generator=random)]
    seeds = torch.randint(2**62, (len(rows),), generator=random)
    others = draw_positives(rows, labels, random, label_sets) if positives else None
    batches = list(torch.split(torch.arange(len(rows)), plan.batch_size))
    if len(batches) > 1 and len(batches[-1]) == 1:  # batch norm fails for a single photo
        batches[-2:] = [torch.cat(batches[-2:])]
    return [Step(rows[i], None if others is None else others[i], seeds[i]) for i in batches]


def draw_positives(rows: Tensor, labels: Tensor, random: torch.Generator, label_sets: Tensor | None = None) -> Tensor:
    """For each of ``rows`` another of its class among them; if there is none, one of the whole training set.

    The only photo of a class is its own positive. Of a photo with several labels, one is drawn first.
    """
    drawn = _another(rows, labels[rows], random, label_sets)
    alone = drawn == rows
    if alone.any():
        everything = _another(torch.arange(len(labels)), labels, random, label_sets)
        drawn[alone] = everything[rows[alone]]
    return drawn


def _another(rows: Tensor, labels: Tensor, random: torch.Generator, label_sets: Tensor | None) -> Tensor:
    """For each row another member of its group, uniformly drawn; itself in a group of one."""
    if label_sets is not None:
        return _another_sharing(rows, label_sets[labels], random)
    order = labels.argsort(stable=True)
    size = torch.bincount(labels)
    start = size.cumsum(0) - size
    size, start = size[labels[order]], start[labels[order]]
    place = torch.arange(len(rows)) - start
    # A step of 1 to size - 1 around the group, as a circle, never ends at its start.
    step = 1 + (torch.rand(len(rows), generator=random, dtype=torch.float64) * (size - 1)).long()
    drawn = torch.empty_like(rows)
    drawn[order] = rows[order[start + (place + step) % size]]
    return drawn


def _another_sharing(rows: Tensor, has: Tensor, random: torch.Generator) -> Tensor:
    """For each row another one that has one of its classes, (n, n_classes) bool, drawn first; itself if none has."""
    class_of = torch.multinomial(has.float(), 1, generator=random)[:, 0]
    classes, members = has.T.nonzero(as_tuple=True)  # by class, and within it by row
    size = has.sum(dim=0)
    start = (size.cumsum(0) - size)[class_of]
    # (class, row) pairs are sorted, so each row's place among the members of its class is found by bisection.
    place = torch.searchsorted(classes * len(rows) + members, class_of * len(rows) + torch.arange(len(rows))) - start
    size = size[class_of]
    step = 1 + (torch.rand(len(rows), generator=random, dtype=torch.float64) * (size - 1)).long()
    return rows[members[start + (place + step) % size]]


def learning_rate(plan: TrainingPlan, number: int, epoch: int) -> float:
    """The learning rate of one epoch of one round: divided by 10 for each of ``drop_at`` that has passed, or on a
    cosine from the full rate in the first epoch towards 0 after the last."""
    if plan.schedule == "steps":
        return float(plan.learning_rate * 0.1 ** sum(number >= drop for drop in plan.drop_at))
    done = (number * plan.epochs_per_round + epoch) / (plan.rounds * plan.epochs_per_round)
    return plan.learning_rate * (1 + math.cos(math.pi * done)) / 2
