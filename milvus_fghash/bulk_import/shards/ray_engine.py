"""Builds shards with a pool of Ray actors, on this machine or on an existing cluster.

Each item of Ray Data is one missing shard, which one actor decodes, encodes and writes; a failure or a killed actor
affects only its shard. All machines must see the photos and the folder under the same paths.
"""

from __future__ import annotations

import logging
import os
import pickle
import queue
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from milvus_fghash.bulk_import.shards.builder import Engine
from milvus_fghash.bulk_import.shards.folder import Marker, ShardFolder
from milvus_fghash.bulk_import.shards.plan import ShardTask
from milvus_fghash.bulk_import.shards.writer import ShardWriter, Tick
from milvus_fghash.encoding.decode_options import DecodeOptions
from milvus_fghash.encoding.encoder import Encoder
from milvus_fghash.encoding.graph_runs import ENCODE_TIMEOUT
from milvus_fghash.errors import ConfigError, DataError, FghashError, Stopped, one_line, optional_extra

POLL_SECONDS: Final = 0.2
"""Time between two checks whether to stop."""
SETTINGS: Final = {
    "RAY_USAGE_STATS_ENABLED": "0",  # no usage statistics
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # otherwise Ray warns about a future change
}


@dataclass(frozen=True)
class RayOptions:
    """The Ray cluster and the number of actors that build shards.

    Attributes:
        actors: number of actors. Default: one for each CPU except one, or as many as the GPUs allow.
        gpus_per_actor: GPUs of an actor; may be a fraction.
        address: address of a cluster. Default: Ray is started on this machine, and stopped at the end.

    Examples:
        >>> RayOptions(actors=4, address="ray://head:10001").gpus_per_actor
        0.0
    """

    actors: int | None = None
    gpus_per_actor: float = 0.0
    address: str | None = None

    def actor_count(self, resources: dict[str, float]) -> int:
        """Number of actors for a cluster with these resources.

        An actor uses one CPU. Ray Data reads with CPUs as well, and would wait for one forever.

        Args:
            resources: name -> amount, with ``CPU`` and ``GPU``, as Ray reports them.

        Returns:
            ``actors``, or as many as fit.

        Raises:
            ConfigError: when the cluster is too small.
        """
        cpus, gpus = int(resources.get("CPU", 0)), resources.get("GPU", 0.0)
        most = cpus - 1
        if self.gpus_per_actor:
            most = min(most, int(gpus / self.gpus_per_actor))
        actors = max(1, most) if self.actors is None else self.actors
        if actors > most:
            what = f"{cpus} CPUs" + (f" and {gpus:g} GPUs" if self.gpus_per_actor else "")
            raise ConfigError(
                f"Ray has {what}, which is too little for {actors} actors: with at most {max(0, most)} actors, a CPU "
                "is left for reading, without which Ray would wait forever",
                setting="ray_actors",
            )
        return actors


