"""What LSH, SH, ITQ and SDH share: centring, principal axes, and what holds for all four."""

from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor

from milvus_fghash.errors import DataError
from milvus_fghash.methods import itq, lsh, sdh, sh
from milvus_fghash.methods.base import Sizes
from milvus_fghash.methods.projections import Centred, Projection, principal_axes
from milvus_fghash.recipes.schema import HeadChoice
from tests.helpers.small_method import WIDTH, Flat

pytestmark = pytest.mark.full

METHODS = [pytest.param(module, id=module.__name__.rpartition(".")[2]) for module in (lsh, sh, itq, sdh)]
N, BITS = 30, 5


def drawn(n: int = N, seed: int = 0) -> Tensor:
    """(n, WIDTH) features, none centred, of unequal spread."""
    return torch.randn(n, WIDTH, generator=torch.Generator().manual_seed(seed)) * torch.arange(1, 1 + WIDTH) + 3


def fitted(module: Any, features: Tensor, **options: Any) -> Any:
    labels = torch.arange(len(features)) % 3
    method = module.Method(Flat(), HeadChoice(), Sizes(BITS, 3, len(features)), module.Config(**options))
    method.fit(features, labels)
    return method


def test_centring_worked_by_hand() -> None:
    features = torch.tensor([[3.0, 4.0], [0.0, 0.0], [0.0, -2.0]])
    plain, scaled = Centred(2), Centred(2, normalise=True)
    assert plain.fit(features)[0].tolist() == pytest.approx([2, 10 / 3])
    assert plain.mean.tolist() == pytest.approx([1, 2 / 3])
    # of length 1: (0.6, 0.8), (0, 0), (0, -1); their mean is (0.2, -1/15)
    assert scaled.fit(features)[1].tolist() == pytest.approx([-0.2, 1 / 15])
    assert scaled(torch.tensor([[0.0, 7.0]]))[0].tolist() == pytest.approx([-0.2, 16 / 15])
    assert scaled.fit(features).dtype == torch.float64


def test_projection_worked_by_hand() -> None:
    layer = Projection(2, 3)
    layer.mean.copy_(torch.tensor([1.0, 2.0]))
    layer.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, -1.0]]))
    assert layer(torch.tensor([[4.0, 4.0]])).tolist() == [[3.0, 2.0, 4.0]]


@pytest.mark.parametrize("n", [40, 4])
def test_principal_axes_are_the_first_singular_vectors(n: int) -> None:
    features = drawn(n).double()
    centred = features - features.mean(dim=0)
    axes = principal_axes(centred, 3)
    expected = torch.linalg.svd(centred).Vh[:3].T
    torch.testing.assert_close((axes * expected).sum(dim=0).abs(), torch.ones(3, dtype=torch.float64))
    torch.testing.assert_close((centred @ axes).norm(dim=0), torch.linalg.svdvals(centred)[:3])


@pytest.mark.parametrize("module", METHODS)
def test_one_seed_gives_one_head(module: Any) -> None:
    first, again = (fitted(module, drawn()).head.state_dict() for _ in range(2))
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    if module is not sh:
        other = fitted(module, drawn(), seed=1).head.state_dict()
        assert any(not torch.equal(value, other[name]) for name, value in first.items())


@pytest.mark.parametrize("module", METHODS)
def test_a_saved_head_loads_into_a_new_method(module: Any) -> None:
    method = fitted(module, drawn())
    fresh = module.Method(Flat(), HeadChoice(), Sizes(BITS, 3, N), module.Config())
    fresh.load_state_dict(method.state_dict())
    assert torch.equal(fresh.head(drawn(7, seed=1)), method.head(drawn(7, seed=1)))


@pytest.mark.parametrize("module", METHODS)
def test_only_normalised_features_forget_their_length(module: Any) -> None:
    features, queries = drawn(), drawn(7, seed=1)
    for normalise in (False, True):
        head = fitted(module, features, normalise=normalise).head
        same = torch.allclose(head(4 * queries), head(queries), rtol=1e-4, atol=1e-5)
        assert same == normalise


@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize("module", METHODS[1:])
def test_equal_features_are_rejected(module: Any, normalise: bool) -> None:
    equal = torch.arange(1.0, 1 + WIDTH).expand(N, WIDTH)  # of length 1, their mean differs from them by rounding
    with pytest.raises(DataError, match="equal features for all 30 training photos"):
        fitted(module, equal, normalise=normalise)


def test_lsh_draws_its_hyperplanes_from_a_normal_distribution() -> None:
    method = lsh.Method(Flat(), HeadChoice(), Sizes(500, 3, N), lsh.Config(seed=3))
    method.fit(drawn(), torch.zeros(N, dtype=torch.long))
    weight = method.head.weight
    expected = np.random.default_rng(3).standard_normal((500, WIDTH)).astype(np.float32)
    assert torch.equal(weight, torch.from_numpy(expected))


@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize("module", [lsh, itq])
def test_hyperplanes_go_through_the_mean(module: Any, normalise: bool) -> None:
    features = drawn()
    outputs = fitted(module, features, normalise=normalise).head(features)
    torch.testing.assert_close(outputs.mean(dim=0), torch.zeros(BITS), rtol=0, atol=1e-4)


@pytest.mark.parametrize("module", METHODS)
def test_nothing_is_trained_and_no_gallery_learned(module: Any) -> None:
    method = fitted(module, drawn())
    assert method.wants_features
    assert not list(method.parameters())
    assert method.learned_codes(torch.arange(N) % 3) is None


@pytest.mark.parametrize("module", METHODS[1:])
def test_onnx_gives_the_outputs_of_the_head_for_any_batch(module: Any) -> None:
    # Far from zero and close together: what a squared distance of uncentred features would lose its digits on.
    head = fitted(module, 500 + drawn(), normalise=True).head
    program = torch.onnx.export(
        head.eval(),
        (drawn(2),),
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        opset_version=18,
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString(), providers=["CPUExecutionProvider"])
    for n in (1, 9):
        queries = 500 + drawn(n, seed=1)
        expected = head(queries)
        (measured,) = session.run(None, {session.get_inputs()[0].name: queries.numpy()})
        tolerance = 1e-3 * float(expected.square().mean().sqrt())
        torch.testing.assert_close(torch.as_tensor(measured), expected, rtol=0, atol=tolerance)
