"""KinHash: the loss against loops, and codes that are dealt out by what classes look like."""

from __future__ import annotations

import math

import pytest
import torch

from milvus_fghash.methods import kinhash, orthohash
from milvus_fghash.methods.class_codes import class_means, class_similarity, minimal_distance
from tests.methods.small_method import BITS, LABELS, WIDTH, C, N, batch, made


def test_pairs_worked_by_hand() -> None:
    u = torch.tensor([[1.0, 1.0], [1.0, 0.0], [1.0, -1.0]])
    # c = 2. One class: (0,1) product 1/2, twice -> mean (1/2 - 1)^2 = 1/4. Two classes: (0,2) product 0, (1,2) 1/2,
    # each twice -> mean (0 + 1/4) / 2 = 1/8.
    assert kinhash.balanced_pairs(u, torch.tensor([4, 4, 7])).item() == pytest.approx(2 * (1 / 4 + 1 / 8))


@pytest.mark.parametrize("rows", [(5, 0, 3, 1, 2), (0, 3, 6, 7), (0, 1, 2)])
def test_pairs_are_the_printed_sum(rows: tuple[int, ...]) -> None:
    """Among them a batch of one class, and one without two photos of a class."""
    labels = LABELS[list(rows)]
    u = torch.tanh(torch.randn(len(rows), BITS, generator=torch.Generator().manual_seed(2)))
    near, far = [], []
    for i in range(len(rows)):
        for j in range(len(rows)):
            product = sum(float(u[i, k] * u[j, k]) for k in range(BITS)) / BITS
            if labels[i] != labels[j]:
                far.append(product**2)
            elif i != j:
                near.append((product - 1) ** 2)
    expected = BITS * sum(math.fsum(part) / len(part) for part in (near, far) if part)
    assert kinhash.balanced_pairs(u, labels).item() == pytest.approx(expected, rel=1e-5)


def test_each_kind_of_pair_weighs_the_same_however_many_there_are() -> None:
    """Nine photos of one class beside one of another: leaving out photos of the first changes nothing."""
    u = torch.cat([torch.full((9, 4), 0.5), torch.tensor([[0.5, 0.5, -0.5, 0.1]])])
    labels = torch.tensor([0] * 9 + [1])
    whole, part = kinhash.balanced_pairs(u, labels), kinhash.balanced_pairs(u[6:], labels[6:])
    torch.testing.assert_close(whole, part)


def test_the_loss_has_both_terms_on_the_same_outputs() -> None:
    method, photos = made(kinhash, pairs=0.5), batch(rows=(5, 0, 3, 1))
    terms = method.loss(photos)
    assert list(terms) == ["cosine", "pairs"]
    # In training mode once more: batch norm uses the batch's own statistics, so the outputs are the same.
    outputs = method.head(photos.features["anchor"])
    torch.testing.assert_close(terms["pairs"], 0.5 * kinhash.balanced_pairs(torch.tanh(outputs), photos.labels))
    plain = orthohash.cosine_softmax(outputs, photos.labels, method.codes, 8.0, 0.2)
    torch.testing.assert_close(terms["cosine"], plain)
    assert list(made(kinhash, pairs=0).loss(photos)) == ["cosine"]


def test_similar_classes_get_near_codes_and_no_code_is_lost() -> None:
    """Three classes, two of which look alike: their codes are the nearest pair there is.

    Far-apart codes of so few classes are all equally near, so random ones are dealt out here.
    """
    for seed in range(10):
        method = made(kinhash, seed=seed, codebook="bernoulli")
        drawn = method.codes.clone()
        features = torch.zeros(N, WIDTH)
        features[LABELS == 0, 0] = 1.0
        features[LABELS == 2, 0] = 0.9
        features[LABELS == 1, 1] = 1.0
        similarity = class_similarity(class_means(features, LABELS, C))
        assert similarity[0, 2] > max(similarity[0, 1], similarity[1, 2])
        method.fit(features, LABELS)
        assert sorted(method.codes.tolist()) == sorted(drawn.tolist())
        assert int((method.codes[0] != method.codes[2]).sum()) == minimal_distance(method.codes)
        assert torch.equal(method.learned_codes(LABELS), method.codes[LABELS])


def test_without_placing_codes_stay_as_drawn() -> None:
    method = made(kinhash, placed=False)
    drawn = method.codes.clone()
    method.fit(torch.randn(N, WIDTH), LABELS)
    assert torch.equal(method.codes, drawn)
    assert not method.wants_features
    assert made(kinhash).wants_features
