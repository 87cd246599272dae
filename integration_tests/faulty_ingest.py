"""An ingest that is killed at a chosen moment, or that has a fault planted. A process of its own, run by `faults.py`.

    python -m integration_tests.faulty_ingest '{"bundle": ..., "photos": ..., "uri": ..., ...}'

It is the project's own ingest, with a look at each of its four stages as they begin: decode (a photo), encode (a batch
of the network), sink (a write into Milvus), journal (writing down what was acknowledged). When the chosen stage begins
for the n-th time the process kills itself or one of its decoders, at once or a moment later: SIGKILL, after which
nothing of it runs.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from milvus_fghash.datasets.read import read
from milvus_fghash.encoding.encoder import Encoder
from milvus_fghash.encoding.graph_runs import GraphRuns
from milvus_fghash.ingest import writer
from milvus_fghash.ingest.api import IngestOptions, RunContext, ingest
from milvus_fghash.milvus.collection import HashCollection
from milvus_fghash.milvus.connection import ConnectionConfig, connect
from milvus_fghash.milvus.pymilvus_compat import lower_calls
from milvus_fghash.milvus.retry import RetryPolicy
from milvus_fghash.milvus.rows import FieldValues
from milvus_fghash.state.journal import Journal

Stage = Literal["decode", "encode", "sink", "journal"]
STAGES: tuple[Stage, ...] = ("decode", "encode", "sink", "journal")
Plant = Literal["", "insert", "journal first"]
"""A fault that the harness must find: rows are inserted instead of upserted, or written down before they are in."""


class Plan(BaseModel):
    """What the process does."""

    bundle: Path
    photos: Path
    uri: str
    collection: str
    journal: Path
    encoded: Path
    """Gets a byte for each photo that is encoded."""
    rows_per_write: int = 8
    stage: Stage | None = None
    """Where something is killed; None: nowhere."""
    victim: Literal["client", "worker", "server"] = "client"
    """What is killed: this process, one of those that decode for it, or Milvus, by whoever reads our lines."""
    number: int = 1
    """How often the stage has begun by then."""
    later: float = 0.0
    """Seconds between that and the end."""
    lose_answers: int = 0
    """Number of a write of which the proxy is told to keep the answer back; 0: none."""
    plant: Plant = ""


def decode_worker() -> int:
    """A process that decodes for this one; Linux only."""
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == os.getpid() and b"decode_worker" in (folder / "cmdline").read_bytes():
                return int(folder.name)
    raise RuntimeError("no process decodes for this one")


def main(plan: Plan) -> None:
    begun: Counter[str] = Counter()
    one_at_a_time = threading.Lock()

    def begin(stage: Stage) -> int:
        with one_at_a_time:
            begun[stage] += 1
            number = begun[stage]
        if stage == plan.stage and number == plan.number:
            kill()
        return number

    def kill() -> None:
        if plan.victim == "server":
            print("kill", flush=True)
            return
        victim = os.getpid() if plan.victim == "client" else decode_worker()
        if plan.later:
            threading.Timer(plan.later, os.kill, (victim, signal.SIGKILL)).start()
        else:
            os.kill(victim, signal.SIGKILL)

    class WatchedEncoder(Encoder):
        def _compute(self, runs: GraphRuns, images: NDArray[np.uint8], more: Sequence[str]) -> tuple[NDArray[Any], ...]:
            begin("encode")
            with open(plan.encoded, "ab", buffering=0) as file:
                file.write(b"." * len(images))
            return super()._compute(runs, images, more)

    class WatchedCollection(HashCollection):
        def write(self, values: FieldValues) -> None:
            if begin("sink") == plan.lose_answers:
                print("lose", flush=True)
                sys.stdin.readline()  # until the proxy is ready to
            if plan.plant == "insert":
                calls, _ = lower_calls(self.client)
                calls.upsert = calls.batch_insert
            super().write(values)

    class WatchedJournal(Journal):
        def put(self, entries: Any) -> None:
            begin("journal")
            super().put(entries)

    class HastyWriter(writer.Writer):
        """Writes down first, and writes then."""

        def _write(self, values: FieldValues | None, batch: writer.Batch) -> None:
            self.journal.put(batch.entries)
            super()._write(values, batch)

    def watched_decode(*arguments: Any, **options: Any) -> Iterator[Any]:
        with closing(original_decode(*arguments, **options)) as decoded:
            for one in decoded:
                begin("decode")
                yield one

    encoding: Any = importlib.import_module("milvus_fghash.encoding.encoder")
    original_decode, encoding.decode = encoding.decode, watched_decode
    if plan.plant == "journal first":
        importlib.import_module("milvus_fghash.ingest.pipeline").__dict__["Writer"] = HastyWriter
    encoder = replace(Encoder.open(plan.bundle, threads=2, for_many=True), batch_size=2)
    with closing(connect(ConnectionConfig(plan.uri))) as client:
        found = HashCollection.open(client, plan.collection, encoder.bundle.manifest)
        with closing(WatchedJournal.open(plan.journal, found.uid)) as journal:
            result = ingest(
                WatchedEncoder(**vars(encoder)),
                read("folder", plan.photos),
                WatchedCollection(**vars(found)),
                RunContext(
                    options=IngestOptions(rows_per_write=plan.rows_per_write, retry=RetryPolicy(300)),
                    notify=lambda line: print(line, file=sys.stderr),
                ),
                journal=journal,
            )
    print(f"stored {result.stored}", flush=True)


if __name__ == "__main__":
    main(Plan.model_validate_json(sys.argv[1]))
