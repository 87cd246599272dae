"""`bundle.json`: the description of a model, and the fingerprint that identifies it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, model_validator

from milvus_fghash.bundle.training_photos import TrainingPhotosInfo
from milvus_fghash.core.code_length import MAX_BITS, MIN_BITS
from milvus_fghash.core.file_models import Frozen
from milvus_fghash.core.images import Preprocessing

FORMAT_VERSION = 1

Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class LearnedInfo(Frozen):
    """The manifest's description of `learned.npz`."""

    model_config = ConfigDict(use_attribute_docstrings=True)  # a test compares docs/bundle-format.md with them

    sha256: Sha256
    """SHA-256 of `learned.npz`."""
    count: Annotated[int, Field(gt=0)]
    """Number of codes in it."""
    source: str
    """Where the codes come from, such as "V" or "class codes"."""


class Description(Frozen):
    """Description of a model by its exporter; `write_bundle` adds the rest of the manifest."""

    model_config = ConfigDict(use_attribute_docstrings=True)  # a test compares docs/bundle-format.md with them

    method: str
    """Name of the method, such as "fcaenet"."""
    lineage: Annotated[str, Field(pattern="^[0-9a-f]+$")]
    """Id of the training run, hexadecimal. All checkpoints of one run share it."""
    fingerprint: Sha256
    """`fingerprint` of the weights, the preprocessing, the normalisation and the code length: the model's identity."""
    bits: Annotated[int, Field(ge=MIN_BITS, le=MAX_BITS)]
    """Length of a code, 8 to 1024. A code takes `ceil(bits / 8)` bytes; spare bits of the last byte are 0."""
    preprocessing: Preprocessing
    """From a decoded RGB photo to the input of the graph."""
    rules: dict[str, str]
    """How a photo file is decoded: EXIF orientation, alpha, grey, palette and so on, in words."""
    mean: tuple[Finite, Finite, Finite]
    """Red, green, blue; subtracted from pixels / 255 inside the graph."""
    std: tuple[Positive, Positive, Positive]
    """Red, green, blue; the difference is divided by it inside the graph."""
    outputs: tuple[Literal["logits", "codes", "embedding", "attention"], ...]
    """Outputs of the graph, in order; "logits" and "codes" always come first."""
    opset: Annotated[int, Field(gt=0)]
    """Version of the ONNX operators the graph uses."""
    classes: Annotated[int, Field(ge=0)]
    """Number of classes the model was trained on."""
    training: dict[str, Any]
    """Record of the training: recipe, seeds, data, losses."""
    weights_licence: str
    """Licence of the weights, with that of the pretrained weights they were trained from."""
    quality: dict[str, Finite]
    """Measured quality by name, such as validation mAP, 0 to 1."""
    flip_rate: Annotated[float, Field(ge=0, le=1)]
    """Share of bits that differ between the network and this graph, measured at export."""
    largest_difference: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    """Largest difference of a logit between the network and this graph, measured at export."""
    bits_compared: Annotated[int, Field(gt=0)]
    """Number of bits that both were measured on."""

    @model_validator(mode="after")
    def _logits_and_codes_are_there(self) -> Self:
        if self.outputs[:2] != ("logits", "codes") or len(set(self.outputs)) != len(self.outputs):
            raise ValueError("outputs must begin with logits, codes and have no name twice")
        return self


class BundleManifest(Description):
    """`bundle.json`."""

    format_version: Literal[1] = 1
    """Version of this format. A reader rejects a newer one."""
    made_by: str
    """Name and version of the program that wrote the bundle."""
    bit_order: Literal["big"] = "big"
    """The first bit of a code is the highest bit of byte 0."""
    graph_sha256: Sha256
    """SHA-256 of `encoder.onnx`."""
    learned: LearnedInfo | None = None
    """What `learned.npz` holds; null when the method learns no codes of its training photos."""
    training_photos: TrainingPhotosInfo | None = None
    """What `training-photos.bin` holds; null, or absent, when the training photos are unknown."""

    @model_validator(mode="before")
    @classmethod
    def _older_ones_decode_every_pixel(cls, values: Any) -> Any:
        """Bundles made before photos were decoded at a reduced scale have no `scale`."""
        preprocessing = values.get("preprocessing") if isinstance(values, dict) else None
        if isinstance(preprocessing, dict) and "scale" not in preprocessing:
            return {**values, "preprocessing": {**preprocessing, "scale": "whole"}}
        return values


def fingerprint(
    tensors: Mapping[str, NDArray[Any]],
    preprocessing: Preprocessing,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    bits: int,
) -> str:
    """SHA-256 over all that determines a code: weights by name, preprocessing, normalisation, code length.

    A `scale` of "whole" is left out, because older bundles have no `scale`.

    The order of `tensors` and the byte order of the machine do not matter. The digest covers one line of JSON, then,
    for each tensor in the order of names, one line of JSON and its little-endian values in C order.
    """
    digest = hashlib.sha256()

    def add_line(values: Any) -> None:
        digest.update(json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False).encode() + b"\n")

    described = preprocessing.model_dump(mode="json")
    if preprocessing.scale == "whole":  # as in bundles without it
        del described["scale"]
    add_line({"preprocessing": described, "mean": mean, "std": std, "bits": bits})
    for name in sorted(tensors):
        tensor = np.asarray(tensors[name])
        little = np.ascontiguousarray(tensor, tensor.dtype.newbyteorder("<"))
        add_line([name, little.dtype.str, tensor.shape])
        digest.update(little.tobytes())
    return digest.hexdigest()
