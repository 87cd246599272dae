"""An import of small shards into Milvus Lite, by a server that keeps the contract of Milvus' import jobs."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from milvus_fghash.bulk_import.jobs.rest import RestJobs
from milvus_fghash.bulk_import.run import ImportOptions, ImportResult, ImportRun
from milvus_fghash.bulk_import.shards.parquet import read_rows
from milvus_fghash.bulk_import.upload import in_place
from milvus_fghash.milvus.collection import HashCollection
from milvus_fghash.milvus.connection import ConnectionConfig
from milvus_fghash.milvus.retry import RetryPolicy
from tests.helpers.import_server import ImportServer
from tests.helpers.small_rows import records_of
from tests.helpers.small_shards import SmallShards


@dataclass
class ImportBench:
    """All that an import needs."""

    shards: SmallShards
    collection: HashCollection
    server: ImportServer
    messages: list[str] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self, **options: Any) -> ImportResult:
        asked = ImportOptions(**{"retry": RetryPolicy(2, 0.01, 0.02), **options})
        folder = self.shards.folder
        jobs = RestJobs(ConnectionConfig(self.server.url), self.collection.name, keyed=self.server.keyed)
        markers = folder.check_all()
        run = ImportRun(
            folder,
            markers,
            self.collection,
            jobs,
            in_place,
            asked,
            self.stop,
            self.messages.append,
            lambda done, total: None,
        )
        return run.result()

    def insert(self, file: str) -> int:
        """As Milvus imports: rows beside those that are there."""
        size = self.shards.folder.check_all()[Path(file).stem].rows
        rows = read_rows(Path(file), range(size), self.collection.bits, self.collection.column_names)
        self.collection.client.insert(self.collection.name, records_of(self.collection, rows))
        return size

    def check_whole(self) -> None:
        """Each row once, and every code as the encoder makes it."""
        assert self.collection.count() == 40
        (rows,) = self.collection.scan()
        files = sorted(self.shards.photos.iterdir())
        codes = dict(zip(rows.paths, rows.codes.tolist(), strict=True))
        assert [codes[file.name] for file in files] == self.shards.encoder.encode_files(files).codes.tolist()
