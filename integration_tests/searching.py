"""Searches by an alias without a pause, as long-running programs make them. A process of its own.

    python -m integration_tests.searching http://127.0.0.1:19530 birds BUNDLES

It searches in three ways by turns, prints a line when each has given something, goes on until its standard input
closes, and prints what came as JSON: for each way how many answers had how many rows, and what failed.

    raw        pymilvus by the alias, with a code; it fits while all versions have codes of one length
    following  a photo, in the collection and with the bundle that `AliasClient` names
    opening    the collection is opened anew by its alias, and searched for a code of its own length
"""

from __future__ import annotations

import json
import sys
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
from pymilvus import MilvusClient

from milvus_fghash.core.codes import code_bytes
from milvus_fghash.migration.alias_client import AliasClient
from milvus_fghash.milvus.collection import HashCollection
from milvus_fghash.milvus.connection import ConnectionConfig, connect
from milvus_fghash.search.search import SearchParams, search_codes, search_file

ALL = SearchParams(k=10_000)


def ways(client: MilvusClient, alias: str, bundles: Path, photo: Path, raw_bits: int) -> dict[str, Callable[[], int]]:
    """Each gives the number of rows that one search found."""
    following = AliasClient(client, alias, bundles)

    def raw() -> int:
        code = bytes(code_bytes(raw_bits))
        return len(client.search(alias, [code], limit=ALL.k, anns_field="code", timeout=10)[0])

    def follow() -> int:
        return len(search_file(*following.current(), photo, ALL).hits)

    def open_anew() -> int:
        collection = HashCollection.open(client, alias)
        code = np.zeros((1, code_bytes(collection.bits)), np.uint8)
        return len(search_codes(collection, code, ALL)[0].hits)

    others = {"following": follow, "opening": open_anew}
    return {"raw": raw, **others} if raw_bits else others


def search_until(stop: threading.Event, each: dict[str, Callable[[], int]]) -> dict[str, dict[str, int]]:
    """Way -> number of rows, or what failed -> how often."""
    seen: dict[str, Counter[str]] = {name: Counter() for name in each}
    while not stop.is_set():
        for name, search in each.items():
            try:
                seen[name][str(search())] += 1
            except Exception as error:
                seen[name][f"{type(error).__name__}: {error}"] += 1
        if sum(map(Counter.total, seen.values())) == len(each):
            print("searching", flush=True)
    return {name: dict(counts) for name, counts in seen.items()}


def main(uri: str, alias: str, bundles: str, photo: str, raw_bits: str) -> None:
    stop = threading.Event()

    def wait() -> None:
        sys.stdin.read()
        stop.set()

    threading.Thread(target=wait, daemon=True).start()
    with closing(connect(ConnectionConfig(uri))) as client:
        print(json.dumps(search_until(stop, ways(client, alias, Path(bundles), Path(photo), int(raw_bits)))))


if __name__ == "__main__":
    main(*sys.argv[1:])
