"""A2-Net and A2-Net++: their terms against loops, their two phases, and what of them is exported."""

from functools import partial
from typing import Any

import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from milvus_fghash.errors import ConfigError
from milvus_fghash.exporters.graph import ExportedEncoder, output_names, to_onnx
from milvus_fghash.methods import a2net, a2net_pp
from milvus_fghash.methods.base import Batch, Sizes
from milvus_fghash.recipes.schema import HeadChoice
from milvus_fghash.training.backbones import build_backbone
from tests.helpers.pair_loops import pairs_by_loops
from tests.helpers.small_method import BITS, LABELS, C, N, round_of, settle

pytestmark = pytest.mark.full

WIDTH = 3 * 128  # two parts and the whole on the tiny backbone
ROWS = torch.tensor([5, 0])


def made(module: Any, number: int = 0, rounds: int = 2, head: HeadChoice | None = None, **options: Any) -> Any:
    torch.manual_seed(0)
    backbone = build_backbone("tiny", "none")
    method = module.Method(backbone, head or HeadChoice(), Sizes(BITS, C, N), module.Config(n_maps=2, **options))
    method.before_round(round_of(number, rounds))
    return method


def batch(size: int = 32) -> Batch:
    random = torch.Generator().manual_seed(1)
    features = torch.randn(2, WIDTH, generator=random)
    return Batch(ROWS, LABELS[ROWS], {"anchor": features, "photo": torch.rand(2, 3, size, size, generator=random)})


def outputs(method: Any, features: Tensor) -> list[list[float]]:
    """tanh(W f), one bit after the other."""
    weight = method.head.bits.weight.detach()
    return [[float(torch.tanh(row @ f)) for row in weight] for f in features]


def reconstruction_by_loops(method: Any, features: Tensor) -> float:
    weight, total = method.head.bits.weight.detach(), 0.0
    for f, u in zip(features, outputs(method, features), strict=True):
        for d in range(WIDTH):
            total += (sum(u[k] * float(weight[k, d]) for k in range(BITS)) - float(f[d])) ** 2
    return total / (len(features) * WIDTH)


def decorrelation_by_loops(u: list[list[float]]) -> float:
    b, c = len(u), len(u[0])
    entries = [sum(row[k] * row[m] for row in u) - b * (k == m) for k in range(c) for m in range(c)]
    return sum(entry**2 for entry in entries) / c**2 / (b * c)


def test_the_second_half_is_the_four_printed_terms() -> None:
    method, photos = made(a2net, number=1, reconstruction=3.0, decorrelation=5.0), batch()
    terms = method.loss(photos)
    assert list(terms) == ["pairs", "quantisation", "reconstruction", "decorrelation"]
    features = photos.features["anchor"]
    u = torch.tensor(outputs(method, features))
    scale = 12 / BITS / (2 * N)
    assert terms["pairs"].item() == pytest.approx(scale * pairs_by_loops(method, u, ROWS), rel=1e-4)
    apart = sum(float((u[i] - method.signs[row]).square().sum()) for i, row in enumerate(ROWS))
    assert terms["quantisation"].item() == pytest.approx(scale * 200 * apart, rel=1e-4)
    assert terms["reconstruction"].item() == pytest.approx(3 * reconstruction_by_loops(method, features), rel=1e-4)
    assert terms["decorrelation"].item() == pytest.approx(5 * decorrelation_by_loops(u.tolist()), rel=1e-4)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 5), st.integers(1, 4))
