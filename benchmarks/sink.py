"""Compares the writer of an ingest (checks, conversion, journal) with the bare Milvus call.

    python benchmarks/sink.py --out DIR --rows 1000000

Ready rows of the real schema with 64-bit codes go into new collections of one Milvus server (started for this, unless
--uri names one), upserted in batches of 1,000: as `ingest` hands them over (`Writer`: checks, values, the journal after
each answer), and by `MilvusClient.upsert` on values that are ready. In turn, `--repeats` times; figures are medians.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))  # the server of the integration tests

from integration_tests.milvus_server import milvus_server
from integration_tests.random_rows import manifest_of, random_rows
from milvus_fghash.ingest.writer import Batch, Writer
from milvus_fghash.milvus.collection import HashCollection
from milvus_fghash.milvus.connection import ConnectionConfig, connect
from milvus_fghash.milvus.errors import TIMEOUT
from milvus_fghash.milvus.retry import RetryPolicy
from milvus_fghash.milvus.rows import Rows
from milvus_fghash.state.journal import Journal, JournalEntry
from tests.helpers.small_rows import records_of

BITS = 64
ROWS = 1000
CHUNK = 50_000
"""Rows that are made ready off the clock: a million of them would not fit beside a server."""


def chunks(count: int) -> Iterator[list[Rows]]:
    """Rows in batches, `CHUNK` of them at a time."""
    for first in range(0, count, CHUNK):
        starts = range(first, min(first + CHUNK, count), ROWS)
        yield [random_rows(min(ROWS, count - start), BITS, start, namespace=str(start)) for start in starts]


def ours(collection: HashCollection, count: int, folder: Path) -> float:
    seconds = 0.0
    with closing(Journal.open(folder / collection.name, collection.uid)) as journal:
        for batches in chunks(count):
            ready = [Batch(rows, None, entries(rows)) for rows in batches]
            started = time.perf_counter()
            with Writer(collection, journal, RetryPolicy(), print, threading.Event()) as writer:
                for batch in ready:
                    writer.put(batch)
            seconds += time.perf_counter() - started
    return seconds


def entries(rows: Rows) -> list[JournalEntry]:
    """What the journal will say of them."""
    facts = zip(rows.ids, rows.paths, rows.content_shas, strict=True)
    return [JournalEntry(key, path, "12345 1700000000000000000 0123456789abcdef", sha) for key, path, sha in facts]


def bare(collection: HashCollection, count: int, folder: Path) -> float:
    client: Any = collection.client
    seconds = 0.0
    for batches in chunks(count):
        ready = [records_of(collection, rows) for rows in batches]
        started = time.perf_counter()
        for batch in ready:
            client.upsert(collection.name, batch, timeout=TIMEOUT)
        seconds += time.perf_counter() - started
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="Folder for the journals.")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--uri", help="A server that may be written to; by default one is started.")
    arguments = parser.parse_args()
    ways: dict[str, Callable[[HashCollection, int, Path], float]] = {"ours": ours, "MilvusClient.upsert": bare}
    rates: dict[str, list[float]] = {way: [] for way in ways}
    with (
        nullcontext(arguments.uri) if arguments.uri else milvus_server() as uri,
        closing(connect(ConnectionConfig(uri))) as client,
    ):
        for turn in range(arguments.repeats):
            for way in sorted(ways, reverse=bool(turn % 2)):
                collection = HashCollection.create(client, f"bench_{uuid.uuid4().hex[:8]}", manifest_of(BITS))
                rates[way].append(arguments.rows / ways[way](collection, arguments.rows, arguments.out))
                assert collection.count() == arguments.rows
                HashCollection.drop(client, collection.name)
    middle = {way: statistics.median(runs) for way, runs in rates.items()}
    print(f"{arguments.rows:,} rows of {BITS} bits, {ROWS:,} a batch\n")
    print("| way | rows/s, median | runs | ours / this |\n|---|---|---|---|")
    for way, runs in rates.items():
        listed = ", ".join(f"{run:,.0f}" for run in runs)
        print(f"| {way} | {middle[way]:,.0f} | {listed} | {middle['ours'] / middle[way]:.2f} |")


if __name__ == "__main__":
    main()
