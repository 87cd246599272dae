"""A photo catalog in Milvus as one object: a collection, the encoder of its codes, and the journal of its rows."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Final, Self

import numpy as np
from numpy.typing import NDArray

from milvus_fghash.bundle.bundle import Bundle, is_bundle, read_bundle
from milvus_fghash.core.atomic_io import write_atomic
from milvus_fghash.core.callbacks import Notify, Progress
from milvus_fghash.datasets.in_memory import ImageLike, dataset_in_memory
from milvus_fghash.datasets.read import Dataset, Selection, Url, read_dataset
from milvus_fghash.datasets.selection import DEFAULT_SELECTION
from milvus_fghash.datasets.tables.columns import Column
from milvus_fghash.dedupe.grouping import Kind
from milvus_fghash.dedupe.near_search import DELETE_AT_MOST, delete_copies, find_duplicates
from milvus_fghash.dedupe.report import Duplicates, Keep, redundant_rows
from milvus_fghash.encoding.decode_result import Rejected
from milvus_fghash.encoding.encoder import Encoder
from milvus_fghash.encoding.graph_runs import ENCODE_TIMEOUT
from milvus_fghash.errors import ConfigError, check_not_string
from milvus_fghash.evaluation.evaluate import evaluate_collection
from milvus_fghash.ingest.api import ingest as run_ingest
from milvus_fghash.ingest.changes import Changes
from milvus_fghash.ingest.delete import Deletion, delete_named, delete_where, drop_with_journal
from milvus_fghash.ingest.options import DEFAULT_OPTIONS, IngestOptions, IngestResult, RunContext
from milvus_fghash.ingest.verify import Verification
from milvus_fghash.ingest.verify import repair as run_repair
from milvus_fghash.ingest.verify import verify as run_verify
from milvus_fghash.migration import promote as versions
from milvus_fghash.migration.alias_client import bundle_for
from milvus_fghash.migration.promote import AliasChange
from milvus_fghash.migration.reindex import Reindexed, Sample, new_name, open_beside
from milvus_fghash.migration.reindex import reindex as run_reindex
from milvus_fghash.milvus.aliases import exists
from milvus_fghash.milvus.collection import Consistency, HashCollection
from milvus_fghash.milvus.connection import ConnectionConfig, connect, journal_folder
from milvus_fghash.milvus.indexes import build_missing
from milvus_fghash.milvus.own_ids import row_ids
from milvus_fghash.milvus.pymilvus_compat import MilvusClient
from milvus_fghash.milvus.rows import Rows, photo_id
from milvus_fghash.milvus.scalar_fields import requested_columns
from milvus_fghash.milvus.schema import check_name
from milvus_fghash.milvus.settings import DEFAULT_SETTINGS, CollectionSettings, open_or_create
from milvus_fghash.search.search import SearchParams, SearchResult, search_codes, search_hex, search_id
from milvus_fghash.state import run_record
from milvus_fghash.state.journal import Journal

if TYPE_CHECKING:
    from milvus_fghash.evaluation.record import Evaluation

__all__ = ["AddResult", "Catalog", "RepairResult"]

ADDED: Final = Url("memory://added")
"""Source, in the journal, of the photos that `Catalog.add` stored. They never count as vanished."""
SAMPLE: Final = Sample()
log = logging.getLogger("milvus_fghash")
Photos = str | Path | Url | Dataset
"""A folder, an archive, a photo list, a URL of one of these, or a `Dataset`."""


@dataclass(frozen=True)
class AddResult:
    """What `Catalog.add` did.

    Attributes:
        ids: path -> id of the row, for the photos that are in the collection now.
        stored: number of rows written.
        unchanged: number of photos that were stored before with the same content and values.
        rejected: photos that were not stored, each with ``path``, ``reason`` and ``message``.
    """

    ids: Mapping[str, str]
    stored: int
    unchanged: int
    rejected: tuple[Rejected, ...]


@dataclass(frozen=True)
class RepairResult:
    """What `Catalog.repair` found and did.

    Attributes:
        before: the result of `Catalog.verify` before the repair.
        ingest: what was written.
        after: the result of `Catalog.verify` after the repair.
    """

    before: Verification
    ingest: IngestResult
    after: Verification


@dataclass
class Catalog:
    """Photos in one Milvus collection. Create it with `open`.

    All writes go through the journal of the collection, which records the rows that Milvus acknowledged: an interrupted
    `ingest` resumes, and deleted photos are not ingested again. Only one process may write at a time.

    Examples:
        >>> import milvus_fghash as fg
        >>> with fg.Catalog.open("birds.db", "photos", bundle="bundles/birds") as catalog:  # doctest: +SKIP
        ...     catalog.ingest("photos", split="train")
        ...     for hit in catalog.search("robin.jpg", k=5):
        ...         print(hit.distance, hit.label, hit.path)
    """

    connection: ConnectionConfig
    name: str
    """Name of the collection, or an alias of it."""
    settings: CollectionSettings
    journal: Path | None
    notify: Notify
    provider: str | None
    threads: int
    encode_timeout: float
    _bundle: Path | None
    _encoders: dict[bool, Encoder] = field(default_factory=dict, repr=False)
    """By `for_many`."""
    _client: MilvusClient | None = field(default=None, repr=False)
    _collection: HashCollection | None = field(default=None, repr=False)

    @classmethod
    def open(
        cls,
        uri: str | Path | ConnectionConfig = "milvus-fghash.db",
        collection: str = "photos",
        *,
        bundle: str | Path | Bundle | Encoder | None = None,
        token: str | None = None,
        settings: CollectionSettings = DEFAULT_SETTINGS,
        journal: str | Path | None = None,
        provider: str | None = None,
        threads: int = 0,
        encode_timeout: float = ENCODE_TIMEOUT,
        notify: Notify = log.warning,
    ) -> Self:
        """Open a catalog. It connects on first use; the first `ingest` or `add` creates the collection.

        Args:
            uri: URL of a Milvus server (``http://host:19530``), a Milvus Lite file (``.db``), or a `ConnectionConfig`
                with TLS settings, a database and so on.
            collection: name of the collection, or an alias of it.
            bundle: the bundle that encodes the collection, or a folder of bundles of which the matching one is used.
                Not needed for `get`, `count`, `delete`, `dedupe`, and for searches by id or code.
            token: ``user:password`` or an API key.
            settings: properties of a new collection. An existing collection that lacks a requested one is an error.
            journal: folder of the journal. Default: next to the Milvus Lite file; for a server, below the user's state
                folder.
            provider: ONNX Runtime execution provider, such as ``cpu`` or ``cuda``. Default: cuda if it works, else cpu.
            threads: CPU threads that run the model; 0: one per core.
            encode_timeout: seconds that the model may take per batch.
            notify: called with each message for the user. Default: a warning of the logger ``milvus_fghash``.

        Returns:
            The catalog, also usable as a context manager that closes the connection.

        Raises:
            ConfigError: when the URI, the token or the name is invalid.
        """
        if isinstance(uri, ConnectionConfig) and token is not None:
            raise ConfigError("both `token` and a ConnectionConfig are given; put the token into the ConnectionConfig")
        made_by = bundle.bundle if isinstance(bundle, Encoder) else bundle
        return cls(
            connection=uri if isinstance(uri, ConnectionConfig) else ConnectionConfig(str(uri), token),
            name=check_name(collection),
            settings=settings,
            journal=None if journal is None else Path(journal),
            notify=notify,
            provider=provider,
            threads=threads,
            encode_timeout=encode_timeout,
            _bundle=None if made_by is None else _path_of(made_by),
            _encoders={False: bundle, True: bundle} if isinstance(bundle, Encoder) else {},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection. The catalog stays usable: the next call opens a new connection."""
        client, self._client, self._collection = self._client, None, None
        if client is not None:
            client.close()

    # Parts

    @property
    def collection(self) -> HashCollection:
        """The open collection.

        Raises:
            StoreError: when no collection has this name, or Milvus cannot be reached.
        """
        if self._collection is None:
            self._collection = HashCollection.open(self._connect(), self.name)
        return self._collection

    @property
    def encoder(self) -> Encoder:
        """The encoder of the bundle, for one photo at a time.

        Raises:
            ConfigError: when the catalog was opened without a bundle.
            BundleError: when the bundle is damaged, or no bundle of the folder matches the collection.
        """
        return self._encoder(for_many=False)

    # Photos in

    def ingest(
        self,
        photos: Photos,
        *,
        split: str | None = None,
        layout: str | None = None,
        selection: Selection = DEFAULT_SELECTION,
        namespace: str = "",
        options: IngestOptions | None = None,
        report: str | Path | None = None,
        stop: threading.Event | None = None,
        progress: Progress | None = None,
    ) -> IngestResult:
        """Encode photos and store them. A second call processes only new and changed photos.

        An interrupted call resumes when it is repeated. A photo that cannot be read is rejected and reported; all
        others are stored.

        Args:
            photos: a folder, an archive, a photo list (CSV, Parquet), a URL of one of these, or a `Dataset`.
            split: use only this split (several: comma-separated). Default: all.
            layout: layout of the dataset, a key of `DATASETS`. Default: detected.
            selection: files to exclude, whether to follow links, and which folders name the classes.
            namespace: prefix of every id, so that folders with the same file names can share a collection.
            options: batch size, decoder processes, retries, pruning.
            report: file for one JSON line per rejected photo.
            stop: an event; when it is set, the batches in progress are finished and the call raises `Stopped`.
            progress: called with the number of processed photos and the total.

        Returns:
            Counts of stored, unchanged, rejected, deleted, vanished and pruned photos.

        Raises:
            ConfigError: when the bundle is missing, an option is invalid, the collection lacks what
                `CollectionSettings` request, or another run writes to the collection.
            DataError: when there are no photos, or the report or the journal cannot be written.
            StoreError: when another model filled the collection, or Milvus rejects a call.
            Stopped: when ``stop`` is set.
        """
        dataset = _read(photos, layout, split, selection, report)
        return self._ingest(dataset, self._context(namespace, options, selection, report, stop, progress))

    def add(
        self,
        photos: Mapping[str, ImageLike] | Mapping[Path, ImageLike],
        *,
        labels: Mapping[str, str | Sequence[str]] = MappingProxyType({}),
        columns: Mapping[str, Mapping[str, object]] = MappingProxyType({}),
        namespace: str = "",
        options: IngestOptions | None = None,
    ) -> AddResult:
        """Encode a few photos from memory and store them, including photos that were deleted before.

        A photo that is already stored under its path is replaced, with its label and columns, unless nothing changed. A
        photo that cannot be read is rejected; all others are stored. Photos are decoded in this process; use `ingest`
        for untrusted files.

        Args:
            photos: path -> file, URL, bytes of a file, Pillow image, or uint8 RGB array (height, width, 3). The path is
                shown in hits and, with the namespace, determines the id. A path that is a URL is stored without user,
                password and query.
            labels: path -> class name, or a list of labels.
            columns: path -> {name: value} for typed columns of the collection; other names go into ``meta``. None and
                NaN are missing values.
            namespace: as in `ingest`.
            options: as in `ingest`; ``workers`` and ``prune`` have no effect.

        Returns:
            The ids of the stored photos, counts, and the rejected photos.

        Raises:
            ConfigError: when ``labels`` or ``columns`` have a path that is not in ``photos``; otherwise as `ingest`.
            DataError: as `ingest`.
            StoreError: as `ingest`.
        """
        dataset = dataset_in_memory(photos, labels, columns, ADDED)
        alone = replace(options or DEFAULT_OPTIONS, workers=0, prune=False, retry_rejected=True)
        rejected: list[Rejected] = []
        done = self._ingest(dataset, self._context(namespace, alone), rejected)
        out = {one.path for one in rejected}
        ids = {path: photo_id(namespace, path) for path in dataset.paths if path not in out}
        return AddResult(ids, done.stored, done.unchanged, tuple(rejected))

    # Photos out

    def search(
        self,
        photo: ImageLike | None = None,
        *,
        id: str | None = None,
        namespace: str | None = None,
        code: str | bytes | NDArray[np.uint8] | None = None,
        k: int = 10,
        filter: str = "",
        max_distance: int | None = None,
        complete_ties: bool = False,
        nprobe: int | None = None,
        consistency: Consistency | None = None,
    ) -> SearchResult:
        """Find the nearest photos by Hamming distance; equal distances are ordered by id.

        Args:
            photo: query photo: file, URL, bytes of a file, Pillow image, or uint8 RGB array (height, width, 3).
            id: query row instead: its own id (such as a SKU) or its id.
            namespace: namespace in which an own id is looked up. Default: all.
            code: query code instead: hexadecimal digits, bytes, or packed uint8 array.
            k: number of hits, 1 to 16,384.
            filter: Milvus filter expression, such as ``label == "robin"``.
            max_distance: largest Hamming distance of a hit, inclusive.
            complete_ties: return all rows at the distance of the last hit, even if that is more than ``k``.
            nprobe: number of BIN_IVF_FLAT clusters to search.
            consistency: consistency level of Milvus. Default: that of the collection.

        Returns:
            The hits, as a sequence; ``complete`` says whether no row at the distance of the last hit was left out.

        Raises:
            ConfigError: when not exactly one of photo, id and code is given, a number is out of range, or a photo is
                given and the catalog has no bundle.
            ImageRejected: when the photo cannot be decoded.
            CodeError: when the code has another length than those of the collection.
            StoreError: when the collection or row does not exist, another model filled the collection, or Milvus
                rejects a call.
        """
        if sum(one is not None for one in (photo, id, code)) != 1:
            raise ConfigError("a search needs exactly one of a photo, an id and a code")
        wanted = SearchParams(k, filter, max_distance, complete_ties, nprobe, consistency)
        collection = self.collection
        if id is not None:
            return search_id(collection, id, wanted, namespace)
        if code is not None:
            return search_hex(collection, code if isinstance(code, str) else bytes(code).hex(), wanted)
        assert photo is not None
        encoder = self.encoder
        collection.check_model(encoder.bundle.manifest)
        return search_codes(collection, encoder.encode_image(photo), wanted)[0]

    def get(self, ids: Sequence[str], *, namespace: str | None = None) -> Rows:
        """Read rows by id, in the given order, without ids that do not exist. Sees all rows written so far.

        Args:
            ids: own ids (such as SKUs) or ids of rows (`Hit.id`). The ids of a `Dataset` are something else.
            namespace: namespace in which own ids are looked up. Default: all.

        Returns:
            The rows, as a sequence of `Row`.

        Raises:
            StoreError: when the collection does not exist, several rows have one own id, or Milvus rejects a call.
        """
        collection = self.collection
        return collection.get(list(row_ids(collection, check_not_string(ids, "ids"), namespace).values()))

    def count(self, filter: str = "") -> int:
        """Count rows. Sees all rows written so far.

        Args:
            filter: Milvus filter expression. Default: all rows.

        Returns:
            The number of rows.

        Raises:
            ConfigError: when the filter is invalid.
            StoreError: when the collection does not exist, or Milvus rejects a call.
        """
        return self.collection.count(filter)

    def delete(
        self,
        ids: Sequence[str] | None = None,
        *,
        namespace: str | None = None,
        filter: str | None = None,
        dry_run: bool = False,
    ) -> Deletion:
        """Delete rows by id or filter. Photo files are not deleted; their content is not ingested again until it
        changes.

        Args:
            ids: own ids (such as SKUs) or ids of rows. Ids that do not exist are counted as missing.
            namespace: namespace in which own ids are looked up. Default: all.
            filter: Milvus filter expression that selects the rows, instead of ids.
            dry_run: only count the rows.

        Returns:
            Counts of found, missing and deleted rows.

        Raises:
            ConfigError: when not exactly one of ids and filter is given, the filter is empty, or a run writes to the
                collection.
            StoreError: when the collection does not exist, an id is invalid, or Milvus rejects a call.
        """
        if (ids is None) == (filter is None):
            raise ConfigError("select the rows either by ids or by a filter")
        collection = self.collection
        with Journal.open_if_exists(self._journal_folder(collection.name), collection.uid) as journal:
            if ids is not None:
                return delete_named(collection, check_not_string(ids, "ids"), not dry_run, journal, namespace)
            assert filter is not None
            return delete_where(collection, filter, not dry_run, journal)

    def exists(self) -> bool:
        """Whether the collection, or the alias, exists. Never creates a Milvus Lite file.

        Returns:
            True if it exists.

        Raises:
            StoreError: when Milvus cannot be reached.
        """
        uri = self.connection.uri
        if self.connection.is_lite and not Path(uri).expanduser().exists():
            return False
        return exists(self._connect(), self.name)

    def drop(self) -> None:
        """Drop the collection with all its rows, and its journal. Photo files are not deleted.

        Raises:
            ConfigError: when a run writes to the collection.
            StoreError: when the collection does not exist, an alias points to it, or Milvus rejects a call.
        """
        client = self._connect()
        drop_with_journal(client, self.name, self._journal_folder(self.name))
        self._collection = None

    # Checks

    def verify(
        self,
        photos: Photos,
        *,
        split: str | None = None,
        layout: str | None = None,
        selection: Selection = DEFAULT_SELECTION,
        namespace: str = "",
        sample: int = 100,
        seed: int | None = None,
    ) -> Verification:
        """Compare photos, journal and collection. Writes nothing.

        Args:
            photos: as given to `ingest`.
            split: as given to `ingest`.
            layout: as given to `ingest`.
            selection: as given to `ingest`.
            namespace: as given to `ingest`.
            sample: number of photos to encode again and search for.
            seed: seed of the sample. Default: random.

        Returns:
            The inconsistencies found, and counts of new, changed, rejected and vanished photos.

        Raises:
            ConfigError: as `ingest`.
            DataError: as `ingest`.
            StoreError: as `ingest`.
        """
        return self._verify(_read(photos, layout, split, selection), namespace, sample, _drawn(seed))

    def repair(
        self,
        photos: Photos,
        *,
        split: str | None = None,
        layout: str | None = None,
        selection: Selection = DEFAULT_SELECTION,
        namespace: str = "",
        sample: int = 100,
        seed: int | None = None,
        delete_extra: bool = False,
        options: IngestOptions | None = None,
        stop: threading.Event | None = None,
        progress: Progress | None = None,
    ) -> RepairResult:
        """Verify, rewrite inconsistent rows, ingest new and changed photos, and verify again.

        Args:
            photos: as given to `ingest`.
            split: as given to `ingest`.
            layout: as given to `ingest`.
            selection: as given to `ingest`.
            namespace: as given to `ingest`.
            sample: as in `verify`.
            seed: as in `verify`.
            delete_extra: delete rows that belong to no photo and are not in the journal.
            options: as in `ingest`.
            stop: as in `ingest`.
            progress: as in `ingest`.

        Returns:
            The verification before, what was written, and the verification after.

        Raises:
            ConfigError: as `ingest`.
            DataError: as `ingest`.
            StoreError: as `ingest`.
            Stopped: when ``stop`` is set.
        """
        dataset, drawn = _read(photos, layout, split, selection), _drawn(seed)
        if self.exists():
            build_missing(self._connect(), self.name, self._encoder().bundle.manifest, notify=self.notify)
        before = self._verify(dataset, namespace, sample, drawn, repair=True, delete_extra=delete_extra)
        done = self._ingest(dataset, self._context(namespace, options, selection, None, stop, progress))
        return RepairResult(before, done, self._verify(dataset, namespace, sample, drawn))

    def evaluate(
        self,
        photos: Photos,
        *,
        query_split: str = "test",
        layout: str | None = None,
        selection: Selection = DEFAULT_SELECTION,
        filter: str = "",
        name: str | None = None,
        progress: Progress | None = None,
    ) -> Evaluation:
        """Measure how well the collection retrieves photos of the same class.

        Args:
            photos: labelled photos with the queries, as in `ingest`.
            query_split: split of the queries.
            layout: as in `ingest`.
            selection: as in `ingest`.
            filter: Milvus filter expression that selects the gallery rows. Default: all rows.
            name: name of the dataset in the result. Default: its origin.
            progress: called with the number of encoded queries and the total.

        Returns:
            mAP, precision and recall, in ``encoded``.

        Raises:
            DataError: when the split is missing, or a query has no label.
            ConfigError: as `search`.
            StoreError: as `search`.
        """
        dataset = _read(photos, layout, None, selection)
        return evaluate_collection(
            self.collection,
            self._encoder(),
            dataset,
            dataset_name=name or str(dataset.origin),
            query_split=query_split,
            filter=filter,
            progress=progress or _nobody,
        )

    # Duplicates

    def dedupe(
        self,
        *,
        max_distance: int | None = None,
        previous: Duplicates | None = None,
        confirm_within: int | None = None,
        photos: Sequence[str | Path] = (),
        progress: Progress | None = None,
    ) -> Duplicates:
        """Find groups of equal files and of photos with near perceptual hashes, in a collection of any method. Deletes
        nothing; see `delete_duplicates`.

        Args:
            max_distance: also join photos whose codes differ in at most this number of bits. Default: as in
                ``previous``; without it, codes are compared only if no perceptual hash is known, within bits / 8 - 5
                (at least 0).
            previous: an earlier result; codes are searched for rows that changed since then only, and photos whose
                hashes it contains are not read again.
            confirm_within: largest Hamming distance of the perceptual hashes (64 bits) of copies. Default: as in
                ``previous``, else 3.
            photos: folders with the photos, to compute perceptual hashes if the collection does not store them. The
                folders that were ingested from are searched too.
            progress: called with the number of items done and the total: photos that are read, tables of hashes that
                are compared, codes.

        Returns:
            The groups.

        Raises:
            ConfigError: when a distance is out of range, or ``previous`` belongs to another collection.
            StoreError: when the collection does not exist, or Milvus rejects a call.
        """
        collection = self.collection
        places = [*map(Path, check_not_string(photos, "photos")), *sorted(self.photo_sources())]
        return find_duplicates(
            collection,
            max_distance,
            previous,
            progress or _nobody,
            confirm_within=confirm_within,
            photos=[place for place in dict.fromkeys(places) if place.is_dir()],
        )

    def delete_duplicates(
        self,
        found: Duplicates,
        kinds: Sequence[Kind] = ("exact",),
        *,
        keep: Keep = "first",
        delete_at_most: float = DELETE_AT_MOST,
        dry_run: bool = False,
    ) -> int:
        """Delete all but one row of each exact group, and the confirmed copies of near groups. Photo files are not
        deleted.

        Args:
            found: result of `dedupe`.
            kinds: ``exact``, ``near``, or both.
            keep: row of a group that is kept: the ``first`` or ``last`` by path.
            delete_at_most: largest fraction of all rows that may be deleted.
            dry_run: only count the rows.

        Returns:
            The number of rows that were (or would be) deleted.

        Raises:
            TooManyDeleted: when more than ``delete_at_most`` would be deleted; nothing is deleted then.
            ConfigError: as `delete`.
            StoreError: as `delete`.
        """
        check_not_string(kinds, "kinds")
        if dry_run:
            return len(redundant_rows(found.groups, kinds, keep, found.confirmed_within))
        collection = self.collection
        with Journal.open_if_exists(self._journal_folder(collection.name), collection.uid) as journal:
            return delete_copies(collection, found, kinds, keep, delete_at_most, journal)

    def photo_sources(self) -> set[Path]:
        """Folders and lists that were ingested from on this machine, according to the records of the runs.

        Returns:
            Their paths.
        """
        return run_record.photo_sources(self._journal_folder(self.collection.name))

    # Another model

    def reindex(
        self,
        bundle: str | Path | Bundle | Encoder,
        photos: Photos,
        *,
        into: str | None = None,
        split: str | None = None,
        layout: str | None = None,
        selection: Selection = DEFAULT_SELECTION,
        namespace: str = "",
        options: IngestOptions | None = None,
        sample: Sample | None = None,
        report: str | Path | None = None,
        stop: threading.Event | None = None,
        progress: Progress | None = None,
    ) -> Reindexed:
        """Encode photos with another model into a new collection, verify it, and compare the two models.

        This collection stays unchanged and searchable; `promote` switches to the new one.

        Args:
            bundle: bundle of the new model.
            photos: as in `ingest`.
            into: name of the new collection. Default: the old name with the fingerprint of the new model.
            split: as in `ingest`.
            layout: as in `ingest`.
            selection: as in `ingest`.
            namespace: as in `ingest`.
            options: as in `ingest`.
            sample: numbers of photos to verify and rows to compare.
            report: as in `ingest`.
            stop: as in `ingest`.
            progress: as in `ingest`.

        Returns:
            The names of both collections, the verification, the missing rows, and the comparison.

        Raises:
            ConfigError: as `ingest`.
            DataError: as `ingest`.
            StoreError: as `ingest`.
            Stopped: when ``stop`` is set.
        """
        dataset = _read(photos, layout, split, selection, report)
        encoder = bundle if isinstance(bundle, Encoder) else self._load(_path_of(bundle), for_many=True)
        old = self.collection
        name = into or new_name(self.name, old.metadata, encoder.bundle.manifest)
        new = open_beside(self._connect(), old, name, encoder, self.notify)
        return run_reindex(
            encoder,
            dataset,
            old,
            new,
            (self._journal_folder(old.name), self._journal_folder(new.name)),
            self._context(namespace, options, selection, report, stop, progress),
            sample or SAMPLE,
        )

    def promote(self, collection: str | None = None, *, max_missing: int = 0, unverified: bool = False) -> AliasChange:
        """Point the name of this catalog, an alias, at a new collection. The switch is atomic.

        Args:
            collection: the new collection. Default: the one that `reindex` created.
            max_missing: largest number of rows of the old collection that may be missing in the new one.
            unverified: accept a collection that `reindex` did not verify on this machine.

        Returns:
            The collections before and after, and the previous ones.

        Raises:
            ConfigError: when the name is that of a collection, or a run writes to one of the two.
            Inconsistent: when the new collection is unverified, empty, or lacks rows.
            StoreError: when the new collection does not exist, or Milvus rejects a call.
        """
        client = self._connect()
        moved = versions.promote(
            client,
            self.name,
            collection or versions.candidate(client, self.name),
            self._journal_folder,
            max_missing=max_missing,
            unverified=unverified,
            notify=self.notify,
        )
        self._forget()
        return moved

    def rollback(self) -> AliasChange:
        """Point the name of this catalog, an alias, back at the previous collection.

        Returns:
            The collections before and after, and the previous ones.

        Raises:
            Inconsistent: when the previous collection is empty.
            StoreError: when the alias or the previous collection does not exist, or Milvus rejects a call.
        """
        moved = versions.rollback(self._connect(), self.name)
        self._forget()
        return moved

    def drop_previous(self, keep: int, *, dry_run: bool = False) -> list[str]:
        """Drop the previous collections of this alias, except the newest ones.

        Args:
            keep: number of previous collections to keep.
            dry_run: only return the names.

        Returns:
            The names of the collections that were (or would be) dropped.

        Raises:
            ConfigError: when a run writes to one of them.
            StoreError: when another alias points to one of them, or Milvus rejects a call.
        """
        return versions.drop_older(self._connect(), self.name, keep, self._journal_folder, not dry_run)

    def check_bundle(self) -> None:
        """Check, without loading the model, that the bundle matches the collection.

        Raises:
            BundleError: when the bundle is damaged, or no bundle of the folder matches.
            ConfigError: when the catalog was opened without a bundle.
            StoreError: when another model filled the collection.
        """
        self.collection.check_model(read_bundle(self._bundle_path()).manifest)

    # Internals

    def _connect(self, *, may_create: bool = False) -> MilvusClient:
        """Only writes may create a Milvus Lite file: a mistyped name must not look like an empty catalog."""
        if self._client is None:
            self._client = connect(self.connection, may_create=may_create)
        return self._client

    def _forget(self) -> None:
        """After a switch of the alias: forget the collection, and encoders that may not match the new one."""
        self._collection = None
        if self._bundle is not None and not is_bundle(self._bundle):
            self._encoders.clear()

    def _bundle_path(self) -> Path:
        """The bundle, or the matching one of a folder of bundles."""
        path = self._bundle
        if path is None:
            raise ConfigError("encoding photos needs a bundle; open the catalog with `bundle=`")
        if not is_bundle(path) and path.is_dir() and self.exists():
            return bundle_for(self.collection, path)
        return path

    def _encoder(self, *, for_many: bool = True) -> Encoder:
        if for_many not in self._encoders:
            self._encoders[for_many] = self._load(self._bundle_path(), for_many)
        return self._encoders[for_many]

    def _load(self, bundle: Path, for_many: bool) -> Encoder:
        return Encoder.open(bundle, self.provider, self.threads, for_many=for_many, encode_timeout=self.encode_timeout)

    @property
    def journal_folder(self) -> Path:
        """Folder of the journal of the collection."""
        return self._journal_folder(self.collection.name)

    def _journal_folder(self, collection: str) -> Path:
        return self.journal or journal_folder(self.connection, collection)

    def _open_to_write(self, encoder: Encoder, columns: Sequence[Column]) -> HashCollection:
        """The collection, created if it does not exist."""
        wanted = self.settings
        if wanted.embedding:
            encoder.check_embedding()
        self._collection = open_or_create(
            self._connect(may_create=True),
            self.name,
            encoder.bundle.manifest,
            wanted,
            columns=columns,
            embedding_dim=encoder.embedding_dim if wanted.embedding else None,
            notify=self.notify,
        )
        return self._collection

    def _context(
        self,
        namespace: str,
        options: IngestOptions | None,
        selection: Selection = DEFAULT_SELECTION,
        report: str | Path | None = None,
        stop: threading.Event | None = None,
        progress: Progress | None = None,
    ) -> RunContext:
        """Links that were followed to find photos are followed to read them, too."""
        options = options or DEFAULT_OPTIONS
        return RunContext(
            namespace=namespace,
            options=replace(options, follow_links=options.follow_links or selection.follow_links),
            report=None if report is None else Path(report),
            stop=stop or threading.Event(),
            notify=self.notify,
            progress=progress or _nobody,
        )

    def _ingest(self, dataset: Dataset, context: RunContext, rejected: list[Rejected] | None = None) -> IngestResult:
        encoder = self._encoder()
        columns = requested_columns(self.settings.columns, dataset.extra_columns)
        dataset = dataset.as_columns(columns)  # a value that cannot be is known before a collection is made for it
        if context.report is not None:
            write_atomic(context.report, b"")  # before a collection is made for a run that cannot report
        collection = self._open_to_write(encoder, columns)
        with closing(Journal.open(self._journal_folder(collection.name), collection.uid)) as journal:
            result = run_ingest(encoder, dataset, collection, context, journal=journal)
            if rejected is not None:
                rejected += [Rejected(one.path, one.reason, one.message) for one in journal.rejected()]
        return result

    def _verify(
        self,
        dataset: Dataset,
        namespace: str,
        sample: int,
        seed: int,
        *,
        repair: bool = False,
        delete_extra: bool = False,
    ) -> Verification:
        encoder, collection = self._encoder(), self.collection
        folder = self._journal_folder(collection.name)
        with Journal.open_if_exists(folder, collection.uid) as journal, closing(Journal.in_memory()) as empty:
            changes = Changes(dataset, namespace, journal or empty)
            found = run_verify(encoder, collection, changes, sample, seed)
            if repair:
                run_repair(collection, changes.journal, found, delete_extra=delete_extra)
        return found


def _read(
    photos: Photos,
    layout: str | None,
    split: str | None,
    selection: Selection,
    report: str | Path | None = None,
) -> Dataset:
    dataset = photos if isinstance(photos, Dataset) else read_dataset(photos, layout, selection=selection)
    if report is not None:
        dataset.keep_apart(Path(report))
    return dataset.split(split) if split else dataset


def _nobody(done: int, total: int) -> None:
    """Follows no progress."""


def _path_of(bundle: str | Path | Bundle) -> Path:
    return bundle.path if isinstance(bundle, Bundle) else Path(bundle)


def _drawn(seed: int | None) -> int:
    return random.randrange(2**32) if seed is None else seed