@dataclass(frozen=True)
class RayPool:
    """A pool of actors and the settings of their encoders."""

    bundle: Path
    """Each actor opens it."""
    options: RayOptions
    provider: str | None = None
    threads: int = 1
    """Threads of ONNX Runtime in each actor."""
    encode_timeout: float = ENCODE_TIMEOUT
    """Seconds for the computation of a batch, in each actor."""

    def engine(self) -> Engine:
        """The engine that builds shards on the pool.

        The engine raises:
            MissingExtra: when Ray is not installed.
            ConfigError: when the cluster cannot be reached, or is too small for the actors.
            DataError: when shards could not be built; all others were.
        """

        def run(maker: ShardWriter, tasks: Iterable[ShardTask], tick: Tick) -> Iterator[Marker]:
            items = [(len(task.ids), pickle.dumps(task)) for task in tasks]
            if not items:
                return
            with self._running() as ray:
                yield from _finished(self._dataset(ray, maker, items), maker.stop, tick)

        return run

    def _dataset(self, ray: Any, maker: ShardWriter, items: list[tuple[int, bytes]]) -> Any:
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        decoding = maker.decoding
        actor = {
            "bundle": self.bundle.resolve(),
            "provider": self.provider,
            "threads": self.threads,
            "encode_timeout": self.encode_timeout,
            "folder": maker.folder.path.resolve(),
            "schema": maker.schema,
            "decoding": replace(decoding, workers=1 if decoding.workers is None else decoding.workers),
        }
        actors = self.options.actor_count(ray.cluster_resources())
        pool = ray.data.ActorPoolStrategy(size=min(actors, len(items)), max_tasks_in_flight_per_actor=1)
        rows = [{"photos": photos, "task": task} for photos, task in items]
        return ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
            ShardActor,
            batch_size=1,
            batch_format="pyarrow",
            compute=pool,
            num_cpus=1,
            num_gpus=self.options.gpus_per_actor or None,
            fn_constructor_kwargs=actor,
        )

    @contextmanager
    def _running(self) -> Iterator[Any]:
        """A connection to Ray; a Ray that was started for it is stopped at the end."""
        for name, value in SETTINGS.items():
            os.environ.setdefault(name, value)
        with optional_extra("ray"):
            ray: Any = import_module("ray")
            import_module("ray.data")
        for name in ("ray", "ray.data"):
            logging.getLogger(name).setLevel(logging.ERROR)
        address = self.options.address
        common = {"logging_level": logging.ERROR, "log_to_driver": False}
        with ExitStack() as stack:
            try:
                if address:
                    ray.init(address=address, **common)
                else:
                    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True))
                    cpus = (self.options.actors or os.cpu_count() or 1) + 1
                    ray.init(address="local", num_cpus=cpus, include_dashboard=False, _temp_dir=folder, **common)
            except Exception as error:  # Ray raises exceptions of many packages
                reason = one_line(error)[:300]
                raise ConfigError(f"cannot start Ray, or connect to {address or 'it'}: {reason}") from error
            stack.callback(ray.shutdown)
            stack.enter_context(redirect_stdout(sys.stderr))  # Ray reports killed actors, and stdout is for the result
            yield ray


class ShardActor:
    """Builds shards in its own process, one at a time."""

    def __init__(
        self,
        bundle: Path,
        provider: str | None,
        threads: int,
        encode_timeout: float,
        folder: Path,
        schema: Any,
        decoding: DecodeOptions,
    ) -> None:
        encoder = Encoder.open(bundle, provider, threads, for_many=True, encode_timeout=encode_timeout)
        self._maker = ShardWriter(encoder, ShardFolder(folder), schema, decoding, threading.Event())

    def __call__(self, batch: Any) -> Any:
        """A table with one task -> a table with its marker, or with an error."""
        task: ShardTask = pickle.loads(batch.column("task")[0].as_py())
        marker, error = b"", ""
        try:
            marker = pickle.dumps(self._maker.write(self._maker.encode(task)))
        except FghashError as problem:
            error = f"{task.name}: {problem}"
        pa: Any = import_module("pyarrow")
        return pa.table({"photos": batch.column("photos"), "marker": [marker], "error": [error]})


def _finished(dataset: Any, stop: threading.Event, tick: Tick) -> Iterator[Marker]:
    """The marker of each finished shard.

    Ray blocks signals while it waits, so a thread reads its rows.
    """
    rows: queue.Queue[Any] = queue.Queue()

    def take() -> None:
        try:
            for row in dataset.iter_rows():
                rows.put(row)
            rows.put(None)
        except Exception as error:
            rows.put(error)

    threading.Thread(target=take, daemon=True).start()
    failed: list[str] = []
    while True:
        try:
            row = rows.get(timeout=POLL_SECONDS)
        except queue.Empty:
            if stop.is_set():
                raise Stopped("stopped") from None
            continue
        if row is None:
            break
        if isinstance(row, Exception):
            raise DataError(f"Ray failed: {one_line(row)[:300]}") from row
        tick(row["photos"])
        if row["error"]:
            failed.append(row["error"])
        else:
            yield pickle.loads(row["marker"])
    if failed:
        raise DataError(f"{len(failed)} shards could not be built, all others were. {failed[0]}")
