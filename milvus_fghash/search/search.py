"""Search by a photo, an id or a code: the nearest rows, ordered by distance and then by id."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, Final

from milvus_fghash.core.codes import Codes, check_codes, from_hex
from milvus_fghash.core.images import DEFAULT_LIMITS, Limits
from milvus_fghash.core.labels import split_labels
from milvus_fghash.datasets.tables.columns import own_id
from milvus_fghash.encoding.encoder import Encoder
from milvus_fghash.errors import ConfigError, StoreError
from milvus_fghash.milvus.collection import Consistency, HashCollection
from milvus_fghash.milvus.errors import TIMEOUT, milvus_call
from milvus_fghash.milvus.own_ids import ROW_ID, row_ids
from milvus_fghash.milvus.rows import read_meta

MAX_HITS: Final = 16_384
"""Limit of Milvus: rows returned for one query, and queries in one call."""
MAX_ROWS_PER_CALL: Final = 200_000
"""Rows returned for all queries of one call together, so that the response stays far below gRPC's 64 MB."""
HIT_FIELDS: Final = ["path", "label", "content_sha", "meta"]


@dataclass(frozen=True)
class Hit:
    """A row of the collection that a search found.

    Attributes:
        id: primary key of the row.
        distance: Hamming distance to the query: the number of bits in which the codes differ.
        path: path of the photo, relative to the folder it was ingested from.
        label: class of the photo; "" if it has none. Of a photo with several labels, all as one text: see `labels`.
        content_sha: SHA-256 of the photo's file, in hexadecimal digits; "" if it is not known.
        meta: values of the row's `meta` field.
        columns: values of the collection's typed columns.
        own_id: the row's own id, such as a SKU, from the list it was ingested from; "" if it has none.
    """

    id: str
    distance: int
    path: str
    label: str
    content_sha: str
    meta: Mapping[str, Any]
    columns: Mapping[str, Any] = field(default_factory=dict)
    own_id: str = ""

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels of the photo: one for a photo of one class, () without a class."""
        return split_labels(self.label)


@dataclass(frozen=True)
class SearchResult:
    """The hits of one query: a sequence of `Hit`.

    Attributes:
        hits: ordered by (distance, id).
        complete: every row nearer than the last hit, or as near, is among the hits. False if that is not certain.
        note: why hits may be missing, or "" where `complete` says enough.

    Examples:
        >>> result = SearchResult(hits=(), complete=True)
        >>> len(result), [hit.path for hit in result]
        (0, [])
    """

    hits: tuple[Hit, ...]
    complete: bool
    note: str = ""

    def __iter__(self) -> Iterator[Hit]:
        return iter(self.hits)

    def __len__(self) -> int:
        return len(self.hits)

    def __getitem__(self, index: int) -> Hit:
        return self.hits[index]

    @property
    def message(self) -> str:
        """A sentence without a full stop on hits that may be missing; "" if the result is complete."""
        return self.note or ("" if self.complete else "more rows may be at the same distance as the last one")


@dataclass(frozen=True)
class SearchParams:
    """Parameters of a search.

    Attributes:
        k: number of hits, 1 to 16,384.
        filter: Milvus expression such as ``label == "robin"``; "" searches all rows.
        max_distance: largest distance in bits, inclusive. None: no limit.
        complete_ties: return every row at the distance of the last hit, even if that gives more than ``k`` hits.
            Otherwise Milvus chooses which of them it returns.
        nprobe: number of BIN_IVF_FLAT clusters to search. None: Milvus' default, 8. With all clusters the search is
            exact.
        consistency: consistency level. None: that of the collection.

    Raises:
        ConfigError: when a number is out of range.

    Examples:
        >>> SearchParams(k=5, max_distance=4).k
        5
    """

    k: int = 10
    filter: str = ""
    max_distance: int | None = None
    complete_ties: bool = False
    nprobe: int | None = None
    consistency: Consistency | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.k <= MAX_HITS:
            raise ConfigError(f"k must be 1 to {MAX_HITS:,} (Milvus returns no more), got {self.k}")
        if self.max_distance is not None and self.max_distance < 0:
            raise ConfigError(f"the largest distance must be 0 or more, got {self.max_distance}")
        if self.nprobe is not None and self.nprobe < 1:
            raise ConfigError(f"nprobe must be 1 or more, got {self.nprobe}")


def search_file(
    collection: HashCollection,
    encoder: Encoder,
    source: Path | bytes,
    params: SearchParams = SearchParams(),
    limits: Limits = DEFAULT_LIMITS,
) -> SearchResult:
    """Search by a photo.

    Raises:
        ImageRejected: when the photo cannot be decoded.
        StoreError: when another model filled the collection, or Milvus rejects the search.
    """
    collection.check_model(encoder.bundle.manifest)
    return search_codes(collection, encoder.encode_image(source, limits), params)[0]


def search_id(
    collection: HashCollection, key: str, params: SearchParams = SearchParams(), namespace: str | None = None
) -> SearchResult:
    """Search by a row of the collection; the row itself is among the hits.

    Args:
        key: the row's primary key or its own id; see `row_ids`, also for ``namespace``.

    Raises:
        StoreError: when there is no such row, several rows have this own id, or Milvus rejects the search.
    """
    rows = collection.get([key] if ROW_ID.fullmatch(key) else [])
    rows = rows if len(rows) else collection.get(list(row_ids(collection, [key], namespace).values()))
    if not len(rows):
        inside = f" in the namespace {namespace!r}" if namespace else ""
        raise StoreError(f"the collection {collection.name} has no row with the id {key!r}{inside}")
    return search_codes(collection, rows.codes, params)[0]


def search_hex(collection: HashCollection, text: str, params: SearchParams = SearchParams()) -> SearchResult:
    """Search by a code in hexadecimal digits.

    Raises:
        CodeError: when the text is not a code of the collection's length.
        StoreError: when Milvus rejects the search.
    """
    return search_codes(collection, from_hex(text, collection.bits), params)[0]


def search_codes(collection: HashCollection, codes: Codes, params: SearchParams = SearchParams()) -> list[SearchResult]:
    """Search by codes, (n, n_bytes); one `SearchResult` each.

    Raises:
        CodeError: when the codes are of another length than the collection's.
        ConfigError: when nprobe does not fit the index, or the filter cannot be parsed.
        StoreError: when Milvus rejects the search.
    """
    codes = check_codes(codes, collection.bits)
    _check_nprobe(collection, params.nprobe)
    step = queries_per_call(params.k)
    results = []
    for start in range(0, len(codes), step):
        part = codes[start : start + step]
        for code, hits in zip(part, _search(collection, part, params), strict=True):
            results.append(_with_ties(collection, code[None], hits, params))
    return results


def _with_ties(collection: HashCollection, code: Codes, hits: tuple[Hit, ...], params: SearchParams) -> SearchResult:
    """The result of one query, with all rows at the distance of the last hit if ``params`` wants them."""
    exact = collection.nlist in (None, params.nprobe)
    if len(hits) < params.k:
        return SearchResult(hits, complete=exact)
    if not params.complete_ties:
        return SearchResult(hits, complete=False)
    last = hits[-1].distance
    (ties,) = _search(collection, code, replace(params, k=MAX_HITS, max_distance=last))
    if len(ties) == MAX_HITS:
        note = f"at least {MAX_HITS:,} rows are within distance {last}; Milvus returns no more, so some may be missing"
        return SearchResult(ties, complete=False, note=note)
    partial = f"the index searched only some of its {collection.nlist} clusters, so nearer rows may be missing"
    return SearchResult(ties, exact, note="" if exact else partial)


def ids_within(collection: HashCollection, codes: Codes, max_distance: int, k: int) -> list[list[str]]:
    """For each code, (n, n_bytes), the ids of at most ``k`` rows within ``max_distance`` bits; strongly consistent.

    Fewer than ``k`` ids are complete: all clusters of BIN_IVF_FLAT are searched. This is one call, for at most
    `queries_per_call` codes.

    Raises:
        StoreError: when Milvus rejects the search.
    """
    params = SearchParams(k, max_distance=max_distance, nprobe=collection.nlist, consistency="Strong")
    answers = _call_search(collection, codes, params, [])
    return [[one["id"] for one in answer if round(one["distance"]) <= max_distance] for answer in answers]


def queries_per_call(k: int) -> int:
    """How many codes one call may search for, with ``k`` hits each."""
    return max(1, min(MAX_HITS, MAX_ROWS_PER_CALL // k))


def photo_file(folder: Path, path: str) -> Path | None:
    """The photo file of a row; None for a path that leads out of the folder, since others may have written the row."""
    relative = PurePosixPath(path)
    if not path or relative.is_absolute() or ".." in relative.parts:
        return None
    return folder / relative


def _search(collection: HashCollection, codes: Codes, params: SearchParams) -> list[tuple[Hit, ...]]:
    answers = _call_search(collection, codes, params, [*HIT_FIELDS, *collection.column_names])
    return [_ordered(answer, params.max_distance, collection.column_names) for answer in answers]


def _call_search(collection: HashCollection, codes: Codes, params: SearchParams, fields: list[str]) -> Any:
    """One call: the hits of each code as Milvus returns them. With BIN_IVF_FLAT some may be beyond the distance."""
    parameters: dict[str, int] = {}
    if params.max_distance is not None and collection.nlist is None:
        parameters["radius"] = params.max_distance + 1  # Milvus' range is half-open: distance < radius
    # With BIN_IVF_FLAT a range search stops at the first clusters without a hit, whatever nprobe is (knowhere#454).
    # The nearest k, cut off at the distance, are the same rows and are found reliably.
    if params.nprobe is not None:
        parameters["nprobe"] = params.nprobe
    with collection.filtered(params.filter), milvus_call(f"cannot search in {collection.name}"):
        return collection.client.search(
            collection.name,
            data=[code.tobytes() for code in codes],
            anns_field="code",
            limit=params.k,
            filter=params.filter.strip(),
            output_fields=fields,
            search_params={"metric_type": "HAMMING", "params": parameters},
            consistency_level=params.consistency or collection.consistency,
            timeout=TIMEOUT,
        )


def _ordered(answer: Iterable[Mapping[str, Any]], within: int | None, columns: Sequence[str] = ()) -> tuple[Hit, ...]:
    hits = (_hit(found, columns) for found in answer if within is None or round(found["distance"]) <= within)
    return tuple(sorted(hits, key=lambda hit: (hit.distance, hit.id)))


def _hit(found: Mapping[str, Any], columns: Sequence[str]) -> Hit:
    entity = {**found["entity"], "meta": read_meta(found["entity"]["meta"])}
    return Hit(
        found["id"],
        round(found["distance"]),
        **{name: entity[name] for name in HIT_FIELDS},
        columns={name: entity[name] for name in columns},
        own_id=own_id(entity["meta"]),
    )


def _check_nprobe(collection: HashCollection, nprobe: int | None) -> None:
    if nprobe is None:
        return
    if collection.nlist is None:
        raise ConfigError(
            f"the index of {collection.name} is {collection.index}, which is exact: nprobe does not apply",
            setting="nprobe",
        )
    if nprobe > collection.nlist:
        raise ConfigError(
            f"nprobe must be at most {collection.nlist}, the nlist of {collection.name}; got {nprobe}", setting="nprobe"
        )
