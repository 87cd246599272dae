"""Principal axes of rows computed in parts, against the singular value decomposition of all rows."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from milvus_fghash.errors import DataError
from milvus_fghash.methods import leading_axes as module
from milvus_fghash.methods.leading_axes import leading_axes


def doubled(part: Tensor) -> Tensor:
    return 2 * part + 3


@pytest.fixture
def features() -> Tensor:
    """Rows of 60 columns whose variances fall quickly; they are not centred."""
    random = torch.Generator().manual_seed(0)
    scale = torch.tensor(0.8) ** torch.arange(60)
    turn = torch.linalg.qr(torch.randn(60, 60, generator=random)).Q
    rows: Tensor = (torch.randn(500, 60, generator=random) * scale) @ turn + 1
    return rows


@pytest.mark.parametrize("exact_width", [2_048, 30], ids=["exact", "subspace iteration"])
def test_the_axes_are_the_first_singular_vectors_of_all_rows(
    features: Tensor, exact_width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ROWS_AT_A_TIME", 64)
    monkeypatch.setattr(module, "EXACT_WIDTH", exact_width)
    found = leading_axes(doubled, features, 8, 0)
    rows = doubled(features).double()
    torch.testing.assert_close(found.mean, rows.mean(dim=0))
    expected = torch.linalg.svd(rows - rows.mean(dim=0), full_matrices=False).Vh[:8].T
    torch.testing.assert_close((expected.T @ found.axes).abs(), torch.eye(8).double(), atol=2e-3, rtol=0)
    torch.testing.assert_close(found.axes.T @ found.axes, torch.eye(8).double())
    torch.testing.assert_close(found.projected, (rows - rows.mean(dim=0)) @ found.axes)


@pytest.mark.parametrize("exact_width", [2_048, 5], ids=["exact", "subspace iteration"])
def test_axes_of_no_variance_are_left_out(features: Tensor, exact_width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EXACT_WIDTH", exact_width)
    flat = features[:, :4] @ torch.randn(4, 20, generator=torch.Generator().manual_seed(1))
    assert leading_axes(lambda part: part, flat, 10, 0).axes.shape == (20, 4)
    assert leading_axes(lambda part: part, features[:3], 10, 0).axes.shape == (60, 2)


def test_no_more_rows_than_a_part_are_computed_at_a_time(features: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROWS_AT_A_TIME", 64)
    monkeypatch.setattr(module, "EXACT_WIDTH", 5)
    sizes = set()

    def rows_of(part: Tensor) -> Tensor:
        sizes.add(len(part))
        return part

    leading_axes(rows_of, features, 8, 0)
    assert sizes == {64, 500 % 64}


def test_equal_rows_are_rejected(features: Tensor) -> None:
    with pytest.raises(DataError, match="equal features for all 500"):
        leading_axes(torch.zeros_like, features, 8, 0)
