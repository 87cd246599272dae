"""One encoder by two ways, a network of timm and an ONNX file: speed, equality of codes, quality of the floats.

    python benchmarks/encoders.py --data CUB_100 --network timm/tf_efficientnet_lite2 \
        --weights efficientnet_lite2_imagenet.safetensors --onnx efficientnet_lite2_imagenet.onnx \
        --photos 500 --repeats 5

Photos are resized to the whole input. The ways are torch, ONNX Runtime on the network that torch exported, and ONNX
Runtime on the file. Each batch is embedded by all of them in turn, so that a busy machine slows all of them, and so
many times as ``--repeats`` says. For each way the benchmark prints the photos per second of processor time, without
decoding and without preparing the model: the median of the repeats, and the median and range of its ratio to torch's.
Then the share of bits that differ from torch's, with a head of torch's features and with a head of each way's own, and
P@1 and mAP by cosine (gallery: train, queries: test).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from milvus_fghash.core.images import Preprocessing, load
from milvus_fghash.datasets.dataset import Dataset
from milvus_fghash.datasets.read import parse_location, read_dataset
from milvus_fghash.embedding_models.model import EmbeddingModel
from milvus_fghash.embedding_models.read import INPUT, OUTPUT, read_embedding_model
from milvus_fghash.evaluation.quality import float_quality
from milvus_fghash.methods.affine import AffineProjection, ItqConfig, LshConfig, fit_itq, fit_lsh
from milvus_fghash.methods.base import Backbone
from milvus_fghash.training.backbones import build_backbone
from milvus_fghash.training.onnx_trace import trace

Floats = NDArray[np.float32]
Embed = Callable[[Floats], Floats]

BATCH = 16
BITS = 128
HEADS: dict[str, Callable[[Floats], AffineProjection]] = {
    "lsh": lambda features: fit_lsh(features, BITS, LshConfig()),
    "itq": lambda features: fit_itq(features, BITS, ItqConfig(normalise=True)),
}


def batches(dataset: Dataset, preprocessing: Preprocessing, backbone: Backbone) -> Iterator[Floats]:
    """Normalised photos, (16, 3, h, w)."""
    for start in range(0, len(dataset), BATCH):
        rows = range(start, min(start + BATCH, len(dataset)))
        pixels = torch.from_numpy(np.stack([load(dataset.file(row), preprocessing) for row in rows]))
        yield backbone.normalise(pixels.permute(0, 3, 1, 2)).contiguous().numpy()


def ways(arguments: argparse.Namespace, backbone: Backbone) -> dict[str, Embed]:
    """Name -> how normalised photos are embedded."""
    in_order = backbone.to(memory_format=torch.channels_last)

    def by_torch(images: Floats) -> Floats:
        with torch.inference_mode():
            given = torch.from_numpy(images).contiguous(memory_format=torch.channels_last)
            return np.asarray(in_order(given).numpy())

    example = torch.zeros(2, 3, arguments.size, arguments.size)
    exported = trace(backbone, example, INPUT, [OUTPUT]).SerializeToString()
    threads = torch.get_num_threads()
    return {
        "torch": by_torch,
        "ONNX Runtime, exported": EmbeddingModel.open(exported, arguments.size, threads=threads).features,
        "ONNX Runtime, file": EmbeddingModel.open(read_embedding_model(arguments.onnx), threads=threads).features,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--network", required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--onnx", type=Path, required=True)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--photos", type=int, help="a random sample of so many; default: all")
    parser.add_argument("--repeats", type=int, default=1, help="how often each batch is embedded, to measure time")
    arguments = parser.parse_args()
    dataset = read_dataset(parse_location(arguments.data))
    if arguments.photos:
        dataset = dataset.take(np.sort(np.random.default_rng(0).permutation(len(dataset))[: arguments.photos]))
    backbone = build_backbone(arguments.network, str(arguments.weights)).eval()
    size = arguments.size
    preprocessing = Preprocessing(size=size, resize=size, resize_mode="stretch", interpolation="bicubic")
    embeds = ways(arguments, backbone)
    parts: dict[str, list[Floats]] = {name: [] for name in embeds}
    seconds = {name: np.zeros(arguments.repeats) for name in embeds}
    for images in batches(dataset, preprocessing, backbone):
        for repeat in range(arguments.repeats):
            for name, embed in embeds.items():
                started = time.process_time()
                found = embed(images)
                seconds[name][repeat] += time.process_time() - started
                if repeat == 0:
                    parts[name].append(found)
    features = {name: np.concatenate(part) for name, part in parts.items()}
    labels = dataset.label_numbers(dataset.classes)
    train = np.array([split == "train" for split in dataset.splits])
    reference = features["torch"]
    print(f"{len(dataset)} photos, threads: {torch.get_num_threads()}, repeats: {arguments.repeats}")
    for name, found in features.items():
        quality = float_quality(found[~train], labels[~train], found[train], labels[train])
        flips = {}
        for method, fitted in HEADS.items():
            expected = fitted(reference[train]).logits(reference) > 0
            flips[f"{method}, one head"] = np.mean((fitted(reference[train]).logits(found) > 0) != expected)
            flips[f"{method}, own head"] = np.mean((fitted(found[train]).logits(found) > 0) != expected)
        ratios = seconds["torch"] / seconds[name]
        print(
            f"{name}: {len(dataset) / np.median(seconds[name]):.1f} photos per processor second, "
            f"{np.median(ratios):.2f} times torch's ({ratios.min():.2f} to {ratios.max():.2f})"
        )
        difference = np.abs(found - reference).max() / np.abs(reference).max()
        print(f"  largest difference {difference:.1e} of the largest value")
        print("  bits that differ:", ", ".join(f"{which} {share:.5%}" for which, share in flips.items()))
        print(f"  cosine: P@1 {quality.precision_at_1:.3f}, mAP {quality.map:.3f}")


if __name__ == "__main__":
    main()
