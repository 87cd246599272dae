"""KinHash: what its codes promise, against loops and all codes there are; and codes assigned by similarity."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from milvus_fghash.core.codes import pack
from milvus_fghash.evaluation.metrics import distance_histogram, mean_average_precision
from milvus_fghash.methods import baseline, kinhash
from milvus_fghash.methods.base import Round, Sizes
from milvus_fghash.methods.class_codes import class_means, class_similarity, draw_codes
from milvus_fghash.methods.classified import erase_hottest
from milvus_fghash.recipes.schema import HeadChoice
from milvus_fghash.training.backbones import build_backbone
from tests.helpers.small_method import BITS, LABELS, WIDTH, C, Flat, N, batch, made, minimal_distance


def test_worked_by_hand() -> None:
    codes = torch.tensor([[1.0, 1.0, -1.0], [1.0, -1.0, -1.0], [-1.0, -1.0, 1.0]])
    logits = torch.tensor([[math.log(4.0), math.log(2.0), math.log(2.0)]])
    # Posteriors 1/2, 1/4, 1/4 at T = 1. At T = 1/2 their squares, 16 : 4 : 4.
    odds, sharper = torch.tensor([[3.0, 1.0, 1 / 3]]), torch.tensor([[20 / 4, 16 / 8, 4 / 20]])
    before = torch.tensor([[2.0, 1 / 2, 1 / 2]])  # on in two classes of three, in one, in one
    torch.testing.assert_close(kinhash.bit_log_odds(logits, codes, 1.0), (odds / before).log())
    torch.testing.assert_close(kinhash.bit_log_odds(logits, codes, 0.5), (sharper / before).log())


def test_a_photo_that_says_nothing_leaves_every_bit_open() -> None:
    codes = draw_codes("bernoulli", 7, BITS, 0)
    torch.testing.assert_close(kinhash.bit_log_odds(torch.ones(1, 7), codes, 0.5), torch.zeros(1, BITS))


def test_a_bit_that_all_classes_share_is_theirs() -> None:
    codes = torch.tensor([[1.0, 1.0, -1.0], [1.0, -1.0, -1.0]])
    logits = kinhash.bit_log_odds(torch.tensor([[0.1, 0.0]]), codes, 1.0)
    assert logits.sign().tolist() == [[1, 1, -1]]


@pytest.mark.parametrize("seed", range(20))
def test_no_other_code_agrees_in_more_bits_by_expectation(seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    half, logits = draw_codes("bernoulli", 4, 8, seed), 3 * torch.randn(4, 8, generator=random)
    codes = torch.cat([half, -half])  # every bit is on in half the classes
    chosen = kinhash.bit_log_odds(logits, codes, 0.8)
    for photo in range(4):
        weights = [math.exp(float(logit) / 0.8) for logit in logits[photo]]

        def agreement(code: tuple[float, ...], weights: list[float] = weights) -> float:
            """Expected number of bits that ``code`` shares with the code of the right class."""
            shared: list[int] = [sum(bit == own for bit, own in zip(code, kin, strict=True)) for kin in codes.tolist()]
            return sum(weight * bits for weight, bits in zip(weights, shared, strict=True)) / sum(weights)

        best = max(all_codes(8), key=agreement)
        assert tuple(chosen[photo].sign().tolist()) == best


def test_between_two_classes_the_bits_that_both_share_are_kept() -> None:
    codes = draw_codes("far-apart", 5, BITS, 0)
    logits = torch.full((1, 5), -50.0)
    logits[0, 1], logits[0, 3] = 1.0, 0.9
    logits = kinhash.bit_log_odds(logits, codes, 1.0)[0]
    shared = codes[1] == codes[3]
    assert 0 < int(shared.sum()) < BITS
    assert torch.equal(logits[shared].sign(), codes[1][shared])
    on = (codes > 0).sum(dim=0)
    torch.testing.assert_close((logits + (on / (5 - on)).log())[~shared], 0.1 * codes[1][~shared])
    assert bool((logits[shared].abs() > 40).all())


def test_bit_scores_is_the_log_odds_of_a_photo_in_doubt() -> None:
    random = torch.Generator().manual_seed(0)
    codes, logits = draw_codes("bernoulli", 7, BITS, 0), 3 * torch.randn(5, 7, generator=random)
    torch.testing.assert_close(kinhash.unbounded_log_odds(logits, codes, 0.8), kinhash.bit_log_odds(logits, codes, 0.8))


def test_bit_scores_of_a_sure_photo_still_grows_and_has_gradients() -> None:
    """Where logits are level: logits of 200 and 400 for one class of five, worked by hand."""
    codes = draw_codes("far-apart", 5, BITS, 0)
    logits = (200 * torch.tensor([[1.0], [2.0]]) * torch.eye(5)[2]).requires_grad_()
    utility = kinhash.code_utility(codes)
    for level in (kinhash.bit_margins(logits, utility, 1.0), kinhash.bit_log_odds(logits, codes, 1.0)):
        torch.testing.assert_close(level[0], level[1])
        assert float(torch.autograd.grad(level.abs().sum(), logits)[0].abs().max()) < 1e-6
    bit_scores = kinhash.unbounded_log_odds(logits, codes, 1.0)
    on = (codes > 0).sum(dim=0)
    # Of the class's side 1 / n is left, of the other side, whose classes are equally unlikely, exp(-logit)
    own = torch.where(codes[2] > 0, on, 5 - on)
    expected = codes[2] * (torch.tensor([[200.0], [400.0]]) - own.log())
    torch.testing.assert_close(bit_scores, expected)
    (gradient,) = torch.autograd.grad(bit_scores.sum(), logits)
    torch.testing.assert_close(gradient[:, 2], codes[2].sum().expand(2), rtol=1e-4, atol=0)


def test_nothing_speaks_for_a_bit_that_all_classes_share() -> None:
    codes = torch.tensor([[1.0, 1.0, -1.0], [1.0, -1.0, -1.0]])
    logits = torch.tensor([[90.0, 0.0]], requires_grad=True)
    bit_scores = kinhash.unbounded_log_odds(logits, codes, 1.0)
    torch.testing.assert_close(bit_scores, torch.tensor([[0.0, 90.0, 0.0]]))
    torch.testing.assert_close(torch.autograd.grad(bit_scores.sum(), logits)[0], torch.tensor([[1.0, -1.0]]))


def all_codes(n_bits: int) -> list[tuple[float, ...]]:
    return list(itertools.product((-1.0, 1.0), repeat=n_bits))


def test_code_utility_is_average_precision_among_large_classes_and_agreement() -> None:
    """The precision is measured: a query of each code, classes of 1,000 photos that all have their class's code."""
    codes, size = draw_codes("bernoulli", 6, 4, 1), 1000
    possible = all_codes(4)
    gallery, of_gallery = pack(codes.repeat_interleave(size, dim=0).numpy()), torch.arange(6).repeat_interleave(size)
    expected = torch.empty(6, 16)
    for k in range(6):
        for q, code in enumerate(possible):
            query = pack(torch.tensor([code]).numpy())
            histogram = distance_histogram(query, torch.tensor([k]).numpy(), gallery, of_gallery.numpy(), 4)
            agreeing = sum(a == b for a, b in zip(code, codes[k].tolist(), strict=True)) / 4
            expected[k, q] = mean_average_precision(histogram) + agreeing
    expected -= expected.mean(dim=0)
    torch.testing.assert_close(kinhash.code_utility(codes), expected, atol=2e-3, rtol=0)


