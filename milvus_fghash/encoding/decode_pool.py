"""The pool of decoder processes: hands out photos, collects the results, and replaces workers that hang or die.

Kept although `concurrent.futures` has process pools: those exchange pickles, by which a process taken over by a
hostile photo could run code in its parent; and one worker that hangs or dies breaks the whole pool.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Final

import numpy as np

from milvus_fghash.core.images import Preprocessing
from milvus_fghash.datasets.sources.location import InMemory, InvalidSource, PhotoLocation, Source
from milvus_fghash.datasets.tables.columns import is_int64
from milvus_fghash.encoding.decode_options import DecodeOptions
from milvus_fghash.encoding.decode_result import Photo, RejectedSource, decode_one, shown
from milvus_fghash.encoding.decode_worker import READY, Setup, source_to_bytes
from milvus_fghash.errors import ConfigError

AHEAD: Final = 8
"""Photos held for each worker, waiting or decoded."""
MAX_CRASHES_PER_PHOTO: Final = 2
"""Workers that may die while they decode a photo before it is rejected."""
MAX_FAILED_STARTS: Final = 3
"""Workers in a row that may die before they are ready."""

WORKER: Final[tuple[str, str]] = ("-m", "milvus_fghash.encoding.decode_worker")
"""Arguments of Python for a worker."""

_START_SECONDS = 120.0
"""Time limit for the start of a worker, including imports from a slow disk."""
_MAX_SOURCE_BYTES = 1 << 14
"""Longest path or location that is sent. `AHEAD` of them fit into the socket's buffer, so that sending never blocks."""
_MAX_ANSWER_BYTES = 1 << 16
_SOCKET_BUFFER_BYTES = 1 << 18
_POLL_SECONDS = 1.0
"""Time between two checks of the processes: a socket that another process also holds does not report a death."""


@dataclass(eq=False)
class _Task:
    row: int
    source: Path | PhotoLocation
    crashes: int = 0
    """Workers that died while they decoded it."""


@dataclass(eq=False)
class _Worker:
    process: subprocess.Popen[bytes]
    pipe: Connection
    pixels: int
    """Descriptor of the file into which it writes."""
    tasks: deque[_Task] = field(default_factory=deque)
    """Its photos, in order; it decodes the first one."""
    answered: int = 0
    ready: bool = False
    retrying: bool = False
    """It decodes a photo that killed another worker, and gets no other photo meanwhile."""
    since: float = field(default_factory=time.monotonic)
    """When its current step began."""

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self.pipe.close()
        os.close(self.pixels)


