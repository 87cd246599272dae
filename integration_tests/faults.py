"""Kills and lost answers in the middle of an ingest; afterwards nothing may be lost, extra or there twice.

    python -m integration_tests.faults --runs 50

starts a Milvus server and prints one line of a Markdown table for each kind of fault. `test_faults.py` runs a few.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args
from urllib.parse import urlsplit

import numpy as np
from PIL import Image

from integration_tests.faulty_ingest import STAGES, Plan, Plant, Stage
from integration_tests.losing_proxy import LosingProxy, losing_proxy
from integration_tests.milvus_server import RunningServer, running_server
from milvus_fghash.datasets.read import read
from milvus_fghash.encoding.encoder import Encoder
from milvus_fghash.ingest.changes import Changes
from milvus_fghash.ingest.verify import Verification, verify
from milvus_fghash.milvus.collection import HashCollection
from milvus_fghash.milvus.connection import ConnectionConfig, connect
from milvus_fghash.state.journal import Journal
from tests.helpers.small_bundle import write_small_bundle

N_PHOTOS = 200
BATCH_ROWS = 8
IN_FLIGHT = 3
"""Batches that may be encoded twice."""

Fault = Literal["client killed", "decoder killed", "server killed", "answer lost"]
FAULTS: tuple[Fault, ...] = get_args(Fault)


@dataclass(frozen=True)
class Outcome:
    """What one run came to."""

    where: str
    """Stage in which the fault was to land."""
    happened: bool
    """Whether it did: the process was killed, or answers were kept back."""
    encoded_twice: int
    """Photos."""
    found: Verification

    @property
    def is_good(self) -> bool:
        whole = self.found.is_consistent and self.found.new_or_changed == 0 and self.found.rows == N_PHOTOS
        return whole and self.encoded_twice <= IN_FLIGHT * BATCH_ROWS


@dataclass
class Harness:
    """Photos, a bundle and a server; every run gets a collection and a journal of its own."""

    server: RunningServer
    folder: Path
    random: random.Random = field(default_factory=lambda: random.Random(0))
    runs: int = 0

    def __post_init__(self) -> None:
        self.bundle = write_small_bundle(self.folder / "bundle", bits=64)
        self.photos = self.folder / "photos"
        self.photos.mkdir()
        for number, colour in enumerate(np.random.default_rng(0).integers(0, 256, (N_PHOTOS, 3))):
            Image.new("RGB", (16, 16), tuple(int(value) for value in colour)).save(self.photos / f"{number:03}.png")

    def run(self, fault: Fault, plant: Plant = "", stage: Stage | None = None) -> Outcome:
        """One ingest with a fault, then the same ingest again, then verify.

        Args:
            plant: what is wrong with the ingest.
            stage: where a client is killed; None draws one.
        """
        drawn = self.random.choice(STAGES)
        self.runs += 1
        encoder = Encoder.open(self.bundle)
        with closing(connect(ConnectionConfig(self.server.uri))) as client:
            name = f"faults_{self.runs}"
            if client.has_collection(name):
                client.drop_collection(name)
            collection = HashCollection.create(client, name, encoder.bundle.manifest)
            plan = Plan(
                bundle=self.bundle,
                photos=self.photos,
                uri=self.server.uri,
                collection=name,
                journal=self.folder / name,
                encoded=self.folder / f"{name}.encoded",
                rows_per_write=BATCH_ROWS,
                plant=plant,
            )
            where, happened = self._first_run(plan, fault, stage or drawn)
            assert _ingest(plan) == 0
            dataset = read("folder", self.photos)
            with closing(Journal.open(plan.journal, collection.uid)) as journal:
                found = verify(encoder, collection, Changes(dataset, "", journal), sample=20)
            client.drop_collection(name)
        return Outcome(where, happened, plan.encoded.stat().st_size - N_PHOTOS, found)

    def _first_run(self, plan: Plan, fault: Fault, stage: Stage) -> tuple[str, bool]:
        begins = {"decode": N_PHOTOS, "encode": N_PHOTOS // 4, "sink": 0, "journal": 0}[stage]
        number = self.random.randint(1, begins or N_PHOTOS // BATCH_ROWS)
        later = self.random.choice([0.0, self.random.uniform(0, 0.02)])
        killing: dict[str, object] = {"stage": stage, "number": number, "later": later}
        if fault == "client killed":
            return stage, _ingest(plan.model_copy(update=killing)) != 0
        if fault == "decoder killed":
            killing |= {"stage": "decode", "number": self.random.randint(1, N_PHOTOS // 2), "victim": "worker"}
            assert _ingest(plan.model_copy(update=killing)) == 0, "the ingest did not survive a dead decoder"
            return "decode", True
        if fault == "server killed":
            starts = self.server.starts
            status = _ingest(plan.model_copy(update={**killing, "victim": "server"}), server=self.server)
            assert status == 0, "the ingest did not wait for the server"
            return stage, self.server.starts > starts
        host = urlsplit(self.server.uri)
        assert host.hostname
        assert host.port
        with losing_proxy(host.hostname, host.port) as (proxy, uri):
            number = self.random.randint(1, N_PHOTOS // BATCH_ROWS)
            status = _ingest(plan.model_copy(update={"uri": uri, "lose_answers": number}), proxy=proxy)
            assert status == 0, "the ingest did not survive a lost answer"
            return "sink", proxy.lost > 0


def _ingest(plan: Plan, *, proxy: LosingProxy | None = None, server: RunningServer | None = None) -> int:
    """Run the process, and do what its lines ask for; its exit status."""
    command = [sys.executable, "-m", "integration_tests.faulty_ingest", plan.model_dump_json()]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip() == "lose" and proxy is not None:
                proxy.lose(0.3)
                process.stdin.write("go on\n")
                process.stdin.flush()
            if line.strip() == "kill" and server is not None:
                server.kill()
                server.start()
    return process.returncode


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--faults", default=",".join(FAULTS), help="Which, between commas.  [default: all]")
    arguments = parser.parse_args()
    print("| fault | runs | happened in | missing | extra | twice | encoded twice at most | failed |")
    print("|---|---|---|---|---|---|---|---|")
    with running_server() as server, tempfile.TemporaryDirectory() as folder:
        at_work = Harness(server, Path(folder))
        for fault in [fault for fault in FAULTS if fault in arguments.faults.split(",")]:
            outcomes: list[Outcome] = []
            try:
                while len(outcomes) < arguments.runs:
                    outcomes.append(at_work.run(fault))
            finally:  # a run that does not end well hides nothing of those before
                print(line(fault, outcomes), flush=True)


def line(fault: Fault, outcomes: Sequence[Outcome]) -> str:
    """What runs with a fault came to, as a row of the table."""
    where = Counter(one.where for one in outcomes if one.happened)
    places = ", ".join(f"{stage} {count}" for stage, count in sorted(where.items()))
    missing, extra, twice = (
        sum(getattr(one.found, name).count for one in outcomes) for name in ("missing", "extra", "duplicates")
    )
    most = max((one.encoded_twice for one in outcomes), default=0)
    failed = sum(not one.is_good for one in outcomes)
    row = (fault, len(outcomes), places, missing, extra, twice, most, failed)
    return "| " + " | ".join(map(str, row)) + " |"


if __name__ == "__main__":
    main()
