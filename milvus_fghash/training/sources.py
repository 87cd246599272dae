"""Where the features of a step come from: the backbone, photo by photo, or a cache when the backbone is frozen."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor

from milvus_fghash.methods.base import Batch, HashMethod
from milvus_fghash.recipes.schema import Recipe
from milvus_fghash.training.draws import Step
from milvus_fghash.training.photos import CENTRE_CROP, Loader, Photos, View

Embed = Callable[[Tensor], dict[str, Tensor]]
"""Normalised photos (b, 3, h, w) -> name -> (b, n_features)."""


class Source(Protocol):
    """Gives the batches of a round, and the centre-crop features of all photos."""

    def batches(self, steps: Sequence[Step], labels: Tensor) -> Iterator[Batch]: ...

    def centre_crop_features(self) -> Tensor:
        """(n, n_features) of the centre crops, on the CPU."""
        ...


class PhotoSource:
    """Decodes photos and runs the backbone under gradient, in the recipe's precision."""

    def __init__(self, method: HashMethod, photos: Photos, recipe: Recipe, device: torch.device) -> None:
        self.method, self.device, self.plan = method, device, recipe.training
        self.loader = Loader(photos, self.plan.workers)

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
    """As many views at once as a backbone takes best on a device."""
    size = 16 if device.type == "cpu" else 256  # what fits the processor's cache runs faster
    return [views[start : start + size] for start in range(0, len(views), size)]


@torch.no_grad()
def computed_features(
    method: HashMethod,
    embed: Embed,
    loader: Loader,
    batches: Sequence[Sequence[View]],
    device: torch.device,
) -> Iterator[dict[str, Tensor]]:
    """What ``embed`` of a method gives for batches of views, in evaluation mode; name -> (b, n_features) on the CPU."""
    was_training = method.training
    method.eval()
    try:
        for pixels in loader.batches(batches):
            embedded = embed(to_input(method, pixels, device, channels_last=True))
            yield {name: value.float().cpu() for name, value in embedded.items()}
    finally:
        method.train(was_training)


def _embed_centre_crops(method: HashMethod) -> Embed:
    """What encoding needs, under the name that training has for it."""
    return lambda images: {"anchor": method.features(images)}


def centre_crop_features(method: HashMethod, loader: Loader, device: torch.device) -> Tensor:
    """(n, n_features) of the centre crops, from the network as it is now."""
    batches = in_batches([(row, CENTRE_CROP) for row in range(len(loader.photos))], device)
    computed = computed_features(method, _embed_centre_crops(method), loader, batches, device)
    return torch.cat([features["anchor"] for features in computed])


def to_input(method: HashMethod, pixels: Tensor, device: torch.device, channels_last: bool) -> Tensor:
    """uint8 (b, 3, h, w) from the loader -> the backbone's normalised input on its device."""
    images = method.backbone.normalise(pixels.to(device, non_blocking=True))
    return images.contiguous(memory_format=torch.channels_last) if channels_last else images.contiguous()


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Mixed precision for what runs inside, or nothing for float32."""
    kinds = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    enabled = precision != "float32"
    return torch.autocast(device.type, dtype=kinds[precision] if enabled else None, enabled=enabled)
