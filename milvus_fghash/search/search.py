"""Code, id or photo -> the nearest rows, ordered by distance and then by id."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from milvus_fghash.core.codes import Codes, check_codes, from_hex
from milvus_fghash.core.images import DEFAULT_LIMITS, Limits
from milvus_fghash.datasets.tables.columns import own_id
from milvus_fghash.encoding.encoder import Encoder
from milvus_fghash.errors import ConfigError, StoreError
from milvus_fghash.milvus.collection import Consistency, HashCollection
from milvus_fghash.milvus.errors import TIMEOUT, milvus_call
from milvus_fghash.milvus.own_ids import ROW_ID, row_ids
from milvus_fghash.milvus.rows import read_meta

MAX_HITS: Final = 16_384
"""Most rows Milvus returns for one query, and most queries in one call."""
ROWS_PER_CALL: Final = 200_000
"""Rows one call may return for all its queries together, so that the answer stays far below gRPC's 64 MB."""
OUTPUT: Final = ["path", "label", "content_sha", "meta"]


@dataclass(frozen=True)
class Hit:
    """A row that was found."""

    id: str
    distance: int
    """Number of bits that differ."""
    path: str
    label: str
    content_sha: str
    meta: Mapping[str, Any]
    columns: Mapping[str, Any] = field(default_factory=dict)
    """Values of the collection's typed columns."""
    own_id: str = ""
    """The id that the list of photos gave it, see `own_ids`."""


@dataclass(frozen=True)
class SearchResult:
    """What one query gave.

    Attributes:
        hits: ordered by (distance, id).
        complete: no row that was left out is as near as the last hit. False also where that is not known.
        note: what the reader should know, or "".
    """

    hits: tuple[Hit, ...]
    complete: bool
    note: str = ""

    def __iter__(self) -> Iterator[Hit]:
        return iter(self.hits)

    def __len__(self) -> int:
        return len(self.hits)

    def __getitem__(self, place: int) -> Hit:
        return self.hits[place]

    @property
    def told(self) -> str:
        """The note; where there is none, whether hits may be missing."""
        missing = "" if self.complete else "rows as far away as the last one may be missing"
        return self.note or missing


@dataclass(frozen=True)
class SearchParams:
    """What to look for beside the code.

    Raises:
        ConfigError: when a number is out of range.
    """

    k: int = 10
    """Number of hits, 1 to 16,384."""
    filter: str = ""
    """Milvus expression such as ``label == "robin"``."""
    max_distance: int | None = None
    """Largest distance in bits, that distance included."""
    complete_ties: bool = False
    """Give all rows at the distance of the last hit, even beyond k. Else it is up to Milvus which of them it gives."""
    nprobe: int | None = None
    """Clusters of BIN_IVF_FLAT to look into; Milvus takes 8 if none is given. All of them: nothing is missed."""
    consistency: Consistency | None = None
    """None: the level of the collection."""

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
    wanted: SearchParams = SearchParams(),
    limits: Limits = DEFAULT_LIMITS,
) -> SearchResult:
    """Search by a photo.

    Raises:
        ImageRejected: when it cannot be decoded.
        StoreError: when another model filled the collection, or Milvus rejects.
    """
    collection.check_model(encoder.bundle.manifest)
    return search_codes(collection, encoder.encode_image(source, limits), wanted)[0]


def search_id(
    collection: HashCollection, key: str, wanted: SearchParams = SearchParams(), namespace: str | None = None
) -> SearchResult:
    """Search by a row that is in the collection; it finds itself too.

    Args:
        key: the row's id, or its own id; `row_ids` says which it is taken for, and what ``namespace`` is.

    Raises:
        StoreError: when there is no such row, several rows have the own id, or Milvus rejects.
    """
    rows = collection.get([key] if ROW_ID.fullmatch(key) else [])
    rows = rows if len(rows) else collection.get(list(row_ids(collection, [key], namespace).values()))
    if not len(rows):
        inside = f" in the namespace {namespace!r}" if namespace else ""
        raise StoreError(f"the collection {collection.name} has no row with the id {key!r}{inside}")
    return search_codes(collection, rows.codes, wanted)[0]


def search_hex(collection: HashCollection, text: str, wanted: SearchParams = SearchParams()) -> SearchResult:
    """Search by a code in hexadecimal digits.

    Raises:
        CodeError: when it is no code of the collection's length.
        StoreError: when Milvus rejects.
    """
    return search_codes(collection, from_hex(text, collection.bits), wanted)[0]


