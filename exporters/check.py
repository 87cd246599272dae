"""Compares the codes of an ONNX file with those of the network, before a bundle is written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from milvus_fghash.core.codes import Logits, pack
from milvus_fghash.core.onnx_runtime import load_runtime
from milvus_fghash.encoding.encoder import opposite_photos
from milvus_fghash.errors import BundleError

if TYPE_CHECKING:
    from milvus_fghash.exporters.graph import ExportedEncoder

Pixels = NDArray[np.uint8]

BATCH = 8
NEAR_ZERO = 1e-2
"""Share of the logits' root mean square below which rounding may decide a bit."""


@dataclass(frozen=True)
class Agreement:
    """Result of the comparison.

    Attributes:
        flip_rate: share of bits that differ.
        largest_difference: of a logit.
        bits_compared: number of bits; every photo is compared twice, alone and in a batch.
    """

    flip_rate: float
    largest_difference: float
    bits_compared: int


def check(encoder: ExportedEncoder, graph: bytes, pixels: Pixels, max_flip_rate: float) -> Agreement:
    """Compare the network with its ONNX file, the file run photo by photo and in batches.

    Args:
        pixels: (n, h, w, 3) uint8, as `milvus_fghash.core.images.prepare` gives them.

    Raises:
        BundleError: when more bits differ than allowed, or one whose logit is clearly not zero, or when the file
            packs bits in another way than `milvus_fghash.core.codes.pack`; when the network gives one output for all
            photos.
    """
    return check_logits(_run_network(encoder, pixels), graph, pixels, max_flip_rate)


def check_logits(expected: Logits, graph: bytes, pixels: Pixels, max_flip_rate: float) -> Agreement:
    """Compare logits, (n, n_bits), with those of an ONNX file for the same photos.

    Args:
        pixels: (n, h, w, 3) uint8.

    Raises:
        BundleError: as `check`.
    """
    pack(expected)  # rejects values that are not finite
    session = load_runtime().InferenceSession(graph, providers=["CPUExecutionProvider"])
    if np.array_equal(*_run_graph(session, opposite_photos(pixels.shape[1]), 2)):
        raise BundleError(
            "the network returns the same outputs for any photo, so its codes would be invalid; nothing was written. A "
            "frozen backbone needs trained weights, not backbone.weights = 'none'; with trained weights, train again "
            "with a lower training.learning_rate"
        )
    measured = np.concatenate([_run_graph(session, pixels, 1), _run_graph(session, pixels, BATCH)])
    return compare(np.concatenate([expected, expected]), measured, max_flip_rate)


def compare(expected: Logits, measured: Logits, max_flip_rate: float) -> Agreement:
    """Compare two runs' logits, (n, n_bits) each.

    Raises:
        BundleError: as `check`.
    """
    flipped = (expected > 0) != (measured > 0)
    agreement = Agreement(float(flipped.mean()), float(np.abs(expected - measured).max()), flipped.size)
    scale = float(np.sqrt(np.square(expected, dtype=np.float64).mean()))
    clear = flipped & (np.abs(expected) > NEAR_ZERO * scale)
    if clear.any():
        raise BundleError(
            f"{np.count_nonzero(clear)} of {flipped.size} bits differ between the network and its ONNX file though "
            f"the logit is not near zero (largest difference {agreement.largest_difference:.3g}, typical logit "
            f"{scale:.3g}); nothing was written. This is a bug: report it with the output of `milvus-fghash doctor`"
        )
    if agreement.flip_rate > max_flip_rate:
        raise BundleError(
            f"{agreement.flip_rate:.2%} of {flipped.size} bits differ between the network and its ONNX file, "
            f"{max_flip_rate:.2%} are allowed; nothing was written. All of these logits are near zero: train longer, "
            "or allow more"
        )
    return agreement


def _run_network(encoder: ExportedEncoder, pixels: Pixels) -> Logits:
    import torch

    with torch.inference_mode():
        return np.concatenate([encoder(torch.from_numpy(part))[0].numpy() for part in _parts(pixels, BATCH)])


def _run_graph(session: Any, pixels: Pixels, batch: int) -> Logits:
    """(n, n_bits), after checking that the graph's codes are these logits packed."""
    runs = [session.run(None, {"images": part}) for part in _parts(pixels, batch)]
    logits, codes, *further = (np.concatenate(parts) for parts in zip(*runs, strict=True))
    if codes.dtype != np.uint8 or not np.array_equal(codes, pack(logits)):
        raise BundleError("the ONNX file does not pack its bits as this project does; nothing was written")
    if not all(np.isfinite(values).all() for values in further):
        raise BundleError("a further output of the ONNX file holds values that are not finite; nothing was written")
    result: Logits = logits
    return result


def _parts(pixels: Pixels, size: int) -> Iterator[Pixels]:
    return (pixels[start : start + size] for start in range(0, len(pixels), size))