def test_decorrelation_is_the_loop(seed: int, b: int, c: int) -> None:
    u = torch.rand(b, c, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2 - 1
    assert a2net.decorrelation(u).item() == pytest.approx(decorrelation_by_loops(u.tolist()))


def test_decorrelation_worked_by_hand() -> None:
    # U^T U = [[2, 0], [0, 2]] = 2 I; with the second row turned round, [[2, 2], [2, 2]]: (4 + 4) / 4 entries / (2 * 2)
    assert a2net.decorrelation(torch.tensor([[1.0, 1.0], [1.0, -1.0]])).item() == 0
    assert a2net.decorrelation(torch.tensor([[1.0, 1.0], [-1.0, -1.0]])).item() == 0.5


@pytest.mark.parametrize(
    ("number", "rounds", "second"), [(0, 1, True), (0, 2, False), (1, 2, True), (0, 3, False), (1, 3, True)]
)
@pytest.mark.parametrize("decorrelate_from", ["start", "half"])
def test_the_second_half_begins_at_half_the_rounds(
    number: int, rounds: int, second: bool, decorrelate_from: str
) -> None:
    terms = made(a2net, number, rounds, decorrelate_from=decorrelate_from).loss(batch())
    assert ("reconstruction" in terms) == second
    assert ("decorrelation" in terms) == (second or decorrelate_from == "start")


def test_a_weight_of_zero_leaves_its_term_out() -> None:
    terms = made(a2net, number=1, reconstruction=0, decorrelation=0, gamma=0).loss(batch())
    assert list(terms) == ["pairs"]


def test_one_matrix_learns_from_both_ends() -> None:
    method, features = made(a2net, number=1), batch().features["anchor"].requires_grad_()
    weight = method.head.bits.weight
    assert method.head.bits.bias is None
    method.loss(Batch(ROWS, LABELS[ROWS], {"anchor": features}))["reconstruction"].backward()
    encoder, decoder = (weight.detach().clone().requires_grad_() for _ in range(2))
    inner = features.detach().clone().requires_grad_()
    ((torch.tanh(inner @ encoder.T) @ decoder - inner) ** 2).mean().backward()
    assert encoder.grad is not None
    assert decoder.grad is not None
    assert min(encoder.grad.abs().max(), decoder.grad.abs().max()) > 0
    torch.testing.assert_close(weight.grad, encoder.grad + decoder.grad)
    torch.testing.assert_close(features.grad, inner.grad)


def test_the_code_step_gets_the_outputs_of_each_photo() -> None:
    method, photos = made(a2net, number=1), batch()
    method.loss(photos)
    u = torch.tensor(outputs(method, photos.features["anchor"]))
    torch.testing.assert_close(method.u[2], u[0])  # photo 5 stands third in the round, photo 0 second
    torch.testing.assert_close(method.u[1], u[1])
    assert not method.u.requires_grad


def test_outputs_are_one_matrix_times_parts_and_whole() -> None:
    method, photos = made(a2net), torch.randn(2, 3, 64, 64)
    settle(partial(method.parts, method.backbone, photos), method.backbone, method.parts)
    with torch.no_grad():
        parts = method.parts(method.backbone, photos)
        f = torch.cat([parts.local[:, 0], parts.local[:, 1], parts.whole], dim=1)
        torch.testing.assert_close(method(photos), f @ method.head.bits.weight.T)
        torch.testing.assert_close(method.attentions(photos), parts.attention)


def test_normalised_parts_have_length_one_and_a_matrix_of_their_own_size() -> None:
    photos = torch.randn(2, 3, 64, 64)
    plain, scaled = made(a2net), made(a2net, normalise=True)
    pieces = scaled.features(photos).view(2, 3, 128)
    torch.testing.assert_close(pieces.norm(dim=2), torch.ones(2, 3))
    torch.testing.assert_close(pieces, torch.nn.functional.normalize(plain.features(photos).view(2, 3, 128), dim=2))
    assert 0.9 < scaled.head.bits.weight.abs().max() <= 1
    assert plain.head.bits.weight.abs().max() < 0.1
    assert plain.features_key != scaled.features_key


def test_bits_can_have_a_map_each() -> None:
    method = a2net.Method(build_backbone("tiny", "none"), HeadChoice(), Sizes(BITS, C, N), a2net.Config(n_maps="bits"))
    assert method.attentions(torch.randn(2, 3, 32, 32)).shape == (2, BITS, 2, 2)
    assert method.head.bits.weight.shape == (BITS, (BITS + 1) * 128)


@pytest.mark.parametrize("head", [HeadChoice(kind="mlp"), HeadChoice(standardise=True)])
def test_other_heads_are_rejected(head: HeadChoice) -> None:
    with pytest.raises(ConfigError, match=r"does not work with A2-Net"):
        made(a2net, head=head)


@pytest.mark.parametrize(("number", "weight"), [(0, 0.25), (1, 0.75)])
def test_the_image_is_weighted_by_half_and_the_codes_by_their_factor(number: int, weight: float) -> None:
    options: dict[str, Any] = {"image_size": 32, "image_first": 0.25, "image_second": 0.75}
    method, photos = made(a2net_pp, number, codes=4.0, **options), batch()
    terms = method.loss(photos)
    plain = made(a2net, number, decorrelate_from="start")
    plain.load_state_dict(method.state_dict(), strict=False)
    expected = {name: (1 if name == "reconstruction" else 4) * value for name, value in plain.loss(photos).items()}
    image = method.decoder(photos.features["anchor"]).detach()  # in training mode: the statistics of this batch
    apart = sum(
        (float(a) - float(b)) ** 2 for a, b in zip(image.flatten(), photos.features["photo"].flatten(), strict=True)
    )
    assert list(terms) == [*expected, "image"]
    assert terms["image"].item() == pytest.approx(weight * apart / image.numel(), rel=1e-4)
    for name, value in expected.items():
        torch.testing.assert_close(terms[name], value)


def test_the_image_teaches_the_features() -> None:
    method, photos = made(a2net_pp, image_size=32), batch()
    photos.features["anchor"].requires_grad_()
    method.loss(photos)["image"].backward()
    gradient = photos.features["anchor"].grad
    assert gradient is not None
    assert gradient.abs().max() > 0


@pytest.mark.parametrize("size", [32, 64, 224])
def test_the_decoder_gives_photos_of_any_size(size: int) -> None:
    image = a2net_pp.ImageDecoder(10, size)(torch.randn(2, 10))
    assert image.shape == (2, 3, size, size)
    assert 0 < image.min() < 0.5 < image.max() < 1


def test_the_target_is_the_photo_in_its_own_colours() -> None:
    method = made(a2net_pp, image_size=32)
    pixels = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    pixels[0, 0, :2, :2] = torch.tensor([[255, 0], [51, 102]])
    pixels[0, 2] = 204
    target = method.embed(method.backbone.normalise(pixels))["photo"]
    assert target.shape == (1, 3, 32, 32)
    torch.testing.assert_close(target[0, 0, 0, 0].item(), (255 + 51 + 102) / 255 / 4, atol=1e-6, rtol=0)
    torch.testing.assert_close(target[0, 2], torch.full((32, 32), 0.8))
    torch.testing.assert_close(target[0, 1], torch.zeros(32, 32), atol=1e-6, rtol=0)


def test_no_decoder_is_exported() -> None:
    method = made(a2net_pp, number=1, image_size=32).eval()
    names = ExportedEncoder(method, output_names(()))
    graph = onnx.load_from_string(to_onnx(names, 64, 18)).graph
    weights = {tensor.name: int(torch.tensor(tensor.dims).prod()) for tensor in graph.initializer}
    needed = sum(value.numel() for part in (method.backbone, method.parts, method.head) for value in part.parameters())
    decoder = sum(value.numel() for value in method.decoder.parameters())
    assert needed * 0.95 < sum(weights.values()) < needed + 0.1 * decoder
    assert not [name for name in weights if "decoder" in name]
