"""What a network sees of a photo: `prepare` and `load`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from pydantic import ValidationError

from milvus_fghash.core.images import Preprocessing, prepare
from tests.helpers.image_bytes import noise


def torchvision_view(image: Image.Image, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    transforms = pytest.importorskip("torchvision.transforms")
    side = preprocessing.resize
    size: int | tuple[int, int] = (side, side) if preprocessing.resize_mode == "stretch" else side
    resize = transforms.Resize(size, transforms.InterpolationMode(preprocessing.interpolation))
    return np.asarray(transforms.CenterCrop(preprocessing.size)(resize(image)))


@settings(max_examples=40, deadline=None)
@given(
    width=st.integers(1, 150),
    height=st.integers(1, 150),
    sides=st.tuples(st.integers(8, 90), st.integers(8, 90)),
    mode=st.sampled_from(["shorter_side", "stretch"]),
    interpolation=st.sampled_from(["bilinear", "bicubic"]),
)
def test_same_pixels_as_torchvision(
    width: int, height: int, sides: tuple[int, int], mode: str, interpolation: str
) -> None:
    view = {"size": min(sides), "resize": max(sides), "resize_mode": mode, "interpolation": interpolation}
    preprocessing = Preprocessing.model_validate(view)
    image = noise(width, height)
    ours, theirs = prepare(image, preprocessing), torchvision_view(image, preprocessing)
    if mode == "stretch" or max(width, height) <= 8 * min(width, height):
        assert (ours == theirs).all()
    else:  # rounded differently between the directions; a shift by a pixel would differ by tens
        assert np.abs(ours.astype(int) - theirs).mean() < 3


def test_shorter_side_and_crop_by_hand() -> None:
    # 20 x 10, columns 10-19 white -> 16 x 8 -> the middle 8 columns, 4 to 11: white from column 8 on
    image = Image.new("RGB", (20, 10))
    image.paste("white", (10, 0, 20, 10))
    seen = prepare(image, Preprocessing(size=8, resize=8))
    assert seen.shape == (8, 8, 3)
    assert (seen[:, :3] == 0).all()
    assert (seen[:, 5:] == 255).all()


@pytest.mark.parametrize("turn", [False, True])
def test_a_long_thin_image_takes_little_memory(turn: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[int, int]] = []
    resize: Callable[..., Image.Image] = Image.Image.resize

    def watch(image: Image.Image, size: tuple[int, int], *args: object, **options: object) -> Image.Image:
        made.append(size)
        return resize(image, size, *args, **options)

    monkeypatch.setattr(Image.Image, "resize", watch)
    image = noise(1, 20_000)
    seen = prepare(image.transpose(Image.Transpose.ROTATE_90) if turn else image, Preprocessing())
    assert made == [(224, 224)]
    assert seen.shape == (224, 224, 3)


def test_prepared_pixels_are_ours_to_change() -> None:
    seen = prepare(noise(30, 30), Preprocessing(size=8, resize=9))
    assert seen.flags.c_contiguous
    assert seen.flags.writeable


def test_crop_larger_than_the_resized_photo_is_rejected() -> None:
    with pytest.raises(ValidationError, match="crop would not fit"):
        Preprocessing(size=224, resize=200)
