"""KinHash: the temperature by default, and as held-out training photos choose it."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from milvus_fghash.core.codes import pack
from milvus_fghash.evaluation.metrics import distance_histogram, mean_average_precision
from milvus_fghash.methods import kinhash
from milvus_fghash.methods.base import Round, Sizes
from milvus_fghash.recipes.schema import HeadChoice
from tests.helpers.small_method import C, Flat, made


@pytest.mark.parametrize(
    ("n_classes", "n_bits", "temperature"),
    [(25, 24, 2), (25, 48, 2), (25, 96, 3), (100, 12, 1), (100, 48, 2), (100, 256, 3), (900, 12, 0.5), (900, 48, 1)],
)
def test_the_default_temperature_is_higher_for_few_classes_and_long_codes_up_to_a_limit(
    n_classes: int, n_bits: int, temperature: float
) -> None:
    assert kinhash.default_temperature(n_classes, n_bits) == pytest.approx(temperature)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=60), st.sampled_from([0.2, 0.34, 0.5]), st.integers(0, 99))
def test_held_out_is_a_share_of_each_class_and_never_all_of_it(numbers: list[int], share: float, seed: int) -> None:
    labels = torch.tensor(numbers)
    chosen = kinhash.held_out_photos(labels, share, seed)
    assert torch.equal(chosen, kinhash.held_out_photos(labels, share, seed))
    for label in set(numbers):
        size = numbers.count(label)
        assert int(chosen[labels == label].sum()) == (max(1, int(share * size)) if size > 2 else 0)
    assert not kinhash.held_out_photos(labels, 0.0, seed).any()


def test_another_seed_holds_out_other_photos() -> None:
    labels = torch.arange(4).repeat(20)
    assert not torch.equal(kinhash.held_out_photos(labels, 0.2, 0), kinhash.held_out_photos(labels, 0.2, 1))


@pytest.mark.parametrize("seed", range(5))
def test_precision_of_a_ranking_without_ties_is_that_of_the_metrics(seed: int) -> None:
    """Codes whose distances from a query all differ: the i-th of the gallery is i bits away."""
    gallery = -torch.ones(12, 12).triu(1) + torch.ones(12, 12).tril()
    labels = torch.randint(3, (12,), generator=torch.Generator().manual_seed(seed))
    query, own = torch.ones(1, 12), labels[:1]
    expected = mean_average_precision(
        distance_histogram(pack(query.numpy()), own.numpy(), pack(gallery.numpy()), labels.numpy(), 12)
    )
    assert kinhash.precision_of_ranking(query, own, gallery, labels) == pytest.approx(expected)


def test_a_photo_does_not_find_itself_and_a_class_of_one_does_not_count() -> None:
    codes, labels = torch.tensor([[1.0, 1.0], [1.0, 1.0], [-1.0, -1.0]]), torch.tensor([0, 0, 1])
    assert kinhash.precision_of_ranking(codes, labels, codes, labels) == 1.0
    alone = codes[1:]
    assert math.isnan(kinhash.precision_of_ranking(alone, labels[1:], alone, labels[1:]))


def trained_to_choose(n_classes: int, n_bits: int, noise: float, **options: Any) -> Any:
    """KinHash on 10 photos for each of some random class means, whose last layer is their ridge regression.

    Photos are ``noise`` away from their mean in each of 32 directions; the held-out photos are left out of the fit.
    """
    random = torch.Generator().manual_seed(0)
    labels = torch.arange(n_classes).repeat(10)
    features = torch.randn(n_classes, 32, generator=random)[labels]
    features = features + noise * torch.randn(features.shape, generator=random)
    backbone = Flat()
    backbone.n_features = 32
    sizes = Sizes(n_bits, n_classes, len(labels))
    method: Any = kinhash.Method(backbone, HeadChoice(), sizes, kinhash.Config(placed=False, **options))
    rounds = [Round(number, 4, torch.arange(len(labels)), labels, lambda: features) for number in range(4)]
    for at in rounds:
        method.before_round(at)
        assert method.held_out.any() == (at.number < 2)
        if at.number == 0:
            fit = ~method.held_out
            targets = torch.eye(n_classes)[labels[fit]] - 1 / n_classes
            gram = features[fit].T @ features[fit] + torch.eye(32)
            with torch.no_grad():
                method.head.classes.bits.weight.copy_(30 * torch.linalg.solve(gram, features[fit].T @ targets).T)
                method.head.classes.bits.bias.zero_()
        if at.number == 3:
            with torch.no_grad():
                method.head.classes.bits.weight.mul_(2)  # as class logits grow in training
        method.after_round(at)
    return method.eval(), features, labels


@pytest.mark.parametrize(("n_classes", "noise"), [(30, 0.6), (120, 0.5)])
def test_longer_codes_are_never_worse_by_the_temperature_that_is_chosen(n_classes: int, noise: float) -> None:
    qualities = []
    for n_bits in (48, 256):
        method, features, labels = trained_to_choose(n_classes, n_bits, noise)
        with torch.no_grad():
            codes = method.head(features).sign()
        qualities.append(kinhash.precision_of_ranking(codes, labels, codes, labels))
        assert min(abs(float(method.head.ratio) - ratio) for ratio in kinhash.RATIOS) < 1e-6
        unit = kinhash.spread(method.class_logits(features))
        assert float(method.head.temperature) == pytest.approx(float(method.head.ratio) * unit)
    assert qualities[1] > qualities[0] - 0.01


def test_the_temperature_that_is_chosen_finds_no_less_than_any_other() -> None:
    method, features, labels = trained_to_choose(60, 48, 0.7)
    chosen, found = min(kinhash.RATIOS, key=lambda ratio: abs(ratio - float(method.head.ratio))), {}
    unit = kinhash.spread(method.class_logits(features))
    for ratio in kinhash.RATIOS:
        method.head.set_temperature(ratio * unit, ratio)
        with torch.no_grad():
            codes = method.head(features).sign()
        found[ratio] = kinhash.precision_of_ranking(codes, labels, codes, labels)
    assert found[chosen] > max(found.values()) - 0.03
    assert min(found.values()) < max(found.values()) - 0.05  # so it matters


def test_of_temperatures_that_find_as_well_the_highest_is_chosen() -> None:
    method, *_ = trained_to_choose(60, 48, 0.01)
    assert float(method.head.ratio) > 1  # all find everything


def test_a_checkpoint_without_a_temperature_keeps_its_former_one_and_its_fingerprint() -> None:
    method = made(kinhash)
    former = {
        name: value for name, value in method.state_dict().items() if name not in ("head.temperature", "head.ratio")
    }
    assert len(former) == len(method.state_dict()) - 2
    method.load_state_dict(former)
    assert float(method.head.temperature) == pytest.approx(math.sqrt(100 / C))  # not bounded by 3
    assert set(method.state_dict()) == set(former)
    again = made(kinhash, temperature=2.5)
    again.load_state_dict(former)
    assert float(again.head.temperature) == 2.5
    method.head.set_temperature(1.5, 0.5)
    again.load_state_dict(method.state_dict())
    assert (float(again.head.temperature), float(again.head.ratio)) == (1.5, 0.5)
