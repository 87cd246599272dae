"""Rows into Milvus, each in place of the one that had its id before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from milvus_fghash.serving.driver import MilvusClient, lower_calls
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
    ``benchmarks/sink.py`` shows; what arrives is the same.

    Args:
        fields: of the collection, as Milvus describes them.
        records: values by field; a field that may be null may be left out.
        upserts: whether rows that are upserted are found afterwards, see `Capabilities.keyed_upsert`. Else they are
            deleted and inserted: when that fails in between they are gone, and whoever repeats the call writes them.
    """
    if not records:
        return
    calls, of_database = lower_calls(client)
    columns, more = [_column(field, records) for field in fields], {"schema": {"fields": fields}, **of_database}
    if upserts:
        calls.upsert(name, columns, timeout=timeout, **more)
        return
    for start in range(0, len(records), IDS_A_CALL):
        ids = [one["id"] for one in records[start : start + IDS_A_CALL]]
        client.delete(name, filter=id_is_one_of(ids), timeout=timeout)
    # pymilvus repeats a call whose answer was lost, and the rows would be there twice. Only without a time limit it can
    # be told not to; a connection that is gone is noticed all the same.
    calls.batch_insert(name, columns, retry_times=0, **more)


def _column(field: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    name = field["name"]
    values = [one[name] for one in records] if name in records[0] else []
    return {"name": name, "type": field["type"], "values": values}
