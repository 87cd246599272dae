"""Training on features in memory."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from milvus_fghash.errors import ConfigError, DataError
from milvus_fghash.methods import ON_FEATURES_ALONE
from milvus_fghash.recipes.loader import compose
from milvus_fghash.training.on_features import NoBackbone, encode_features, fit_on_features


@pytest.fixture(scope="module")
def photos() -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    labels = torch.arange(4).repeat_interleave(12)
    features = torch.randn(4, 16, generator=random)[labels] + 0.5 * torch.randn(2, 48, 16, generator=random)
    return features, labels


def test_one_training_gives_the_codes_of_a_training_at_each_length(photos: tuple[torch.Tensor, torch.Tensor]) -> None:
    recipe = compose("frozen", "posterior-itq", ["training.epochs_per_round=3"])
    together = fit_on_features(recipe, (32, 16), *photos)
    for bits in (32, 16):
        alone = fit_on_features(recipe, (bits,), *photos)[bits]
        np.testing.assert_array_equal(
            encode_features(together[bits], photos[0][0]), encode_features(alone, photos[0][0])
        )


def test_a_length_whose_head_has_another_size_is_trained_anew(photos: tuple[torch.Tensor, torch.Tensor]) -> None:
    recipe = compose("frozen", "posterior-itq", ["training.epochs_per_round=2"])
    backbone = NoBackbone(16)
    backbone.weights = torch.nn.Parameter(torch.zeros(2_000))
    together = fit_on_features(recipe, (8, 64), *photos, backbone)
    alone = fit_on_features(recipe, (64,), *photos, backbone)[64]
    shapes = [dict(method.named_parameters())["head.heads.weight"].shape for method in together.values()]
    assert shapes[0] != shapes[1]
    np.testing.assert_array_equal(encode_features(together[64], photos[0][0]), encode_features(alone, photos[0][0]))


def test_a_method_without_labels_takes_none(photos: tuple[torch.Tensor, torch.Tensor]) -> None:
    none = torch.full_like(photos[1], -1)
    for method in ("itq", "posterior-itq"):
        fitted = fit_on_features(compose("frozen", method), (16,), photos[0], none)
        assert encode_features(fitted[16], photos[0][0]).shape == (48, 2)


def test_a_method_that_needs_labels_or_maps_says_so(photos: tuple[torch.Tensor, torch.Tensor]) -> None:
    none = torch.full_like(photos[1], -1)
    with pytest.raises(DataError, match="48 of 48 photos have no class, and kinhash needs one for each"):
        fit_on_features(compose("frozen", "kinhash", ON_FEATURES_ALONE["kinhash"]), (16,), photos[0], none)
    with pytest.raises(ConfigError, match="learns from maps"):
        fit_on_features(compose("finetune", "semicon"), (16,), *photos)
    for method in ("kinhash", "fish", "fcaenet"):
        with pytest.raises(ConfigError, match=f"{method} learns from the photos themselves"):
            fit_on_features(compose("frozen", method), (16,), *photos)


def test_kinhash_takes_features_alone(photos: tuple[torch.Tensor, torch.Tensor]) -> None:
    short = ("training.rounds=2", "training.epochs_per_round=1")
    fitted = fit_on_features(compose("frozen", "kinhash", (*ON_FEATURES_ALONE["kinhash"], *short)), (16,), *photos)
    assert encode_features(fitted[16], photos[0][0]).shape == (48, 2)
