"""Methods of any kind on a backbone that is easy to follow by hand, and the calls the loop makes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from milvus_fghash.methods.base import Backbone, Batch, Round, Sizes
from milvus_fghash.recipes.schema import HeadChoice

LABELS = torch.tensor([0, 1, 2, 0, 1, 2, 0, 0])
ROWS = torch.tensor([3, 0, 5, 1])
N, C, BITS, WIDTH = 8, 3, 12, 6


class Flat(Backbone):
    """Features are the mean colour of a 3-channel photo, twice over."""

    n_features = WIDTH
    mean = std = (0.5, 0.5, 0.5)

    def maps(self, images: Tensor) -> Tensor:
        return torch.cat([images, images**2], dim=1)


def settle(run: Callable[[], object], *modules: nn.Module) -> None:
    """Evaluation mode with the statistics of what ``run`` passes through the modules.

    Those of a random start leave nearly zeros of every map.
    """
    for module in modules:
        module.train()
        for layer in module.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.momentum = None
    with torch.no_grad():
        run()
    for module in modules:
        module.eval()


def round_of(number: int = 0, rounds: int = 1, centre_crops: Tensor | None = None) -> Round:
    """A round over `ROWS`; ``centre_crops`` are the centre-crop features of all photos, if the method asks for them."""

    def features() -> Tensor:
        assert centre_crops is not None
        return centre_crops

    return Round(number, rounds, ROWS, LABELS, features)


def made(module: Any, head: HeadChoice | None = None, **options: Any) -> Any:
    """A method of a module with its weights drawn from seed 0, before its first round."""
    torch.manual_seed(0)
    method = module.Method(Flat(), head or HeadChoice(), Sizes(BITS, C, N), module.Config(**options))
    method.before_round(round_of())
    return method


def batch(names: tuple[str, ...] = ("anchor",), rows: tuple[int, ...] = (5, 0)) -> Batch:
    """Random features for photos 5 and 0 of the round: out of order, to catch rows taken for positions."""
    random = torch.Generator().manual_seed(1)
    chosen = torch.tensor(rows)
    return Batch(chosen, LABELS[chosen], {name: torch.randn(len(rows), WIDTH, generator=random) for name in names})


def minimal_distance(codes: Tensor) -> int:
    """In how many bits the two nearest of (n, c) codes differ; of a single code, its length."""
    differing = (codes[:, None] != codes[None]).sum(dim=2)
    return int(differing.fill_diagonal_(codes.shape[1]).min())
