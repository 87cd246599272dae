"""Rows into Milvus, each in place of the one that had its id before, in messages that Milvus takes."""

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

Record = Mapping[str, Any]
LARGEST: Final = 32 << 20
"""Bytes of the rows in one message. Milvus takes 64 MB, unless it was set up otherwise."""
NUMBER: Final = 10
"""Bytes of the largest number in a message."""
HEAD: Final = 8
"""Bytes before a value in a message, at the most."""


def replace_rows(
    client: MilvusClient,
    name: str,
    fields: Sequence[Mapping[str, Any]],
    records: Sequence[Record],
    upserts: bool,
    timeout: float | None,
) -> None:
    """Write rows, each id once.

    They are sent column by column, which costs pymilvus a fraction of what sending them row by row does, as
    ``benchmarks/sink.py`` shows; Milvus gets the same.

    Rows that are more than `LARGEST` together are sent in parts, and a part that is too large all the same in halves.

    Args:
        fields: of the collection, as Milvus described them when it was opened.
        records: values by field, all of the same fields; one that may be null may be left out.
        upserts: whether rows that are upserted are found afterwards, see `Capabilities.keyed_upsert`. Else they are
            deleted and inserted: when that fails in between they are gone, and whoever repeats the call writes them.
        timeout: seconds in which pymilvus repeats what fails, whatever it is. None: nothing is repeated, which would be
            of no use to a Milvus Lite whose disk is full, and there is no limit: a process that ended is noticed.

    Raises:
        RowsTooLarge: when single rows are more than this Milvus takes in a message; all others are in.
    """

    def send(part: Sequence[Record]) -> None:
        _send(client, name, fields, part, upserts, timeout)

    parts = _parts(records, len(records) if upserts else MAX_IDS_PER_CALL)
    if rejected := [key for part in parts for key in _send_halving(send, part)]:
        raise RowsTooLarge(
            f"{len(rejected):,} rows, such as {rejected[0]}, are larger than a message that this Milvus takes; all "
            "others are in",
            rejected,
        )


def _send_halving(send: Callable[[Sequence[Record]], object], records: Sequence[Record]) -> list[str]:
    """Send rows in one message, or halves of them where that is too large; ids of the rows that are so alone."""
    try:
        send(records)
    except (MilvusException, grpc.RpcError) as error:
        if not is_too_large(error):
            raise
        if len(records) == 1:
            return [records[0]["id"]]
        middle = len(records) // 2
        return _send_halving(send, records[:middle]) + _send_halving(send, records[middle:])
    return []


def _send(
    client: MilvusClient,
    name: str,
    fields: Sequence[Mapping[str, Any]],
    records: Sequence[Record],
    upserts: bool,
    timeout: float | None,
) -> None:
    if not records[0].keys() <= {field["name"] for field in fields}:  # others have added some: pymilvus looks again
        client.upsert(name, [dict(one) for one in records], timeout=timeout)
        return
    calls, of_database = lower_calls(client)
    more = {"schema": {"fields": fields}, **of_database}
    once = {"retry_times": 0}  # which pymilvus heeds without a time limit alone
    if upserts:
        calls.upsert(name, _columns(fields, records), **(once if timeout is None else {"timeout": timeout}), **more)
        return
    client.delete(name, filter=id_is_one_of([one["id"] for one in records]), timeout=timeout)
    # What was repeated because its answer was lost would be there twice. A server that is gone is noticed as well.
    calls.batch_insert(name, _columns(fields, records), **once, **more)


def _parts(records: Sequence[Record], most: int) -> Iterator[Sequence[Record]]:
    """Rows in runs of at most ``most``, and of `LARGEST` bytes unless a single one is more."""
    if len(records) <= most and _at_most(records) <= LARGEST:
        if records:
            yield records
        return
    start = size = 0
    for at, record in enumerate(records):
        more = sum(map(_size, record.values()))
        if at > start and (size + more > LARGEST or at - start >= most):
            yield records[start:at]
            start, size = at, 0
        size += more
    yield records[start:]


def _at_most(records: Sequence[Record]) -> int:
    """Bytes that rows cannot exceed, quickly: a letter of UTF-8 has four bytes at the most."""
    total = 0
    for name in records[0] if records else ():
        values = [one[name] for one in records]
        if all(isinstance(one, str) for one in values):
            total += HEAD * len(values) + 4 * sum(map(len, values))
        elif all(isinstance(one, dict) for one in values):
            total += HEAD * len(values) + len(json.dumps(values))
        else:
            total += sum(map(_size, values))
    return total


def _size(value: Any) -> int:
    """Bytes of one value in a message, or somewhat more."""
    if isinstance(value, str):
        return HEAD + (len(value) if value.isascii() else len(value.encode()))
    if isinstance(value, bytes):
        return HEAD + len(value)
    if isinstance(value, np.ndarray):
        return HEAD + value.nbytes
    if isinstance(value, dict | list):
        return HEAD + len(json.dumps(value))
    return HEAD + NUMBER


def _columns(fields: Sequence[Mapping[str, Any]], records: Sequence[Record]) -> list[dict[str, Any]]:
    """What Milvus computes itself is left out."""
    return [
        {"name": field["name"], "type": field["type"], "values": _values(field, records)}
        for field in fields
        if not field.get("is_function_output")
    ]


def _values(field: Mapping[str, Any], records: Sequence[Record]) -> list[Any]:
    name = field["name"]
    if name not in records[0]:
        return []
    values = [one[name] for one in records]
    if field["type"] == DataType.FLOAT_VECTOR:
        return np.asarray(values).tolist()  # type: ignore[no-any-return] # pymilvus takes numbers of numpy one by one
    return values
