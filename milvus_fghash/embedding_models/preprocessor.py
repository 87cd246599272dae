"""`preprocessor_config.json`, as transformers writes it beside a model: from a photo to the input of the network."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from milvus_fghash.core.bounded_file import MAX_RECORD_BYTES, read_bounded
from milvus_fghash.core.images import Preprocessing
from milvus_fghash.core.text_file import parse_json
from milvus_fghash.errors import ConfigError, one_line

FILE: Final = "preprocessor_config.json"
INTERPOLATIONS: Final = {2: "bilinear", 3: "bicubic"}
"""Pillow's numbers of its filters -> their names here."""

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class ModelInput:
    """How photos are prepared for a network.

    Attributes:
        preprocessing: size, crop and interpolation.
        mean: of each channel, subtracted from RGB pixels in [0, 1].
        std: of each channel; the difference is divided by it.
    """

    preprocessing: Preprocessing
    mean: Triple
    std: Triple


def find_preprocessor(model: Path) -> Path | None:
    """The `preprocessor_config.json` of a model: beside it, or one folder above, as in repositories on the hub."""
    places = (folder / FILE for folder in (model.absolute().parent, model.absolute().parent.parent))
    return next((place for place in places if place.is_file()), None)


def read_preprocessor(path: Path) -> ModelInput:
    """Read a `preprocessor_config.json`.

    Raises:
        ConfigError: when it cannot be read, or prepares photos in a way that is not supported.
    """
    try:
        values = parse_json(read_bounded(path, MAX_RECORD_BYTES))
        if not isinstance(values, Mapping):
            raise ValueError("it holds no JSON object")
        return _model_input(values)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}. Check the path", setting="preprocessor") from None
    except (ValueError, TypeError, KeyError, ValidationError) as error:
        raise ConfigError(
            f"{path} cannot be used: {one_line(error)}. Give size, resize, mean and std instead", setting="preprocessor"
        ) from None


def _model_input(values: Mapping[str, Any]) -> ModelInput:
    resize, stretch = _resize(values)
    size = resize
    if values.get("do_center_crop", "crop_size" in values):
        height, width = _sides(values["crop_size"])
        if height != width:
            raise ValueError(f"it crops photos to {width} x {height} pixels, and only squares are supported")
        size = height
    elif isinstance(crop := values.get("crop_pct"), float) and not stretch:
        resize = math.floor(size / crop)
    resample = values.get("resample", 2)
    if resample not in INTERPOLATIONS:
        raise ValueError(f"resample is {resample}, and only 2 (bilinear) and 3 (bicubic) are supported")
    scale = values.get("rescale_factor", 1 / 255) if values.get("do_rescale", True) else 1.0
    mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    if values.get("do_normalize", True):
        mean, std = triple(values["image_mean"]), triple(values["image_std"])
    factor = 255 * scale  # the network gets (pixel * scale - mean) / std
    preprocessing = Preprocessing.model_validate(
        {
            "size": size,
            "resize": resize,
            "resize_mode": "stretch" if stretch else "shorter_side",
            "interpolation": INTERPOLATIONS[resample],
        }
    )
    return ModelInput(preprocessing, triple([m / factor for m in mean]), triple([s / factor for s in std]))


def _resize(values: Mapping[str, Any]) -> tuple[int, bool]:
    """Length of the shorter side after resizing, and whether both sides get it."""
    if not values.get("do_resize", True):
        raise ValueError("it does not resize photos, and the network takes one size")
    size = values["size"]
    if isinstance(size, Mapping) and "shortest_edge" in size:
        return int(size["shortest_edge"]), False
    if isinstance(size, int) and values.get("do_center_crop"):  # as older versions of transformers wrote it
        return size, False
    height, width = _sides(size)
    if height != width:
        raise ValueError(f"it resizes photos to {width} x {height} pixels, and only squares are supported")
    return height, True


def _sides(size: Any) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (int(size["height"]), int(size["width"]))


def triple(values: Any) -> Triple:
    """Three finite numbers, one for each channel; a single number counts for all.

    Raises:
        ValueError: for anything else.
    """
    numbers = [float(one) for one in (values if isinstance(values, list | tuple) else [values] * 3)]
    if len(numbers) != 3 or not all(map(math.isfinite, numbers)):
        raise ValueError(f"mean and std are three numbers, got {values}")
    red, green, blue = numbers
    return red, green, blue