def search_codes(collection: HashCollection, codes: Codes, wanted: SearchParams = SearchParams()) -> list[SearchResult]:
    """Search by codes, (n, n_bytes); one `SearchResult` for each.

    Raises:
        CodeError: when the codes are of another length than the collection's.
        ConfigError: when nprobe does not fit the index, or the filter cannot be read.
        StoreError: when Milvus rejects.
    """
    codes = check_codes(codes, collection.bits)
    _check_nprobe(collection, wanted.nprobe)
    step = queries_a_call(wanted.k)
    found = []
    for start in range(0, len(codes), step):
        part = codes[start : start + step]
        for code, hits in zip(part, _ask(collection, part, wanted), strict=True):
            found.append(_complete(collection, code[None], hits, wanted))
    return found


def _complete(collection: HashCollection, code: Codes, hits: tuple[Hit, ...], wanted: SearchParams) -> SearchResult:
    exact = collection.nlist in (None, wanted.nprobe)
    if len(hits) < wanted.k:
        return SearchResult(hits, complete=exact)
    if not wanted.complete_ties:
        return SearchResult(hits, complete=False)
    last = hits[-1].distance
    (group,) = _ask(collection, code, replace(wanted, k=MAX_HITS, max_distance=last))
    if len(group) == MAX_HITS:
        note = f"at least {MAX_HITS:,} rows lie within distance {last}; Milvus returns no more, so some may be left out"
        return SearchResult(group, complete=False, note=note)
    note = "" if exact else f"{collection.index} looked into some clusters only; nprobe {collection.nlist} means all"
    return SearchResult(group, exact, note)


def ids_within(collection: HashCollection, codes: Codes, max_distance: int, k: int) -> list[list[str]]:
    """For each code, (n, n_bytes), the ids of at most ``k`` rows that differ in ``max_distance`` bits or fewer.

    Fewer than ``k`` are all there are: every cluster of BIN_IVF_FLAT is looked into. Reads what was just written. One
    call; n is at most `queries_a_call`.

    Raises:
        StoreError: when Milvus rejects.
    """
    wanted = SearchParams(k, max_distance=max_distance, nprobe=collection.nlist, consistency="Strong")
    answers = _answers(collection, codes, wanted, [])
    return [[one["id"] for one in answer if round(one["distance"]) <= max_distance] for answer in answers]


def queries_a_call(k: int) -> int:
    """How many codes one call may ask for, with ``k`` hits each."""
    return max(1, min(MAX_HITS, ROWS_PER_CALL // k))


def _ask(collection: HashCollection, codes: Codes, wanted: SearchParams) -> list[tuple[Hit, ...]]:
    answers = _answers(collection, codes, wanted, [*OUTPUT, *collection.column_names])
    return [_ordered(answer, wanted.max_distance, collection.column_names) for answer in answers]


def _answers(collection: HashCollection, codes: Codes, wanted: SearchParams, columns: list[str]) -> Any:
    """One call: for each code, hits as Milvus gives them. Over BIN_IVF_FLAT some may lie beyond the distance."""
    parameters: dict[str, int] = {}
    if wanted.max_distance is not None and collection.nlist is None:
        parameters["radius"] = wanted.max_distance + 1  # Milvus' range is half-open: distance < radius
    # Over BIN_IVF_FLAT a range search gives up at the first clusters without a hit, whatever nprobe says
    # (knowhere#454); the nearest k cut off at the distance are the same rows, found reliably.
    if wanted.nprobe is not None:
        parameters["nprobe"] = wanted.nprobe
    with collection.filtered(wanted.filter), milvus_call(f"cannot search in {collection.name}"):
        return collection.client.search(
            collection.name,
            data=[code.tobytes() for code in codes],
            anns_field="code",
            limit=wanted.k,
            filter=wanted.filter.strip(),
            output_fields=columns,
            search_params={"metric_type": "HAMMING", "params": parameters},
            consistency_level=wanted.consistency or collection.consistency,
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
        **{name: entity[name] for name in OUTPUT},
        columns={name: entity[name] for name in columns},
        own_id=own_id(entity["meta"]),
    )


def _check_nprobe(collection: HashCollection, nprobe: int | None) -> None:
    if nprobe is None:
        return
    if collection.nlist is None:
        raise ConfigError(f"the index of {collection.name} is {collection.index}, which is exact and takes no nprobe")
    if nprobe > collection.nlist:
        raise ConfigError(f"nprobe must be at most nlist, {collection.nlist} in {collection.name}; got {nprobe}")
