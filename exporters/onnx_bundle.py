"""Checkpoint -> bundle: `export` from disk, `export_method` from a method in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from milvus_fghash.bundle.bundle import Bundle, Description, LearnedCodes, fingerprint, reject_taken, write_bundle
from milvus_fghash.bundle.training_photos import TrainingPhotos
from milvus_fghash.core.code_length import check_bits
from milvus_fghash.core.codes import pack
from milvus_fghash.core.images import RULES, Preprocessing
from milvus_fghash.core.labels import number_labels
from milvus_fghash.embedding_models.join import opset_of
from milvus_fghash.errors import check_not_string
from milvus_fghash.exporters.check import Pixels, check
from milvus_fghash.exporters.graph import IR_VERSION, ExportedEncoder, output_names, to_onnx
from milvus_fghash.exporters.pixels import check_pixels
from milvus_fghash.methods.base import HashMethod
from milvus_fghash.training.checkpoint import Checkpoint, former_name, load_checkpoint
from milvus_fghash.training.onnx_trace import OPSET


@dataclass(frozen=True)
class Origin:
    """What a bundle records of a method besides the network; see `milvus_fghash.bundle.manifest.Description`.

    Attributes:
        method: its name in the table of methods.
        lineage: id of the training run, hexadecimal.
        preprocessing: from a photo to pixels.
        classes: number of classes it was trained on.
        training: record of the training.
        quality: measured quality by name.
        weights_licence: licence of the weights.
    """

    method: str
    lineage: str
    preprocessing: Preprocessing
    classes: int
    training: dict[str, Any]
    quality: dict[str, float]
    weights_licence: str


def export(
    checkpoint: str | Path,
    out: str | Path,
    *,
    outputs: Sequence[str] = (),
    opset: int = OPSET,
    ir_version: int = IR_VERSION,
    check_images: Path | None = None,
    check_count: int = 64,
    max_flip_rate: float = 1e-3,
    overwrite: bool = False,
    learned_codes: bool = True,
) -> Bundle:
    """Export a trained network as a bundle.

    The ONNX file is compared with the network before anything is written.

    Args:
        checkpoint: folder of a training, whose newest checkpoint is taken, or of a checkpoint.
        out: folder of the bundle.
        outputs: further outputs of the graph besides logits and codes: "embedding", "attention".
        opset: version of the ONNX operators; an ONNX file as backbone keeps its own.
        ir_version: ONNX IR version, 8 to 10; older ONNX Runtimes need an older one.
        check_images: folder, list or archive of photos to compare network and ONNX file on. Default: drawings.
        check_count: number of photos to compare on.
        max_flip_rate: largest allowed share of bits that differ, 0 to 1.
        overwrite: replace a bundle at ``out``.
        learned_codes: include the codes of the training photos that the method optimised, with ids and classes.

    Returns:
        The bundle, verified.

    Raises:
        BundleError: when ``out`` is taken, or the ONNX file does not give the network's codes.
        ConfigError: for an unknown output, or an IR version that cannot be written.
        DataError: when no photo of ``check_images`` can be read.
        MissingExtra: when a package that training or export needs is not installed.
        TrainingError: when the checkpoint cannot be read.

    Examples:
        >>> import milvus_fghash as fg
        >>> fg.export("runs/birds", "bundles/birds").manifest.bits  # doctest: +SKIP
        24
    """
    checkpoint, out = Path(checkpoint), Path(out)
    reject_taken(out, overwrite)
    output_names(check_not_string(outputs, "outputs"))
    loaded = load_checkpoint(checkpoint)
    return export_method(
        loaded.method,
        _origin(loaded),
        out,
        pixels=check_pixels(loaded.state.recipe.preprocessing, check_count, check_images),
        learned=_learned(loaded) if learned_codes else None,
        training_photos=loaded.training_photos(),
        outputs=outputs,
        opset=opset,
        ir_version=ir_version,
        max_flip_rate=max_flip_rate,
        overwrite=overwrite,
    )


def export_method(
    method: HashMethod,
    origin: Origin,
    out: Path,
    *,
    pixels: Pixels,
    learned: LearnedCodes | None = None,
    training_photos: TrainingPhotos | None = None,
    outputs: Sequence[str] = (),
    opset: int = OPSET,
    ir_version: int = IR_VERSION,
    max_flip_rate: float = 1e-3,
    overwrite: bool = False,
) -> Bundle:
    """Export a method in memory, which is not changed.

    Args:
        pixels: (n, size, size, 3) uint8 to compare network and ONNX file on.
        learned: codes of training photos that the method optimised.
        training_photos: which photos the method was trained on; None if unknown.

    Raises:
        BundleError: as `export`.
        ConfigError: as `export`.
    """
    reject_taken(out, overwrite)
    bits, backbone = check_bits(method.sizes.n_bits), method.backbone
    encoder = ExportedEncoder(method, output_names(outputs))
    graph = to_onnx(encoder, origin.preprocessing.size, opset, ir_version)
    agreement = check(encoder, graph, pixels, max_flip_rate)
    weights = {former_name(name): tensor.numpy() for name, tensor in encoder.method.state_dict().items()}
    description = Description(
        method=origin.method,
        lineage=origin.lineage,
        fingerprint=fingerprint(weights, origin.preprocessing, backbone.mean, backbone.std, bits),
        bits=bits,
        preprocessing=origin.preprocessing,
        rules=RULES,
        mean=backbone.mean,
        std=backbone.std,
        outputs=encoder.outputs,
        opset=opset_of(graph),
        classes=origin.classes,
        training=origin.training,
        quality=origin.quality,
        weights_licence=origin.weights_licence,
        flip_rate=agreement.flip_rate,
        largest_difference=agreement.largest_difference,
        bits_compared=agreement.bits_compared,
    )
    return write_bundle(out, graph, description, learned, training_photos, overwrite=overwrite)


def _origin(checkpoint: Checkpoint) -> Origin:
    return Origin(
        method=checkpoint.state.recipe.method.name,
        lineage=checkpoint.state.lineage,
        preprocessing=checkpoint.state.recipe.preprocessing,
        classes=len(checkpoint.state.classes),
        training=checkpoint.record,
        quality=_quality(checkpoint),
        weights_licence=checkpoint.state.weights_licence,
    )


def _quality(checkpoint: Checkpoint) -> dict[str, float]:
    """The last validation of the training, if there was one."""
    for record in reversed(checkpoint.state.history):
        if record.validation_map is not None:
            return {f"validation_map_{record.validation_gallery}": record.validation_map}
    return {}


def _learned(checkpoint: Checkpoint) -> LearnedCodes | None:
    numbers = number_labels(checkpoint.state.train_labels, checkpoint.state.classes)[0]
    signs = checkpoint.method.learned_codes(torch.from_numpy(numbers))
    if signs is None:
        return None
    codes = pack(signs.float().numpy())
    return LearnedCodes(
        checkpoint.state.train_ids, checkpoint.state.train_labels, codes, checkpoint.method.learned_source
    )
