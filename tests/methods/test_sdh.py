"""SDH's three steps against other solvers and its objective, and the whole of it against loops."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from milvus_fghash.methods.base import Sizes, generator
from milvus_fghash.methods.sdh import Config, Kernel, Method, solve_codes, solve_labels
from milvus_fghash.recipes.schema import HeadChoice
from tests.helpers.small_method import WIDTH, Flat

CLASSES = 3


def one_hot(labels: Tensor) -> Tensor:
    return torch.eye(CLASSES, dtype=torch.float64)[labels]


def ridge_regression(inputs: Tensor, targets: Tensor, ridge: float) -> Tensor:
    """min ||T - X M||^2 + ridge ||M||^2, as plain least squares with rows that pull M to zero."""
    width = inputs.shape[1]
    below = ridge**0.5 * torch.eye(width, dtype=inputs.dtype)
    zeros = torch.zeros(width, targets.shape[1], dtype=inputs.dtype)
    solution: Tensor = torch.linalg.lstsq(torch.cat([inputs, below]), torch.cat([targets, zeros])).solution
    return solution


def drawn(seed: int, n: int = 14, c: int = 5) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(signs, labels, weight, predicted): W and Phi P are any numbers."""
    random = torch.Generator().manual_seed(seed)
    signs = torch.randint(0, 2, (n, c), generator=random).double() * 2 - 1
    labels = torch.randint(CLASSES, (n,), generator=random)
    weight = torch.randn(c, CLASSES, generator=random, dtype=torch.float64)
    return signs, labels, weight, torch.randn(n, c, generator=random, dtype=torch.float64)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.1, 1.0, 7.0]))
def test_the_label_step_is_a_ridge_regression(seed: int, ridge: float) -> None:
    signs, labels, *_ = drawn(seed)
    actual = solve_labels(signs, labels, CLASSES, ridge)
    torch.testing.assert_close(actual, ridge_regression(signs, one_hot(labels), ridge))


def code_objective(signs: Tensor, labels: Tensor, weight: Tensor, predicted: Tensor, nu: float) -> float:
    """The part of the objective that depends on B."""
    reading = (one_hot(labels) - signs @ weight).square().sum()
    return float(reading + nu * (signs - predicted).square().sum())


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([1e-5, 0.5, 5.0]))
def test_at_the_fixed_point_no_single_flip_helps(seed: int, nu: float) -> None:
    signs, labels, weight, predicted = drawn(seed)
    pull = one_hot(labels) @ weight.T + nu * predicted
    values = [code_objective(signs, labels, weight, predicted, nu)]
    while True:
        solved = solve_codes(signs, pull, weight, 1)
        values.append(code_objective(solved, labels, weight, predicted, nu))
        assert values[-1] <= values[-2] + 1e-9
        if torch.equal(solved, signs):
            break
        signs = solved
        assert len(values) < 50
    for j in range(len(signs)):
        for k in range(signs.shape[1]):
            flipped = signs.clone()
            flipped[j, k] *= -1
            assert code_objective(flipped, labels, weight, predicted, nu) >= values[-1] - 1e-9


@pytest.mark.parametrize("passes", [1, 2, 3, 50])
def test_passes_are_sweeps_until_nothing_changes(passes: int) -> None:
    signs, labels, weight, predicted = drawn(3)
    pull = one_hot(labels) @ weight.T + predicted
    expected, before = signs, signs.clone()
    for _ in range(passes):
        expected = solve_codes(expected, pull, weight, 1)
    assert torch.equal(solve_codes(signs, pull, weight, passes), expected)
    assert torch.equal(signs, before)
    assert not torch.equal(solve_codes(signs, pull, weight, 1), solve_codes(signs, pull, weight, 2))


def test_a_tie_becomes_plus_one() -> None:
    nothing = torch.zeros(2, 3)
    assert torch.equal(solve_codes(-torch.ones(2, 3), nothing, torch.zeros(3, CLASSES), 10), torch.ones(2, 3))


def features_of(n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (n,), generator=random)
    return torch.randn(n, WIDTH, generator=random) + labels[:, None] * torch.arange(WIDTH) / 3, labels


def fitted(features: Tensor, labels: Tensor, bits: int, **options: float) -> Method:
    method = Method(Flat(), HeadChoice(), Sizes(bits, CLASSES, len(features)), Config.model_validate(options))
    method.fit(features, labels)
    return method


