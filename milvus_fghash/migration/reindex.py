"""Change the model of a catalog: fill, verify and compare a new collection while the old one is searched.

`promote` then moves searches to the new collection. An interrupted run is continued by the same call: the journal of
the new collection has the rows that are written, and its name follows from the old one's and the model's fingerprint.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

from milvus_fghash.bundle.bundle import BundleManifest
from milvus_fghash.core.callbacks import Notify
from milvus_fghash.datasets.dataset import Dataset
from milvus_fghash.encoding.encoder import Encoder
from milvus_fghash.errors import ConfigError
from milvus_fghash.ingest.api import IngestResult, RunContext, ingest
from milvus_fghash.ingest.changes import Changes
from milvus_fghash.ingest.delete import delete_ids
from milvus_fghash.ingest.verify import Verification, verify
from milvus_fghash.migration.model_comparison import MissingRows, ModelComparison, compare_models, compare_rows
from milvus_fghash.milvus.aliases import exists
from milvus_fghash.milvus.collection import Consistency, HashCollection
from milvus_fghash.milvus.pymilvus_compat import MilvusClient
from milvus_fghash.milvus.schema import CollectionMetadata, IndexType, check_name
from milvus_fghash.milvus.settings import CollectionSettings, open_or_create
from milvus_fghash.state.journal import DELETED, Journal, JournalEntry
from milvus_fghash.state.migration_record import ReindexRecord

FINGERPRINT_DIGITS: Final = 12
"""Digits of the fingerprint in the name of a new collection."""


@dataclass(frozen=True)
class Sample:
    """Sizes of the samples that `Catalog.reindex` draws after the ingest.

    Attributes:
        verified: photos that are encoded again and searched for.
        compared: labelled rows on which both models are measured.
        split: draw the compared rows only from this split; "" draws from all rows.
        seed: seed of both samples.

    Examples:
        >>> Sample(verified=20, split="test").compared
        5000
    """

    verified: int = 100
    compared: int = 5000
    split: str = ""
    seed: int = 0


@dataclass(frozen=True)
class Reindexed:
    """Result of `Catalog.reindex`.

    Attributes:
        old: name of the old collection.
        new: name of the new collection.
        ingest: what was written to the new collection.
        verification: whether the new collection is consistent with the photos.
        missing: rows of the old collection that the new one lacks.
        comparison: retrieval quality of both models, or the reason why it could not be measured.
    """

    old: str
    new: str
    ingest: IngestResult
    verification: Verification
    missing: MissingRows
    comparison: ModelComparison | str


def new_name(name: str, old: CollectionMetadata, manifest: BundleManifest) -> str:
    """Name of the new collection of the catalog ``name``, an alias or a collection, for a bundle's codes.

    `birds` gives `birds_` and the new fingerprint; so does `birds_0123456789ab`, if these are digits of the old one.

    Raises:
        ConfigError: when Milvus does not allow the name.
    """
    stem = name.removesuffix(f"_{old.fingerprint[:FINGERPRINT_DIGITS]}")
    return check_name(f"{stem}_{manifest.fingerprint[:FINGERPRINT_DIGITS]}")


def open_beside(
    client: MilvusClient, old: HashCollection, name: str, encoder: Encoder, notify: Notify = lambda line: None
) -> HashCollection:
    """Open the new collection, or create one with the settings of the old one. ``notify`` as in `open_or_create`.

    Raises:
        ConfigError: when it is the old one, or the old one has embeddings and the bundle does not compute them.
        StoreError: when another model filled it, or Milvus rejects a call.
    """
    manifest = encoder.bundle.manifest
    if manifest.fingerprint == old.metadata.fingerprint:
        raise ConfigError(
            f"the collection {old.name} has codes of this bundle already; use ingest to add photos, or reindex with "
            "the bundle of another model"
        )
    if name == old.name:
        raise ConfigError(f"the new collection must have another name than the old one, {name}", setting="into")
    if old.embedding_dim is not None and encoder.embedding_dim is None and not exists(client, name):
        raise ConfigError(
            f"the collection {old.name} has embeddings, but the bundle {encoder.bundle.path} does not compute them; "
            "export it again with the output 'embedding'"
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
    context: RunContext | None = None,
    sample: Sample = Sample(),
) -> Reindexed:
    """Ingest the photos into the new collection, verify it, and compare it with the old one.

    Call it for each dataset of the catalog; `Reindexed.missing` counts the rows that are not yet in the new collection.
    Rows that a user deleted from the old collection are not written to the new one.

    Args:
        folders: journal folders of the old and of the new collection. That of the old one need not exist.
        context: as in `ingest`.

    Raises:
        ConfigError, DataError, StoreError, Stopped: as `ingest` and `verify`.
    """
    context = context or RunContext()
    record = ReindexRecord(old=old.name, new=new.name, fingerprint=new.metadata.fingerprint)
    with Journal.open_if_exists(folders[0], old.uid) as before:
        deleted = None if before is None else list(before.entries(DELETED))
    journal = Journal.open(folders[1], new.uid)
    try:
        record.write(folders[1], new.uid)  # inconsistent until the end of the run
        if deleted is not None:
            _copy_deletions(new, journal, deleted)
        ingested = ingest(encoder, dataset, new, context, journal=journal)
        changes = Changes(dataset, context.namespace, journal)
        verification = verify(encoder, new, changes, sample.verified, sample.seed)
        rows = compare_rows(old, new, sample.compared, sample.split, sample.seed)
        comparison = compare_models(old, new, rows.sample, encoder.bundle.training_photos())
        record.finished(verification.is_consistent).write(folders[1], new.uid)
    finally:
        journal.close()
    return Reindexed(old.name, new.name, ingested, verification, rows.missing, comparison)


def _copy_deletions(new: HashCollection, journal: Journal, deleted: list[JournalEntry]) -> None:
    """Make the deleted rows of the new collection those of the old one."""
    out = {one.id for one in deleted}
    journal.forget([one.id for one in journal.entries(DELETED) if one.id not in out])
    known = {one.id: one for one in journal.entries() if one.content_sha and one.id in out}
    if rows := [one.id for one in deleted if _is_that_row(known.get(one.id), one)]:
        delete_ids(new, rows, yes=True, journal=journal)
    journal.put([one for one in deleted if one.id not in known])


def _is_that_row(known: JournalEntry | None, deleted: JournalEntry) -> bool:
    """Whether the new collection has a row with the content that was deleted from the old one."""
    return known is not None and known.reason != DELETED and known.content_sha == deleted.content_sha
