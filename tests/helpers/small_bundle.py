"""The smallest real encoder: the mean colour of a photo times a random matrix, as an ONNX graph."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from milvus_fghash.bundle.bundle import Description, LearnedCodes, write_bundle
from milvus_fghash.bundle.training_photos import TrainingPhotos
from milvus_fghash.core.codes import Codes, code_bytes, pack
from milvus_fghash.core.images import RULES, Preprocessing

SIDE = 16


def directions(bits: int, seed: int) -> NDArray[np.float32]:
    """(3, bits): the small encoder's only weights."""
    return np.random.default_rng(seed).standard_normal((3, bits)).astype(np.float32)


def mean_colour_graph(bits: int, seed: int, outputs: Sequence[str], dirty: bool) -> bytes:
    """Mean colour of the photo less mid-grey, times a random matrix; ``dirty`` sets the spare bits, which is wrong."""
    n_bytes = code_bytes(bits)
    constants = {
        "grey": np.float32(127.5),
        "directions": directions(bits, seed),
        "zero": np.float32(0),
        "one": np.float32(1),
        "spare": np.array([0, 0, 0, n_bytes * 8 - bits]),
        "bytes": np.array([-1, n_bytes, 8]),
        "weights": (2.0 ** np.arange(7, -1, -1)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Cast", ["images"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels", "height_and_width"], ["colour"], keepdims=0),
        helper.make_node("Sub", ["colour", "grey"], ["embedding"]),
        helper.make_node("MatMul", ["embedding", "directions"], ["logits"]),
        helper.make_node("Greater", ["logits", "zero"], ["ones"]),
        helper.make_node("Cast", ["ones"], ["bits"], to=TensorProto.FLOAT),
        helper.make_node("Pad", ["bits", "spare", "one" if dirty else "zero"], ["padded"]),
        helper.make_node("Reshape", ["padded", "bytes"], ["octets"]),
        helper.make_node("MatMul", ["octets", "weights"], ["numbers"]),
        helper.make_node("Cast", ["numbers"], ["codes"], to=TensorProto.UINT8),
    ]
    constants["height_and_width"] = np.array([1, 2])
    types = {
        "logits": (TensorProto.FLOAT, bits),
        "codes": (TensorProto.UINT8, n_bytes),
        "embedding": (TensorProto.FLOAT, 3),
    }
    graph = helper.make_graph(
        nodes,
        "encoder",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["b", SIDE, SIDE, 3])],
        [helper.make_tensor_value_info(name, types[name][0], ["b", types[name][1]]) for name in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def write_small_bundle(
    path: Path,
    bits: int = 12,
    seed: int = 0,
    outputs: tuple[str, ...] = ("logits", "codes"),
    claimed_bits: int | None = None,
    claimed_size: int = SIDE,
    dirty: bool = False,
    learned: LearnedCodes | None = None,
    training_photos: TrainingPhotos | None = None,
) -> Path:
    """A bundle; ``claimed_bits`` and ``claimed_size`` let its manifest say something else than its graph does."""
    description = Description.model_validate(
        {
            "method": "baseline" if learned else "lsh",
            "lineage": "ab12",
            "fingerprint": f"{seed:064x}",
            "bits": claimed_bits or bits,
            "preprocessing": Preprocessing(size=claimed_size, resize=claimed_size),
            "rules": RULES,
            "mean": (0.5, 0.5, 0.5),
            "std": (1, 1, 1),
            "outputs": outputs,
            "opset": 18,
            "classes": 0,
            "training": {},
            "weights_licence": "CC0-1.0",
            "quality": {},
            "flip_rate": 0,
            "largest_difference": 0,
            "bits_compared": bits,
        }
    )
    write_bundle(path, mean_colour_graph(bits, seed, outputs, dirty), description, learned, training_photos)
    return path


def random_images(n: int, seed: int = 0) -> NDArray[np.uint8]:
    """Photos whose mean colours differ."""
    generator = np.random.default_rng(seed)
    noise = generator.integers(0, 40, (n, SIDE, SIDE, 3))
    return (noise + generator.integers(0, 215, (n, 1, 1, 3))).astype(np.uint8)


def reference(images: NDArray[np.uint8], bits: int, seed: int = 0) -> Codes:
    """What the small encoder's graph means, in NumPy."""
    return pack((images.mean(axis=(1, 2)) - 127.5) @ directions(bits, seed))
