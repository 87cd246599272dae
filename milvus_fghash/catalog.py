"""A photo catalog in Milvus, as one object: its collection, the encoder of its codes, and the journal of its rows."""

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
from milvus_fghash.core.perceptual_hash import MAX_COPY_DISTANCE
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
from milvus_fghash.state.journal import Journal
from milvus_fghash.state.run_record import photo_sources

if TYPE_CHECKING:
    from milvus_fghash.evaluation.record import Evaluation

__all__ = ["AddResult", "Catalog", "RepairResult"]

ADDED: Final = Url("memory://added")
"""Source of the photos that `Catalog.add` takes, as the journal names it. It never loses a photo."""
SAMPLE: Final = Sample()
log = logging.getLogger("milvus_fghash")
Photos = str | Path | Url | Dataset
"""Where photos are: a folder, an archive, a list, a URL of one of these, or what `read_dataset` gave."""


@dataclass(frozen=True)
class AddResult:
    """What `Catalog.add` did.

    Attributes:
        ids: path -> primary key, of the photos that are in the collection now.
        stored: rows written.
        unchanged: photos that were in already with the same content and values.
        rejected: photos that were not taken.
    """

    ids: Mapping[str, str]
    stored: int
    unchanged: int
    rejected: tuple[Rejected, ...]


@dataclass(frozen=True)
class RepairResult:
    """What `Catalog.repair` found and did.

    Attributes:
        before: what was inconsistent.
        ingest: what was written again, or for the first time.
        after: what is inconsistent still.
    """

    before: Verification
    ingest: IngestResult
    after: Verification


