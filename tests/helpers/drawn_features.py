"""Features of photos of drawn classes, and a backbone that only has a size."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from milvus_fghash.methods.base import Backbone


class Sized(Backbone):
    """A backbone of a given width and number of weights."""

    mean = std = (0.5, 0.5, 0.5)

    def __init__(self, n_features: int, n_weights: int = 0) -> None:
        super().__init__()
        self.n_features = n_features
        if n_weights:
            self.weights = nn.Parameter(torch.empty(n_weights, device="meta"))

    def maps(self, images: Tensor) -> Tensor:
        raise NotImplementedError


def mixture(n_classes: int, photos: int, seed: int, *, nuisance: float = 3.0) -> tuple[Tensor, Tensor]:
    """Features of classes, (n_classes * photos, 48), and class numbers: 40 features tell classes apart, the last 8 vary
    widely within every class, as light and pose do."""
    random = torch.Generator().manual_seed(seed)
    labels = torch.arange(n_classes).repeat_interleave(photos)
    centres = torch.randn(n_classes, 40, generator=random)
    own = centres[labels] + 0.9 * torch.randn(len(labels), 40, generator=random)
    return torch.cat([own, nuisance * torch.randn(len(labels), 8, generator=random)], dim=1), labels
