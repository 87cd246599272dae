"""Bulk import: photos -> a folder of shards -> a collection on a Milvus server."""

from __future__ import annotations

import threading
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Final

from milvus_fghash.bulk_import.destination import collection_for
from milvus_fghash.bulk_import.jobs.job import Jobs
from milvus_fghash.bulk_import.run import ImportOptions, ImportResult, ImportRun
from milvus_fghash.bulk_import.shards.builder import Engine, ShardOptions, ShardsResult, local_engine
from milvus_fghash.bulk_import.shards.builder import build_shards as run_build
from milvus_fghash.bulk_import.shards.folder import ShardFolder
from milvus_fghash.bulk_import.shards.ray_engine import RayOptions, RayPool
from milvus_fghash.bulk_import.upload import Bucket, in_place
from milvus_fghash.core.atomic_io import write_atomic
from milvus_fghash.core.callbacks import Notify, Progress
from milvus_fghash.datasets.read import Dataset, Selection, Url, read_dataset
from milvus_fghash.datasets.selection import DEFAULT_SELECTION
from milvus_fghash.encoding.decode_result import advice
from milvus_fghash.encoding.encoder import Encoder
from milvus_fghash.encoding.graph_runs import ENCODE_TIMEOUT
from milvus_fghash.errors import ConfigError, Inconsistent, Stopped, StoreError
from milvus_fghash.ingest.api import write_report
from milvus_fghash.milvus.collection import DEFAULT_NLIST, Consistency
from milvus_fghash.milvus.connection import ConnectionConfig, connect, probe
from milvus_fghash.milvus.pymilvus_compat import MilvusClient
from milvus_fghash.milvus.schema import IndexType

__all__ = [
    "ImportOptions",
    "ImportResult",
    "RayOptions",
    "ShardOptions",
    "ShardsResult",
    "build_shards",
    "import_shards",
]

SHARDS: Final = ShardOptions()
IMPORT: Final = ImportOptions()


def build_shards(
    bundle: str | Path,
    photos: str | Path | Url | Dataset,
    *,
    out: str | Path,
    split: str | None = None,
    layout: str | None = None,
    selection: Selection = DEFAULT_SELECTION,
    namespace: str = "",
    options: ShardOptions = SHARDS,
    ray: RayOptions | None = None,
    provider: str | None = None,
    threads: int = 0,
    encode_timeout: float = ENCODE_TIMEOUT,
    report: str | Path | None = None,
    stop: threading.Event | None = None,
    notify: Notify = lambda message: None,
    progress: Progress = lambda done, total: None,
) -> ShardsResult:
    """Encode photos into a folder of Parquet files for Milvus' bulk import; a second call builds the missing ones.

    The same photos, model and options give the same files. After an interruption, the same call continues. Photos that
    cannot be read are counted and reported.

    Args:
        bundle: folder of the bundle.
        photos: a folder, an archive, a list (CSV, Parquet), a URL of one of these, or a dataset.
        out: folder for the shards; it holds those of one set of photos and one model.
        split: use only this part of the photos. Default: all.
        layout: layout of the photos, a key of `DATASETS`. Default: what they look like.
        selection: which photos are excluded, whether links are followed, and which folders are the classes.
        namespace: part of every id: lets folders with the same file names share a collection.
        options: photos per shard, columns, pruning and so on.
        ray: build the shards on Ray, whose machines must see bundle, photos and shards under the same paths. Default:
            in this process.
        provider: where ONNX Runtime computes, such as ``cpu`` or ``cuda``. Default: cuda if it works.
        threads: CPU threads. 0: one per core, and one in each actor of Ray.
        encode_timeout: seconds after which the computation of a batch is ended: a graph can compute forever.
        report: file for one line of JSON for each rejected photo.
        stop: when it is set, the current shard is abandoned, and the call ends with `Stopped`.
        notify: called with each message for the user.
        progress: called with the number of photos done, and the total.

    Returns:
        The numbers of shards, rows and rejected photos.

    Raises:
        ConfigError: when the folder has other shards, another process uses it, an option is invalid, or Ray cannot be
            reached.
        BundleError: when the bundle is damaged.
        DataError: when there are no photos, or the shards or the report cannot be written.
        MissingExtra: when the packages for Parquet or Ray are not installed.
        Stopped: see ``stop``.

    Examples:
        >>> import milvus_fghash as fg
        >>> fg.build_shards("bundles/birds", "photos", out="shards").rows  # doctest: +SKIP
    """
    dataset = photos if isinstance(photos, Dataset) else read_dataset(photos, layout, selection=selection)
    folder, report = ShardFolder(Path(out)), None if report is None else Path(report)
    for written in (folder.path, report):
        if written is not None:
            dataset.keep_apart(written)
    if split:
        dataset = dataset.split(split)
    encoder = Encoder.open(
        Path(bundle),
        provider="cpu" if ray else provider,  # the actors encode; this process only reads the bundle
        threads=threads,
        for_many=ray is None,
        encode_timeout=encode_timeout,
    )
    engine: Engine = local_engine
    if ray:
        engine = RayPool(encoder.bundle.path, ray, provider, threads or 1, encode_timeout).engine()
    if report is not None:
        write_atomic(report, b"")  # rejects a report that cannot be written before any work
    try:
        result = run_build(
            encoder,
            dataset,
            folder,
            namespace,
            replace(options, follow_links=options.follow_links or selection.follow_links),
            engine=engine,
            stop=stop,
            progress=progress,
        )
    finally:  # an interrupted run reports, too
        if report is not None:
            write_report(report, folder.rejected())
    for line in advice(result.reasons):
        notify(line)
    return result


