"""A catalog under a new model: another collection beside the old one, filled, verified and compared with it.

Searches go on in the old one meanwhile; `promote` moves them. Whatever stops this, the same call goes on: the rows
that are in stand in the journal of the new collection, and its name follows from the old one's and the model.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

from milvus_fghash.bundle.bundle import BundleManifest
from milvus_fghash.core.callbacks import Notify, Progress
from milvus_fghash.datasets.dataset import Dataset
from milvus_fghash.datasets.sources.location import Url
from milvus_fghash.encoding.encoder import Encoder
from milvus_fghash.errors import ConfigError
from milvus_fghash.ingest.api import IngestOptions, IngestResult, ingest
from milvus_fghash.ingest.changes import Changes
from milvus_fghash.ingest.delete import delete_ids
from milvus_fghash.ingest.options import DEFAULT_OPTIONS
from milvus_fghash.ingest.verify import Verification, verify
from milvus_fghash.migration.model_comparison import Comparison, MissingRows, compare, look
from milvus_fghash.milvus.aliases import exists
from milvus_fghash.milvus.collection import Consistency, HashCollection
from milvus_fghash.milvus.pymilvus_compat import MilvusClient
from milvus_fghash.milvus.schema import CollectionMetadata, IndexType, check_name
from milvus_fghash.milvus.settings import CollectionSettings, open_or_create
from milvus_fghash.state.journal import DELETED, Journal, JournalEntry
from milvus_fghash.state.migration_record import ReindexRecord

DIGITS: Final = 12
"""Of the fingerprint, in the name of a new collection."""


@dataclass(frozen=True)
class Sample:
    """Which photos are looked at again when all are in.

    Attributes:
        verified: photos that are encoded again and searched for.
        compared: labelled rows on which both versions are measured.
        split: draw the compared ones only from rows of this split; "" means from all.
        seed: draws both.
    """

    verified: int = 100
    compared: int = 5000
    split: str = ""
    seed: int = 0


@dataclass(frozen=True)
class Reindexed:
    """What came of it."""

    old: str
    new: str
    ingest: IngestResult
    verification: Verification
    missing: MissingRows
    comparison: Comparison | str
    """Why there is none, where there is none."""


def new_name(name: str, old: CollectionMetadata, manifest: BundleManifest) -> str:
    """The collection for a bundle's codes of the catalog that is called ``name``, an alias or a collection of ours.

    `birds` and `birds_0123456789ab`, where that is the old model's fingerprint, give `birds_` and the new one's.

    Raises:
        ConfigError: when that is no name.
    """
    stem = name.removesuffix(f"_{old.fingerprint[:DIGITS]}")
    return check_name(f"{stem}_{manifest.fingerprint[:DIGITS]}")


def open_beside(
    client: MilvusClient, old: HashCollection, name: str, encoder: Encoder, notify: Notify = lambda line: None
) -> HashCollection:
    """Open the new collection, or make one of the old one's kind. ``notify`` as `open_or_create`.

    Raises:
        ConfigError: when it is the old one, or the old one keeps embeddings and the bundle gives none.
        StoreError: when another model filled it, or Milvus rejects.
    """
    manifest = encoder.bundle.manifest
    if manifest.fingerprint == old.metadata.fingerprint or name == old.name:
        raise ConfigError(
            f"the collection {old.name} was filled by this very bundle; ingest takes in what is new. For another "
            "model, name another collection",
            setting="into",
        )
    if old.embedding_dim is not None and encoder.embedding_dim is None and not exists(client, name):
        raise ConfigError(
            f"the collection {old.name} keeps embeddings, and {encoder.bundle.path} gives none; export it again with "
            "that output"
        )
    settings = CollectionSettings(
        index=cast(IndexType, old.index),
        nlist=old.nlist,
        code_hex=old.has_code_hex,
        embedding=old.embedding_dim is not None,
        partition_key=old.partition_key,
        consistency=cast(Consistency, old.consistency),  # a perceptual hash also where the old one has none
    )
    embedding_dim = encoder.embedding_dim if settings.embedding else None
    return open_or_create(
        client, name, manifest, settings, columns=old.columns, embedding_dim=embedding_dim, notify=notify
    )


def reindex(
    encoder: Encoder,
    dataset: Dataset,
    old: HashCollection,
    new: HashCollection,
    folders: tuple[Path, Path],
    namespace: str = "",
    options: IngestOptions = DEFAULT_OPTIONS,
    sample: Sample = Sample(),
    *,
    photos: Path | Url | None = None,
    part: str = "",
    report: Path | None = None,
    stop: threading.Event | None = None,
    notify: Notify = lambda line: None,
    progress: Progress = lambda done, total: None,
) -> Reindexed:
    """Take the photos into the new collection, verify it, and compare it with the old one.

    Where a catalog has several listings, call it for each; what is not in yet is `Reindexed.missing`. Rows that were
    deleted from the old collection on purpose stay out of the new one.

    Args:
        folders: of the journals of the old and of the new collection. The old one's need not be there.
        namespace, photos, part, report, stop, tell, progress: as `ingest`.

    Raises:
        ConfigError, DataError, StoreError, Stopped: as `ingest` and `verify`.
    """
    record = ReindexRecord(old=old.name, new=new.name, fingerprint=new.metadata.fingerprint)
    with Journal.open_if_exists(folders[0], old.uid) as before:
        deleted = None if before is None else list(before.entries(DELETED))
    journal = Journal.open(folders[1], new.uid)
    try:
        record.write(folders[1], new.uid)  # not whole, as long as nothing else is said
        if deleted is not None:
            _keep_out(new, journal, deleted)
        taken_in = ingest(
            encoder,
            dataset,
            new,
            namespace,
            options,
            journal=journal,
            photos=photos,
            part=part,
            report=report,
            stop=stop,
            notify=notify,
            progress=progress,
        )
        changes = Changes(dataset, namespace, journal, photos, part)
        verification = verify(encoder, dataset, new, changes, sample.verified, sample.seed)
        seen = look(old, new, sample.compared, sample.split, sample.seed)
        comparison = compare(old, new, seen.drawn)
        record.finished(verification.is_consistent).write(folders[1], new.uid)
    finally:
        journal.close()
    return Reindexed(old.name, new.name, taken_in, verification, seen.missing, comparison)


def _keep_out(new: HashCollection, journal: Journal, deleted: list[JournalEntry]) -> None:
    """Make the photos that are out of the new collection on purpose those that are out of the old one."""
    out = {one.id for one in deleted}
    journal.forget([one.id for one in journal.entries(DELETED) if one.id not in out])
    known = {one.id: one for one in journal.entries() if one.content_sha and one.id in out}
    if rows := [one.id for one in deleted if _is_that_row(known.get(one.id), one)]:
        delete_ids(new, rows, yes=True, journal=journal)
    journal.put([one for one in deleted if one.id not in known])


def _is_that_row(known: JournalEntry | None, deleted: JournalEntry) -> bool:
    """Whether the new collection has a row of the content that was deleted from the old one."""
    return known is not None and known.reason != DELETED and known.content_sha == deleted.content_sha
