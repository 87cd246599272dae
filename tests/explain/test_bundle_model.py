"""What a bundle shows, without torch: its attention, and the effect of covering parts of a photo."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from milvus_fghash.core.codes import pack
from milvus_fghash.datasets.dataset import Dataset
from milvus_fghash.explain import occlusion as occlusion_module
from milvus_fghash.explain.bundle_model import BundleModel
from milvus_fghash.explain.explain import open_model
from milvus_fghash.explain.model import ModelOutputs
from milvus_fghash.explain.occlusion import DESCRIPTION, occlusion
from milvus_fghash.explain.pictures import overlay, stretched
from tests.helpers.small_bundle import SIDE, directions, write_small_bundle

pytestmark = pytest.mark.full

GOLDEN = Path(__file__).parents[1] / "golden" / "bundle-v1"
BITS = 12


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> BundleModel:
    """Mean colour less mid-grey times a random matrix: what a square is worth can be worked out."""
    model = open_model(write_small_bundle(tmp_path_factory.mktemp("bundle") / "small", BITS))
    assert isinstance(model, BundleModel)
    return model


def photo(seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3), np.uint8)


def test_outputs_and_codes_are_those_of_the_graph(small: BundleModel) -> None:
    pixels = np.stack([photo(seed) for seed in range(11)])  # more than a batch
    codes, logits, bit_scores, activities = small.run(pixels)
    expected = (pixels.mean(axis=(1, 2)) - 127.5) @ directions(BITS, 0)
    np.testing.assert_allclose(logits, expected, rtol=1e-3, atol=1e-3)
    np.testing.assert_array_equal(codes, pack(logits))
    np.testing.assert_array_equal(bit_scores, logits)
    assert activities is None
    assert (small.method, small.bits, small.lineage, small.name) == ("lsh", 12, "ab12", "lsh (12 bits)")


def test_occlusion_against_loops(small: BundleModel) -> None:
    """Each pixel: the mean loss of the 4 x 4 squares, moved by 2, that cover it; then cut at 0 and scaled to 1."""
    pixels = photo(3)
    weights = directions(BITS, 0)
    whole = (pixels.reshape(-1, 3).mean(axis=0) - 127.5) @ weights
    signs = np.where(whole > 0, 1, -1)
    losses: dict[tuple[int, int], float] = {}
    flipped: dict[tuple[int, int], int] = {}
    for top in range(0, 13, 2):
        for left in range(0, 13, 2):
            covered = pixels.astype(float)
            covered[top : top + 4, left : left + 4] = 128  # the manifest's mean of 0.5
            logits = (covered.reshape(-1, 3).mean(axis=0) - 127.5) @ weights
            losses[top, left] = 1 - float(logits @ signs) / float(np.abs(whole).sum())
            flipped[top, left] = sum((logits > 0) != (whole > 0))
    expected = np.zeros((16, 16))
    for y in range(16):
        for x in range(16):
            over = [loss for (top, left), loss in losses.items() if top <= y < top + 4 and left <= x < left + 4]
            expected[y, x] = max(sum(over) / len(over), 0)
    heat, worst, n_flipped = occlusion(small, pixels)
    np.testing.assert_allclose(heat, expected / expected.max(), rtol=1e-2, atol=1e-3)
    assert worst == pytest.approx(max(losses.values()), rel=1e-3)
    assert n_flipped == flipped[max(losses, key=losses.__getitem__)]
    assert n_flipped not in (0, BITS, min(flipped.values()))


def test_the_one_place_that_matters_is_the_brightest(small: BundleModel) -> None:
    pixels = np.full((SIDE, SIDE, 3), 128, np.uint8)
    pixels[10:12, 4:6] = 255
    heat, _, _ = occlusion(small, pixels)
    assert heat[10:12, 4:6].min() == heat.max() == 1
    assert max(heat[:6].max(), heat[:, 10:].max()) < 1e-6


def test_a_photo_without_outputs_has_no_bright_place(small: BundleModel, monkeypatch: pytest.MonkeyPatch) -> None:
    zeros = [ModelOutputs(np.zeros((n, 2), np.uint8), np.zeros((n, BITS)), np.zeros((n, BITS))) for n in range(99)]
    monkeypatch.setattr(type(small), "run", lambda _, pixels: zeros[len(pixels)])
    heat, worst, flipped = occlusion(small, photo())
    assert (heat.max(), worst, flipped) == (0, 0, 0)
    assert small.views(photo(), 12).shown[0].caption == "no single square matters"


def test_the_brightest_place_has_its_effect_in_the_caption_as_each_map_is_scaled_by_itself(small: BundleModel) -> None:
    """By hand: 2 x 2 pixels of 255 on 128 are nearly all of it, 16 pixels of 200 as much as any other 16 of 256."""
    strong = np.full((SIDE, SIDE, 3), 128, np.uint8)
    strong[10:12, 4:6] = 255
    even = np.full((SIDE, SIDE, 3), 200, np.uint8)
    for pixels, cost in ((strong, 80), (even, 6)):
        heat, _, flipped = occlusion(small, pixels)
        (view,) = small.views(pixels, 12).shown
        assert heat.max() == 1
        assert view.caption == f"the most important square takes {cost}%, flips {flipped} of 12 bits"
    assert "scaled to its own maximum" in DESCRIPTION


@pytest.mark.parametrize("side", [8, 9, 13, 23])
def test_squares_reach_every_pixel_of_any_size(side: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = BundleModel(write_small_bundle(tmp_path / "bundle"))
    seen: list[NDArray[np.uint8]] = []

    def run(pixels: NDArray[np.uint8]) -> ModelOutputs:
        seen.append(pixels)
        ones = np.ones((len(pixels), BITS))
        return ModelOutputs(pack(ones), ones, ones)

    monkeypatch.setattr(model, "run", run)
    occlusion(model, np.zeros((side, side, 3), np.uint8))
    assert (seen[1] > 0).any(axis=(0, 3)).all()


def test_attention_is_shown_where_the_bundle_gives_it(small: BundleModel) -> None:
    assert [view.kind for view in small.views(photo(), 12).shown] == list(small.descriptions) == ["occlusion"]
    assert any("export the bundle with the attention output" in sentence for sentence in small.unavailable)
    golden = open_model(GOLDEN)
    assert isinstance(golden, BundleModel)
    assert not any("export the bundle with the attention output" in sentence for sentence in golden.unavailable)
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    attention, covered = golden.views(pixels, 12).shown
    assert [attention.kind, covered.kind] == list(golden.descriptions)
    heat = golden.encoder.run(pixels[None], "attention")[1][0]
    assert heat.shape == (2, 2)  # without M, as before the first release
    assert np.ptp(heat) > 0.9
    np.testing.assert_array_equal(attention.picture, overlay(pixels, stretched(heat)))


def test_what_a_bundle_cannot_show_is_said(small: BundleModel) -> None:
    for model in (small, open_model(GOLDEN)):
        message = " ".join(model.unavailable)
        assert all(
            words in message for words in ("class-activation maps", "the erased region", "they need the checkpoint")
        )


def test_the_means_are_the_colour_that_covers(small: BundleModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(occlusion_module, "STEPS", 2)  # a single square: the whole photo
    _, worst, _ = occlusion(small, photo())
    assert worst == pytest.approx(1, abs=0.2)  # mid-grey leaves next to nothing


def test_a_page_of_a_bundle_needs_no_torch(drawn_birds: Dataset, tmp_path: Path) -> None:
    words = ["explain", str(GOLDEN), "--data", str(drawn_birds.root), "--queries", "2", "--out", str(tmp_path / "out")]
    probe = f"""
import sys
sys.modules.update(dict.fromkeys(["torch", "torchvision", "safetensors", "matplotlib"]))
from milvus_fghash.cli import main
main({words})
"""
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "index.html").is_file()
