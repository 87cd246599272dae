"""Measures the cost of a row in a Milvus server: bytes in memory and on disk, and the time of a search.

    python benchmarks/rows_in_milvus.py --rows 200000,1000000

Rows of the real schema (64-bit codes; id, path, label, content_sha, meta) are inserted into a collection, which is
loaded; what memory and files have grown by is divided by the rows. Searches: k = 10, one query, level Bounded, no
outputs, the median of many; BIN_IVF_FLAT with nlist = 4 x the root of the rows and nprobe = 1/16 of it, and the share
of the ten nearest distances of BIN_FLAT that it finds. The codes are drawn around few centres: how well BIN_IVF_FLAT
finds yours, measure on yours.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))  # the server of the integration tests

from integration_tests.milvus_server import RunningServer, running_server
from integration_tests.random_rows import manifest_of, random_rows
from milvus_fghash.milvus.collection import HashCollection
from milvus_fghash.milvus.connection import ConnectionConfig, connect
from milvus_fghash.milvus.errors import LOAD_TIMEOUT
from milvus_fghash.milvus.schema import IndexType
from tests.helpers.small_rows import records_of

BITS = 64
CHUNK = 10_000
QUERIES = 100


def fill(client: Any, count: int, index: IndexType, nlist: int) -> tuple[str, float]:
    """A loaded collection with so many rows, by insert; its name, and rows written per second."""
    collection = HashCollection.create(client, f"rows_{count}_{index}", manifest_of(BITS), index=index, nlist=nlist)
    seconds = 0.0
    for start in range(0, count, CHUNK):
        rows = random_rows(min(CHUNK, count - start), BITS, start, namespace=str(start))
        records = records_of(collection, rows)
        started = time.perf_counter()
        client.insert(collection.name, records)
        seconds += time.perf_counter() - started
    client.flush(collection.name)
    client.release_collection(collection.name)
    client.load_collection(collection.name, timeout=LOAD_TIMEOUT)
    assert collection.count() == count
    time.sleep(10)  # until the server has put its segments together
    return collection.name, count / seconds


def search(client: Any, name: str, nprobe: int) -> tuple[float, list[list[float]]]:
    """Median milliseconds of a query, and the distances found."""
    queries = random_rows(QUERIES, BITS, 0).codes
    milliseconds, found = [], []
    for query in queries:
        started = time.perf_counter()
        hits = client.search(
            name,
            [query.tobytes()],
            limit=10,
            search_params={"metric_type": "HAMMING", "params": {"nprobe": nprobe}},
            consistency_level="Bounded",
        )
        milliseconds.append(1000 * (time.perf_counter() - started))
        found.append([hit["distance"] for hit in hits[0]])
    return statistics.median(milliseconds), found


def measure(server: RunningServer, client: Any, counts: Sequence[int]) -> None:
    before = (server.memory, server.disk)
    head = ("rows", "rows/s by insert", "memory a row", "disk a row", "BIN_FLAT, ms", "BIN_IVF_FLAT, ms", "finds")
    print("| " + " | ".join(head) + " |\n" + "|---" * len(head) + "|")
    for count in counts:
        nlist = int(4 * count**0.5)
        name, speed = fill(client, count, "BIN_FLAT", nlist)
        after = (server.memory, server.disk)
        each = [(now - then) / count for now, then in zip(after, before, strict=True)]
        flat, exact = search(client, name, 1)
        client.release_collection(name)
        name, _ = fill(client, count, "BIN_IVF_FLAT", nlist)
        fast, found = search(client, name, max(1, nlist // 16))
        share = np.mean([[d <= best[-1] for d in some] for some, best in zip(found, exact, strict=True)])
        client.release_collection(name)
        before = (server.memory, server.disk)
        sizes = (f"{count:,}", f"{speed:,.0f}", *(f"{one:,.0f}" for one in each))
        print("| " + " | ".join((*sizes, f"{flat:.1f}", f"{fast:.1f}", f"{share:.1%}")) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="200000,1000000")
    counts = [int(count) for count in parser.parse_args().rows.split(",")]
    with running_server() as server, closing(connect(ConnectionConfig(server.uri))) as client:
        measure(server, client, counts)


if __name__ == "__main__":
    main()