@pytest.mark.parametrize("seed", range(10))
def test_the_best_of_all_codes_is_chosen_and_each_bit_says_by_how_much(seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    codes, logits = draw_codes("bernoulli", 5, 6, seed), 3 * torch.randn(4, 5, generator=random)
    utility = kinhash.code_utility(codes)
    margins = kinhash.bit_margins(logits, utility, 0.8)
    for photo in range(4):
        weights = [math.exp(float(logit) / 0.8) for logit in logits[photo]]
        expected = {
            code: sum(weight * float(utility[k, q]) for k, weight in enumerate(weights)) / sum(weights)
            for q, code in enumerate(all_codes(6))
        }
        assert tuple(margins[photo].sign().tolist()) == max(expected, key=lambda code: expected[code])
        for bit in range(6):
            on = max(value for code, value in expected.items() if code[bit] > 0)
            off = max(value for code, value in expected.items() if code[bit] < 0)
            assert margins[photo, bit].item() == pytest.approx(on - off, abs=1e-5)


def test_a_draw_between_codes_is_decided_beforehand() -> None:
    """Two classes whose codes differ in every bit, equally likely: opposite codes are as good as each other.

    Rounding would decide, and both values of each bit could win by nothing.
    """
    codes = torch.tensor([[1.0, 1, 1, 1], [-1, -1, -1, -1]])
    utility = kinhash.code_utility(codes)
    assert float((utility - utility.flip(0).flip(1)).abs().max()) < 1e-4  # one class for the other, all bits turned
    margins = kinhash.bit_margins(torch.zeros(1, 2), utility, 1.0)
    assert float(margins.abs().min()) > 0
    assert int(utility.mean(dim=0).argmax()) == all_codes(4).index(tuple(margins[0].sign().tolist()))


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


@pytest.mark.parametrize(
    ("n_classes", "n_bits", "temperature"),
    [(25, 24, 2), (25, 48, 2), (25, 96, 3), (100, 12, 1), (100, 48, 2), (100, 256, 3), (900, 12, 0.5), (900, 48, 1)],
)
def test_the_default_temperature_is_higher_for_few_classes_and_long_codes_up_to_a_limit(
    n_classes: int, n_bits: int, temperature: float
) -> None:
    assert kinhash.default_temperature(n_classes, n_bits) == pytest.approx(temperature)


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


@pytest.mark.parametrize(
    "codes",
    [draw_codes("hadamard", 4, 8, 0), draw_codes("balanced", 3, 8, 0), draw_codes("bernoulli", 2, 8, 0)],
    ids=["hadamard", "balanced", "bernoulli"],
)
def test_a_bit_that_all_classes_share_stays_theirs_where_all_codes_are_weighed(codes: torch.Tensor) -> None:
    assert bool((codes == codes[0]).all(dim=0).any())
    sure = 50 * torch.eye(len(codes))
    assert torch.equal(kinhash.bit_margins(sure, kinhash.code_utility(codes), 1.0).sign(), codes)


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


def test_held_out_photos_are_left_out_of_the_loss() -> None:
    method, photos = made(kinhash, erasing=0.0), batch(rows=(5, 0, 3, 1))
    alone = batch(rows=(0, 1))
    alone.features["anchor"] = photos.features["anchor"][[1, 3]]
    method.held_out = torch.tensor([False, False, False, True, False, True, False, False])
    left = method.loss(photos)["classes"]
    torch.testing.assert_close(left, method.loss(alone)["classes"])
    method.held_out[:] = True
    assert method.loss(photos)["classes"].item() == 0.0
