"""Rows of a collection, stored by column, and checks of what Milvus can store."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from milvus_fghash.core.codes import Codes, check_codes, code_bytes, to_hex
from milvus_fghash.core.perceptual_hash import NO_HASH
from milvus_fghash.datasets.dataset import Dataset
from milvus_fghash.datasets.tables.columns import is_int64, own_id
from milvus_fghash.errors import CodeError, ConfigError, DataError, StoreError

MAX_BYTES = {"id": 64, "path": 4096, "label": 1024, "content_sha": 64, "meta": 65_536}
"""Maximum length of each text column in bytes of UTF-8, as Milvus counts; `meta` as JSON."""

CONTROL_CHARACTER: Final = re.compile(r"[\x00-\x1f\x7f]")
"""Not allowed in ids: Milvus Lite would not find the row again, and a file of ids has one per line."""
MAX_DEPTH: Final = 500
"""Nesting levels of `meta`. JSON parsers of Milvus and its clients fail at about 1,000."""
TOO_DEEP: Final = f"meta must be a JSON object of at most {MAX_DEPTH} levels; this one is nested deeper"

NINETEEN_DIGITS: Final = re.compile(r"\d{19}")
"""Matches every JSON text with an integer that Milvus cannot store, and few others."""

FieldValues = Mapping[str, Any]
"""Rows as Milvus takes them, column by column: field -> a sequence or an array with one value for each row."""


@dataclass(frozen=True)
class Row:
    """One photo of a collection.

    Attributes:
        id: primary key.
        code: (n_bytes,) uint8, the packed binary code.
        path: POSIX path relative to the folder of the photos.
        label: class name; "" without one. Of several labels, a text such as ``"|sky|water|"``; ``meta["labels"]`` has
            them as a list.
        content_sha: SHA-256 of the file, hexadecimal; "" if unknown.
        meta: further facts, such as the split and untyped columns of the dataset.
        columns: name -> value of the typed columns.

    Examples:
        ::

            for row in collection.get(["280d18b3cc8954798444bf0caeeae4cc"]):
                print(row.path, row.label, row.columns)
    """

    id: str
    code: NDArray[np.uint8]
    path: str
    label: str
    content_sha: str
    meta: Mapping[str, Any]
    columns: Mapping[str, Any]

    @property
    def own_id(self) -> str:
        """The id that the dataset gives the photo in its column ``id``; "" without one."""
        return own_id(self.meta)


@dataclass(frozen=True)
class Rows:
    """Photos of a collection, stored by column. Iterating gives one `Row` per photo.

    Attributes:
        ids: (n,) primary keys. `ingest` derives them from namespace and path.
        codes: (n, n_bytes) uint8, the packed binary codes.
        paths: (n,) POSIX paths relative to the folder of the photos.
        labels: (n,) class names; "" without one; of several labels, texts as in `Row`.
        content_shas: (n,) SHA-256 of the files, hexadecimal; "" if unknown.
        metas: (n,) further facts as JSON objects.
        columns: name -> (n,) values of the typed columns of the collection.
        phashes: (n,) perceptual hashes of the photos, as signed 64-bit integers; () if the collection stores none.

    Raises:
        StoreError: if the columns differ in length.

    Examples:
        ::

            codes = encoder.encode_files([Path("a.jpg"), Path("b.jpg")]).codes
            rows = Rows(("a", "b"), codes, ("a.jpg", "b.jpg"), ("robin", "jay"), ("", ""), ({}, {}))
            collection.upsert(rows)
    """

    ids: tuple[str, ...]
    codes: Codes
    paths: tuple[str, ...]
    labels: tuple[str, ...]
    content_shas: tuple[str, ...]
    metas: tuple[Mapping[str, Any], ...]
    columns: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    phashes: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        columns = [self.ids, self.codes, self.paths, self.labels, self.content_shas, self.metas, *self.columns.values()]
        columns += [self.phashes] if self.phashes else []
        if len({len(column) for column in columns}) != 1:
            raise StoreError(f"the columns of the rows differ in length: {[len(column) for column in columns]}")

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def phashes_or_unknown(self) -> tuple[int, ...]:
        """(n,) perceptual hashes; `NO_HASH` where there is none."""
        return self.phashes or (NO_HASH,) * len(self)

    def __getitem__(self, at: int) -> Row:
        return Row(
            self.ids[at],
            self.codes[at],
            self.paths[at],
            self.labels[at],
            self.content_shas[at],
            self.metas[at],
            {name: values[at] for name, values in self.columns.items()},
        )

    def __iter__(self) -> Iterator[Row]:
        return map(self.__getitem__, range(len(self)))

    def field_values(self, code_hex: bool, embeddings: NDArray[np.float32] | None, phash: bool = False) -> FieldValues:
        """The rows as one list of values per field, as Milvus takes them. Of rows with the same id, the last one is
        used.

        Args:
            code_hex: include the code as hexadecimal text.
            embeddings: (n, dim) embeddings to include, or None.
            phash: include the perceptual hashes.

        Returns:
            Name of the field -> its values.

        Raises:
            StoreError: if a text does not fit its column, or an id is invalid.
        """
        values: dict[str, Any] = {
            "id": check_ids(self.ids),
            "path": check_all_fit("path", self.paths),
            "label": check_all_fit("label", self.labels),
            "content_sha": check_all_fit("content_sha", self.content_shas),
            "meta": [dict(meta) for meta in check_metas(self.metas)],
            **self.columns,
            "code": [code.tobytes() for code in self.codes],
        }
        if code_hex:
            values["code_hex"] = to_hex(self.codes)
        if phash:
            values["phash"] = self.phashes_or_unknown
        if embeddings is not None:
            values["embedding"] = embeddings
        last = {key: at for at, key in enumerate(self.ids)}
        if len(last) == len(self):
            return values
        # Milvus may keep both rows if an upsert contains an id twice.
        return {name: [column[at] for at in last.values()] for name, column in values.items()}

    @staticmethod
    def of_dataset(
        dataset: Dataset,
        places: Sequence[int],
        ids: Sequence[str],
        codes: Codes,
        content_shas: Sequence[str],
        metas: Sequence[Mapping[str, Any]],
        phashes: Sequence[int],
    ) -> Rows:
        """Rows of encoded photos.

        Args:
            dataset: the photos; gives paths, labels and typed columns.
            places: (n,) positions of the encoded photos in the dataset.
            ids: (n,) ids of the rows.
            codes: (n, n_bytes) packed codes.
            content_shas: (n,) SHA-256 of the files.
            metas: (n,) values of ``meta``.
            phashes: (n,) perceptual hashes.

        Returns:
            The n rows.
        """
        return Rows(
            ids=tuple(ids),
            codes=codes,
            paths=tuple(dataset.paths[row] for row in places),
            labels=tuple(dataset.labels[row] for row in places),
            content_shas=tuple(content_shas),
            metas=tuple(metas),
            columns={
                name: tuple(values[row] for row in places) for name, values in dataset.extra_columns.typed.items()
            },
            phashes=tuple(phashes),
        )

    @staticmethod
    def from_records(
        found: Sequence[Mapping[str, Any]], n_bits: int, columns: Sequence[str] = (), phash: bool = False
    ) -> Rows:
        """Rows from the result of a query.

        Args:
            found: records of Milvus.
            n_bits: code length.
            columns: names of the typed columns.
            phash: whether the records contain perceptual hashes.

        Returns:
            One row per record.

        Raises:
            CodeError: if the length of a code is not ``n_bits``.
        """
        return Rows(
            ids=tuple(one["id"] for one in found),
            codes=read_codes(found, n_bits),
            paths=tuple(one["path"] for one in found),
            labels=tuple(one["label"] for one in found),
            content_shas=tuple(one["content_sha"] for one in found),
            metas=tuple(read_meta(one["meta"]) for one in found),
            columns={name: tuple(one[name] for one in found) for name in columns},
            phashes=tuple(one["phash"] for one in found) if phash else (),
        )

    @staticmethod
    def concatenate(parts: Sequence[Rows], n_bytes: int) -> Rows:
        """Join rows.

        Args:
            parts: rows with the same columns; may be empty.
            n_bytes: bytes per code, for an empty result.

        Returns:
            All rows, in order.
        """
        codes = np.concatenate([part.codes for part in parts]) if parts else np.zeros((0, n_bytes), np.uint8)
        return Rows(
            tuple(key for part in parts for key in part.ids),
            codes,
            tuple(path for part in parts for path in part.paths),
            tuple(label for part in parts for label in part.labels),
            tuple(sha for part in parts for sha in part.content_shas),
            tuple(meta for part in parts for meta in part.metas),
            {
                name: tuple(v for part in parts for v in part.columns[name])
                for name in (parts[0].columns if parts else ())
            },
            tuple(phash for part in parts for phash in part.phashes_or_unknown)
            if any(p.phashes for p in parts)
            else (),
        )


def by_field(records: Sequence[Mapping[str, Any]]) -> FieldValues:
    """The fields of rows that are given one by one, all with the same fields."""
    return {name: [one[name] for one in records] for name in (records[0] if records else ())}


def read_meta(value: object) -> Mapping[str, Any]:
    """`meta` from the result of a query; {} if another program wrote something other than a JSON object."""
    return value if isinstance(value, Mapping) else {}


def read_codes(found: Sequence[Mapping[str, Any]], n_bits: int) -> Codes:
    """(n, n_bytes) codes from the result of a query, where each is a list of one `bytes`.

    Raises:
        CodeError: if the length of a code is not ``n_bits``.
    """
    codes = np.frombuffer(b"".join(one["code"][0] for one in found), np.uint8)
    return check_codes(codes.reshape(-1, code_bytes(n_bits)), n_bits)


def photo_id(namespace: str, path: str) -> str:
    """The primary key of a photo: 128 bits of BLAKE2b over the namespace, a NUL and the POSIX path, hexadecimal.

    The path is relative to the folder of the photos, so the ids stay the same if the folder is moved.

    >>> photo_id("shop", "birds/001.jpg")
    '280d18b3cc8954798444bf0caeeae4cc'

    Raises:
        ConfigError: if the namespace contains a NUL, with which two photos could share an id, or is not valid Unicode.
    """
    if "\0" in namespace:
        raise ConfigError("a namespace must not contain a NUL character")
    try:
        key = f"{namespace}\0{path}".encode("utf-8", "surrogateescape")  # file names need not be UTF-8
    except UnicodeEncodeError:
        raise ConfigError(f"a namespace or path contains an incomplete character: {namespace!r}, {path!r}") from None
    return hashlib.blake2b(key, digest_size=16).hexdigest()


def is_utf8(text: str) -> bool:
    """Whether Milvus can store a text: file names and command arguments may have bytes that are not UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_fits(column: str, value: str) -> str:
    """Return ``value`` if the column can store it.

    Raises:
        StoreError: if it is too long, or not UTF-8.
    """
    if not is_utf8(value):
        raise StoreError(f"the {column} {value!r} is not valid UTF-8; rename the file")
    size = len(value.encode())
    if size > MAX_BYTES[column]:
        raise StoreError(f"the {column} {value[:40]!r}... has {size:,} bytes; the maximum is {MAX_BYTES[column]:,}")
    return value


