"""The weight of the features in Posterior-ITQ: what is held out, and what is chosen."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from milvus_fghash.core.codes import pack
from milvus_fghash.evaluation.metrics import sorted_mean_average_precision
from milvus_fghash.methods import posterior_weight
from milvus_fghash.methods.base import Sizes
from milvus_fghash.methods.posterior_code import Config
from milvus_fghash.methods.posterior_itq import Method
from milvus_fghash.methods.posterior_weight import WEIGHTS, chosen_weight, hold_out, leave_one_out_map, tolerance
from milvus_fghash.recipes.schema import HeadChoice
from tests.helpers.drawn_features import Sized, mixture

pytestmark = pytest.mark.full


def test_a_third_of_each_class_of_four_photos_is_held_out_and_smaller_classes_take_no_part() -> None:
    labels = torch.tensor([0] * 1 + [1] * 2 + [2] * 3 + [3] * 4 + [4] * 9)
    kept, held_out = hold_out(labels, 0)
    assert torch.bincount(labels[held_out], minlength=5).tolist() == [0, 0, 0, 2, 3]
    assert torch.bincount(labels[kept], minlength=5).tolist() == [0, 0, 0, 2, 6]
    assert not set(kept.tolist()) & set(held_out.tolist())
    assert torch.equal(hold_out(labels, 0)[1], held_out)
    assert not torch.equal(hold_out(labels, 1)[1].sort().values, held_out.sort().values)


@pytest.mark.parametrize("labels", [[0] * 9, [0, 0, 0, 1, 1, 1], [0] * 9 + [1]], ids=["one class", "three", "4 and 1"])
def test_nothing_is_held_out_of_fewer_than_two_classes_of_four(labels: list[int]) -> None:
    assert [len(part) for part in hold_out(torch.tensor(labels), 0)] == [0, 0]


def test_of_many_classes_and_photos_a_bounded_number_is_held_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(posterior_weight, "MAX_HELD_OUT_CLASSES", 10)
    monkeypatch.setattr(posterior_weight, "MAX_TRIAL_PHOTOS", 60)
    labels = torch.arange(20).repeat(30)
    kept, held_out = hold_out(labels, 0)
    assert len(set(labels[held_out].tolist())) == 10
    assert (len(kept), len(held_out)) == (40, 20)


def test_the_held_out_map_is_that_of_the_evaluation() -> None:
    random = torch.Generator().manual_seed(0)
    codes = torch.where(torch.rand(700, 16, generator=random) > 0.5, 1.0, -1.0)
    labels = torch.randint(0, 40, (700,), generator=random)
    labels[-1] = 99  # finds nothing
    packed, numbers = pack(codes.numpy()), labels.numpy()
    expected = sorted_mean_average_precision(packed, numbers, packed, numbers, 16, np.arange(700))
    assert leave_one_out_map(codes, labels) == pytest.approx(expected, abs=1e-6)


def weight_for(n_classes: int, photos: int, seed: int = 0) -> float:
    features, labels = mixture(n_classes, photos, 0)
    method = Method(Sized(48), HeadChoice(), Sizes(16, n_classes, len(labels)), Config(seed=seed))
    method.fit(features, labels)
    before = {name: value.clone() for name, value in method.state_dict().items()}
    chosen = chosen_weight(method.head, features, labels, method.config)
    assert all(torch.equal(value, before[name]) for name, value in method.state_dict().items())
    assert chosen == chosen_weight(method.head, features, labels, method.config)
    return chosen


def test_features_weigh_more_where_few_classes_are_known() -> None:
    few, many = weight_for(5, 12), weight_for(60, 8)
    assert few in WEIGHTS
    assert many in WEIGHTS
    assert many < few


@pytest.mark.parametrize(("n_classes", "share"), [(2, 0.1), (30, 0.1), (50, 0.06), (100, 0.03), (400, 0.015)])
def test_the_features_may_cost_more_where_few_classes_are_known(n_classes: int, share: float) -> None:
    assert tolerance(n_classes) == pytest.approx(share)


def test_held_out_photos_are_not_known_to_the_features_that_are_weighed() -> None:
    """Features of noise alone: an analysis that saw the held-out photos would tell their classes apart."""
    features = torch.randn(96, 400, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(8).repeat_interleave(12)
    method = Method(Sized(400), HeadChoice(), Sizes(64, 8, 96), Config(shrinkage=0.01, feature_weight=None))
    method.fit(features, labels)
    found: list[float] = []

    def measured(codes: Tensor, numbers: Tensor) -> float:
        found.append(leave_one_out_map(codes, numbers))
        return found[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(posterior_weight, "leave_one_out_map", measured)
        chosen_weight(method.head, features, labels, method.config)
    assert found[-1] < 0.35, found  # by chance .12 and, of few photos, a little more


@pytest.mark.parametrize(("n_classes", "weight"), [(100, 0.6), (50, 0.6 * 2**0.6), (4, 4.0), (400, 0.35)])
def test_where_no_photo_can_be_held_out_the_weight_follows_the_number_of_classes(n_classes: int, weight: float) -> None:
    labels = torch.arange(n_classes).repeat(3)
    method = Method(Sized(48), HeadChoice(), Sizes(16, n_classes, len(labels)), Config())
    assert chosen_weight(method.head, torch.zeros(len(labels), 48), labels, method.config) == pytest.approx(weight)