@dataclass
class Catalog:
    """Photos in one Milvus collection: ingest, search, delete, verify. Make one with `open`.

    Everything that writes goes through the journal of the collection, which knows what Milvus acknowledged: an ingest
    that was interrupted goes on, and what was deleted is not ingested again. One process writes at a time.

    Example:
        >>> import milvus_fghash as fg
        >>> with fg.Catalog.open("birds.db", "photos", bundle="bundles/birds") as catalog:  # doctest: +SKIP
        ...     catalog.ingest("photos", split="train")
        ...     for hit in catalog.search("robin.jpg", k=5):
        ...         print(hit.distance, hit.label, hit.path)
    """

    connection: ConnectionConfig
    name: str
    """Of the collection, or an alias of one."""
    settings: CollectionSettings
    journal: Path | None
    notify: Notify
    provider: str | None
    threads: int
    encode_timeout: float
    _bundle: Path | None
    _encoders: dict[bool, Encoder] = field(default_factory=dict, repr=False)
    """For one photo at a time, and for many."""
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
        """Open a catalog. It connects when it must; nothing is created before the first `ingest` or `add`.

        Args:
            uri: a Milvus server (``http://host:19530``), a file of Milvus Lite (ends in ``.db``), or a `Target` for
                TLS, a database and so on.
            collection: its name, or an alias.
            bundle: the bundle whose codes the collection holds, or a folder of bundles, of which the fitting one is
                taken. All that encodes photos needs it; search by id or code, `get` and `delete` do not.
            token: ``user:password`` or an API key.
            settings: of a new collection.
            journal: folder of the journal. Default: beside the Milvus Lite file; for a server, below the user's state
                folder.
            provider: where ONNX Runtime computes, such as ``cpu`` or ``cuda``. Default: cuda if it works.
            threads: that compute on a CPU; 0: one for each core.
            encode_timeout: seconds after which a batch of photos is ended, for a graph may compute for ever.
            notify: called with each message, a text, that a person should read. Default: the logger ``milvus_fghash``.

        Raises:
            ConfigError: when the URI, the token or the name cannot be.
        """
        if isinstance(uri, ConnectionConfig) and token is not None:
            raise ConfigError("the token is given twice; leave it to the connection settings")
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
        """Close the connection. The catalog stays usable: the next call opens another one."""
        client, self._client, self._collection = self._client, None, None
        if client is not None:
            client.close()

    # What it is made of

    @property
    def collection(self) -> HashCollection:
        """The open collection.

        Raises:
            StoreError: when there is none of the name, or Milvus cannot be reached.
        """
        if self._collection is None:
            self._collection = HashCollection.open(self._connect(), self.name)
        return self._collection

    @property
    def encoder(self) -> Encoder:
        """The bundle at work, one photo at a time.

        Raises:
            ConfigError: when the catalog was opened without a bundle.
            BundleError: when the bundle is damaged, or none of a folder of bundles fits.
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
        """Encode photos and write them; a second call reads only what is new or changed.

        It can be interrupted at any moment, and the same call goes on. The collection is created when there is none. A
        photo that cannot be read is counted and reported; all others get in.

        Args:
            photos: a folder, an archive, a list (CSV, Parquet), a URL of one of these, or a listing.
            split: take this part of the photos only. Default: all.
            dataset: layout of the photos, a key of `DATASETS`. Default: what they look like.
            selection: what is left out, whether links are followed, and which folders are the classes.
            namespace: part of every id: lets folders with the same file names share a collection.
            options: batch size, decoder processes, pruning and so on.
            report: file for one line of JSON for each rejected photo.
            stop: when it is set, what was begun is finished and written, and the call ends with `Stopped`.
            progress: called with the number of photos done, and of all.

        Returns:
            How many photos were stored, unchanged, rejected, deleted, vanished.

        Raises:
            ConfigError: when the bundle or an option is missing or wrong, another run writes to this collection, or the
                collection cannot give what `CollectionSettings` ask for.
            DataError: when there are no photos, or the report or the journal cannot be written.
            StoreError: when another model filled the collection, or Milvus rejects.
            Stopped: see ``stop``.
        """
        dataset = _read(photos, layout, split, selection, report)
        return self._ingest(dataset, self._context(namespace, options, selection, report, stop, progress))

    def add(
        self,
        photos: Mapping[str, ImageLike] | Mapping[Path, ImageLike],
        *,
        labels: Mapping[str, str] = MappingProxyType({}),
        columns: Mapping[str, Mapping[str, object]] = MappingProxyType({}),
        namespace: str = "",
        options: IngestOptions | None = None,
    ) -> AddResult:
        """Encode a few photos from memory and write them, also those whose rows were deleted before.

        The same photo with the same label and columns under the same path adds nothing; else the row is replaced, and
        has no label and no columns but those that are given now. A photo that cannot be read is rejected; all others
        get in. They are decoded in this process, so a catalog of strangers' files is for `ingest`.

        Args:
            photos: path -> file, URL, bytes of a file, Pillow image, or (h, w, 3) uint8 RGB pixels. The path is what
                hits show, and with the namespace it makes the id.
            labels: path -> class name, where there is one.
            columns: path -> name -> value, of what else Milvus should know: typed columns of the collection, else
                keys of `meta`.
            namespace: as in `ingest`.
            options: as in `ingest`; ``workers`` and ``prune`` have no meaning here.

        Raises:
            ConfigError: for a path in ``labels`` or ``columns`` that is none of the photos; otherwise as `ingest`.
            DataError, StoreError: as `ingest`.
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
        """The nearest photos by Hamming distance; of equal ones, ordered by id.

        Args:
            photo: file, URL, bytes of a file, Pillow image, or (h, w, 3) uint8 RGB pixels.
            id: search by a row that is in the collection, instead of by a photo: its own id, such as a SKU, or its
                primary key.
            namespace: where an own id is looked for. Default: all.
            code: search by a code, instead: hexadecimal digits, or the bytes that `Encoder` and `Row.code` give.
            k: number of hits, 1 to 16,384.
            filter: Milvus expression such as ``label == "robin"``.
            max_distance: largest distance in bits, that one included.
            complete_ties: give all rows as far away as the last hit, even beyond ``k``.
            nprobe: clusters of BIN_IVF_FLAT to look into.
            consistency: default: the collection's.

        Returns:
            The hits, to be iterated over, and whether some as near as the last one may be missing.

        Raises:
            ConfigError: when not exactly one of photo, id and code is given, a number is out of range, or the catalog
                was opened without a bundle and a photo is given.
            ImageRejected: when the photo cannot be decoded.
            CodeError: when the code is of another length than the collection's.
            StoreError: when there is no such collection or row, another model filled the collection, or Milvus rejects.
        """
        if sum(one is not None for one in (photo, id, code)) != 1:
            raise ConfigError("search by one thing: a photo, an id or a code")
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
        """Rows by id, in that order, without those that are not there; reads what was just written.

        Args:
            ids: as in `delete`. The id of a row is `Hit.id`, or its own id where its list has a column ``id``; the ids
                of a listing are another thing.
            namespace: where own ids are looked for. Default: all.

        Raises:
            StoreError: when there is no such collection, several rows have an own id, or Milvus rejects.
        """
        collection = self.collection
        return collection.get(list(row_ids(collection, check_not_string(ids, "ids"), namespace).values()))

    def count(self, filter: str = "") -> int:
        """Number of rows that fit a filter; of all without one. Reads what was just written.

        Raises:
            ConfigError: when the filter is wrong.
            StoreError: when there is no such collection, or Milvus rejects.
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
        """Delete rows, never photo files. `ingest` does not take these photos in again until their content changes.

        Args:
            ids: own ids, such as SKUs, or primary keys. One that is not there is counted as missing.
            namespace: where own ids are looked for. Default: all.
            filter: Milvus expression, instead of ids.
            dry_run: only count them.

        Raises:
            ConfigError: when neither or both are given, the filter is empty, or a run writes to this collection.
            StoreError: when there is no such collection, an id cannot be one, or Milvus rejects.
        """
        if (ids is None) == (filter is None):
            raise ConfigError("say which rows: either by ids or by a filter")
        collection = self.collection
        with Journal.open_if_exists(self._journal_folder(collection.name), collection.uid) as journal:
            if ids is not None:
                return delete_named(collection, check_not_string(ids, "ids"), not dry_run, journal, namespace)
            assert filter is not None
            return delete_where(collection, filter, not dry_run, journal)

    def exists(self) -> bool:
        """Whether there is a collection, or an alias, of the name; also False without the file of Milvus Lite.

        Raises:
            StoreError: when Milvus cannot be reached.
        """
        uri = self.connection.uri
        if self.connection.is_lite and not Path(uri).expanduser().exists():
            return False
        return exists(self._connect(), self.name)

    def drop(self) -> None:
        """Delete the collection with all its rows, and its journal. Photo files stay.

        Raises:
            ConfigError: when a run writes to it.
            StoreError: when there is none of the name, an alias stands for it, or Milvus rejects.
        """
        client = self._connect()
        drop_with_journal(client, self.name, self._journal_folder(self.name))
        self._collection = None

    # Whether all is well

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
        """Compare photos, journal and collection. Nothing is written to Milvus.

        Args:
            photos, split, dataset, selection, namespace: as they were given to `ingest`.
            sample: photos that are encoded again and searched for.
            seed: draws the sample. Default: another one each time.

        Raises:
            ConfigError, DataError, StoreError: as `ingest`.
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
        """Verify, write again what is missing or wrong, take in what is new, and verify once more.

        Args:
            photos, split, dataset, selection, namespace, sample, seed: as in `verify`.
            delete_extra: delete the rows that neither the photos nor the journal know.
            options, stop, progress: as in `ingest`.

        Raises:
            ConfigError, DataError, StoreError, Stopped: as `ingest`.
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
        """Measure how well the collection finds photos of the same class.

        Args:
            photos: of the queries, with labels.
            query_split: part of them that is searched by. Default: ``test``.
            dataset, selection: as in `ingest`.
            filter: Milvus expression; only rows that fit it are the gallery.
            name: what the record calls the photos. Default: where they are.
            progress: called with the number of queries encoded, and of all.

        Raises:
            DataError: when the split is missing, or a query has no class.
            ConfigError, StoreError: as `search`.
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
        confirm_within: int = MAX_COPY_DISTANCE,
        photos: Sequence[str | Path] = (),
        progress: Progress | None = None,
    ) -> Duplicates:
        """Groups of equal files, and of photos whose codes are near. Nothing is deleted: see `delete_duplicates`.

        Args:
            max_distance: most bits in which the codes of near duplicates differ. Default: that of ``previous``, else an
                eighth of the bits less 5.
            previous: an earlier result; only what changed since then is searched.
            confirm_within: most bits of 64 in which the perceptual hashes of confirmed copies differ.
            photos: folders of the photos, to compute the hashes that the collection does not keep. Those that
                were ingested from are looked through as well.
            progress: called with the number of codes done, and of all.

        Raises:
            ConfigError: when a distance is out of range, or ``previous`` is about another collection.
            StoreError: when there is no such collection, or Milvus rejects.
        """
        collection = self.collection
        places = [*map(Path, check_not_string(photos, "photos")), *sorted(self.places_of_photos())]
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
        """Delete all rows but one of each group of equal files, and confirmed copies of near groups. Photo files stay.

        Args:
            found: what `dedupe` gave.
            kinds: ``exact``, ``near``, or both.
            keep: the row of a group that stays: the first or the last one by path.
            delete_at_most: part of all rows above which nothing is deleted.
            dry_run: only count them.

        Returns:
            Number of rows that were, or would be, deleted.

        Raises:
            TooManyDeleted: when they are more than that part.
            ConfigError, StoreError: as `delete`.
        """
        check_not_string(kinds, "kinds")
        if dry_run:
            return len(redundant_rows(found.groups, kinds, keep, found.confirmed_within))
        collection = self.collection
        with Journal.open_if_exists(self._journal_folder(collection.name), collection.uid) as journal:
            return delete_copies(collection, found, kinds, keep, delete_at_most, journal)

    def places_of_photos(self) -> set[Path]:
        """Folders and lists that were ingested from on this machine, as the records of the runs say."""
        return photo_sources(self._journal_folder(self.collection.name))

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
        """Fill a new collection by a new model beside this one, verify it, and compare the two.

        This catalog and its collection stay as they are; `promote` makes its name stand for the new one.

        Args:
            bundle: of the new model.
            photos, split, dataset, selection, namespace, options, report, stop, progress: as in `ingest`.
            into: name of the new collection. Default: the old one's, and the new model's fingerprint.
            sample: which photos are verified and compared.

        Raises:
            ConfigError, DataError, StoreError, Stopped: as `ingest`.
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
        """Make the name of this catalog, an alias, stand for a new collection; searches meet the old or the new one.

        Args:
            collection: default: the one that `reindex` made.
            max_missing: rows of the old collection that may be missing in the new one.
            unverified: take a collection that no `reindex` of this machine verified.

        Raises:
            ConfigError: when the name is that of a collection, or a run writes.
            Inconsistent: when the new collection is not verified, empty, or lacks rows.
            StoreError: when there is no such collection, or Milvus rejects.
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
        """Make the name of this catalog, an alias, stand for the collection before again.

        Raises:
            Inconsistent: when that collection is empty.
            StoreError: when there is no such alias, it stood for nothing before, or Milvus rejects.
        """
        moved = versions.rollback(self._connect(), self.name)
        self._forget()
        return moved

    def drop_previous(self, keep: int, *, dry_run: bool = False) -> list[str]:
        """Drop the collections that the name of this catalog stood for before, but the newest ``keep``; their names.

        Args:
            dry_run: only name them.

        Raises:
            ConfigError: when a run writes to one.
            StoreError: when another alias stands for one, or Milvus rejects.
        """
        return versions.drop_older(self._connect(), self.name, keep, self._journal_folder, not dry_run)

    def check_bundle(self) -> None:
        """Reject a bundle whose codes cannot be compared with those of the collection, without loading its graph.

        Raises:
            BundleError: when the bundle is damaged, or none of a folder of bundles fits.
            ConfigError: when the catalog was opened without a bundle.
            StoreError: when another model filled the collection.
        """
        self.collection.check_model(read_bundle(self._bundle_path()).manifest)

    # How

    def _connect(self, *, may_create: bool = False) -> MilvusClient:
        """Only what writes may make a file of Milvus Lite: a mistyped name must not look like an empty catalog."""
        if self._client is None:
            self._client = connect(self.connection, may_create=may_create)
        return self._client

    def _forget(self) -> None:
        """The name may stand for another collection now, whose codes are another bundle's."""
        self._collection = None
        if self._bundle is not None and not is_bundle(self._bundle):
            self._encoders.clear()

    def _bundle_path(self) -> Path:
        """The bundle; of a folder of bundles, the one that fits."""
        path = self._bundle
        if path is None:
            raise ConfigError("this needs the bundle whose codes the collection holds; open the catalog with one")
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
        """Where the journal of the collection is kept."""
        return self._journal_folder(self.collection.name)

    def _journal_folder(self, collection: str) -> Path:
        return self.journal or journal_folder(self.connection, collection)

    def _open_to_write(self, encoder: Encoder, columns: Sequence[Column]) -> HashCollection:
        """The collection; a new one where there is none."""
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
