"""Builds the shards of a dataset that are missing in a folder."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from milvus_fghash.bulk_import.shards.folder import Marker, PlannedShard, ShardFolder, ShardsManifest
from milvus_fghash.bulk_import.shards.parquet import arrow_schema, read_paths
from milvus_fghash.bulk_import.shards.plan import Plan, ShardTask, plan_shards
from milvus_fghash.bulk_import.shards.writer import ShardWriter, Tick, write_behind
from milvus_fghash.core.callbacks import Progress
from milvus_fghash.datasets.dataset import Dataset
from milvus_fghash.encoding.decode_options import DecodeOptions
from milvus_fghash.encoding.decode_result import Rejected
from milvus_fghash.encoding.encoder import Encoder
from milvus_fghash.errors import ConfigError, DataError, Stopped, check_not_string
from milvus_fghash.ingest.changes import Changes
from milvus_fghash.milvus.rows import photo_id
from milvus_fghash.milvus.scalar_fields import check_columns, requested_columns
from milvus_fghash.milvus.schema import CollectionMetadata
from milvus_fghash.state.journal import Journal

DEFAULT_SHARD_ROWS: Final = 100_000
Engine = Callable[[ShardWriter, Iterable[ShardTask], Tick], Iterator[Marker]]
"""Builds shards, and yields the marker of each finished one, in any order."""


@dataclass(frozen=True, kw_only=True)
class ShardOptions(DecodeOptions):
    """How shards are built. The attributes of `DecodeOptions` are options, too; on Ray, ``workers`` are per actor.

    Attributes:
        shard_rows: photos per shard.
        code_hex: also keep the code as hexadecimal text.
        embedding: also keep the bundle's embedding.
        phash: keep the perceptual hash of each photo. A folder with shards without it gets further ones without it.
        columns: typed columns from the list of photos, as ``NAME`` or ``NAME:TYPE`` (text, int64, double, bool).
            Default: those that the dataset has as such.
        partition_key: the typed column by which the collection is partitioned.
        retry_rejected: build shards again that lack rejected photos.
        prune: delete shards that are no longer planned.

    Raises:
        ConfigError: when a number is out of range, or ``columns`` is a single text.

    Examples:
        >>> ShardOptions(shard_rows=50_000, columns=["price:double"]).shard_rows
        50000
    """

    shard_rows: int = DEFAULT_SHARD_ROWS
    code_hex: bool = False
    embedding: bool = False
    phash: bool = True
    columns: Sequence[str] = ()
    partition_key: str | None = None
    retry_rejected: bool = False
    prune: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_not_string(self.columns, "columns")
        if self.shard_rows < 1:
            raise ConfigError(f"a shard has at least one photo, got {self.shard_rows}", setting="shard_rows")


@dataclass(frozen=True)
class ShardsResult:
    """What a build of shards did.

    Attributes:
        photos: photos of the dataset.
        rows: rows of all shards.
        shards: planned shards.
        made: shards that this run built; the others existed.
        rejected: photos that are in no shard.
        reasons: reason -> number of rejected photos.
        outdated: shards in the folder that are no longer planned, because photos were changed, added or removed.
        pruned: how many of these were deleted.
        seconds: duration of the run.
        images_per_second: photos of the shards that this run built, per second.
    """

    photos: int
    rows: int
    shards: int
    made: int
    rejected: int
    reasons: dict[str, int]
    outdated: int
    pruned: int
    seconds: float
    images_per_second: float


DEFAULT_SHARD_OPTIONS: Final = ShardOptions()


def local_engine(maker: ShardWriter, tasks: Iterable[ShardTask], tick: Tick) -> Iterator[Marker]:
    """The engine that builds shards in this process, one after the other."""
    return write_behind(maker, (maker.encode(task, tick) for task in tasks))


def build_shards(
    encoder: Encoder,
    dataset: Dataset,
    folder: ShardFolder,
    namespace: str = "",
    options: ShardOptions = DEFAULT_SHARD_OPTIONS,
    *,
    engine: Engine = local_engine,
    stop: threading.Event | None = None,
    progress: Progress = lambda done, total: None,
) -> ShardsResult:
    """Build the missing shards. `ShardFolder.rejected` has the photos that are in none.

    The same dataset, model, namespace and columns give the same names and bytes. After a kill, the same call builds the
    shards that were not finished.

    Args:
        stop: when it is set, the current shard is abandoned, and the run ends with `Stopped`.

    Raises:
        ConfigError: when the folder has shards of other photos, columns or another model, another process uses it, the
            bundle has no embedding, or no collection can have these columns or this partition key.
        DataError: when a shard cannot be written, or shards would be pruned although a folder could not be listed.
        Stopped: see ``stop``.
    """
    photo_id(namespace, "")  # rejects an invalid namespace before any work
    stop = stop or threading.Event()
    if options.embedding:
        encoder.check_embedding()
    embedding_dim = encoder.embedding_dim if options.embedding else None
    if options.columns:
        dataset = dataset.as_columns(requested_columns(options.columns, dataset.extra_columns))
    # shards belong to no collection, so they have no unique id
    metadata = CollectionMetadata.of(encoder.bundle.manifest).model_copy(update={"collection_uid": ""})
    typed = sorted(dataset.extra_columns.columns, key=lambda column: column.name)
    existing = folder.manifest()
    phash = options.phash and (existing is None or existing.phash)
    schema = arrow_schema(metadata, options.code_hex, embedding_dim, typed, phash)
    check_columns(None, typed, options.partition_key, len(schema) - len(typed))
    columns = {field.name: str(field.type) for field in schema}
    changes = Changes(dataset, namespace, Journal.in_memory(), stop=stop)
    source = {name: changes.described[name] for name in ("photos", "part")}
    with folder.held():
        plan = plan_shards(
            changes,
            options.shard_rows,
            {"fingerprint": metadata.fingerprint, "namespace": namespace, "columns": columns},
        )
        manifest = ShardsManifest(
            model=metadata,
            namespace=namespace,
            source=source,
            shard_rows=options.shard_rows,
            code_hex=options.code_hex,
            embedding_dim=embedding_dim,
            columns=columns,
            typed_columns={column.name: column.type for column in typed},
            partition_key=options.partition_key,
            shards=tuple(PlannedShard(name=one.name, photos=len(one.places)) for one in plan.shards),
            twice=tuple(Rejected(one.path, one.reason, one.message) for one in plan.twice),
        )
        _check_same(folder, manifest)
        folder.put_manifest(manifest)
        maker = ShardWriter(encoder, folder, schema, options, stop)
        return _build(maker, plan, manifest, options, engine, progress)


def _check_same(folder: ShardFolder, manifest: ShardsManifest) -> None:
    """Reject a folder with other shards, which must be neither mixed nor lost."""
    there = folder.manifest()
    if there is None:
        return
    if there.model != manifest.model:
        what = f"of another model ({there.model.method}, {there.model.bits} bits)"
    else:
        names = ["source", "namespace", "shard_rows", "code_hex", "embedding_dim"]
        names += ["typed_columns", "partition_key", "columns"]
        unlike = [name for name in names if getattr(there, name) != getattr(manifest, name)]
        if not unlike:
            return
        name = unlike[0]
        what = f"whose {name.replace('_', ' ')} is {getattr(there, name)!r}, not {getattr(manifest, name)!r}"
    raise ConfigError(f"{folder.path} has shards {what}; choose another folder")


def _build(
    maker: ShardWriter, plan: Plan, manifest: ShardsManifest, options: ShardOptions, engine: Engine, progress: Progress
) -> ShardsResult:
    folder, started = maker.folder, time.monotonic()
    missing = [
        one
        for one in plan.shards
        if (marker := folder.marker(one.name)) is None or (options.retry_rejected and marker.rejected)
    ]
    n_missing = sum(len(one.places) for one in missing)
    done = manifest.photos - n_missing

    def tick(photos: int) -> None:
        nonlocal done
        done += photos
        progress(done, manifest.photos)

    tick(0)
    try:
        made = sum(1 for _ in engine(maker, (plan.task(one) for one in missing), tick))
    except Stopped:
        left, of = sum(not folder.marker(one.name) for one in plan.shards), len(plan.shards)
        raise Stopped(f"stopped; {left} of {of} shards are missing. Build again to continue") from None
    finished = [_finished(folder, one.name) for one in plan.shards]
    rejected = list(folder.rejected())
    reasons = Counter(one.reason for one in rejected)
    outdated = folder.outdated({one.name for one in plan.shards})
    dataset = plan.changes.dataset
    if options.prune and outdated and dataset.listed_folders:
        before = {path for name in outdated if folder.data(name).exists() for path in read_paths(folder.data(name))}
        there = set(dataset.paths)
        dataset = dataset.with_untrusted_folders(before - there, there - {one.path for one in rejected})
    if options.prune and outdated and dataset.unlisted:
        raise DataError(
            f"{len(outdated):,} shards are outdated, and none was pruned (all others are there): "
            f"{dataset.unlisted_message}. Repair or remove that folder, or delete the shards by hand"
        )
    for name in outdated if options.prune else ():
        folder.remove(name)
    seconds = time.monotonic() - started
    return ShardsResult(
        photos=manifest.photos,
        rows=sum(one.rows for one in finished),
        shards=len(plan.shards),
        made=made,
        rejected=reasons.total(),
        reasons=dict(reasons),
        outdated=len(outdated),
        pruned=len(outdated) if options.prune else 0,
        seconds=seconds,
        images_per_second=n_missing / seconds,
    )


def _finished(folder: ShardFolder, name: str) -> Marker:
    marker = folder.marker(name)
    if marker is None:
        raise ConfigError(f"the shard {name} was built, but is not in {folder.path}: can all machines see that folder?")
    return marker
