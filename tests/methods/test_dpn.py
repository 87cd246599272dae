"""DPN's loss against loops written from the formula."""

from __future__ import annotations

import pytest
import torch

from milvus_fghash.methods import dpn
from tests.helpers.small_method import BITS, batch, made


def test_polarization_worked_by_hand() -> None:
    logits = torch.tensor([[0.4, -3.0, 2.0], [1.0, 1.0, -1.5]])
    targets = torch.tensor([[1.0, 1.0, 1.0], [1.0, -1.0, -1.0]])
    # margin 1: 0.6 + 4 + 0 and 0 + 2 + 0; margin 2: 1.6 + 5 + 0 and 1 + 3 + 0.5
    assert dpn.polarization(logits, targets, 1.0).item() == pytest.approx((4.6 + 2.0) / 2)
    assert dpn.polarization(logits, targets, 2.0).item() == pytest.approx((6.6 + 4.5) / 2)


def test_outputs_beyond_the_margin_are_left_alone() -> None:
    logits = torch.tensor([[0.5, 1.5, -0.5]], requires_grad=True)
    (slope,) = torch.autograd.grad(dpn.polarization(logits, torch.ones(1, 3), 1.0), logits)
    assert slope.tolist() == [[-1.0, 0.0, -1.0]]


@pytest.mark.parametrize("weight", [0.1, 0.0])
def test_the_loss_is_that_of_the_formula(weight: float) -> None:
    method, photos = made(dpn, weight=weight, margin=0.7), batch(rows=(7, 4))
    terms = method.loss(photos)
    z = method.head(photos.features["anchor"]).detach()
    hinge = size = 0.0
    for i, label in enumerate(photos.labels.tolist()):
        for k in range(BITS):
            hinge += max(0.0, 0.7 - float(z[i, k]) * float(method.codes[label, k]))
            size += float(z[i, k]) ** 2
    assert terms["polarization"].item() == pytest.approx(hinge / 2, rel=1e-5)
    assert ("size" in terms) == (weight > 0)
    if weight:
        assert terms["size"].item() == pytest.approx(weight * size / (2 * BITS), rel=1e-5)


def test_targets_are_balanced_unless_asked_otherwise() -> None:
    assert made(dpn).codes.sum(dim=1).tolist() == [0.0] * 3
    assert not torch.equal(made(dpn, seed=1).codes, made(dpn).codes)
    assert made(dpn, codebook="bernoulli").codes.sum(dim=1).tolist() != [0.0] * 3
