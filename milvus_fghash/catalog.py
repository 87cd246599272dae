"""A photo catalog in Milvus, as one object: its collection, the encoder of its codes, and the journal of its rows."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Final, Self

from milvus_fghash.bundle import Bundle, is_bundle
from milvus_fghash.data import Listing, Selection, Url, read_dataset
from milvus_fghash.data.columns import Column
from milvus_fghash.data.memory import ImageLike, listing_in_memory
from milvus_fghash.data.selection import DEFAULT_SELECTION
from milvus_fghash.duplicates_record import Duplicates
from milvus_fghash.errors import ConfigError, several
from milvus_fghash.serving import promote as versions
from milvus_fghash.serving.aliases import exists
from milvus_fghash.serving.changes import Changes
from milvus_fghash.serving.collection import Consistency, HashCollection, count_rows
from milvus_fghash.serving.dedupe import find_duplicates
from milvus_fghash.serving.deleting import Deletion, delete_ids, delete_where, drop_with_journal
from milvus_fghash.serving.driver import MilvusClient
from milvus_fghash.serving.encoder import Encoder
from milvus_fghash.serving.evaluation import evaluate_collection
from milvus_fghash.serving.following import bundle_for
from milvus_fghash.serving.ingest import ingest as run_ingest
from milvus_fghash.serving.ingest_options import IngestOptions, IngestResult
from milvus_fghash.serving.journal import Journal
from milvus_fghash.serving.promote import Moved
from milvus_fghash.serving.reindex import Reindexed, Sample, new_name, open_beside
from milvus_fghash.serving.reindex import reindex as run_reindex
from milvus_fghash.serving.rows import Rows, photo_id
from milvus_fghash.serving.scalar_columns import asked_columns
from milvus_fghash.serving.schema import IndexType, check_name
from milvus_fghash.serving.search import Found, Wanted, search_codes, search_hex, search_id
from milvus_fghash.serving.target import Target, connect, journal_folder
from milvus_fghash.serving.verify import Verification, mend
from milvus_fghash.serving.verify import verify as run_verify
from milvus_fghash.whole_file import write_whole

if TYPE_CHECKING:
    from milvus_fghash.evaluate import Evaluation

__all__ = ["AddResult", "Catalog", "CollectionSettings", "Rejection", "RepairResult"]

ADDED: Final = Url("memory://added")
"""Source of the photos that `Catalog.add` takes, as the journal names it. It never loses a photo."""
DEFAULTS: Final = IngestOptions()
SAMPLE: Final = Sample()
Notify = Callable[[str], object]
Progress = Callable[[int, int], object]
Photos = str | Path | Url | Listing
"""Where photos are: a folder, an archive, a list, a URL of one of these, or what `read_dataset` gave."""


@dataclass(frozen=True)
class CollectionSettings:
    """What a new collection is like. An existing one keeps its own: what it cannot give is refused.

    Attributes:
        index: ``"BIN_FLAT"`` compares with every row, ``"BIN_IVF_FLAT"`` with the nearest clusters only (servers).
        nlist: number of clusters of BIN_IVF_FLAT; 128 by default.
        code_hex: keep the code as text too, which is cheaper to fetch than the vector.
        embedding: keep the bundle's embedding too.
        columns: typed columns of the photos' list, as ``NAME`` or ``NAME:TYPE`` (text, int64, double, bool).
        partition_key: that of ``columns`` by which a server partitions the rows.
        consistency: level of reads that name none; Bounded by default.

    None and an empty tuple mean: whatever the collection has, else the default.
    """

    index: IndexType | None = None
    nlist: int | None = None
    code_hex: bool = False
    embedding: bool = False
    columns: tuple[str, ...] = ()
    partition_key: str | None = None
    consistency: Consistency | None = None

    def __post_init__(self) -> None:
        several(self.columns, "columns")


@dataclass(frozen=True)
class Rejection:
    """A photo that was not taken.

    Attributes:
        path: as it was given.
        reason: one word, such as ``format`` or ``truncated``.
        message: one sentence.
    """

    path: str
    reason: str
    message: str


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
    rejected: tuple[Rejection, ...]


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

    connection: Target
    name: str
    """Of the collection, or an alias of one."""
    settings: CollectionSettings
    journal: Path | None
    notify: Notify
    provider: str | None
    threads: int
    _bundle: Path | None
    _encoders: dict[bool, Encoder] = field(default_factory=dict, repr=False)
    """For one photo at a time, and for many."""
    _client: MilvusClient | None = field(default=None, repr=False)
    _collection: HashCollection | None = field(default=None, repr=False)

    @classmethod
    def open(
        cls,
        uri: str | Path | Target = "milvus-fghash.db",
        collection: str = "photos",
        *,
        bundle: str | Path | Bundle | Encoder | None = None,
        token: str | None = None,
        settings: CollectionSettings = CollectionSettings(),
        journal: str | Path | None = None,
        provider: str | None = None,
        threads: int = 0,
        notify: Notify = lambda message: None,
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
            notify: called with each message that a person should read.

        Raises:
            ConfigError: when the URI, the token or the name cannot be.
        """
        if isinstance(uri, Target) and token is not None:
            raise ConfigError("the token is given twice; leave it to the connection settings")
        made_by = bundle.bundle if isinstance(bundle, Encoder) else bundle
        return cls(
            connection=uri if isinstance(uri, Target) else Target(str(uri), token),
            name=check_name(collection),
            settings=settings,
            journal=None if journal is None else Path(journal),
            notify=notify,
            provider=provider,
            threads=threads,
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
        dataset: str | None = None,
        selection: Selection = DEFAULT_SELECTION,
        namespace: str = "",
        options: IngestOptions = DEFAULTS,
        report: str | Path | None = None,
        stop: threading.Event | None = None,
        progress: Progress = lambda done, total: None,
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
            StoreError: when another model filled the collection, or Milvus refuses.
            Stopped: see ``stop``.
        """
        listing = _read(photos, dataset, split, selection, report)
        options = replace(options, follow_links=options.follow_links or selection.follow_links)
        return self._ingest(
            listing, namespace, options, report=None if report is None else Path(report), stop=stop, progress=progress
        )

    def add(
        self,
        photos: Mapping[str, ImageLike],
        *,
        labels: Mapping[str, str] = MappingProxyType({}),
        columns: Mapping[str, Mapping[str, object]] = MappingProxyType({}),
        namespace: str = "",
        options: IngestOptions = DEFAULTS,
    ) -> AddResult:
        """Encode a few photos from memory and write them.

        The same photo under the same path adds nothing; another one replaces the row. A photo that cannot be read is
        rejected; all others get in. They are decoded in this process, so a catalog of strangers' files is for `ingest`.

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
        listing = listing_in_memory(photos, labels, columns, ADDED)
        alone = replace(options, workers=0, prune=False)
        rejected: list[Rejection] = []
        done = self._ingest(listing, namespace, alone, rejected=rejected)
        out = {one.path for one in rejected}
        ids = {path: photo_id(namespace, path) for path in listing.paths if path not in out}
        return AddResult(ids, done.stored, done.unchanged, tuple(rejected))

    # Photos out

    def search(
        self,
        photo: ImageLike | None = None,
        *,
        id: str | None = None,
        code: str | None = None,
        k: int = 10,
        filter: str = "",
        max_distance: int | None = None,
        complete_ties: bool = False,
        nprobe: int | None = None,
        consistency: Consistency | None = None,
    ) -> Found:
        """The nearest photos by Hamming distance; of equal ones, ordered by id.

        Args:
            photo: file, URL, bytes of a file, Pillow image, or (h, w, 3) uint8 RGB pixels.
            id: search by a row that is in the collection, instead of by a photo.
            code: search by a code in hexadecimal digits, instead.
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
            ImageRefused: when the photo cannot be decoded.
            CodeError: when the code is of another length than the collection's.
            StoreError: when there is no such collection or row, another model filled the collection, or Milvus refuses.
        """
        if sum(one is not None for one in (photo, id, code)) != 1:
            raise ConfigError("search by one thing: a photo, an id or a code")
        wanted = Wanted(k, filter, max_distance, complete_ties, nprobe, consistency)
        collection = self.collection
        if id is not None:
            return search_id(collection, id, wanted)
        if code is not None:
            return search_hex(collection, code, wanted)
        assert photo is not None
        encoder = self.encoder
        collection.check_model(encoder.bundle.manifest)
        return search_codes(collection, encoder.encode_image(photo), wanted)[0]

    def get(self, ids: Sequence[str]) -> Rows:
        """Rows by id, in that order, without those that are not there; reads what was just written.

        Raises:
            StoreError: when there is no such collection, or Milvus refuses.
        """
        return self.collection.get(several(ids, "ids"))

    def count(self, filter: str = "") -> int:
        """Number of rows that fit a filter; of all without one. Reads what was just written.

        Raises:
            StoreError: when there is no such collection, or Milvus refuses, for example the filter.
        """
        collection = self.collection
        return count_rows(collection.client, collection.name, filter)

    def delete(self, ids: Sequence[str] | None = None, *, filter: str | None = None, dry_run: bool = False) -> Deletion:
        """Delete rows, never photo files. `ingest` does not take these photos in again until their content changes.

        Args:
            ids: primary keys. One that is not there is counted as missing.
            filter: Milvus expression, instead of ids.
            dry_run: only count them.

        Raises:
            ConfigError: when neither or both are given, the filter is empty, or a run writes to this collection.
            StoreError: when there is no such collection, an id cannot be one, or Milvus refuses.
        """
        if (ids is None) == (filter is None):
            raise ConfigError("say which rows: either by ids or by a filter")
        collection = self.collection
        with Journal.if_there(self._journal_folder(collection.name), collection.note.born) as journal:
            if ids is not None:
                return delete_ids(collection, several(ids, "ids"), not dry_run, journal)
            assert filter is not None
            return delete_where(collection, filter, not dry_run, journal)

    def drop(self) -> None:
        """Delete the collection with all its rows, and its journal. Photo files stay.

        Raises:
            ConfigError: when a run writes to it.
            StoreError: when there is none of the name, an alias stands for it, or Milvus refuses.
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
        dataset: str | None = None,
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
        return self._verify(_read(photos, dataset, split, selection), namespace, sample, _drawn(seed))

    def repair(
        self,
        photos: Photos,
        *,
        split: str | None = None,
        dataset: str | None = None,
        selection: Selection = DEFAULT_SELECTION,
        namespace: str = "",
        sample: int = 100,
        seed: int | None = None,
        delete_extra: bool = False,
        options: IngestOptions = DEFAULTS,
        stop: threading.Event | None = None,
        progress: Progress = lambda done, total: None,
    ) -> RepairResult:
        """Verify, write again what is missing or wrong, take in what is new, and verify once more.

        Args:
            photos, split, dataset, selection, namespace, sample, seed: as in `verify`.
            delete_extra: delete the rows that neither the photos nor the journal know.
            options, stop, progress: as in `ingest`.

        Raises:
            ConfigError, DataError, StoreError, Stopped: as `ingest`.
        """
        listing, drawn = _read(photos, dataset, split, selection), _drawn(seed)
        options = replace(options, follow_links=options.follow_links or selection.follow_links)
        before = self._verify(listing, namespace, sample, drawn, repair=True, delete_extra=delete_extra)
        done = self._ingest(listing, namespace, options, stop=stop, progress=progress)
        return RepairResult(before, done, self._verify(listing, namespace, sample, drawn))

    def evaluate(
        self,
        photos: Photos,
        *,
        query_split: str = "test",
        dataset: str | None = None,
        selection: Selection = DEFAULT_SELECTION,
        filter: str = "",
        name: str | None = None,
    ) -> Evaluation:
        """Measure how well the collection finds photos of the same class.

        Args:
            photos: of the queries, with labels.
            query_split: part of them that is searched by. Default: ``test``.
            dataset, selection: as in `ingest`.
            filter: Milvus expression; only rows that fit it are the gallery.
            name: what the record calls the photos. Default: where they are.

        Raises:
            DataError: when the split is missing, or a query has no class.
            ConfigError, StoreError: as `search`.
        """
        listing = _read(photos, dataset, None, selection)
        return evaluate_collection(
            self.collection,
            self._encoder(),
            listing,
            dataset=name or str(listing.given or listing.origin),
            query_split=query_split,
            filter=filter,
        )

    # Duplicates

    def dedupe(
        self,
        *,
        max_distance: int | None = None,
        previous: Duplicates | None = None,
        progress: Progress = lambda done, total: None,
    ) -> Duplicates:
        """Groups of equal files, and of photos whose codes are near. Nothing is deleted.

        Args:
            max_distance: most bits in which near duplicates differ. Default: that of ``previous``, else
                `default_distance`.
            previous: an earlier result; only what changed since then is searched.
            progress: called with the number of codes done, and of all.

        Raises:
            ConfigError: when the distance is out of range, or ``previous`` is about another collection.
            StoreError: when there is no such collection, or Milvus refuses.
        """
        return find_duplicates(self.collection, max_distance, previous, progress)

    # Another model

    def reindex(
        self,
        bundle: str | Path | Bundle | Encoder,
        photos: Photos,
        *,
        into: str | None = None,
        split: str | None = None,
        dataset: str | None = None,
        selection: Selection = DEFAULT_SELECTION,
        namespace: str = "",
        options: IngestOptions = DEFAULTS,
        sample: Sample = SAMPLE,
        report: str | Path | None = None,
        stop: threading.Event | None = None,
        progress: Progress = lambda done, total: None,
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
        listing = _read(photos, dataset, split, selection, report)
        options = replace(options, follow_links=options.follow_links or selection.follow_links)
        encoder = bundle if isinstance(bundle, Encoder) else self._load(_path_of(bundle), for_many=True)
        old = self.collection
        new = open_beside(self._connect(), old, into or new_name(self.name, old.note, encoder.bundle.manifest), encoder)
        return run_reindex(
            encoder,
            listing,
            old,
            new,
            (self._journal_folder(old.name), self._journal_folder(new.name)),
            namespace,
            options,
            sample,
            report=None if report is None else Path(report),
            stop=stop,
            tell=self.notify,
            progress=progress,
        )

    def promote(self, collection: str | None = None, *, max_missing: int = 0, unverified: bool = False) -> Moved:
        """Make the name of this catalog, an alias, stand for a new collection; searches meet the old or the new one.

        Args:
            collection: default: the one that `reindex` made.
            max_missing: rows of the old collection that may be missing in the new one.
            unverified: take a collection that no `reindex` of this machine verified.

        Raises:
            ConfigError: when the name is that of a collection, or a run writes.
            NotWhole: when the new collection is not verified, empty, or lacks rows.
            StoreError: when there is no such collection, or Milvus refuses.
        """
        client = self._connect()
        moved = versions.promote(
            client,
            self.name,
            collection or versions.candidate(client, self.name),
            self._journal_folder,
            max_missing=max_missing,
            unverified=unverified,
            tell=self.notify,
        )
        self._forget()
        return moved

    def rollback(self) -> Moved:
        """Make the name of this catalog, an alias, stand for the collection before again.

        Raises:
            NotWhole: when that collection is empty.
            StoreError: when there is no such alias, it stood for nothing before, or Milvus refuses.
        """
        moved = versions.rollback(self._connect(), self.name)
        self._forget()
        return moved

    # How

    def _connect(self, *, may_create: bool = False) -> MilvusClient:
        """Only what writes may make a file of Milvus Lite: a mistyped name must not look like an empty catalog."""
        if self._client is None:
            self._client = connect(self.connection, may_create=may_create)
        return self._client

    def _is_there(self) -> bool:
        """Whether the collection exists."""
        uri = self.connection.uri
        if self.connection.is_lite and not Path(uri).expanduser().exists():
            return False
        return exists(self._connect(), self.name)

    def _forget(self) -> None:
        """The name may stand for another collection now, whose codes are another bundle's."""
        self._collection = None
        if self._bundle is not None and not is_bundle(self._bundle):
            self._encoders.clear()

    def _encoder(self, *, for_many: bool = True) -> Encoder:
        if for_many not in self._encoders:
            if self._bundle is None:
                raise ConfigError("this needs the bundle whose codes the collection holds; open the catalog with one")
            path = self._bundle
            if not is_bundle(path) and path.is_dir() and self._is_there():
                path = bundle_for(self.collection, path)
            self._encoders[for_many] = self._load(path, for_many)
        return self._encoders[for_many]

    def _load(self, bundle: Path, for_many: bool) -> Encoder:
        return Encoder.open(bundle, self.provider, self.threads, for_many=for_many)

    def _journal_folder(self, collection: str) -> Path:
        return self.journal or journal_folder(self.connection, collection)

    def _open_to_write(self, encoder: Encoder, columns: Sequence[Column]) -> HashCollection:
        """The collection; a new one where there is none."""
        wanted = self.settings
        if wanted.embedding and encoder.embedding_dim is None:
            raise ConfigError(f"the bundle {encoder.bundle.path} gives no embedding; export it again with one")
        self._collection = HashCollection.open_or_create(
            self._connect(may_create=True),
            self.name,
            encoder.bundle.manifest,
            index=wanted.index,
            nlist=wanted.nlist,
            code_hex=wanted.code_hex,
            embedding_dim=encoder.embedding_dim if wanted.embedding else None,
            consistency=wanted.consistency,
            columns=columns,
            partition_key=wanted.partition_key,
        )
        return self._collection

    def _ingest(
        self,
        listing: Listing,
        namespace: str,
        options: IngestOptions,
        *,
        report: Path | None = None,
        rejected: list[Rejection] | None = None,
        stop: threading.Event | None = None,
        progress: Progress = lambda done, total: None,
    ) -> IngestResult:
        encoder = self._encoder()
        columns = asked_columns(self.settings.columns, listing.cells)
        if report is not None:
            write_whole(report, b"")  # before a collection is made for a run that cannot report
        collection = self._open_to_write(encoder, columns)
        with closing(Journal.open(self._journal_folder(collection.name), collection.note.born)) as journal:
            result = run_ingest(
                encoder,
                listing,
                collection,
                namespace,
                options,
                journal=journal,
                report=report,
                stop=stop,
                tell=self.notify,
                progress=progress,
            )
            if rejected is not None:
                rejected += [Rejection(one.path, one.reason, one.message) for one in journal.refused()]
        return result

    def _verify(
        self,
        listing: Listing,
        namespace: str,
        sample: int,
        seed: int,
        *,
        repair: bool = False,
        delete_extra: bool = False,
    ) -> Verification:
        encoder, collection = self._encoder(), self.collection
        folder = self._journal_folder(collection.name)
        with Journal.if_there(folder, collection.note.born) as journal, closing(Journal.in_memory()) as empty:
            changes = Changes(listing, namespace, journal or empty)
            found = run_verify(encoder, listing, collection, changes, sample, seed)
            if repair:
                mend(collection, changes.journal, found, delete_extra=delete_extra)
        return found


def _read(
    photos: Photos,
    dataset: str | None,
    split: str | None,
    selection: Selection,
    report: str | Path | None = None,
) -> Listing:
    listing = photos if isinstance(photos, Listing) else read_dataset(photos, dataset, selection=selection)
    if report is not None:
        listing.keep_apart(Path(report))
    return listing.split(split) if split else listing


def _path_of(bundle: str | Path | Bundle) -> Path:
    return bundle.path if isinstance(bundle, Bundle) else Path(bundle)


def _drawn(seed: int | None) -> int:
    return random.randrange(2**32) if seed is None else seed