class DecoderPool:
    """Worker processes that decode photos; each is started when there is work for it. `close` ends them.

    For use by one thread. Nothing happens in the background: `step` hands out photos and detects late or dead workers.
    """

    def __init__(self, preprocessing: Preprocessing, options: DecodeOptions) -> None:
        self.preprocessing, self.limits, self.timeout = preprocessing, options.limits, options.decode_timeout
        self.max_workers = options.worker_count
        self._setup = Setup(
            preprocessing=preprocessing, limits=self.limits, slots=AHEAD, timeout=self.timeout, parent=os.getpid()
        ).model_dump_json()
        self._shape = (preprocessing.size, preprocessing.size, 3)
        self._workers: list[_Worker] = []
        self._waiting: deque[_Task] = deque()
        self._failed_starts = 0
        self._done: list[Photo | RejectedSource] = []

    def add(self, row: int, source: Source) -> None:
        """Queue a photo; a later `step` returns it."""
        if isinstance(source, InvalidSource | InMemory) or len(source_to_bytes(source)) > _MAX_SOURCE_BYTES:
            # A worker cannot read this process' memory; the other ones will be rejected.
            self._done.append(decode_one(row, source, self.preprocessing, self.limits))
        else:
            self._waiting.append(_Task(row, source))

    def step(self, wait_for_result: bool) -> list[Photo | RejectedSource]:
        """Hand out photos and collect results, in any order.

        Args:
            wait_for_result: wait until something happens, for a second at most.

        Raises:
            ConfigError: when workers do not start.
        """
        self._hand_out()
        of_pipe = {worker.pipe: worker for worker in self._workers}
        for pipe in wait(list(of_pipe), self._seconds_to_wait() if wait_for_result and not self._done else 0):
            assert isinstance(pipe, Connection)
            self._receive(of_pipe[pipe])
        for worker in list(self._workers):
            self._check(worker)
        self._hand_out()
        done, self._done = self._done, []
        return done

    def close(self) -> None:
        """End all workers immediately."""
        for worker in self._workers:
            worker.process.kill()
        while self._workers:
            self._workers.pop().end()

    def _hand_out(self) -> None:
        while self._waiting:
            free = [one for one in self._workers if not one.retrying and len(one.tasks) < AHEAD]
            least = min(free, key=lambda one: len(one.tasks), default=None)
            if len(self._workers) < self.max_workers and (least is None or least.tasks):
                least = self._start()
            if least is None:
                return
            self._give(least, self._waiting.popleft())

    def _give(self, worker: _Worker, task: _Task) -> None:
        if not worker.tasks and worker.ready:
            worker.since = time.monotonic()
        worker.tasks.append(task)
        with suppress(ConnectionError):  # `_receive` notices a worker that is gone
            worker.pipe.send_bytes(source_to_bytes(task.source))

    def _seconds_to_wait(self) -> float:
        ends = (self._deadline(worker) for worker in self._workers)
        return max(0.0, min([_POLL_SECONDS, *(end - time.monotonic() for end in ends)]))

    def _deadline(self, worker: _Worker) -> float:
        if not worker.ready:
            return worker.since + _START_SECONDS
        return worker.since + self.timeout if worker.tasks else float("inf")

    def _receive(self, worker: _Worker) -> None:
        try:
            while worker.pipe.poll():
                self._handle(worker, worker.pipe.recv_bytes(_MAX_ANSWER_BYTES))
        except (EOFError, OSError, ValueError, RecursionError):  # gone, or its answer is malformed
            self._replace(worker)

    def _handle(self, worker: _Worker, answer: bytes) -> None:
        worker.since = time.monotonic()
        if not worker.ready:
            worker.ready = answer == READY
            if not worker.ready:
                raise ValueError
            self._failed_starts = 0
            return
        match json.loads(answer) if worker.tasks else None:
            case [str(content_sha), int(phash)] if is_int64(phash):
                pixels = np.empty(self._shape, np.uint8)
                offset = worker.answered % AHEAD * pixels.nbytes
                if os.preadv(worker.pixels, [pixels.data], offset) != pixels.nbytes:
                    raise ValueError
                self._done.append(Photo(worker.tasks[0].row, pixels, content_sha, phash))
            case [str(reason), str(message)]:
                self._reject(worker.tasks[0], reason, message)
            case _:
                raise ValueError
        worker.tasks.popleft()
        worker.answered += 1
        worker.retrying = False

    def _check(self, worker: _Worker) -> None:
        """Replace a worker that died silently or is late. One with an unread answer is not late."""
        if worker not in self._workers or worker.pipe.poll():
            return
        if worker.process.poll() is not None:
            self._replace(worker)
        elif time.monotonic() >= self._deadline(worker):
            self._replace(worker, late=worker.ready)

    def _replace(self, worker: _Worker, late: bool = False) -> None:
        """End a worker. Its current photo is rejected, or tried once more by a new worker that gets no other photo."""
        self._workers.remove(worker)
        worker.end()
        if not worker.ready:
            self._failed_starts += 1
            if self._failed_starts == MAX_FAILED_STARTS:
                raise _not_started(f"{MAX_FAILED_STARTS} of them ended, the last one {_exit_status(worker)}")
            again = worker.tasks.popleft() if worker.retrying else None
        else:
            again = worker.tasks.popleft() if worker.tasks else None
            if again and (late or worker.process.returncode == -signal.SIGALRM):
                self._reject(again, "timeout", f"the image takes longer than {self.timeout:g} seconds to decode")
                again = None
            elif again:
                again.crashes += 1
                if again.crashes == MAX_CRASHES_PER_PHOTO:
                    message = (
                        f"the image cannot be decoded: {MAX_CRASHES_PER_PHOTO} processes died while they decoded "
                        f"it, the last one {_exit_status(worker)}"
                    )
                    self._reject(again, "crash", message)
                    again = None
        self._waiting.extendleft(reversed(worker.tasks))
        if again:
            fresh = self._start()
            fresh.retrying = True
            self._give(fresh, again)

    def _reject(self, task: _Task, reason: str, message: str) -> None:
        self._done.append(RejectedSource(shown(task.source), reason, message, task.row))

    def _start(self) -> _Worker:
        with ExitStack() as undone:
            try:
                ours, theirs = socket.socketpair()
                undone.callback(ours.close)
                with theirs:  # closed here once the worker has it, so that its death closes the connection
                    for end in (ours, theirs):
                        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BUFFER_BYTES)
                        end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SOCKET_BUFFER_BYTES)
                    pixels = _memory_file()
                    undone.callback(os.close, pixels)
                    os.ftruncate(pixels, AHEAD * int(np.prod(self._shape)))
                    process = _run([str(theirs.fileno()), str(pixels), self._setup], (theirs.fileno(), pixels))
            except OSError as error:
                raise _not_started(str(error)) from None
            undone.pop_all()
        worker = _Worker(process, Connection(ours.detach()), pixels)
        self._workers.append(worker)
        return worker


def _run(arguments: Sequence[str], descriptors: Sequence[int]) -> subprocess.Popen[bytes]:
    """A worker with this process' module path, in a process group of its own, which does not receive Ctrl-C."""
    module_path = [os.path.abspath(entry) for entry in sys.path if os.pathsep not in entry]
    one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-P", *WORKER, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        env={**os.environ, **one_thread, "PYTHONPATH": os.pathsep.join(module_path)},
        pass_fds=descriptors,
        process_group=0,
    )


def _memory_file() -> int:
    """Descriptor of a file without a name, which disappears with the last process that has it open."""
    if sys.platform == "linux":
        return os.memfd_create("pixels")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _exit_status(worker: _Worker) -> str:
    code = worker.process.returncode
    if code >= 0:
        return f"with exit code {code}"
    with suppress(ValueError):
        return f"by {signal.Signals(-code).name}"
    return f"by signal {-code}"


def _not_started(why: str) -> ConfigError:
    return ConfigError(
        f"decoder processes cannot be started by {sys.executable or 'this Python'}: {why}; decode in this process, "
        "with 0 workers",
        setting="workers",
    )
