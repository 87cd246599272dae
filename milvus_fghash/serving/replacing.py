"""Rows into Milvus, each in place of the one that had its id before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from milvus_fghash.serving.driver import DataType, MilvusClient, lower_calls
from milvus_fghash.serving.expressions import IDS_A_CALL, id_is_one_of


def replace_rows(
    client: MilvusClient,
    name: str,
    fields: Sequence[Mapping[str, Any]],
    records: Sequence[Mapping[str, Any]],
    upserts: bool,
    timeout: float,
) -> None:
    """Write rows, each id once.

    They are sent column by column, which costs pymilvus a fraction of what sending them row by row does, as
    ``benchmarks/sink.py`` shows; Milvus gets the same.

    Args:
        fields: of the collection, as Milvus described them when it was opened.
        records: values by field, all of the same fields; one that may be null may be left out.
        upserts: whether rows that are upserted are found afterwards, see `Capabilities.keyed_upsert`. Else they are
            deleted and inserted: when that fails in between they are gone, and whoever repeats the call writes them.
    """
    if not records:
        return
    if not records[0].keys() <= {field["name"] for field in fields}:  # others have added some: pymilvus looks again
        client.upsert(name, [dict(one) for one in records], timeout=timeout)
        return
    calls, of_database = lower_calls(client)
    more = {"schema": {"fields": fields}, **of_database}
    if upserts:
        calls.upsert(name, _columns(fields, records), timeout=timeout, **more)
        return
    for start in range(0, len(records), IDS_A_CALL):
        part = records[start : start + IDS_A_CALL]
        client.delete(name, filter=id_is_one_of([one["id"] for one in part]), timeout=timeout)
        # pymilvus repeats a call whose answer was lost, and the rows would be there twice. Only without a time limit it
        # can be told not to; a connection that is gone is noticed all the same.
        calls.batch_insert(name, _columns(fields, part), retry_times=0, **more)


def _columns(fields: Sequence[Mapping[str, Any]], records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What Milvus computes itself is left out."""
    return [
        {"name": field["name"], "type": field["type"], "values": _values(field, records)}
        for field in fields
        if not field.get("is_function_output")
    ]


def _values(field: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> list[Any]:
    name = field["name"]
    if name not in records[0]:
        return []
    values = [one[name] for one in records]
    if field["type"] == DataType.FLOAT_VECTOR:
        return np.asarray(values).tolist()  # type: ignore[no-any-return] # pymilvus takes numbers of numpy one by one
    return values
