"""Quality of floats and codes against plain loops, and the ceilings of a protocol."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from milvus_fghash.core.codes import pack
from milvus_fghash.errors import DataError
from milvus_fghash.evaluation import metrics
from milvus_fghash.evaluation.protocols import ProtocolOptions, protocol_splits
from milvus_fghash.evaluation.quality import Quality, code_quality, float_ceilings, float_quality, mean_quality


def by_loops(
    queries: NDArray[np.float32],
    query_labels: NDArray[np.int64],
    gallery: NDArray[np.float32],
    gallery_labels: NDArray[np.int64],
    own: dict[int, int],
) -> tuple[float, float, float, float]:
    """mAP, precision at 1 and 10, reach, from one sort of each query."""
    total, first, ten, reached = [], [], [], set()
    for query, vector in enumerate(queries):
        others = [row for row in range(len(gallery)) if own.get(query) != row]
        cosine = {
            row: float(vector @ gallery[row] / np.linalg.norm(vector) / np.linalg.norm(gallery[row])) for row in others
        }
        ranked = sorted(others, key=lambda row: -cosine[row])
        hits = [bool(gallery_labels[row] == query_labels[query]) for row in ranked]
        precisions = [sum(hits[: k + 1]) / (k + 1) for k, hit in enumerate(hits) if hit]
        total.append(sum(precisions) / len(precisions) if precisions else 0.0)
        first.append(float(hits[0]))
        ten.append(sum(hits[:10]) / 10)
        reached |= set(ranked[:10])
    return float(np.mean(total)), float(np.mean(first)), float(np.mean(ten)), len(reached) / len(gallery)


def figures(quality: Quality) -> tuple[float, float, float, float]:
    return quality.map, quality.precision_at_1, quality.precision_at_10, quality.reach


@pytest.mark.parametrize("n_gallery", [7, 60])
@pytest.mark.parametrize("block", [1, 200, 4_000_000])
def test_floats_are_the_plain_loops(n_gallery: int, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "PAIRS_PER_BLOCK", block)
    rng = np.random.default_rng(n_gallery)
    queries, gallery = (rng.standard_normal((n, 5)).astype(np.float32) for n in (12, n_gallery))
    query_labels, gallery_labels = rng.integers(0, 4, 12), rng.integers(-1, 3, n_gallery)
    found = float_quality(queries, query_labels, gallery, gallery_labels)
    assert figures(found) == pytest.approx(by_loops(queries, query_labels, gallery, gallery_labels, {}), abs=1e-6)
    own = np.array([3, -1, 0, 5, *[-1] * 8])
    gallery[[3, 0, 5]] = queries[[0, 2, 3]]
    found = float_quality(queries, query_labels, gallery, gallery_labels, own)
    expected = by_loops(queries, query_labels, gallery, gallery_labels, {0: 3, 2: 0, 3: 5})
    assert figures(found) == pytest.approx(expected, abs=1e-6)


def test_signs_as_floats_and_as_codes_have_the_same_figures() -> None:
    """The cosine of signs is 1 - 2 distance / bits, with all its ties; 16 bits make the cosines exact."""
    rng = np.random.default_rng(4)
    signs = np.where(rng.standard_normal((90, 16)) > 0, 1.0, -1.0)
    labels, own = rng.integers(0, 3, 90), np.arange(30)
    for own_rows in (None, own):
        codes = code_quality(pack(signs[:30]), labels[:30], pack(signs), labels, 16, own_rows)
        floats = float_quality(signs[:30], labels[:30], signs, labels, own_rows)
        assert figures(codes)[:3] == pytest.approx(figures(floats)[:3], abs=1e-9)


def test_ceilings_of_a_protocol() -> None:
    rng = np.random.default_rng(5)
    labels = [f"c{n % 6}" for n in range(180)]
    splits = ["train" if n // 6 % 3 else "test" for n in range(180)]
    centres = np.c_[np.eye(6) * 3, np.zeros((6, 14))]
    features = (
        centres[[int(label[1]) for label in labels]] + rng.standard_normal((180, 20)) * np.r_[[0.7] * 6, [3] * 14]
    )
    (split,) = protocol_splits("A", labels, splits)
    found = float_ceilings(features, labels, split)
    assert list(found) == ["raw", "lda, C - 1 axes", "lda, 256 axes"]
    assert found["raw"].map < 0.6 < 0.9 < found["lda, C - 1 axes"].map  # the noise is away from the classes' axes
    (split, _) = protocol_splits("D", labels, splits)
    assert list(float_ceilings(features, labels, split)) == ["raw"]
    (split,) = protocol_splits("B", labels, splits, ProtocolOptions(parts=1))
    assert float_ceilings(features, labels, split)["raw"].precision_at_1 < 1  # a photo does not find itself


def test_the_mean_of_parts() -> None:
    one = Quality(n_queries=3, n_gallery=5, map=0.2, precision_at_1=0.0, precision_at_10=0.4, reach=1.0)
    two = Quality(n_queries=3, n_gallery=5, map=0.4, precision_at_1=1.0, precision_at_10=0.4, reach=0.5)
    assert figures(mean_quality([one, two])) == pytest.approx((0.3, 0.5, 0.4, 0.75))


def test_bad_input_is_one_sentence() -> None:
    rows, labels = np.ones((2, 3)), np.array([0, 1])
    with pytest.raises(DataError, match="2 gallery features have 1 labels"):
        float_quality(rows, labels, rows, labels[:1])
    with pytest.raises(DataError, match="no query features"):
        float_quality(rows[:0], labels[:0], rows, labels)


def test_floats_of_photos_with_several_labels_rank_as_their_codes() -> None:
    rng = np.random.default_rng(4)
    bits = np.where(rng.random((40, 16)) < 0.5, 1.0, -1.0).astype(np.float32)  # cosines order them as distances do
    labels = rng.random((40, 3)) < 0.4
    own = np.arange(10)
    floats = float_quality(bits[:10], labels[:10], bits, labels, own)
    codes = code_quality(pack(bits[:10]), labels[:10], pack(bits), labels, 16, own)
    assert floats.map == pytest.approx(codes.map, abs=1e-9)
    assert floats.precision_at_10 == pytest.approx(codes.precision_at_10, abs=1e-9)
