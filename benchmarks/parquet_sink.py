"""Compares writing shards with a bare write of the same table by pyarrow.

    python benchmarks/parquet_sink.py

Ready rows of the real schema with 64-bit codes are written as shards, checksums, flushes to the disk and markers
included, in turn with two bare ways, `--repeats` times; figures are medians.

    bare       pyarrow.parquet.write_table of one table, built from the same rows before the measurement
    from rows  the same, with building the table
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))  # the small bundle of the tests

from milvus_fghash.bulk_import.shards.folder import ShardFolder
from milvus_fghash.bulk_import.shards.parquet import arrow_schema
from milvus_fghash.bulk_import.shards.writer import Ready, ShardWriter, write_behind
from milvus_fghash.encoding.decode_options import DecodeOptions
from milvus_fghash.encoding.encoder import Encoder
from milvus_fghash.milvus.rows import Rows
from milvus_fghash.milvus.schema import CollectionMetadata
from tests.helpers.small_bundle import write_small_bundle

pa: Any = import_module("pyarrow")
pq: Any = import_module("pyarrow.parquet")


def draw_rows(count: int) -> Rows:
    """Like those of a catalog of birds."""
    names = [f"{number % 200:03}.some_bird" for number in range(count)]
    return Rows(
        ids=tuple(hashlib.blake2b(b"%d" % number, digest_size=16).hexdigest() for number in range(count)),
        codes=np.random.default_rng(0).integers(0, 256, (count, 8), np.uint8),
        paths=tuple(f"train/{name}/{number:07}.jpg" for number, name in enumerate(names)),
        labels=tuple(names),
        content_shas=tuple(hashlib.sha256(b"%d" % number).hexdigest() for number in range(count)),
        metas=tuple({"split": "train"} for _ in range(count)),
    )


def parts_of(rows: Rows, size: int) -> list[Rows]:
    starts = range(0, len(rows), size)
    return [
        Rows(
            rows.ids[start : start + size],
            rows.codes[start : start + size],
            rows.paths[start : start + size],
            rows.labels[start : start + size],
            rows.content_shas[start : start + size],
            rows.metas[start : start + size],
        )
        for start in starts
    ]


def plain_table(rows: Rows, schema: Any) -> Any:
    """What one would write: columns of Python's own, and the codes by NumPy."""
    flat = pa.array(rows.codes.reshape(-1))
    starts = np.arange(0, rows.codes.size + 1, rows.codes.shape[1], dtype=np.int32)
    columns = {
        "id": rows.ids,
        "code": pa.ListArray.from_arrays(starts, flat, type=schema.field("code").type),
        "path": rows.paths,
        "label": rows.labels,
        "content_sha": rows.content_shas,
        "meta": [json.dumps(meta) for meta in rows.metas],
        "phash": rows.phashes_or_unknown,
    }
    return pa.table(columns, schema=schema)


def timed(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--shard-rows", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=5)
    asked = parser.parse_args()
    rows = draw_rows(asked.rows)
    parts = parts_of(rows, asked.shard_rows)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        encoder = Encoder.open(write_small_bundle(root / "bundle", bits=64))
        schema = arrow_schema(CollectionMetadata.of(encoder.bundle.manifest), False, None)
        maker = ShardWriter(encoder, ShardFolder(root / "shards"), schema, DecodeOptions(), threading.Event())
        table, bare = plain_table(rows, schema), root / "bare.parquet"

        def shards() -> None:
            for _ in write_behind(maker, (Ready(f"shard-{number:05}", part) for number, part in enumerate(parts))):
                pass

        ways: dict[str, Callable[[], object]] = {
            "shards": shards,
            "bare": lambda: pq.write_table(table, bare),
            "from rows": lambda: pq.write_table(plain_table(rows, schema), bare),
        }
        seconds: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(asked.repeats):
            for way, call in ways.items():
                seconds[way].append(timed(call))
    median = {way: statistics.median(values) for way, values in seconds.items()}
    print(f"{asked.rows:,} rows in {len(parts)} shards, medians of {asked.repeats}")
    for way, value in median.items():
        print(f"{way:10} {asked.rows / value:12,.0f} rows/s   ratio {value / median['shards']:.2f}")


if __name__ == "__main__":
    main()