def why_not_storable(dataset: Dataset, row: int, meta: Mapping[str, Any]) -> tuple[str, str] | None:
    """Reason and message for rejecting a photo whose row Milvus cannot store; None if it can."""
    reason = "name"
    try:
        dataset.check_path(row, "the name cannot be stored")
        check_fits("path", dataset.paths[row])
        check_fits("label", dataset.labels[row])
        reason = "meta"
        check_metas([meta])
    except (DataError, StoreError) as error:
        return reason, str(error)
    return None


def check_all_fit(column: str, texts: Sequence[str]) -> Sequence[str]:
    """`check_fits` of many texts, quick if all are short and ASCII."""
    if max(map(len, texts), default=0) > MAX_BYTES[column] or not "".join(texts).isascii():
        for text in texts:
            check_fits(column, text)
    return texts


def check_ids(ids: Sequence[str]) -> Sequence[str]:
    """Return ``ids`` if rows can be written and found by them.

    Raises:
        StoreError: names the first that is not a string, too long, not UTF-8, or contains a control character.
    """
    if wrong := next((key for key in ids if not isinstance(key, str)), None):
        raise StoreError(f"an id must be a string, got {wrong!r}")
    check_all_fit("id", ids)
    if CONTROL_CHARACTER.search("".join(ids)):
        odd = next(key for key in ids if CONTROL_CHARACTER.search(key))
        raise StoreError(f"the id {odd!r} contains a control character; Milvus Lite would not find its row again")
    return ids


