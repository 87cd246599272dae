"""Features for a training step: computed by the backbone photo by photo, or taken from the cache of a frozen one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from milvus_fghash.core.codes import Codes, pack
from milvus_fghash.methods.base import Batch, HashMethod
from milvus_fghash.recipes.schema import TrainingPlan
from milvus_fghash.training.device import autocast
from milvus_fghash.training.draws import Step
from milvus_fghash.training.photos import CENTRE_CROP, Loader, Photos, View

Embed = Callable[[Tensor], dict[str, Tensor]]
"""Normalised photos (b, 3, h, w) -> name -> (b, n_features)."""

HEAD_BATCH = 256
"""Photos per call of a head: KinHash compares up to three million pairs of code and class for each."""


class Source(Protocol):
    """The batches of a round, and the centre-crop features of all photos."""

    def batches(self, steps: Sequence[Step], labels: Tensor) -> Iterator[Batch]: ...

    def centre_crop_features(self) -> Tensor:
        """(n, n_features), on the CPU."""
        ...


class PhotoSource:
    """Decodes photos and runs the backbone with gradients, in the plan's precision."""

    def __init__(self, method: HashMethod, photos: Photos, plan: TrainingPlan, device: torch.device) -> None:
        self.method, self.device, self.plan = method, device, plan
        self.loader = Loader(photos, plan.workers)

    def batches(self, steps: Sequence[Step], labels: Tensor) -> Iterator[Batch]:
        views = [step.views() for step in steps]
        for step, pixels in zip(steps, self.loader.batches(views), strict=True):
            images = to_input(self.method, pixels, self.device, self.plan.channels_last)
            with autocast(self.device, self.plan.precision):
                features = self.method.embed(images[: len(step.rows)])
                if step.positives is not None:
                    features["positive"] = self.method.features(images[len(step.rows) :])
            rows = step.rows.to(self.device)
            yield Batch(rows, labels[rows], {name: value.float() for name, value in features.items()})

    def centre_crop_features(self) -> Tensor:
        return centre_crop_features(self.method, self.loader, self.device)


class FeatureSource:
    """Picks, for each photo of a step, one of its cached views at random."""

    def __init__(self, features: dict[str, Tensor], device: torch.device) -> None:
        """``features``: for each name of the method's `embed`, (views, n, n_features); view 0 is the centre crop."""
        self.features = {name: value.to(device) for name, value in features.items()}
        self.n_views = len(features["anchor"])
        self.device = device

    def batches(self, steps: Sequence[Step], labels: Tensor) -> Iterator[Batch]:
        for step in steps:
            rows, view = step.rows.to(self.device), (step.seeds % self.n_views).to(self.device)
            features = {name: value[view, rows] for name, value in self.features.items()}
            if step.positives is not None:
                other_view = (step.seeds // self.n_views % self.n_views).to(self.device)
                features["positive"] = self.features["anchor"][other_view, step.positives.to(self.device)]
            yield Batch(rows, labels[rows], features)

    def centre_crop_features(self) -> Tensor:
        return self.features["anchor"][0].cpu()


def in_batches(views: Sequence[View], device: torch.device) -> list[Sequence[View]]:
    """Views in batches of the size that a backbone computes fastest on a device."""
    size = 16 if device.type == "cpu" else 256  # on the CPU, what fits its cache
    return [views[start : start + size] for start in range(0, len(views), size)]


@torch.no_grad()
def computed_features(
    method: HashMethod,
    embed: Embed,
    loader: Loader,
    batches: Sequence[Sequence[View]],
    device: torch.device,
) -> Iterator[dict[str, Tensor]]:
    """``embed`` of each batch of views, in evaluation mode; name -> (b, n_features) on the CPU."""
    was_training = method.training
    method.eval()
    try:
        for pixels in loader.batches(batches):
            embedded = embed(to_input(method, pixels, device, channels_last=True))
            yield {name: value.float().cpu() for name, value in embedded.items()}
    finally:
        method.train(was_training)


def embed_anchor(method: HashMethod) -> Embed:
    """`features` alone, which is all that encoding needs, under the name that training has for it."""
    return lambda images: {"anchor": method.features(images)}


def centre_crop_features(method: HashMethod, loader: Loader, device: torch.device) -> Tensor:
    """(n, n_features) of the centre crops, from the network as it is now."""
    batches = in_batches([(row, CENTRE_CROP) for row in range(len(loader.photos))], device)
    computed = computed_features(method, embed_anchor(method), loader, batches, device)
    return torch.cat([features["anchor"] for features in computed])


@torch.no_grad()
def encode(method: HashMethod, features: Tensor, device: torch.device) -> Codes:
    """(n, n_features) of `HashMethod.features` -> packed codes; the method is on ``device``, in evaluation mode."""
    parts = torch.split(features, HEAD_BATCH)
    return np.concatenate([pack(method.head(part.to(device)).float().cpu().numpy()) for part in parts])


def to_input(method: HashMethod, pixels: Tensor, device: torch.device, channels_last: bool) -> Tensor:
    """uint8 (b, 3, h, w) from the loader -> the backbone's normalised input on its device."""
    images = method.backbone.normalise(pixels.to(device, non_blocking=True))
    return images.contiguous(memory_format=torch.channels_last) if channels_last else images.contiguous()
