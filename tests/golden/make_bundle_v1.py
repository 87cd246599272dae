"""Made `bundle-v1/` and `expected.json`, once. They stay as they are: every later version must read them.

Run again only to see how it was done: `python tests/golden/make_bundle_v1.py FOLDER`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from milvus_fghash.bundle.bundle import LearnedCodes
from milvus_fghash.core.codes import pack, to_hex
from milvus_fghash.core.images import Preprocessing
from milvus_fghash.exporters.graph import ExportedEncoder
from milvus_fghash.exporters.onnx_bundle import Origin, export_method
from milvus_fghash.methods.base import Backbone, LearnsNothing, Sizes

BITS, SIZE, FEATURES = 12, 32, 4


class SmallBackbone(Backbone):
    """Averages of 8 x 8 pixels, then one convolution: 4 features from 2 x 2 places, 52 weights."""

    n_features = FEATURES
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

    def __init__(self) -> None:
        super().__init__()
        self.shrink = nn.AvgPool2d(8)
        self.conv = nn.Conv2d(3, FEATURES, 2, stride=2)

    def maps(self, images: Tensor) -> Tensor:
        return torch.relu(self.conv(self.shrink(images)))


class SmallMethod(LearnsNothing):
    """A linear layer, with weights of plain arithmetic that no version of any library can change."""

    def __init__(self) -> None:
        super().__init__(SmallBackbone(), Sizes(n_bits=BITS, n_classes=3, n_train=5))
        self.head = nn.Linear(FEATURES, BITS)
        with torch.no_grad():
            for tensor in self.state_dict().values():
                tensor.copy_((torch.arange(tensor.numel()) * 37 % 23 - 11).view(tensor.shape) / 16)


def pixels() -> NDArray[np.uint8]:
    """(6, 32, 32, 3): four plain quarters a photo, each with a colour of its own."""
    photo, row, column, colour = np.ogrid[:6, :SIZE, :SIZE, :3]
    values = (row // 16 * 2 + column // 16 + 1) * (photo * 3 + 2) * (colour * 5 + 3) * 7
    return np.asarray(values % 256, np.uint8)


def main(folder: Path) -> None:
    method = SmallMethod()
    origin = Origin(
        method="lsh",
        lineage="0123456789abcdef",
        preprocessing=Preprocessing(size=SIZE, resize=40),
        classes=3,
        training={"rounds": 0},
        quality={"validation_map_encoded": 0.5},
        weights_licence="CC0-1.0",
    )
    learned_outputs = np.where(np.arange(5 * BITS).reshape(5, BITS) % 7 < 3, 1.0, -1.0)
    learned = LearnedCodes(
        ("a/1.jpg", "a/2.jpg", "b/1.jpg", "ü/1.jpg", "ü/鳥.jpg"), ("a", "a", "b", "ü", "ü"), pack(learned_outputs), "V"
    )
    further = ("embedding", "attention")
    bundle = export_method(method, origin, folder / "bundle-v1", pixels=pixels(), learned=learned, outputs=further)
    with torch.inference_mode():
        encoder = ExportedEncoder(method, bundle.manifest.outputs)
        logits, _, embedding, attention = (output.numpy() for output in encoder(torch.from_numpy(pixels())))
    expected = {
        "fingerprint": bundle.manifest.fingerprint,
        "codes": to_hex(pack(logits)),
        "smallest_logit": float(np.abs(logits).min()),
        "logits": logits.round(5).tolist(),
        "embedding": embedding.round(5).tolist(),
        "attention": attention.round(5).tolist(),
        "learned_ids": learned.ids,
        "learned_labels": learned.labels,
        "learned_codes": to_hex(learned.codes),
    }
    (folder / "expected.json").write_text(json.dumps(expected, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
