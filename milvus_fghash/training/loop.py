"""The training loop, in rounds, the same for all methods. What a method does differently is in its file."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from milvus_fghash.errors import NotFinite
from milvus_fghash.methods.base import HashMethod, Round, derive_seed
from milvus_fghash.recipes.schema import TrainingPlan
from milvus_fghash.training.draws import epoch_steps, learning_rate, round_rows, with_least_steps
from milvus_fghash.training.sources import Source

TERMS_EVERY = 50
"""Batches between two readings of the loss, which wait for the device."""


@dataclass
class TrainingProgress:
    """Progress of a training, reported after every batch."""

    round: int
    rounds: int
    epoch: int
    epochs: int
    images_per_second: float = 0.0
    terms: dict[str, float] = field(default_factory=dict)
    """Mean of each term of the loss so far in the round; as of the last `TERMS_EVERY` batches, or the pass's end."""


@dataclass
class Optimisation:
    """State of the optimisation besides the method."""

    optimiser: torch.optim.SGD
    scaler: torch.amp.GradScaler
    frozen: bool

    @staticmethod
    def of(method: HashMethod, plan: TrainingPlan, frozen: bool, device: torch.device) -> Optimisation:
        """SGD over all weights, or all but those of a frozen backbone."""
        of_backbone = set(method.backbone.parameters())
        groups = [{"params": [weight for weight in method.parameters() if weight not in of_backbone], "factor": 1.0}]
        if not frozen:
            groups.append({"params": list(method.backbone.parameters()), "factor": plan.backbone_factor})
        optimiser = torch.optim.SGD(
            groups,
            lr=plan.learning_rate,
            momentum=plan.momentum,
            weight_decay=plan.weight_decay,
            nesterov=plan.nesterov,
            # One pass over the weights, which with a frozen backbone saves two thirds of a step on the CPU. It requires
            # gradients with the memory layout of their weights, which channels-last convolutions do not give.
            fused=frozen,
        )
        return Optimisation(optimiser, torch.amp.GradScaler(device.type, enabled=plan.precision == "float16"), frozen)

    def momenta(self, method: HashMethod) -> dict[str, Tensor]:
        """The optimiser's state by parameter name."""
        names: dict[Tensor, str] = {parameter: name for name, parameter in method.named_parameters()}
        states = self.optimiser.state.items()
        return {
            names[parameter]: state["momentum_buffer"]
            for parameter, state in states
            if state.get("momentum_buffer") is not None
        }

    def restore(self, method: HashMethod, momenta: dict[str, Tensor]) -> None:
        """The inverse of `momenta`."""
        parameters = dict(method.named_parameters())
        for name, buffer in momenta.items():
            self.optimiser.state[parameters[name]]["momentum_buffer"] = buffer.to(parameters[name].device)


def train_round(
    method: HashMethod,
    source: Source,
    labels: Tensor,
    plan: TrainingPlan,
    number: int,
    optimisation: Optimisation,
    report: Callable[[TrainingProgress], object],
) -> TrainingProgress:
    """Run one round: draw photos, train on them, solve what is not learned by gradient.

    Args:
        method: trained in place.
        source: features of the photos of each step.
        labels: (n,) labels of the training set, numbers as in `Batch`, on the method's device.
        plan: the schedule.
        number: the round, from 0.
        optimisation: optimiser and loss scale, changed in place.
        report: called after each batch.

    Raises:
        NotFinite: when a loss is not finite.
    """
    # All randomness (dropout too) follows from the seed and the round, so a resumed training is the same bit for bit.
    torch.manual_seed(derive_seed(plan.seed, number))
    plan = with_least_steps(plan, len(labels))
    rows = round_rows(len(labels), plan, number)
    method.train()
    if optimisation.frozen:
        method.backbone.eval()
    at = Round(
        number, plan.rounds, rows.to(labels.device), labels, lambda: source.centre_crop_features().to(labels.device)
    )
    method.before_round(at)

    progress = TrainingProgress(number, plan.rounds, 0, plan.epochs_per_round)
    sums: dict[str, Tensor] = {}
    batches = seen = 0
    started = time.perf_counter()
    for epoch in range(plan.epochs_per_round):
        for group in optimisation.optimiser.param_groups:
            group["lr"] = group["factor"] * learning_rate(plan, number, epoch)
        steps = epoch_steps(rows, labels.cpu(), plan, number, epoch, method.wants_positives, method.sizes.label_sets)
        for place, batch in enumerate(source.batches(steps, labels)):
            terms = method.loss(batch)
            averaged = min(plan.gradient_steps, len(steps) - place // plan.gradient_steps * plan.gradient_steps)
            total = torch.stack(list(terms.values())).sum() / averaged  # the last group of an epoch can be smaller
            optimisation.scaler.scale(total).backward()  # type: ignore[no-untyped-call]
            if (place + 1) % plan.gradient_steps == 0 or place + 1 == len(steps):
                optimisation.scaler.step(optimisation.optimiser)
                optimisation.scaler.update()
                optimisation.optimiser.zero_grad(set_to_none=True)

            batches += 1
            seen += len(batch.rows)
            for name, value in terms.items():
                sums[name] = sums.get(name, 0) + value.detach()
            if batches % TERMS_EVERY == 0:
                progress.terms = _means(sums, batches)
            progress.epoch = epoch
            progress.images_per_second = seen / (time.perf_counter() - started)
            report(progress)
        progress.terms = _means(sums, batches)
        report(progress)
        if not all(math.isfinite(value) for value in progress.terms.values()):
            instead = "" if plan.precision == "float32" else ", or use training.precision = 'float32'"
            raise NotFinite(
                f"the loss is not finite in round {number + 1}, epoch {epoch + 1}: {progress.terms}. "
                f"Lower training.learning_rate, which is {plan.learning_rate:g}{instead}"
            )
    with torch.no_grad():
        method.after_round(at)
    return progress


def _means(sums: dict[str, Tensor], batches: int) -> dict[str, float]:
    return {name: float(value) / batches for name, value in sums.items()}