def check_field_values(
    values: FieldValues, fields: Sequence[Mapping[str, Any]], n_bits: int, embedding_dim: int | None
) -> None:
    """Reject rows that Milvus would change or misread, and those that crash Milvus Lite.

    Args:
        fields: fields of the collection, as described by Milvus.

    Raises:
        CodeError: if a vector has another width: all are sent as one run of bytes, so the others would be shifted.
        StoreError: if a column is missing, an id is invalid, or an id occurs twice: Milvus may keep both rows.
    """
    optional = ("nullable", "default_value", "is_function_output")
    needed = {field["name"] for field in fields if not any(field.get(name) for name in optional)}
    if missing := sorted(needed - values.keys()):
        raise StoreError(f"the rows have no {', '.join(missing)}; each row needs one")
    if len({len(column) for column in values.values()}) != 1:
        raise StoreError(f"the columns of the rows differ in length: {_lengths(values)}")
    ids = check_ids(values["id"])
    if len(set(ids)) != len(ids):
        ((twice, _),) = Counter(ids).most_common(1)
        raise StoreError(f"the id {twice!r} occurs twice among rows that are written together; write it once")
    for name, kind in (("path", str), ("label", str), ("content_sha", str), ("meta", dict)):
        for key, value in zip(ids, values[name], strict=True):
            if not isinstance(value, kind):
                wanted = "a string" if kind is str else "a JSON object"
                raise StoreError(f"{name} of the row {key!r} is {type(value).__name__}; expected {wanted}")
    _check_widths(values, "code", code_bytes(n_bits), "bytes")
    if embedding_dim:
        _check_widths(values, "embedding", embedding_dim, "numbers")
    codes = np.frombuffer(b"".join(values["code"]), np.uint8)
    check_codes(codes.reshape(-1, code_bytes(n_bits)), n_bits)


