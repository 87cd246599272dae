"""Calculates the cost of a catalog of any size: machines, hours, bytes in Milvus, seconds per search. Nothing is run.

    python benchmarks/scaling.py --photos 1e6,1e8,1e10

The defaults were measured on two cores (docs/scaling.md names the commands); options replace them, also for hardware
that was not measured, such as a GPU.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass, fields

HOUR = 3600
GB = 1e9


@dataclass(frozen=True)
class Figures:
    """Measurements of one unit each."""

    encode: float = 128.0
    """Photos a second that one core computes (MobileNetV2, 224 pixels)."""
    decode: float = 545.0
    """Photos a second that one core decodes and prepares (files of 227 x 227; of a camera: 50 to 80)."""
    upsert: float = 13_100.0
    """Rows a second that one client writes, of a million, one server beside it on two cores."""
    bulk: float = 100_000.0
    """Rows per second that a server's bulk import accepts."""
    parquet_bytes: float = 118.0
    """Of a row in a shard."""
    disk_bytes: float = 250.0
    """Of a row in the storage of Milvus, indexes included."""
    memory_bytes: float = 1200.0
    """Of a row in a loaded collection, all columns, and the server's caches."""
    code_bytes: float = 60.0
    """Of a row of which only id and code are loaded: 40, and what Milvus keeps beside them. Assumed."""
    scan: float = 2.5e8
    """Codes of 64 bits a second that BIN_FLAT compares on one core."""
    share: float = 1 / 16
    """Fraction of the rows that BIN_IVF_FLAT compares with (nprobe / nlist)."""


@dataclass(frozen=True)
class Cluster:
    """The available machines."""

    encoders: int
    """Machines that encode."""
    cores: int
    """Of each machine."""
    node_memory: float
    """Bytes of a query node that rows may take."""


def costs(photos: float, figures: Figures, cluster: Cluster, gpu: float = 0.0) -> dict[str, str]:
    """Each quantity by name, for a person.

    Args:
        gpu: photos a second that one GPU computes, one to each machine; 0: none, cores compute.
    """
    decoding, computing = 1 / figures.decode, 0 if gpu else 1 / figures.encode
    machine = min(cluster.cores / (decoding + computing), gpu or math.inf)  # photos a second
    nodes = math.ceil(photos * figures.memory_bytes / cluster.node_memory)
    lean = math.ceil(photos * figures.code_bytes / cluster.node_memory)
    scan = photos / (figures.scan * cluster.cores * lean)
    return {
        "photos": f"{photos:,.0f}",
        "hours to encode on one machine": _number(photos / machine / HOUR),
        f"hours to encode on {cluster.encoders} machines": _number(photos / machine / cluster.encoders / HOUR),
        "hours to upsert from one client": _number(photos / figures.upsert / HOUR),
        "hours of bulk import on one data node": _number(photos / figures.bulk / HOUR),
        "shards of 100,000 rows": f"{math.ceil(photos / 1e5):,}",
        "Parquet shards, GB": _number(photos * figures.parquet_bytes / GB),
        "disk space of Milvus, GB": _number(photos * figures.disk_bytes / GB),
        "memory with all columns loaded, GB": _number(photos * figures.memory_bytes / GB),
        "query nodes with all columns loaded": f"{nodes:,}",
        "memory with only id and code loaded, GB": _number(photos * figures.code_bytes / GB),
        "query nodes with only id and code loaded": f"{lean:,}",
        "ms per query, BIN_FLAT": _number(1000 * scan),
        "ms per query, BIN_IVF_FLAT": _number(1000 * scan * figures.share),
        "queries/s, BIN_FLAT": _number(1 / scan),
        "queries/s, BIN_IVF_FLAT": _number(1 / scan / figures.share),
    }


def _number(value: float) -> str:
    """Two digits that count."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.2g}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", default="1e6,1e8,1e10")
    parser.add_argument("--encoders", type=int, default=10, help="Machines that encode.")
    parser.add_argument("--cores", type=int, default=16, help="Of each machine.")
    parser.add_argument("--node-memory", type=float, default=64e9, help="Bytes of a query node that rows may take.")
    parser.add_argument("--gpu", type=float, default=0.0, help="Photos a second that one GPU computes; 0: none.")
    for one in fields(Figures):
        parser.add_argument(f"--{one.name.replace('_', '-')}", type=float, default=one.default)
    arguments = parser.parse_args()
    figures = Figures(**{one.name: getattr(arguments, one.name) for one in fields(Figures)})
    cluster = Cluster(arguments.encoders, arguments.cores, arguments.node_memory)
    columns = [costs(float(photos), figures, cluster, arguments.gpu) for photos in arguments.photos.split(",")]
    for number, name in enumerate(columns[0]):
        print("| " + " | ".join([name, *(column[name] for column in columns)]) + " |")
        if not number:
            print("|---" * (len(columns) + 1) + "|")


if __name__ == "__main__":
    main()