def import_shards(
    shards: str | Path,
    uri: str | ConnectionConfig,
    *,
    collection: str = "photos",
    token: str | None = None,
    bucket: str | None = None,
    index: IndexType | None = None,
    nlist: int = DEFAULT_NLIST,
    consistency: Consistency = "Bounded",
    options: ImportOptions = IMPORT,
    stop: threading.Event | None = None,
    notify: Notify = lambda message: None,
    stage: Notify = lambda what: None,
    progress: Progress = lambda done, total: None,
) -> ImportResult:
    """Import shards with the bulk import of a Milvus server, each row once, and verify them.

    A bulk import does not replace rows, so a shard is sent only when none of its ids is in the collection. After an
    interruption or a failure, the same call continues. A missing collection is created.

    Args:
        shards: folder that `build_shards` wrote.
        uri: a Milvus server (``http://host:19530``), or a `Target` for TLS, a database and so on.
        collection: name of the collection, or an alias.
        token: ``user:password`` or an API key.
        bucket: first copy the shards to the bucket of Milvus, such as ``s3://BUCKET/FOLDER``. Default: Milvus reads
            them in place.
        index: ``"BIN_FLAT"`` or ``"BIN_IVF_FLAT"``. Default: that of the collection; of a new one, BIN_FLAT.
        nlist: number of clusters of BIN_IVF_FLAT.
        consistency: default consistency level of a new collection.
        options: parallel jobs, time limits, number of compared rows.
        stop: when it is set, the call ends with `Stopped`; running jobs continue in Milvus.
        notify: called with each message for the user.
        stage: called with the name of each stage.
        progress: called with the number of shards checked, and the total; then with the number of rows imported.

    Returns:
        The numbers of imported shards and rows.

    Raises:
        ConfigError: when the collection has other columns, or an option is invalid.
        DataError: when a shard is damaged.
        Inconsistent: when shards are missing, or rows of the collection differ from those of their shard.
        StoreError: for Milvus Lite, when ids of a shard are already in the collection, or Milvus rejects a call.
        Stopped: see ``stop``.

    Examples:
        >>> import milvus_fghash as fg
        >>> fg.import_shards("shards", "http://localhost:19530", collection="photos").rows  # doctest: +SKIP
    """
    if isinstance(uri, ConnectionConfig) and token is not None:
        raise ConfigError("the token is given twice; leave it to the connection settings")
    config = uri if isinstance(uri, ConnectionConfig) else ConnectionConfig(uri, token)
    _reject_lite(config)
    folder, publish = ShardFolder(Path(shards)), Bucket(bucket).put if bucket else in_place
    if not folder.path.is_dir():
        raise Inconsistent(f"there is no folder {folder.path}; build the shards first")
    stop = stop or threading.Event()

    def on_checked(done: int, total: int) -> None:
        if stop.is_set():
            raise Stopped("stopped; nothing was sent, and the same call starts again")
        progress(done, total)

    with folder.held():
        stage("comparing checksums")
        markers = folder.check_all(on_checked)
        manifest = folder.manifest()
        assert manifest is not None  # or `check_all` has raised
        stage("importing")
        with closing(connect(config)) as client:
            jobs = import_jobs(config, client, collection)
            made = collection_for(
                manifest, client, collection, index=index, nlist=nlist, consistency=consistency, notify=notify
            )
            return ImportRun(folder, markers, made, jobs, publish, options, stop, notify, progress).result()


def _reject_lite(config: ConnectionConfig) -> None:
    """Raise `StoreError` for a file of Milvus Lite."""
    if config.is_lite:
        raise StoreError("Milvus Lite has no bulk import; name a server, or ingest the photos", setting="uri")


def import_jobs(config: ConnectionConfig, client: MilvusClient, collection: str) -> Jobs:
    """The import jobs of this server, by REST or gRPC; raises `StoreError` when its version is not known."""
    capabilities = probe(client)
    if capabilities.bulk_import == "grpc":
        from milvus_fghash.bulk_import.jobs.grpc import GrpcJobs

        return GrpcJobs(client, collection)
    from milvus_fghash.bulk_import.jobs.rest import RestJobs

    return RestJobs(config, collection, keyed=capabilities.import_keys)
