"""Photos passed in memory, in all accepted types, and a dataset of a few of them."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from milvus_fghash.core.images import upright_rgb
from milvus_fghash.core.labels import join_labels
from milvus_fghash.core.masking import without_secrets
from milvus_fghash.datasets.dataset import Dataset
from milvus_fghash.datasets.sources.location import (
    LIST_PROTOCOLS,
    InMemory,
    InvalidSource,
    PhotoLocation,
    Source,
    Url,
    name_of,
    protocol_of,
)
from milvus_fghash.datasets.tables.columns import ExtraColumns, types_of
from milvus_fghash.errors import CodeError, ConfigError, DataError, FghashError, ImageRejected, nearest

T = TypeVar("T")
ImageLike = Path | str | Url | PhotoLocation | bytes | Image.Image | NDArray[np.uint8]
"""A path, a URL, a `PhotoLocation`, the bytes of a file, a Pillow image, or (h, w, 3) RGB pixels.

Files are decoded by all `RULES`. Images and pixels are used at full scale, while large JPEG files are decoded at a
reduced one, which may change a few bits of their codes.
"""


def to_source(image: ImageLike) -> Path | PhotoLocation | bytes | Image.Image:
    """The source of a photo, or the photo itself; pixels become a Pillow image.

    Raises:
        CodeError: when an array is not an RGB image, or the value is not an `ImageLike`.
    """
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
            raise CodeError(f"an image must be uint8 of shape (h, w, 3), got {image.dtype} of shape {image.shape}")
        return Image.fromarray(image)
    if isinstance(image, str) and not protocol_of(image):
        return Path(image)
    if isinstance(image, str | Url):
        url = image.full if isinstance(image, Url) else image
        try:
            return PhotoLocation(url, name_of(url))
        except ValueError as error:  # brackets, ports
            raise DataError(f"{without_secrets(url)} is not a valid URL: {error}") from None
    if isinstance(image, Path | PhotoLocation | bytes | Image.Image):
        return image
    raise CodeError(
        f"a photo must be a path, a URL, bytes, a Pillow image or an array of pixels, got {type(image).__name__}"
    )


def dataset_in_memory(
    photos: Mapping[str, ImageLike] | Mapping[Path, ImageLike],
    labels: Mapping[str, str | Sequence[str]],
    columns: Mapping[str, Mapping[str, object]],
    url: Url,
) -> Dataset:
    """A dataset in the order of ``photos``. Values that are no photos are included, and rejected when they are read.

    Args:
        photos: path -> photo.
        labels: path -> class name, or a list of labels, for photos that have one.
        columns: path -> name -> value of further columns.
        url: the namespace of these photos in the journal.

    Raises:
        ConfigError: for a path in ``labels`` or ``columns`` that is not in ``photos``, or photos without paths.
        DataError: when there is no photo.
    """
    if not isinstance(photos, Mapping):
        raise ConfigError(f"photos must be given as path -> photo, got {type(photos).__name__}")
    photos, labels, columns = _by_text(photos), _by_text(labels), _by_text(columns)
    for named in (labels, columns):
        for path in named:
            if path not in photos:
                raise ConfigError(f"{path!r} is not one of the photos. {nearest(path, photos)}")
    if not photos:
        raise DataError("there are no photos to add; give at least one, as path -> photo")
    for path, values_of in columns.items():
        if not isinstance(values_of, Mapping):
            raise DataError(f"the columns of {path!r} must be given as name -> value, got {type(values_of).__name__}")
        for name, value in values_of.items():
            if problem := _not_storable(value):
                raise DataError(
                    f"the column {name!r} of {path!r} {problem}; expected a text, a finite number, true, false or "
                    "None, or lists and objects of these"
                )
    texts = {path: _label(path, label) for path, label in labels.items()}
    paths = tuple(photos)
    names = list(dict.fromkeys(name for path in paths for name in columns.get(path, {})))
    values: dict[str, tuple[Any, ...]] = {
        name: tuple(_cell(columns.get(path, {}).get(name)) for path in paths) for name in names
    }
    return Dataset(
        root=Path(),
        ids=paths,
        paths=paths,
        labels=tuple(texts.get(path, "") for path in paths),
        splits=("",) * len(paths),
        sources=tuple(_readable_source(path, photo) for path, photo in photos.items()),
        url=url,
        extra_columns=ExtraColumns(values, types_of(values)),
    )


def _by_text(values: Mapping[Any, T]) -> dict[str, T]:
    """Paths as strings with slashes; a URL is named without its secrets, as in a list of photos."""

    def text(key: object) -> str:
        shown = key.as_posix() if isinstance(key, PurePath) else str(key)
        return name_of(shown) if protocol_of(shown) in LIST_PROTOCOLS else shown

    return {text(key): value for key, value in values.items()}


def _cell(value: object) -> object:
    """None for a missing value, also where NaN stands for it, as in lists of photos."""
    return None if isinstance(value, float) and math.isnan(value) else value


def _not_storable(value: object) -> str:
    """What is wrong with the value of a column; "" for one that JSON can hold."""

    def reject(part: object) -> object:
        raise TypeError(f"a value of type {type(part).__name__}")

    try:
        json.dumps(_cell(value), allow_nan=False, default=reject)
    except TypeError as error:  # also for keys of objects
        return f"contains {error}"
    except ValueError:
        return "contains a number that is not finite, or itself"
    except RecursionError:
        return "is nested too deeply"
    return ""


def _label(path: str, label: object) -> str:
    if isinstance(label, str):
        return label
    if isinstance(label, list | tuple) and all(isinstance(name, str) for name in label):
        return join_labels(label)
    raise DataError(f"the label of {path!r} must be a string or a list of strings, got {type(label).__name__}")


def _readable_source(path: str, image: ImageLike) -> Source:
    try:
        found = to_source(image)
        if isinstance(found, Image.Image):
            file = io.BytesIO()
            upright_rgb(found).save(file, "PNG", compress_level=1)  # lossless, and decoded like a file
            found = file.getvalue()
    except ImageRejected as error:
        return InvalidSource(path, "", error.reason, str(error))
    except FghashError as error:
        return InvalidSource(path, "", "format", str(error))
    return InMemory(found, path) if isinstance(found, bytes) else found
