"""Two versions of one catalog beside each other: what the new one lacks, and how well each finds."""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from milvus_fghash.core.codes import Codes
from milvus_fghash.errors import StoreError
from milvus_fghash.evaluation.metrics import Histogram, average_precisions, distance_histogram, precision_at
from milvus_fghash.ingest.verify import SHOWN
from milvus_fghash.milvus.collection import HashCollection
from milvus_fghash.milvus.expressions import MAX_IDS_PER_CALL
from milvus_fghash.milvus.rows import Rows, read_meta

PLACES: Final = (1, 10)
"""The k of the precision@k."""
STANDARD_ERRORS: Final = 1.96
"""Of the mean difference, on either side: 95 of 100 samples hold the difference of the whole catalog."""


@dataclass(frozen=True)
class MissingRows:
    """Rows of the old version whose ids the new one does not have.

    Attributes:
        count: how many.
        examples: paths of the first ones.
        namespaces: namespace -> how many; "" where a row has none.
        unlike: rows of both whose content is another: the photo changed since it was read for one of them.
    """

    count: int
    examples: tuple[str, ...]
    namespaces: Mapping[str, int]
    unlike: int


@dataclass(frozen=True)
class Quality:
    """How well the codes of one version find photos of the same class. Exact expectations over ties."""

    fingerprint: str
    bits: int
    map_exact: float
    precision_at: Mapping[int, float]


@dataclass(frozen=True)
class Comparison:
    """Both versions on the same photos: each asks, and all others are searched.

    Attributes:
        photos: labelled photos in the sample, no two of one content, and none alone in its class.
        classes: how many they are of.
        difference: mean average precision of the new version less that of the old one.
        uncertainty: half the width of the 95 % interval of that difference, over the photos that ask.
    """

    photos: int
    classes: int
    old: Quality
    new: Quality
    difference: float
    uncertainty: float


@dataclass(frozen=True)
class Differences:
    """What one reading of the old version gave.

    Attributes:
        drawn: ids of labelled rows that both versions have.
    """

    missing: MissingRows
    drawn: tuple[str, ...]


def look(old: HashCollection, new: HashCollection, sample: int = 0, split: str = "", seed: int = 0) -> Differences:
    """Read the old version, and look each of its rows up in the new one. Reads what was just written.

    Args:
        sample: labelled rows to draw; the same ones whatever order Milvus reads in.
        split: draw only rows that ``meta`` says are of this split; "" draws from all.

    Raises:
        StoreError: when Milvus rejects.
    """
    examples: list[str] = []
    namespaces: Counter[str] = Counter()
    unlike = 0
    drawn: list[tuple[int, str]] = []  # a heap, its top the first to go
    for page in old.pages(["id", "path", "label", "content_sha", "meta"], MAX_IDS_PER_CALL):
        sha_of = _shas(new, [row["id"] for row in page])
        for row in page:
            key, meta = row["id"], read_meta(row["meta"])
            if key not in sha_of:
                namespaces[str(meta.get("namespace", ""))] += 1
                examples = sorted([*examples, row["path"]])[:SHOWN]
                continue
            unlike += sha_of[key] != row["content_sha"]
            if row["label"] and sample and meta.get("split", "") == (split or meta.get("split", "")):
                _draw(drawn, key, sample, seed)
    missing = MissingRows(namespaces.total(), tuple(examples), dict(sorted(namespaces.items())), unlike)
    return Differences(missing, tuple(sorted(key for _, key in drawn)))


def compare(old: HashCollection, new: HashCollection, ids: tuple[str, ...]) -> Comparison | str:
    """How well each version finds on the rows with these ids, or why that cannot be said. Labels are the new one's.

    Raises:
        StoreError: when a row is gone meanwhile, or Milvus rejects.
    """
    if not ids:
        return "no row that both have has a label"
    rows = _one_of_each_content(_read(new, ids))
    in_class = Counter(rows[row].label for row in rows)
    kept = [key for key, row in rows.items() if in_class[row.label] > 1]
    if not kept:
        return "no two photos of the sample are of one class"
    labels = np.unique([rows[key].label for key in kept], return_inverse=True)[1]
    of_old = _read(old, tuple(kept))
    histograms = [
        _without_itself(np.stack([each[key].code for key in kept]), labels, collection.bits)
        for collection, each in ((old, of_old), (new, rows))
    ]
    precisions = [average_precisions(one) for one in histograms]
    difference = precisions[1] - precisions[0]
    error = float(difference.std(ddof=1)) / len(kept) ** 0.5
    first, second = (
        Quality(
            collection.metadata.fingerprint,
            collection.bits,
            float(own.mean()),
            {k: precision_at(histogram, k) for k in PLACES if k < len(kept)},
        )
        for collection, histogram, own in zip((old, new), histograms, precisions, strict=True)
    )
    return Comparison(len(kept), len(set(labels)), first, second, float(difference.mean()), STANDARD_ERRORS * error)


@dataclass(frozen=True)
class _Row:
    label: str
    content_sha: str
    code: Codes


def _shas(collection: HashCollection, ids: list[str]) -> dict[str, str]:
    """Id -> content_sha, of those that are there. Who reads at once may miss one; only those are waited for."""
    found = collection.query_by_id(ids, ["id", "content_sha"], "Bounded")
    there = {row["id"] for row in found}
    found += collection.query_by_id([key for key in ids if key not in there], ["id", "content_sha"])
    return {row["id"]: row["content_sha"] for row in found}


def _draw(drawn: list[tuple[int, str]], key: str, sample: int, seed: int) -> None:
    """Keep the ids with the smallest digests, ``sample`` at the most."""
    digest = int.from_bytes(hashlib.blake2b(f"{seed} {key}".encode(), digest_size=8).digest())
    if len(drawn) < sample:
        heapq.heappush(drawn, (-digest, key))
    else:
        heapq.heappushpop(drawn, (-digest, key))


def _read(collection: HashCollection, ids: tuple[str, ...]) -> dict[str, _Row]:
    found = {row_id: row for part in _pages(collection, ids) for row_id, row in _by_id(part)}
    if gone := [key for key in ids if key not in found]:
        raise StoreError(f"the row {gone[0]} of {collection.name} is gone meanwhile; try again when nothing is deleted")
    return found


def _pages(collection: HashCollection, ids: tuple[str, ...]) -> Iterator[Rows]:
    for start in range(0, len(ids), MAX_IDS_PER_CALL):
        yield collection.get(ids[start : start + MAX_IDS_PER_CALL])


def _by_id(rows: Rows) -> Iterator[tuple[str, _Row]]:
    for key, label, sha, code in zip(rows.ids, rows.labels, rows.content_shas, rows.codes, strict=True):
        yield key, _Row(label, sha, code)


def _one_of_each_content(rows: Mapping[str, _Row]) -> dict[str, _Row]:
    """A second row of one file would be found at distance 0, whatever the model."""
    first = {row.content_sha or key: key for key, row in reversed(list(rows.items()))}
    return {key: rows[key] for key in sorted(first.values())}


def _without_itself(codes: Codes, labels: Any, bits: int) -> Histogram:
    """Each code asks, and all but itself is searched."""
    histogram = distance_histogram(codes, labels, codes, labels, bits)
    histogram.counts[:, 0] -= 1
    histogram.hits[:, 0] -= 1
    return histogram
