"""Train a method on features in memory, without photos and files: for measurements of many methods on one encoder."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from milvus_fghash.core.code_length import check_bits
from milvus_fghash.core.codes import Codes
from milvus_fghash.errors import DataError
from milvus_fghash.methods import card, check_backbone
from milvus_fghash.methods.base import Backbone, HashMethod, Round, Sizes
from milvus_fghash.recipes.schema import Recipe
from milvus_fghash.training.checkpoint import build_method
from milvus_fghash.training.device import reproducible
from milvus_fghash.training.loop import Optimisation, train_round
from milvus_fghash.training.sources import FeatureSource, encode


class NoBackbone(Backbone):
    """Stands for the encoder of features that were computed elsewhere."""

    def __init__(self, n_features: int) -> None:
        super().__init__()
        self.n_features = n_features
        self.mean = self.std = (0.5, 0.5, 0.5)

    def maps(self, images: Tensor) -> Tensor:
        raise NotImplementedError("these features were computed elsewhere")


def fit_on_features(
    recipe: Recipe, lengths: Sequence[int], features: Tensor, labels: Tensor, backbone: Backbone | None = None
) -> dict[int, HashMethod]:
    """Train a recipe's method on features of a frozen backbone, as `run_training` does on photos.

    Args:
        recipe: its backbone and preprocessing are not used; erasing of pixels must be off, since it needs photos.
        lengths: code lengths; the recipe's ``by_bits`` tables are merged in. A method whose bits are fitted after its
            training is trained once for all of them.
        features: (views, n, n_features); view 0 is the centre crop.
        labels: (n,) int64 class numbers from 0 without gaps; -1 for a photo without a class.
        backbone: where the features come from: its size bounds some heads. Default: unknown.

    Returns:
        Length -> the method in evaluation mode; `encode_features` makes codes.

    Raises:
        ConfigError: when options do not fit the method, or it works on maps.
        DataError: when it needs a class for each photo and some have none.
        NotFinite: when a loss is not finite.
    """
    name = recipe.method.name
    check_backbone(name, frozen=True)
    n_unlabelled = int((labels < 0).sum())
    if card(name).labels and n_unlabelled and not card(name).unlabelled:
        raise DataError(f"{n_unlabelled} of {len(labels)} photos have no class, and {name} needs one for each")
    n_classes = int(labels.max()) + 1 if n_unlabelled < len(labels) else 0
    source = FeatureSource({"anchor": features}, features.device)
    fitted: dict[int, HashMethod] = {}
    for bits in lengths:
        check_bits(bits)
        at = recipe.at(bits)
        with reproducible(at.training.deterministic):
            torch.manual_seed(at.training.seed)
            sizes = Sizes(bits, n_classes, len(labels), n_unlabelled)
            method = build_method(at.method, at.head, backbone or NoBackbone(features.shape[2]), sizes)
            method.to(features.device).backbone.requires_grad_(False)
            trained = next(iter(fitted.values()), None)
            if trained is not None and method.bits_come_last and recipe.at(next(iter(fitted))) == at:
                _refit(method, trained, at.training.rounds, source, labels)
            else:
                _train(method, at, source, labels)
        fitted[bits] = method.eval()
    return fitted


def _train(method: HashMethod, recipe: Recipe, source: FeatureSource, labels: Tensor) -> None:
    if method.wants_features:
        method.fit(source.features["anchor"][0], labels)
    if card(recipe.method.name).by_gradient:
        optimisation = Optimisation.of(method, recipe.training, True, source.device)
        for number in range(recipe.training.rounds):
            train_round(method, source, labels, recipe.training, number, optimisation, lambda progress: None)


def _refit(method: HashMethod, trained: HashMethod, rounds: int, source: FeatureSource, labels: Tensor) -> None:
    """Take over what was trained at another length, and fit the bits."""
    shapes = {name: value.shape for name, value in method.state_dict().items()}
    state = {name: value for name, value in trained.state_dict().items() if value.shape == shapes[name]}
    method.load_state_dict(state, strict=False)
    rows = torch.arange(len(labels), device=labels.device)
    method.after_round(Round(rounds - 1, rounds, rows, labels, lambda: source.features["anchor"][0]))


def encode_features(method: HashMethod, features: Tensor) -> Codes:
    """(n, n_features) -> packed codes."""
    return encode(method, features, features.device)