@pytest.mark.parametrize(("anchors", "iterations", "passes"), [(6, 2, 1), (50, 3, 10)])
def test_the_whole_is_what_loops_over_the_formulas_give(anchors: int, iterations: int, passes: int) -> None:
    n, bits, nu, ridge, kernel_ridge, width, seed = 24, 6, 0.3, 5.0, 0.01, 0.8, 5
    features, labels = features_of(n)
    queries, _ = features_of(5, seed=1)
    values = {"nu": nu, "ridge": ridge, "kernel_ridge": kernel_ridge, "width": width, "seed": seed}
    counts = {"anchors": anchors, "iterations": iterations, "passes": passes}
    actual = fitted(features, labels, bits, **values, **counts).head(queries)

    random = generator(seed)
    chosen = features[torch.randperm(n, generator=random)[:anchors]].double()
    signs = torch.randint(0, 2, (n, bits), generator=random).double() * 2 - 1
    sigma = width * sum(float((x - a).square().sum()) for x in features for a in chosen) / (n * len(chosen))

    def kernel(photos: Tensor) -> Tensor:
        return torch.stack([torch.stack([(-(x - a).square().sum() / sigma).exp() for a in chosen]) for x in photos])

    mean = kernel(features).mean(dim=0)
    phi = kernel(features) - mean
    projection = ridge_regression(phi, signs, kernel_ridge)
    for _ in range(iterations):
        weight = ridge_regression(signs, one_hot(labels), ridge)
        for _ in range(passes):
            for k in range(bits):
                for j in range(n):
                    tried = []
                    for value in (1.0, -1.0):
                        signs[j, k] = value
                        tried.append(code_objective(signs, labels, weight, phi @ projection, nu))
                    signs[j, k] = 1.0 if tried[0] <= tried[1] else -1.0
        projection = ridge_regression(phi, signs, kernel_ridge)
    expected = (kernel(queries) - mean) @ projection
    torch.testing.assert_close(actual.double(), expected, rtol=1e-3, atol=1e-3)


def test_the_codes_are_kept_if_asked_and_nothing_else_changes() -> None:
    features, labels = features_of(24)
    plain, keeping = (fitted(features, labels, 6, nu=0.3, keep_codes=keep) for keep in (False, True))
    assert torch.equal(keeping.head(features), plain.head(features))
    assert plain.learned_codes(labels) is None
    codes = keeping.learned_codes(labels)
    assert codes is not None
    assert set(codes.flatten().tolist()) == {-1.0, 1.0}
    # P is the ridge regression from Phi to the codes, and none other gives it.
    phi = keeping.head.bits.fit(keeping.head.kernel(features))
    projection = ridge_regression(phi, codes.double(), 1e-6)
    torch.testing.assert_close(phi @ projection, keeping.head(features).double(), rtol=1e-3, atol=1e-3)
    assert "signs" in keeping.state_dict()
    assert "signs" not in plain.state_dict()


def test_the_kernel_is_one_at_its_anchors_and_as_wide_as_told() -> None:
    features, labels = features_of(12)
    kernel = fitted(features, labels, 4, anchors=5, width=2.0).head.kernel
    of_training = kernel(features)
    assert of_training.shape == (12, 5)
    torch.testing.assert_close(of_training.amax(dim=0), torch.ones(5))
    assert float(-of_training.log().mean()) == pytest.approx(1 / 2, rel=1e-5)
    assert len(set(of_training.argmax(dim=0).tolist())) == 5  # no photo is drawn twice


def test_distances_keep_their_digits_where_all_features_lie_far_from_zero() -> None:
    features = 1000 + torch.randn(20, WIDTH, generator=torch.Generator().manual_seed(0)) / 10
    kernel = Kernel(WIDTH, 4, normalise=False)
    kernel.anchors.copy_(kernel.fit(features)[:4])
    expected = (features[:, None].double() - features[None, :4].double()).square().sum(dim=2)
    torch.testing.assert_close(
        kernel.distances(features).double(), expected, rtol=0, atol=2e-3 * float(expected.mean())
    )


def test_published_values_are_the_defaults() -> None:
    config = Config()
    assert (config.anchors, config.nu, config.ridge, config.iterations) == (1000, 1e-5, 1.0, 5)
