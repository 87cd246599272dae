"""Write rows to Milvus, in place of those with the same ids, in messages of a size that Milvus accepts."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import grpc
import numpy as np

from milvus_fghash.errors import RowsTooLarge
from milvus_fghash.milvus.errors import is_too_large
from milvus_fghash.milvus.expressions import MAX_IDS_PER_CALL, id_is_one_of
from milvus_fghash.milvus.pymilvus_compat import DataType, MilvusClient, MilvusException, lower_calls
from milvus_fghash.milvus.rows import FieldValues

MAX_MESSAGE_BYTES: Final = 32 << 20
"""Bytes of the rows in one message. Milvus accepts 64 MB, unless it is configured otherwise."""
NUMBER_BYTES: Final = 10
"""Bytes of the largest number in a message."""
HEADER_BYTES: Final = 8
"""Most bytes before a value in a message."""


def replace_rows(
    client: MilvusClient,
    name: str,
    fields: Sequence[Mapping[str, Any]],
    values: FieldValues,
    upserts: bool,
    timeout: float | None,
) -> None:
    """Write rows, each id once.

    They are sent column by column, which costs pymilvus a fraction of the time that rows take (see
    ``benchmarks/sink.py``); Milvus receives the same message.

    Rows of more than `MAX_MESSAGE_BYTES` together are sent in parts. A part that is still too large is halved.

    Args:
        fields: fields of the collection, as Milvus described them when it was opened.
        values: the rows by field. A nullable field may be left out.
        upserts: whether upserted rows are found afterwards, see `Capabilities.keyed_upsert`. Otherwise rows are deleted
            and inserted: after a failure in between they are gone until the call is repeated.
        timeout: seconds for which pymilvus repeats a call that fails for any reason. None: no repetition, which would
            not help a Milvus Lite whose disk is full, and no limit: a process that ended is noticed.

    Raises:
        RowsTooLarge: if single rows are larger than a message to this Milvus may be; all others are written.
    """

    def send(part: FieldValues) -> None:
        _send(client, name, fields, part, upserts, timeout)

    parts = _parts(values, _count(values) if upserts else MAX_IDS_PER_CALL)
    if rejected := [key for part in parts for key in _send_halving(send, part)]:
        raise RowsTooLarge(
            f"{len(rejected):,} rows, such as {rejected[0]}, are larger than a message to this Milvus may be; all "
            "others are written",
            rejected,
        )


def _count(values: FieldValues) -> int:
    return max(map(len, values.values()), default=0)


def _take(values: FieldValues, start: int, end: int) -> FieldValues:
    return {name: column[start:end] for name, column in values.items()}


def _send_halving(send: Callable[[FieldValues], object], values: FieldValues) -> list[str]:
    """Send rows in one message, or in halves where that is too large; ids of the rows that are too large alone."""
    try:
        send(values)
    except (MilvusException, grpc.RpcError) as error:
        if not is_too_large(error):
            raise
        if (count := _count(values)) == 1:
            return [values["id"][0]]
        middle = count // 2
        return _send_halving(send, _take(values, 0, middle)) + _send_halving(send, _take(values, middle, count))
    return []


def _send(
    client: MilvusClient,
    name: str,
    fields: Sequence[Mapping[str, Any]],
    values: FieldValues,
    upserts: bool,
    timeout: float | None,
) -> None:
    if not values.keys() <= {field["name"] for field in fields}:  # fields added since: pymilvus reads the schema again
        rows = [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]
        client.upsert(name, rows, timeout=timeout)
        return
    calls, of_database = lower_calls(client)
    more = {"schema": {"fields": fields}, **of_database}
    once = {"retry_times": 0}  # which pymilvus heeds only without a time limit
    if upserts:
        calls.upsert(name, _entities(fields, values), **(once if timeout is None else {"timeout": timeout}), **more)
        return
    client.delete(name, filter=id_is_one_of(values["id"]), timeout=timeout)
    # A repeated insert whose answer was lost would add the rows twice. A server that is gone is noticed as well.
    calls.batch_insert(name, _entities(fields, values), **once, **more)


def _parts(values: FieldValues, most: int) -> Iterator[FieldValues]:
    """Runs of at most ``most`` rows, and of `MAX_MESSAGE_BYTES` unless a single row is larger."""
    count = _count(values)
    if count <= most and _size_bound(values) <= MAX_MESSAGE_BYTES:
        if count:
            yield values
        return
    start = size = 0
    for at, row in enumerate(zip(*values.values(), strict=True)):
        more = sum(map(_size, row))
        if at > start and (size + more > MAX_MESSAGE_BYTES or at - start >= most):
            yield _take(values, start, at)
            start, size = at, 0
        size += more
    yield _take(values, start, count)


def _size_bound(values: FieldValues) -> int:
    """An upper bound of the bytes of rows, computed quickly: a character of UTF-8 has at most four bytes."""
    total = 0
    for column in values.values():
        if isinstance(column, np.ndarray):
            total += HEADER_BYTES * len(column) + column.nbytes
        elif all(isinstance(one, str) for one in column):
            total += HEADER_BYTES * len(column) + 4 * sum(map(len, column))
        elif all(isinstance(one, dict) for one in column):
            total += HEADER_BYTES * len(column) + len(json.dumps(column))
        else:
            total += sum(map(_size, column))
    return total


def _size(value: Any) -> int:
    """Bytes of one value in a message, or somewhat more."""
    if isinstance(value, str):
        return HEADER_BYTES + (len(value) if value.isascii() else len(value.encode()))
    if isinstance(value, bytes):
        return HEADER_BYTES + len(value)
    if isinstance(value, np.ndarray):
        return HEADER_BYTES + value.nbytes
    if isinstance(value, dict | list):
        return HEADER_BYTES + len(json.dumps(value))
    return HEADER_BYTES + NUMBER_BYTES


def _entities(fields: Sequence[Mapping[str, Any]], values: FieldValues) -> list[dict[str, Any]]:
    """The columns as pymilvus takes them, without those that Milvus computes."""
    return [
        {"name": field["name"], "type": field["type"], "values": _listed(field, values.get(field["name"], ()))}
        for field in fields
        if not field.get("is_function_output")
    ]


def _listed(field: Mapping[str, Any], column: Any) -> list[Any]:
    if field["type"] == DataType.FLOAT_VECTOR:
        return np.asarray(column).tolist()  # type: ignore[no-any-return] # pymilvus is slow with numbers of NumPy
    return list(column)
