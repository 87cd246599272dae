"""SH's modes against the enumeration of the paper, its bits against the printed sine."""

import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from milvus_fghash.methods.base import Sizes
from milvus_fghash.methods.sh import Config, Method, smallest_modes
from milvus_fghash.recipes.schema import HeadChoice
from tests.helpers.small_method import WIDTH, Flat


def enumerated(widths: list[float], count: int) -> list[tuple[float, int, int]]:
    """(eigenvalue, axis, mode), smallest first: of all modes up to the authors' bound, without the constant one."""
    modes = [(0.0, 0, 0)]
    for axis, width in enumerate(widths):
        longest = math.ceil((count + 1) * width / max(widths))
        modes += [((k * math.pi / width) ** 2, axis, k) for k in range(1, longest)]
    return sorted(modes)[1 : count + 1]


def chosen(widths: list[float], count: int) -> list[tuple[int, int]]:
    axes, modes = smallest_modes(torch.tensor(widths, dtype=torch.float64), count)
    return list(zip(axes.tolist(), modes.tolist(), strict=True))


def test_modes_worked_by_hand() -> None:
    # k / R: 1/3, 2/3, 1 on the first axis, 1/2, 1 on the second, 1 on the third; equal ones in the order of the axes
    assert chosen([3.0, 2.0, 1.0], 3) == [(0, 1), (1, 1), (0, 2)]
    assert chosen([3.0, 2.0, 1.0], 6)[3:] == [(0, 3), (1, 2), (2, 1)]
    assert chosen([1.0, 3.0], 3) == [(1, 1), (1, 2), (0, 1)]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0.01, 10), min_size=1, max_size=6), st.integers(1, 24))
def test_the_modes_are_those_of_the_enumeration(widths: list[float], count: int) -> None:
    pairs = chosen(widths, count)
    assert len(set(pairs)) == count
    eigenvalues = torch.tensor([(k * math.pi / widths[axis]) ** 2 for axis, k in pairs], dtype=torch.float64)
    expected = torch.tensor([value for value, _, _ in enumerated(widths, count)], dtype=torch.float64)
    torch.testing.assert_close(eigenvalues, expected)


def test_an_axis_without_width_is_never_taken() -> None:
    assert chosen([2.0, 0.0], 3) == [(0, 1), (0, 2), (0, 3)]


def fitted(features: Tensor, bits: int) -> Method:
    method = Method(Flat(), HeadChoice(), Sizes(bits, 3, len(features)), Config())
    method.fit(features, torch.zeros(len(features), dtype=torch.int64))
    return method


def test_waves_on_a_line_worked_by_hand() -> None:
    features = torch.arange(5.0)[:, None] * torch.tensor([0.0, 3.0, 0.0, -4.0, 0.0, 0.0]) + 1
    outputs = fitted(features, 2).head(features)
    half = math.sqrt(0.5)
    first = torch.tensor([1, half, 0, -half, -1]) * outputs[0, 0].sign()  # from whichever end
    torch.testing.assert_close(
        outputs, torch.stack([first, torch.tensor([1.0, 0, -1, 0, 1])], dim=1), rtol=0, atol=1e-5
    )


def test_outputs_are_the_printed_sines_also_outside_the_box() -> None:
    random = torch.Generator().manual_seed(0)
    features = torch.randn(50, WIDTH, generator=random) * torch.arange(1, 1 + WIDTH) + 5
    queries = 3 * torch.randn(9, WIDTH, generator=random) * torch.arange(1, 1 + WIDTH) + 5
    bits = 11  # more than features
    actual = fitted(features, bits).head(queries).double()

    mean = features.double().mean(dim=0)
    axes = torch.linalg.svd(features - mean).Vh.T
    y, q = (features - mean) @ axes, (queries - mean) @ axes
    low, high = y.amin(dim=0), y.amax(dim=0)
    assert ((q < low) | (q > high)).any()
    for bit, (_, axis, k) in enumerate(enumerated((high - low).tolist(), bits)):
        place = (q[:, axis] - low[axis]) / (high[axis] - low[axis])
        expected = torch.sin(math.pi / 2 + k * math.pi * place)
        # A principal axis may point either way; that turns the waves of odd mode, for all photos alike.
        turned = torch.sign(actual[0, bit] * expected[0]) if k % 2 else 1.0
        torch.testing.assert_close(actual[:, bit], turned * expected, rtol=0, atol=1e-4)
