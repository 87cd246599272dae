"""KinHash: its loss, its views, and codes assigned to classes by similarity."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from milvus_fghash.methods import baseline, kinhash
from milvus_fghash.methods.base import Sizes
from milvus_fghash.methods.class_codes import class_means, class_similarity, draw_codes
from milvus_fghash.methods.classified import erase_hottest
from milvus_fghash.recipes.schema import HeadChoice
from milvus_fghash.training.backbones import build_backbone
from tests.helpers.small_method import BITS, LABELS, WIDTH, C, N, batch, made, minimal_distance


def test_short_codes_are_weighed_and_the_temperature_follows_unless_it_is_given() -> None:
    method = made(kinhash, most_weighed=C * 2**BITS).eval()
    head, features = method.head, batch().features["anchor"]
    logits = head.classes(features)
    temperature = 3.0  # few classes: the highest default
    assert head.weighing
    assert float(head.temperature) == pytest.approx(temperature)
    torch.testing.assert_close(
        head(features), kinhash.bit_margins(logits, kinhash.code_utility(head.codes), temperature)
    )
    assert made(kinhash, temperature=3.0).head.temperature == 3.0

    method = made(kinhash, most_weighed=C * 2**BITS - 1).eval()
    head = method.head
    assert not head.weighing
    assert float(head.temperature) == pytest.approx(temperature)
    logits = kinhash.bit_log_odds(head.classes(features), head.codes, temperature)
    torch.testing.assert_close(head(features), logits)
    assert made(kinhash, temperature=3.0, most_weighed=0).head.temperature == 3.0


def test_utilities_follow_the_codes_that_training_assigns() -> None:
    method = made(kinhash, codebook="bernoulli")
    before = method.head.code_utility.clone()
    method.fit(torch.randn(N, WIDTH, generator=torch.Generator().manual_seed(4)), LABELS)
    assert not torch.equal(method.head.code_utility, before)
    torch.testing.assert_close(method.head.code_utility, kinhash.code_utility(method.head.codes))


@pytest.mark.parametrize("most_weighed", [0, 3_000_000])
def test_without_doubt_a_photo_has_the_code_of_its_likeliest_class(most_weighed: int) -> None:
    method = made(kinhash, temperature=1e-3, most_weighed=most_weighed).eval()
    features = batch(rows=(0, 1, 2, 3)).features["anchor"]
    likeliest = method.head.classes(features).argmax(dim=1)
    assert torch.equal(method.head(features).sign(), method.head.codes[likeliest])
    assert torch.equal(method.learned_codes(LABELS), method.head.codes[LABELS])


@pytest.mark.parametrize("weight", [0.25, 0.0])
def test_the_loss_is_the_cross_entropy_of_both_views(weight: float) -> None:
    views = ("anchor", "erased") if weight else ("anchor",)
    method, photos = made(kinhash, erasing=weight), batch(views, rows=(5, 0, 3, 1))
    costs = []
    for view in views:
        logits = method.head.classes(photos.features[view]).tolist()
        of_view = [
            math.log(sum(map(math.exp, row))) - row[int(label)]
            for row, label in zip(logits, photos.labels, strict=True)
        ]
        costs.append(sum(of_view) / 4)
    terms = method.loss(photos)
    assert list(terms) == ["classes", "erased"][: len(views)]
    assert terms["classes"].item() == pytest.approx(costs[0], rel=1e-5)
    if weight:
        assert terms["erased"].item() == pytest.approx(weight * costs[1], rel=1e-5)


def test_both_views_are_embedded_and_nothing_is_left_out_of_them() -> None:
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    method, unerased = made(kinhash).eval(), made(kinhash, erasing=0.0)
    maps = method.backbone.maps(images)
    features = method.embed(images)
    torch.testing.assert_close(features["anchor"], maps.mean(dim=(2, 3)))
    torch.testing.assert_close(features["erased"], method.backbone(erase_hottest(images, maps, 0.9)))
    assert not torch.equal(features["anchor"], features["erased"])
    assert set(unerased.embed(images)) == {"anchor"}
    assert (method.features_key, unerased.features_key) == ("pooled", "pooled")
    assert (method.embedding_key, unerased.embedding_key) == ("anchor+erased-0.9", "anchor")
    torch.testing.assert_close(method(images), method.head(features["anchor"]))


@pytest.mark.parametrize("n_bits", [12, 48])
def test_encoding_costs_hardly_more_than_with_one_output_a_bit(n_bits: int) -> None:
    """Multiply-adds with a hidden layer and 200 classes; the bar is 1 %."""

    def flops(module: Any) -> int:
        torch.manual_seed(0)
        backbone = build_backbone("mobilenet_v2", "none")
        method = module.Method(backbone, HeadChoice(kind="mlp"), Sizes(n_bits, 200, 4), module.Config()).eval()
        counting: Any = FlopCounterMode
        with torch.no_grad(), counting(display=False) as counter:
            method(torch.zeros(1, 3, 224, 224))
        return int(counter.get_total_flops())

    assert flops(baseline) < flops(kinhash) < 1.01 * flops(baseline)


def test_similar_classes_get_near_codes_and_no_code_is_lost() -> None:
    """Three classes, two of which look alike: their codes are the nearest pair there is.

    Far-apart codes of so few classes are all equally near, so random ones are assigned here.
    """
    for seed in range(10):
        method = made(kinhash, seed=seed, codebook="bernoulli")
        drawn = method.head.codes.clone()
        features = torch.zeros(N, WIDTH)
        features[LABELS == 0, 0] = 1.0
        features[LABELS == 2, 0] = 0.9
        features[LABELS == 1, 1] = 1.0
        similarity = class_similarity(class_means(features, LABELS, C))
        assert similarity[0, 2] > max(similarity[0, 1], similarity[1, 2])
        method.fit(features, LABELS)
        codes = method.head.codes
        assert sorted(codes.tolist()) == sorted(drawn.tolist())
        assert int((codes[0] != codes[2]).sum()) == minimal_distance(codes)


def test_without_placing_codes_stay_as_drawn() -> None:
    method = made(kinhash, placed=False)
    drawn = method.head.codes.clone()
    method.fit(torch.randn(N, WIDTH), LABELS)
    assert torch.equal(method.head.codes, drawn)
    assert not method.wants_features
    assert made(kinhash).wants_features
    random = made(kinhash, placed=False, codebook="bernoulli", seed=3)
    assert torch.equal(random.head.codes, draw_codes("bernoulli", C, BITS, 3))


def test_features_are_standardised_by_the_training_photos() -> None:
    method = made(kinhash, HeadChoice(standardise=True), placed=False)
    assert method.wants_features
    features = 2 + 3 * torch.randn(N, WIDTH, generator=torch.Generator().manual_seed(0))
    method.fit(features, LABELS)
    torch.testing.assert_close(method.head.classes.standardise.mean, features.mean(dim=0))


def test_held_out_photos_are_left_out_of_the_loss() -> None:
    method, photos = made(kinhash, erasing=0.0), batch(rows=(5, 0, 3, 1))
    alone = batch(rows=(0, 1))
    alone.features["anchor"] = photos.features["anchor"][[1, 3]]
    method.held_out = torch.tensor([False, False, False, True, False, True, False, False])
    left = method.loss(photos)["classes"]
    torch.testing.assert_close(left, method.loss(alone)["classes"])
    method.held_out[:] = True
    assert method.loss(photos)["classes"].item() == 0.0
