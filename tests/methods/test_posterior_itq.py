"""Posterior-ITQ by hand, against slow references, and by what it is for, on drawn mixtures of features."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from milvus_fghash.core.codes import pack
from milvus_fghash.errors import DataError
from milvus_fghash.evaluation.metrics import distance_histogram, mean_average_precision
from milvus_fghash.methods import itq
from milvus_fghash.methods.base import Sizes
from milvus_fghash.methods.posterior_code import Config, HeadSize, PosteriorHeads, head_shape
from milvus_fghash.methods.posterior_itq import Method, usual_cluster, weight_beside_clusters
from milvus_fghash.recipes.schema import HeadChoice, TrainingPlan
from milvus_fghash.training.loop import Optimisation, train_round
from milvus_fghash.training.sources import FeatureSource
from tests.helpers.drawn_features import Sized, mixture

pytestmark = pytest.mark.full

CPU = torch.device("cpu")


def trained(features: Tensor, labels: Tensor, bits: int, **options: Any) -> Method:
    """As `train` does with the features of a frozen backbone."""
    sizes = Sizes(bits, int(labels.max()) + 1, len(labels), int((labels < 0).sum()))
    method = Method(Sized(features.shape[1]), HeadChoice(), sizes, Config(**options))
    source = FeatureSource({"anchor": features[None]}, CPU)
    method.fit(features, labels)
    plan = TrainingPlan(
        rounds=1, epochs_per_round=20, samples_per_round=0, batch_size=32, learning_rate=0.02, schedule="cosine",
        momentum=0.9, nesterov=True, weight_decay=0.01,
    )  # fmt: skip
    train_round(method, source, labels, plan, 0, Optimisation.of(method, plan, True, CPU), lambda progress: None)
    method.eval()
    return method


@torch.no_grad()
def quality(method: Any, queries: tuple[Tensor, Tensor], gallery: tuple[Tensor, Tensor]) -> float:
    bits = method.sizes.n_bits
    codes = [pack(method.head(features).numpy()) for features, _ in (queries, gallery)]
    histogram = distance_histogram(codes[0], queries[1].numpy(), codes[1], gallery[1].numpy(), bits)
    return mean_average_precision(histogram)


def itq_of(features: Tensor, bits: int) -> itq.Method:
    sizes = Sizes(bits, 2, len(features))
    method = itq.Method(Sized(features.shape[1]), HeadChoice(), sizes, itq.Config(normalise=True))
    method.fit(features, torch.zeros(len(features), dtype=torch.int64))
    return method


# The heads


def test_the_loss_of_two_heads_worked_by_hand() -> None:
    heads = PosteriorHeads(3, 2, 2, None, Config())
    logits = torch.tensor([[[math.log(3), 0.0]], [[0.0, 0.0]]])  # posteriors 3/4, 1/4 and 1/2, 1/2
    # label smoothing .1 over two outputs: targets .95, .05
    first = -0.95 * math.log(3 / 4) - 0.05 * math.log(1 / 4)
    found = heads.loss(logits, torch.tensor([[0, 1]]), 0.1)
    assert float(found) == pytest.approx(first + math.log(2), rel=1e-5)
    shares = heads.loss(logits, torch.tensor([[[1.0, 0.0], [0.5, 0.5]]]), 0.1)
    assert float(shares) == pytest.approx(first + math.log(2), rel=1e-5)
    halves = heads.loss(logits, torch.tensor([[[0.5, 0.5], [0.5, 0.5]]]), 0.0)
    assert float(halves) == pytest.approx(-(math.log(3 / 4) + math.log(1 / 4)) / 2 + math.log(2), rel=1e-5)


def test_each_head_sees_its_own_share_of_the_features_in_their_full_strength_and_a_single_one_all() -> None:
    heads = PosteriorHeads(1000, 2, 3, None, Config(feature_share=0.7))
    kept = (heads.seen > 0).float().mean(dim=2)
    torch.testing.assert_close(kept, torch.full_like(kept, 0.7), rtol=0, atol=0.06)
    assert torch.unique(heads.seen).tolist() == pytest.approx([0.0, 1 / 0.7])
    assert not torch.equal(heads.seen[0], heads.seen[1])
    assert bool((PosteriorHeads(1000, 2, 1, None, Config()).seen == 1).all())


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_roots_of_posteriors_have_length_one_and_bhattacharyya_coefficients_as_products(temperature: float) -> None:
    sizes = Sizes(16, 5, 20)
    code = Method(Sized(6), HeadChoice(), sizes, Config(temperature=temperature, heads=3)).head.eval()
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        code.heads.weight.copy_(torch.randn(code.heads.weight.shape, generator=random))
        features = torch.randn(4, 6, generator=random)
        roots = code.posteriors(features)
        logits = code.heads(features) / temperature
    expected = torch.zeros(4, 4)
    for first, second, head in itertools.product(range(4), range(4), range(3)):
        p, q = (torch.exp(logits[head, row]) / torch.exp(logits[head, row]).sum() for row in (first, second))
        expected[first, second] += (p * q).sqrt().sum() / 3
    torch.testing.assert_close(roots @ roots.T, expected)
    torch.testing.assert_close(roots.norm(dim=1), torch.ones(4))


@pytest.mark.parametrize(
    ("width", "weights", "classes", "unlabelled", "bits", "heads", "rank"),
    [
        (1280, 2_220_000, 100, 0, 64, 4, None),  # MobileNetV2, of which half is 4.4 MB
        (1280, 2_220_000, 0, 3_000, 64, 4, 256),
        (1280, 2_220_000, 0, 50_000, 64, 1, 91),
        (1280, 2_220_000, 0, 50_000, 256, 1, 64),  # fewer clusters
        (1280, 4_870_000, 0, 3_000, 256, 4, None),  # EfficientNet-Lite2
        (1280, 8_000_000, 0, 50_000, 64, 1, 256),  # 10 MB bind, not half of 32
        (1280, 8_000_000, 10_000, 0, 64, 1, 132),
        (1280, 0, 100, 0, 64, 4, None),  # a backbone whose weights are not known
        (1280, 8_000_000, 100, 1_200, 1_024, 4, None),
        (768, 3_000_000, 600, 0, 64, 4, 256),
    ],
)
def test_the_whole_head_is_at_most_half_the_backbone_and_ten_megabytes(
    width: int, weights: int, classes: int, unlabelled: int, bits: int, heads: int, rank: int | None
) -> None:
    sizes = Sizes(bits, classes, 20 * classes + unlabelled, unlabelled)
    method = Method(Sized(width, weights), HeadChoice(standardise=True), sizes, Config())
    found = method.head.heads
    reduced = found.reduce.out_features if isinstance(found.reduce, nn.Linear) else None
    assert (len(found.weight), reduced) == (heads, rank)
    held = sum(value.numel() for value in method.head.state_dict().values())
    size = HeadSize(width, min(256, width), bits)
    assert held == size.of(heads, classes + method.n_clusters, rank)
    assert 4 * held <= min(2 * weights or 10_000_000, 10_000_000)


def test_a_head_that_cannot_be_small_enough_is_as_small_as_is_of_use() -> None:
    assert head_shape(HeadSize(768, 256, 64), 50_000, 10_000, 4) == (1, 8)
    method = Method(Sized(768, 100_000), HeadChoice(), Sizes(64, 0, 5_000, 5_000), Config())
    assert method.n_clusters == 64


def test_of_many_classes_the_head_starts_from_the_principal_axes() -> None:
    features, labels = mixture(30, 4, 0)
    sizes = Sizes(16, 30, len(labels))
    method = Method(Sized(48, 1_000), HeadChoice(), sizes, Config())
    method.fit(features, labels)
    reduce = method.head.heads.reduce
    assert isinstance(reduce, nn.Linear)
    standard = method.head.standardise(features).double()
    kept = standard @ reduce.weight.double().T
    largest = torch.linalg.eigvalsh(standard.T @ standard)[-8:].sum()
    torch.testing.assert_close(kept.square().sum(), largest, rtol=1e-4, atol=0)


# Clusters of photos without a class


def test_photos_without_a_class_have_clusters_of_their_own_as_targets_and_others_their_class() -> None:
    features, labels = mixture(6, 12, 0)
    known = torch.where(labels < 3, labels, -1)
    method = Method(Sized(48), HeadChoice(), Sizes(16, 3, 72, 36), Config(heads=2, photos_per_cluster=12))
    method.fit(features, known)
    assert method.n_clusters == 3
    assert torch.equal(method.targets[:36], labels[:36, None].expand(-1, 2))
    assert torch.unique(method.targets[36:]).tolist() == [3, 4, 5]
    for head in range(2):
        assert all(
            len(set(part.tolist())) == 1 for part in torch.split(method.targets[36:, head], 12)
        )  # the clusters are classes


def test_photos_of_several_classes_are_found_by_any_of_them() -> None:
    """Each photo is of two of six classes; relevant is what shares one."""
    random = torch.Generator().manual_seed(0)
    pairs = torch.combinations(torch.arange(6))
    sets = torch.zeros(len(pairs), 6, dtype=torch.bool).scatter_(1, pairs, True)
    centres = 1.5 * torch.randn(6, 48, generator=random)
    labels = torch.arange(len(pairs)).repeat_interleave(16)
    noise = torch.randn(len(labels), 48, generator=random)
    noise[:, 40:] *= 4
    features = sets[labels].float() @ centres + noise
    train, test = torch.arange(len(labels)) % 16 < 8, torch.arange(len(labels)) % 16 >= 8
    method = Method(Sized(48), HeadChoice(), Sizes(32, 6, int(train.sum()), 0, sets), Config())
    source = FeatureSource({"anchor": features[None, train]}, CPU)
    method.fit(features[train], labels[train])
    plan = TrainingPlan(rounds=1, epochs_per_round=10, samples_per_round=0, batch_size=32, learning_rate=0.02)
    train_round(method, source, labels[train], plan, 0, Optimisation.of(method, plan, True, CPU), lambda progress: None)
    similar = (sets[labels[test]].float() @ sets[labels[test]].float().T > 0).numpy()

    def found(code: Any) -> float:
        with torch.no_grad():
            signs = torch.where(code.eval().head(features[test]) > 0, 1.0, -1.0)
        order = (signs @ signs.T).argsort(dim=1, descending=True, stable=True).numpy()[:, 1:]
        relevant = np.take_along_axis(similar, order, axis=1)
        precision = relevant.cumsum(1) / np.arange(1, relevant.shape[1] + 1)
        return float(((precision * relevant).sum(1) / relevant.sum(1)).mean())

    assert found(method) > found(itq_of(features[train], 32)) + 0.1


# What it is for


def halves(labels: Tensor) -> tuple[Tensor, Tensor]:
    even = torch.arange(len(labels)) % 2 == 0
    return even, ~even


@pytest.mark.parametrize("bits", [8, 64])
def test_new_photos_of_known_classes_are_found_better_than_by_itq(bits: int) -> None:
    features, labels = mixture(12, 32, 1)
    train = torch.arange(len(labels)) % 32 < 16
    known, new = (features[train], labels[train]), (features[~train], labels[~train])
    ask, stored = ((new[0][rows], new[1][rows]) for rows in halves(new[1]))
    assert quality(trained(*known, bits), ask, stored) > quality(itq_of(known[0], bits), ask, stored) + 0.05


def test_new_classes_are_found_better_than_by_itq() -> None:
    features, labels = mixture(40, 16, 2)
    known = labels < 20
    new = features[~known], labels[~known]
    ask, stored = ((new[0][rows], new[1][rows]) for rows in halves(new[1]))
    code = trained(features[known], labels[known], 64)
    assert quality(code, ask, stored) > quality(itq_of(features[known], 64), ask, stored) + 0.02


def test_of_few_classes_the_features_find_the_new_ones() -> None:
    features, labels = mixture(24, 16, 5)
    known = labels < 4
    new = features[~known], labels[~known]
    ask, stored = ((new[0][rows], new[1][rows]) for rows in halves(new[1]))
    with_features, without = (trained(features[known], labels[known], 64, feature_weight=w) for w in (None, 0.0))
    assert quality(with_features, ask, stored) > quality(without, ask, stored) + 0.02


def test_of_few_classes_new_ones_are_found_as_well_as_by_itq_where_the_scales_of_features_tell_classes_apart() -> None:
    """Standardising would give 400 features of noise the weight of the 48 that tell classes apart."""
    features, labels = mixture(24, 16, 5, nuisance=0.9)
    noise = 0.15 * torch.randn(len(features), 400, generator=torch.Generator().manual_seed(6))
    features = torch.cat([features, noise], dim=1)
    known = labels < 4
    new = features[~known], labels[~known]
    asking, stored = ((new[0][rows], new[1][rows]) for rows in halves(new[1]))
    code = trained(features[known], labels[known], 64)
    assert quality(code, asking, stored) > quality(itq_of(features[known], 64), asking, stored) - 0.01


def test_without_labels_new_photos_are_found_better_than_by_itq() -> None:
    features, labels = mixture(12, 32, 3, nuisance=1.0)
    train = torch.arange(len(labels)) % 32 < 16
    new = features[~train], labels[~train]
    ask, stored = ((new[0][rows], new[1][rows]) for rows in halves(new[1]))
    code = trained(features[train], torch.full((int(train.sum()),), -1), 64)
    assert quality(code, ask, stored) > quality(itq_of(features[train], 64), ask, stored) + 0.02


def test_without_labels_a_few_photos_of_each_of_many_classes_have_small_clusters() -> None:
    """Clusters of 12 photos mix 4 classes."""
    features, labels = mixture(60, 6, 7, nuisance=1.0)
    train = torch.arange(len(labels)) % 6 < 3
    none = torch.full((int(train.sum()),), -1)
    new, fitted = ((features[rows], labels[rows]) for rows in (~train, train))
    of_many = trained(features[train], none, 64, photos_per_cluster=12, feature_weight=0.5)
    assert quality(trained(features[train], none, 64), new, fitted) > quality(of_many, new, fitted) + 0.015


@pytest.mark.parametrize(
    ("n_train", "cluster", "weight"), [(200, 4, 1.4), (750, 6, 1.0), (3_000, 12, 0.5), (9**9, 12, 0.5)]
)
def test_fewer_photos_have_smaller_clusters_and_features_of_more_weight(
    n_train: int, cluster: float, weight: float
) -> None:
    assert usual_cluster(n_train) == pytest.approx(cluster)
    assert weight_beside_clusters(n_train) == pytest.approx(weight)


@pytest.mark.parametrize("bits", [8, 100, 1024])
def test_codes_of_any_length_have_different_bits(bits: int) -> None:
    features, labels = mixture(6, 16, 4)
    code = trained(features, labels, bits, feature_weight=0.5)
    with torch.no_grad():
        outputs = code.head(features)
    assert outputs.shape == (96, bits)
    assert bool(outputs.isfinite().all())
    share = (outputs > 0).float().mean(dim=0)
    assert float(share.min()) > 0
    assert float(share.max()) < 1


def test_equal_photos_are_rejected_in_one_sentence() -> None:
    method = Method(Sized(48), HeadChoice(), Sizes(16, 2, 10), Config())
    features = torch.rand(48).expand(10, -1) * (1 + 1e-8 * torch.arange(10)[:, None])
    with pytest.raises(DataError, match="equal features for all 10 training photos"):
        method.fit(features, torch.arange(10) % 2)
