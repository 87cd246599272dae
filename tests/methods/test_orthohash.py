"""OrthoHash's loss against loops written from the formula, and the batch norm behind its last layer."""

from __future__ import annotations

import math

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from milvus_fghash.core.codes import unpack
from milvus_fghash.exporters.graph import ALWAYS, ExportedEncoder, to_onnx
from milvus_fghash.methods import orthohash
from milvus_fghash.methods.class_codes import bernoulli_codes
from milvus_fghash.methods.heads import HashHead
from milvus_fghash.recipes.schema import HeadChoice
from tests.helpers.small_method import BITS, C, batch, made

pytestmark = pytest.mark.full


def test_cosine_softmax_worked_by_hand() -> None:
    # cosines of (3, 4) with (1, 1), (1, -1), (-1, -1): 7, -1 and -7 over 5 sqrt 2. Class 1 with scale 2 and margin 0.5:
    codes = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]])
    first, own, last = 7 / math.sqrt(50), -1 / math.sqrt(50) - 0.5, -7 / math.sqrt(50)
    expected = math.log(math.exp(2 * first) + math.exp(2 * own) + math.exp(2 * last)) - 2 * own
    loss = orthohash.cosine_softmax(torch.tensor([[3.0, 4.0]]), torch.tensor([1]), codes, 2.0, 0.5)
    assert loss.item() == pytest.approx(expected)


def test_outputs_of_zero_are_as_far_from_every_class() -> None:
    loss = orthohash.cosine_softmax(torch.zeros(2, 8), torch.tensor([0, 2]), bernoulli_codes(3, 8, 0), 8.0, 0.0)
    assert loss.item() == pytest.approx(math.log(3))


def test_the_loss_is_that_of_the_formula() -> None:
    method, photos = made(orthohash, scale=5.0, margin=0.3), batch(rows=(7, 4))
    terms = method.loss(photos)
    assert list(terms) == ["cosine"]
    linear = nn.functional.linear(photos.features["anchor"], method.head.bits.weight, method.head.bits.bias).detach()
    z = (linear - linear.mean(dim=0)) / (linear.var(dim=0, correction=0) + 1e-5).sqrt()  # in training: of the batch
    total = 0.0
    for i, label in enumerate(photos.labels.tolist()):
        cosines = [float(z[i] @ method.codes[k]) / (float(z[i].norm()) * math.sqrt(BITS)) for k in range(C)]
        own = 5.0 * (cosines[label] - 0.3)
        others = [math.exp(5.0 * cosine) for k, cosine in enumerate(cosines) if k != label]
        total -= math.log(math.exp(own) / (math.exp(own) + sum(others)))
    assert terms["cosine"].item() == pytest.approx(total / 2, rel=1e-4)


def test_codes_are_random_bits_unless_asked_otherwise() -> None:
    assert torch.equal(made(orthohash).codes, bernoulli_codes(C, BITS, 0))
    assert torch.equal(made(orthohash, seed=2).codes, bernoulli_codes(C, BITS, 2))
    assert made(orthohash, codebook="balanced").codes.sum(dim=1).tolist() == [0.0] * C


def trained_a_little(kind: str) -> HashHead:
    """A head whose batch norms have seen something and whose weights have moved."""
    torch.manual_seed(3)
    head = HashHead(HeadChoice(kind=kind, hidden=5), 6, 4, norm_logits=True)
    for _ in range(5):
        head(3 * torch.randn(20, 6) + 1)
    last = head[-1]
    assert isinstance(last, nn.BatchNorm1d)
    nn.init.normal_(last.weight)
    nn.init.normal_(last.bias)
    return head.eval()


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_the_last_batch_norm_is_one_affine_map_with_the_linear_layer(kind: str) -> None:
    head = trained_a_little(kind)
    *below, bits, norm = head
    assert isinstance(bits, nn.Linear)
    assert isinstance(norm, nn.BatchNorm1d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    factor = norm.weight / (norm.running_var + norm.eps).sqrt()
    hidden = nn.Sequential(*below)(torch.randn(7, 6))
    folded = hidden @ (factor[:, None] * bits.weight).T + (bits.bias - norm.running_mean) * factor + norm.bias
    torch.testing.assert_close(nn.Sequential(bits, norm)(hidden), folded)


def test_without_being_asked_a_head_ends_with_its_linear_layer() -> None:
    assert isinstance(HashHead(HeadChoice(), 6, 4)[-1], nn.Linear)


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_onnx_gives_the_codes_of_the_network(kind: str) -> None:
    method = made(orthohash, HeadChoice(kind=kind, hidden=5, standardise=True))
    for seed in range(3):
        method.head(torch.randn(30, 6, generator=torch.Generator().manual_seed(seed)) * 2 + 1)
    nn.init.constant_(method.head[-1].bias, 0.3)
    pixels = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)
    graph = to_onnx(ExportedEncoder(method, ALWAYS), 8, 18)
    given = onnxruntime.InferenceSession(graph).run(None, {"images": pixels})
    logits, codes = (np.asarray(output) for output in given)
    with torch.no_grad():
        expected = method.eval()(method.backbone.normalise(torch.from_numpy(pixels).permute(0, 3, 1, 2))).numpy()
    np.testing.assert_allclose(logits, expected, rtol=1e-3, atol=1e-4)
    assert (unpack(codes, BITS) == (logits > 0)).all()
