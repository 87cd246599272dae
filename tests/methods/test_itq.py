"""ITQ as a method: its head keeps the principal axes and is a fixed point of the rotation."""

import numpy as np
import pytest
import torch
from torch import Tensor

from milvus_fghash.methods.affine import fit_itq
from milvus_fghash.methods.base import Sizes
from milvus_fghash.methods.itq import Config, Method
from milvus_fghash.methods.projections import nearest_rotation
from milvus_fghash.recipes.schema import HeadChoice
from tests.helpers.small_method import WIDTH, Flat


def fitted(features: Tensor, bits: int, **options: int) -> Method:
    method = Method(Flat(), HeadChoice(), Sizes(bits, 3, len(features)), Config(**options))
    method.fit(features, torch.zeros(len(features), dtype=torch.int64))
    return method


def test_the_head_keeps_the_principal_axes_and_ends_at_a_fixed_point() -> None:
    features = torch.randn(60, WIDTH, generator=torch.Generator().manual_seed(0)) * torch.arange(1, 1 + WIDTH) + 2
    head = fitted(features, 3, iterations=300).head
    torch.testing.assert_close(head.weight @ head.weight.T, torch.eye(3), rtol=0, atol=1e-5)
    outputs = head(features).double()
    of_all = torch.linalg.svdvals((features - features.mean(dim=0)).double())
    torch.testing.assert_close(torch.linalg.svdvals(outputs), of_all[:3], rtol=1e-5, atol=0)
    still = nearest_rotation(outputs, torch.where(outputs > 0, 1.0, -1.0).double())
    torch.testing.assert_close(still, torch.eye(3, dtype=torch.float64), rtol=0, atol=1e-4)


def test_the_head_is_the_one_of_numpy_and_the_published_number_of_iterations_the_default() -> None:
    features = torch.randn(40, WIDTH, generator=torch.Generator().manual_seed(0))
    expected = fit_itq(features.numpy(), 4, Config(seed=7, normalise=True))
    head = fitted(features, 4, seed=7, normalise=True).head
    assert np.array_equal(head.weight.numpy(), expected.weight)
    np.testing.assert_allclose(head(features).numpy(), expected.logits(features.numpy()), atol=1e-5)
    assert Config().iterations == 50


@pytest.mark.parametrize(("n_photos", "bits", "axes"), [(30, WIDTH + 1, WIDTH), (4, 4, 3), (30, 40, WIDTH)])
def test_for_more_bits_than_axes_the_rows_of_the_rotation_are_orthonormal(n_photos: int, bits: int, axes: int) -> None:
    features = torch.randn(n_photos, WIDTH, generator=torch.Generator().manual_seed(0))
    head = fitted(features, bits).head
    kept = head.weight.T @ head.weight  # the projection on the principal axes
    torch.testing.assert_close(kept @ kept, kept, rtol=0, atol=1e-5)
    assert float(kept.trace()) == pytest.approx(axes, abs=1e-4)
    outputs, centred = head(features), features - features.mean(dim=0)
    torch.testing.assert_close(outputs @ outputs.T, centred @ centred.T, rtol=1e-4, atol=1e-4)  # no length is lost
    if n_photos > bits:
        assert len(torch.unique(outputs > 0, dim=1).T) > axes  # the bits differ
