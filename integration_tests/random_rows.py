"""Rows and manifests for tests and benchmarks that need no photos."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from milvus_fghash.bundle.bundle import BundleManifest, read_bundle
from milvus_fghash.core.codes import pack
from milvus_fghash.milvus.rows import Rows, photo_id

BUNDLE = Path(__file__).resolve().parents[1] / "tests" / "golden" / "bundle-v1"


def manifest_of(bits: int) -> BundleManifest:
    return read_bundle(BUNDLE).manifest.model_copy(update={"bits": bits})


def random_rows(n: int, bits: int, seed: int = 0, namespace: str = "") -> Rows:
    """Codes around a few centres, so that there are near ones and far ones, and many ties."""
    generator = np.random.default_rng(seed)
    centres = generator.standard_normal((32, bits))
    codes = pack(centres[generator.integers(0, 32, n)] + generator.standard_normal((n, bits)))
    paths = tuple(f"class {number % 7}/{number}.jpg" for number in range(n))
    return Rows(
        ids=tuple(photo_id(namespace, path) for path in paths),
        codes=codes,
        paths=paths,
        labels=tuple(f"class {number % 7}" for number in range(n)),
        content_shas=("0" * 64,) * n,
        metas=tuple({"split": "test" if number % 3 else "train", "number": number} for number in range(n)),
    )
