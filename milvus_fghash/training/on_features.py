"""Train a method on features in memory, without photos and files: for measurements of many methods on one encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

from milvus_fghash.core.code_length import check_bits
from milvus_fghash.core.codes import Codes
from milvus_fghash.errors import ConfigError, DataError
from milvus_fghash.methods import card, check_backbone
from milvus_fghash.methods.base import Backbone, HashMethod, Round, Sizes
from milvus_fghash.recipes.schema import Recipe
from milvus_fghash.training.checkpoint import build_method
from milvus_fghash.training.device import reproducible
from milvus_fghash.training.loop import Optimisation, train_round
from milvus_fghash.training.sources import FeatureSource, encode

NEEDS_PHOTOS: Final = (
    "learns from the photos themselves, which these features do not have. Choose one that works on pooled features, "
    "such as itq or posterior-itq"
)


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
        recipe: its backbone and preprocessing are not used; `ON_FEATURES_ALONE` has what some methods need.
        lengths: code lengths; the recipe's ``by_bits`` tables are merged in. A method whose bits are fitted after its
            training is trained once for all of them.
        features: (views, n, n_features); view 0 is the centre crop.
        labels: (n,) int64 class numbers from 0 without gaps; -1 for a photo without a class.
        backbone: where the features come from: its size bounds some heads. Default: unknown.

    Returns:
        Length -> the method in evaluation mode; `encode_features` makes codes.

    Raises:
        ConfigError: when options do not fit the method, or it learns from maps or photos.
        DataError: when it needs a class for each photo and some have none.
        NotFinite: when a loss is not finite.
    """
    trainer = FeatureTrainer(recipe, features, labels, backbone)
    return {bits: trainer.fitted(bits) for bits in lengths}


class FeatureTrainer:
    """As `fit_on_features`, one length at a time, so that the time of each is known before the next one begins."""

    def __init__(self, recipe: Recipe, features: Tensor, labels: Tensor, backbone: Backbone | None = None) -> None:
        """Parameters and errors: as `fit_on_features`."""
        name = recipe.method.name
        check_backbone(name, frozen=True)
        n_unlabelled = int((labels < 0).sum())
        if card(name).labels and n_unlabelled and not card(name).unlabelled:
            raise DataError(f"{n_unlabelled} of {len(labels)} photos have no class, and {name} needs one for each")
        self.recipe, self.labels = recipe, labels
        self.backbone = backbone or NoBackbone(features.shape[2])
        self.source = FeatureSource({"anchor": features}, features.device)
        self.n_unlabelled = n_unlabelled
        self.n_classes = int(labels.max()) + 1 if n_unlabelled < len(labels) else 0
        self._trained: tuple[Recipe, HashMethod] | None = None

    def fitted(self, bits: int) -> HashMethod:
        """The method at one length, in evaluation mode; the first training serves all lengths where it can."""
        check_bits(bits)
        at, labels = self.recipe.at(bits), self.labels
        with reproducible(at.training.deterministic):
            torch.manual_seed(at.training.seed)
            sizes = Sizes(bits, self.n_classes, len(labels), self.n_unlabelled)
            method = build_method(at.method, at.head, self.backbone, sizes)
            if (method.features_key, method.embedding_key) != (HashMethod.features_key, HashMethod.embedding_key):
                raise ConfigError(f"{at.method.name} {NEEDS_PHOTOS}")
            method.to(self.source.device).backbone.requires_grad_(False)
            if self._trained and self._trained[0] == at and _same_but_for_bits(method, self._trained[1]):
                _refit(method, self._trained[1], at.training.rounds, self.source, labels)
            else:
                _train(method, at, self.source, labels)
        self._trained = self._trained or (at, method)
        return method.eval()


def _train(method: HashMethod, recipe: Recipe, source: FeatureSource, labels: Tensor) -> None:
    if method.wants_features:
        method.fit(source.features["anchor"][0], labels)
    if card(recipe.method.name).by_gradient:
        optimisation = Optimisation.of(method, recipe.training, True, source.device)
        for number in range(recipe.training.rounds):
            train_round(method, source, labels, recipe.training, number, optimisation, lambda progress: None)


def _same_but_for_bits(method: HashMethod, trained: HashMethod) -> bool:
    """Whether what is trained has the same sizes, although the code lengths differ."""
    sizes, others = ({name: value.shape for name, value in one.named_parameters()} for one in (method, trained))
    return method.bits_come_last and sizes == others


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
