"""CSQ's loss against loops written from the formula, and its centres."""

from __future__ import annotations

import math

import pytest
import torch

from milvus_fghash.methods import csq
from milvus_fghash.methods.base import Sizes
from milvus_fghash.methods.class_codes import hadamard_codes
from milvus_fghash.recipes.schema import HeadChoice
from tests.helpers.small_method import BITS, Flat, batch, made


def test_central_similarity_worked_by_hand() -> None:
    # tanh(atanh(0.6)) = 0.6: probabilities of +1 are 0.8 and 0.5; for a centre of + and -: -ln 0.8 and -ln 0.5
    logits = torch.tensor([[math.atanh(0.6), 0.0]])
    expected = -(math.log(0.8) + math.log(0.5)) / 2
    assert csq.central_similarity(logits, torch.tensor([[1.0, -1.0]])).item() == pytest.approx(expected)


def test_central_similarity_stays_finite_far_on_the_wrong_side() -> None:
    logits = torch.tensor([[100.0]], requires_grad=True)
    loss = csq.central_similarity(logits, torch.tensor([[-1.0]]))
    (slope,) = torch.autograd.grad(loss, logits)
    assert (loss.item(), slope.item()) == pytest.approx((200.0, 2.0))


@pytest.mark.parametrize("quantisation", [0.1, 0.0])
def test_the_loss_is_that_of_the_formula(quantisation: float) -> None:
    method, photos = made(csq, quantisation=quantisation), batch(rows=(7, 4))
    terms = method.loss(photos)
    u = torch.tanh(method.head(photos.features["anchor"])).detach()
    similarity = apart = 0.0
    for i, label in enumerate(photos.labels.tolist()):
        for k in range(BITS):
            p, h = (float(u[i, k]) + 1) / 2, (float(method.codes[label, k]) + 1) / 2
            similarity -= h * math.log(p) + (1 - h) * math.log(1 - p)
            apart += (abs(float(u[i, k])) - 1) ** 2
    assert terms["centres"].item() == pytest.approx(similarity / (2 * BITS), rel=1e-5)
    assert ("quantisation" in terms) == (quantisation > 0)
    if quantisation:
        assert terms["quantisation"].item() == pytest.approx(quantisation * apart / (2 * BITS), rel=1e-5)


def test_centres_are_hadamard_rows_where_they_can_be() -> None:
    config = csq.Config()
    assert torch.equal(csq.Method(Flat(), HeadChoice(), Sizes(16, 30, 9), config).codes, hadamard_codes(30, 16))
    for sizes in (Sizes(12, 3, 9), Sizes(16, 33, 9)):
        centres = csq.Method(Flat(), HeadChoice(), sizes, config).codes
        assert centres.sum(dim=1).tolist() == [0.0] * sizes.n_classes
    assert not torch.equal(made(csq, seed=1).codes, made(csq).codes)
    assert made(csq, codebook="bernoulli").codes.sum(dim=1).tolist() != [0.0] * 3
