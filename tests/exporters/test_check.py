from __future__ import annotations

import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from milvus_fghash.core.images import Preprocessing, load
from milvus_fghash.datasets.dataset import Dataset
from milvus_fghash.errors import BundleError, DataError, NotFinite
from milvus_fghash.exporters.check import Agreement, check, compare
from milvus_fghash.exporters.graph import ExportedEncoder, to_onnx
from milvus_fghash.exporters.onnx_bundle import Origin, export_method
from milvus_fghash.exporters.pixels import check_pixels
from milvus_fghash.methods.lsh import Method

pytestmark = pytest.mark.full

OUTPUTS = ("logits", "codes")
Make = Callable[[int], Method]


def test_comparison_worked_by_hand() -> None:
    expected = np.array([[1.0, -1.0, 0.001, 0.0], [1.0, 1.0, -1.0, -0.002]])
    measured = np.array([[1.0, -1.5, -0.001, 0.0], [1.0, 1.0, -1.0, 0.001]])
    # bits 2 of the first and 3 of the second row flip: 2 of 8; the largest difference, 0.5, flips nothing
    assert compare(expected, measured, max_flip_rate=0.25) == Agreement(0.25, 0.5, 8)


def test_more_flips_than_allowed_are_rejected() -> None:
    expected = np.array([[1.0, -1.0, 0.001, -0.001]])
    measured = np.array([[1.0, -1.0, -0.001, -0.001]])
    with pytest.raises(BundleError, match=re.escape("25.00% of 4 bits differ")):
        compare(expected, measured, max_flip_rate=0.2)


def test_a_flip_away_from_zero_is_rejected_whatever_rate_is_allowed() -> None:
    expected = np.array([[1.0, -1.0, 0.1, -1.0]])
    measured = np.array([[1.0, -1.0, -0.1, -1.0]])
    with pytest.raises(BundleError, match=r"1 of 4 bits differ .* though the logit is not near zero"):
        compare(expected, measured, max_flip_rate=1.0)


def test_what_is_near_zero_depends_on_the_scale() -> None:
    expected, measured = np.array([[1.0, 0.001]]), np.array([[1.0, -0.001]])
    for scale in (1e-6, 1.0, 1e3):
        assert compare(scale * expected, scale * measured, 1.0).flip_rate == 0.5


@given(hnp.arrays(np.float32, (3, 5), elements=st.floats(-1, 1, width=32)), st.randoms(use_true_random=False))
def test_flips_counted_as_a_slow_loop_counts_them(expected: NDArray[np.float32], random: object) -> None:
    measured = expected[::-1].copy()
    flips = sum((a > 0) != (b > 0) for a, b in zip(expected.flat, measured.flat, strict=True))
    try:
        assert compare(expected, measured, 1.0).flip_rate == pytest.approx(flips / 15)
    except BundleError:
        assert flips


def test_the_graph_of_the_method_agrees(small_method: Make, pixels: NDArray[np.uint8]) -> None:
    encoder = ExportedEncoder(small_method(12), OUTPUTS)
    agreement = check(encoder, to_onnx(encoder, 32, 18), pixels, 0.0)
    assert agreement.flip_rate == 0
    assert agreement.largest_difference < 1e-5
    assert agreement.bits_compared == 2 * 9 * 12


def test_the_graph_of_other_weights_is_rejected(small_method: Make, pixels: NDArray[np.uint8]) -> None:
    method = small_method(12)
    graph = to_onnx(ExportedEncoder(method, OUTPUTS), 32, 18)
    method.head.weight[3] *= -1.0
    with pytest.raises(BundleError, match="bits differ between the network and its ONNX file"):
        check(ExportedEncoder(method, OUTPUTS), graph, pixels, 0.5)


def test_the_graph_of_another_normalisation_is_rejected(small_method: Make, pixels: NDArray[np.uint8]) -> None:
    method = small_method(48)
    graph = to_onnx(ExportedEncoder(method, OUTPUTS), 32, 18)
    method.backbone.mean = (0.0, 0.0, 0.0)
    with pytest.raises(BundleError, match="bits differ between the network and its ONNX file"):
        check(ExportedEncoder(method, OUTPUTS), graph, pixels, 0.5)


def test_bits_packed_the_other_way_round_are_rejected(small_method: Make, pixels: NDArray[np.uint8]) -> None:
    encoder = ExportedEncoder(small_method(12), OUTPUTS)
    encoder.place_values.copy_(encoder.place_values.flip(0))
    with pytest.raises(BundleError, match="does not pack its bits as this project does"):
        check(encoder, to_onnx(encoder, 32, 18), pixels, 1.0)


def test_outputs_that_are_not_finite_are_rejected(small_method: Make, pixels: NDArray[np.uint8]) -> None:
    method = small_method(12)
    graph = to_onnx(ExportedEncoder(method, OUTPUTS), 32, 18)
    method.head.weight[0] = torch.nan
    encoder = ExportedEncoder(method, OUTPUTS)
    with pytest.raises(NotFinite, match="not finite"):
        check(encoder, graph, pixels, 1.0)
    with pytest.raises(BundleError, match="are not finite"):
        to_onnx(encoder, 32, 18)


def test_a_network_that_sees_no_photo_is_rejected_before_anything_is_written(
    small_method: Make, origin: Origin, pixels: NDArray[np.uint8], tmp_path: Path
) -> None:
    """As with a frozen backbone of random weights: what little they say is lost to rounding."""
    method: Any = small_method(12)
    method.backbone.layers[1].weight.data *= 1e-12
    with pytest.raises(BundleError, match=r"same outputs for any photo.*backbone\.weights = 'none'"):
        export_method(method, origin, tmp_path / "bundle", pixels=pixels)
    assert list(tmp_path.iterdir()) == []


def test_drawings_are_made_and_left_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    drawn = check_pixels(Preprocessing(size=48, resize=56), 10)
    assert drawn.shape == (10, 48, 48, 3)
    assert np.array_equal(drawn, check_pixels(Preprocessing(size=48, resize=56), 10))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("size", "resize"), [(8, 8), (600, 1100)])
def test_drawings_fit_any_preprocessing(size: int, resize: int) -> None:
    assert check_pixels(Preprocessing(size=size, resize=resize), 1).shape == (1, size, size, 3)


def test_photos_of_a_folder_are_taken_and_broken_ones_passed_over(tmp_path: Path, drawn_birds: Dataset) -> None:
    preprocessing = Preprocessing(size=32, resize=40)
    for row in range(3):
        (tmp_path / f"{row}.jpg").write_bytes(drawn_birds.file(row).read_bytes())
    (tmp_path / "broken.jpg").write_text("no photo")
    taken = check_pixels(preprocessing, 10, tmp_path)
    expected = {load(drawn_birds.file(row), preprocessing).tobytes() for row in range(3)}
    assert {photo.tobytes() for photo in taken} == expected
    assert len(check_pixels(preprocessing, 2, tmp_path)) == 2
    (tmp_path / "list.csv").write_text("path\n0.jpg\nbroken.jpg\n2.jpg\n")
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        for name in ("0.jpg", "broken.jpg", "2.jpg"):
            archive.write(tmp_path / name, name)
    some = {load(drawn_birds.file(row), preprocessing).tobytes() for row in (0, 2)}
    for name in ("list.csv", "photos.zip"):
        assert {photo.tobytes() for photo in check_pixels(preprocessing, 10, tmp_path / name)} == some


def test_a_folder_without_photos_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_text("no photo")
    with pytest.raises(DataError, match=r"none of the 1 photos in .* can be read"):
        check_pixels(Preprocessing(), 10, tmp_path)