def _lengths(values: FieldValues) -> str:
    return ", ".join(f"{name} {len(column)}" for name, column in values.items())


def _check_widths(values: FieldValues, name: str, width: int, unit: str) -> None:
    column = values[name]
    if isinstance(column, np.ndarray) and column.ndim == 2 and column.shape[1] == width:
        return
    for key, vector in zip(values["id"], column, strict=True):
        got = len(vector) if isinstance(vector, bytes if name == "code" else Sized) else None
        if got != width:
            found = f"{got} {unit}" if got is not None else f"no {unit}: {vector!r}"
            raise CodeError(f"the {name} of the row {key!r} has {found}; expected {width}")


def check_metas(metas: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """Return ``metas`` if each is a JSON object that the column can store.

    Raises:
        StoreError: otherwise.
    """
    _check_metas_fit(metas)
    for meta in metas:
        if not isinstance(meta, dict):
            raise StoreError(f"meta must be a JSON object, got {type(meta).__name__}")
        if _depth(meta) > MAX_DEPTH:
            raise StoreError(TOO_DEEP)
    return metas


def _check_metas_fit(metas: Sequence[Mapping[str, Any]]) -> None:
    try:
        together = json.dumps(metas, ensure_ascii=False, allow_nan=False)
        if NINETEEN_DIGITS.search(together):
            json.loads(together, parse_int=_int64)
    except RecursionError:
        raise StoreError(TOO_DEEP) from None
    except (TypeError, ValueError) as error:
        raise StoreError(f"meta must be a JSON object: {error}") from None
    if len(metas) == 1:
        check_fits("meta", together[1:-1])
    elif len(together) > MAX_BYTES["meta"] or not together.isascii():
        middle = len(metas) // 2
        _check_metas_fit(metas[:middle])
        _check_metas_fit(metas[middle:])


def _depth(value: Any) -> int:
    """Nesting levels of objects and lists, counted up to one more than `MAX_DEPTH`."""
    level, depth = [value], 0
    while depth <= MAX_DEPTH:
        level = [one for one in level if isinstance(one, dict | list | tuple)]
        if not level:
            break
        level = [inner for one in level for inner in (one.values() if isinstance(one, dict) else one)]
        depth += 1
    return depth


def _int64(digits: str) -> int:
    number = int(digits)
    if not is_int64(number):
        raise ValueError(f"the number {number} does not fit into 64 bits; store it as a string")
    return number
