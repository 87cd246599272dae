"""The processes that decode photos, seen from the side that asks: who works at what, who is late, who has died."""

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
"""Photos held for each worker, waiting or decoded; as many as are encoded together."""
TRIES: Final = 2
"""Workers that may die of a photo before it is rejected."""
STARTS: Final = 3
"""Workers that may die one after the other before they are ready."""

WORKER: Final[tuple[str, str]] = ("-m", "milvus_fghash.encoding.decode_worker")
"""What Python is told to run."""

_START_SECONDS = 120.0
"""For a worker to be ready; imports from a slow disk included."""
_LONGEST = 1 << 14
"""Bytes of a path or a place; there are no longer ones. `AHEAD` of them fit into the socket's buffer, so that sending
never waits."""
_LONGEST_ANSWER = 1 << 16
_BUFFER = 1 << 18
_LOOK_UP = 1.0
"""Seconds between two looks at the processes themselves: a socket that somebody else holds too tells of no death."""


@dataclass(eq=False)
class _Task:
    row: int
    source: Path | PhotoLocation
    deaths: int = 0
    """Workers that died of it."""


@dataclass(eq=False)
class _Worker:
    process: subprocess.Popen[bytes]
    pipe: Connection
    pixels: int
    """Descriptor of the file into which it writes."""
    tasks: deque[_Task] = field(default_factory=deque)
    """Given to it, in order; it is at the first."""
    answered: int = 0
    ready: bool = False
    alone: bool = False
    """It tries a photo again that a worker died of, and gets no other before that is done."""
    since: float = field(default_factory=time.monotonic)
    """When it began what it is at."""

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self.pipe.close()
        os.close(self.pixels)


class DecoderPool:
    """Up to ``workers`` processes that decode photos; each begins when there is work for it. `close` ends them.

    To be used by one thread. Nothing happens in the background: workers get new photos, and are found late or dead, in
    `step`.
    """

    def __init__(self, preprocessing: Preprocessing, options: DecodeOptions) -> None:
        self.preprocessing, self.limits, self.timeout = preprocessing, options.limits, options.decode_timeout
        self.most = options.worker_count
        self._setup = Setup(
            preprocessing=preprocessing, limits=self.limits, slots=AHEAD, timeout=self.timeout, parent=os.getpid()
        ).model_dump_json()
        self._shape = (preprocessing.size, preprocessing.size, 3)
        self._workers: list[_Worker] = []
        self._waiting: deque[_Task] = deque()
        self._failed_starts = 0
        self._done: list[Photo | RejectedSource] = []

    def add(self, row: int, source: Source) -> None:
        """Have a photo decoded; `step` gives it in time."""
        if isinstance(source, InvalidSource | InMemory) or len(source_to_bytes(source)) > _LONGEST:
            # A worker has no access to this process' memory; all others can only be rejected.
            self._done.append(decode_one(row, source, self.preprocessing, self.limits))
        else:
            self._waiting.append(_Task(row, source))

    def step(self, patient: bool) -> list[Photo | RejectedSource]:
        """Hand out photos and gather what is done, in any order.

        Args:
            patient: wait until something happens, for a second at the most.

        Raises:
            ConfigError: when workers do not even start.
        """
        self._hand_out()
        of_pipe = {worker.pipe: worker for worker in self._workers}
        for pipe in wait(list(of_pipe), self._seconds_to_wait() if patient and not self._done else 0):
            assert isinstance(pipe, Connection)
            self._listen(of_pipe[pipe])
        for worker in list(self._workers):
            self._judge(worker)
        self._hand_out()
        done, self._done = self._done, []
        return done

    def close(self) -> None:
        """End all workers at once, whatever they are at."""
        for worker in self._workers:
            worker.process.kill()
        while self._workers:
            self._workers.pop().end()

    def _hand_out(self) -> None:
        while self._waiting:
            free = [one for one in self._workers if not one.alone and len(one.tasks) < AHEAD]
            least = min(free, key=lambda one: len(one.tasks), default=None)
            if len(self._workers) < self.most and (least is None or least.tasks):
                least = self._start()
            if least is None:
                return
            self._give(least, self._waiting.popleft())

    def _give(self, worker: _Worker, task: _Task) -> None:
        if not worker.tasks and worker.ready:
            worker.since = time.monotonic()
        worker.tasks.append(task)
        with suppress(ConnectionError):  # a worker that is gone is found out when it is listened to
            worker.pipe.send_bytes(source_to_bytes(task.source))

    def _seconds_to_wait(self) -> float:
        ends = (self._deadline(worker) for worker in self._workers)
        return max(0.0, min([_LOOK_UP, *(end - time.monotonic() for end in ends)]))

    def _deadline(self, worker: _Worker) -> float:
        if not worker.ready:
            return worker.since + _START_SECONDS
        return worker.since + self.timeout if worker.tasks else float("inf")

    def _listen(self, worker: _Worker) -> None:
        try:
            while worker.pipe.poll():
                self._hear(worker, worker.pipe.recv_bytes(_LONGEST_ANSWER))
        except (EOFError, OSError, ValueError, RecursionError):  # gone, or it talks nonsense
            self._died(worker)

    def _hear(self, worker: _Worker, said: bytes) -> None:
        worker.since = time.monotonic()
        if not worker.ready:
            worker.ready = said == READY
            if not worker.ready:
                raise ValueError
            self._failed_starts = 0
            return
        match json.loads(said) if worker.tasks else None:
            case [str(content_sha), int(phash)] if is_int64(phash):
                pixels = np.empty(self._shape, np.uint8)
                place = worker.answered % AHEAD * pixels.nbytes
                if os.preadv(worker.pixels, [pixels.data], place) != pixels.nbytes:
                    raise ValueError
                self._done.append(Photo(worker.tasks[0].row, pixels, content_sha, phash))
            case [str(reason), str(message)]:
                self._reject(worker.tasks[0], reason, message)
            case _:
                raise ValueError
        worker.tasks.popleft()
        worker.answered += 1
        worker.alone = False

    def _judge(self, worker: _Worker) -> None:
        """Find out who died without a word, and who is late. Whoever has said something is not late."""
        if worker not in self._workers or worker.pipe.poll():
            return
        if worker.process.poll() is not None:
            self._died(worker)
        elif time.monotonic() >= self._deadline(worker):
            self._died(worker, late=worker.ready)

    def _died(self, worker: _Worker, late: bool = False) -> None:
        """Bury a worker. The photo it was at is rejected, or tried once more by a new worker that has no other."""
        self._workers.remove(worker)
        worker.end()
        if not worker.ready:
            self._failed_starts += 1
            if self._failed_starts == STARTS:
                raise _not_started(f"{STARTS} of them ended, the last {_how(worker)}")
            again = worker.tasks.popleft() if worker.alone else None
        else:
            again = worker.tasks.popleft() if worker.tasks else None
            if again and (late or worker.process.returncode == -signal.SIGALRM):
                self._reject(again, "timeout", f"the image takes longer than {self.timeout:g} seconds to decode")
                again = None
            elif again:
                again.deaths += 1
                if again.deaths == TRIES:
                    told = f"the image cannot be decoded: {TRIES} processes ended at it, the last {_how(worker)}"
                    self._reject(again, "crash", told)
                    again = None
        self._waiting.extendleft(reversed(worker.tasks))
        if again:
            fresh = self._start()
            fresh.alone = True
            self._give(fresh, again)

    def _reject(self, task: _Task, reason: str, message: str) -> None:
        self._done.append(RejectedSource(shown(task.source), reason, message, task.row))

    def _start(self) -> _Worker:
        with ExitStack() as undone:
            try:
                ours, theirs = socket.socketpair()
                undone.callback(ours.close)
                with theirs:  # closed here once the worker has it, so that its death ends the talk
                    for end in (ours, theirs):
                        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
                        end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
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
    """A worker that finds the modules this process finds; with a process group of its own, which hears no Ctrl-C."""
    found_in = [os.path.abspath(place) for place in sys.path if os.pathsep not in place]
    one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-P", *WORKER, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        env={**os.environ, **one_thread, "PYTHONPATH": os.pathsep.join(found_in)},
        pass_fds=descriptors,
        process_group=0,
    )


def _memory_file() -> int:
    """Descriptor of a file without a name: gone with the last process that has it, whoever is killed."""
    if sys.platform == "linux":
        return os.memfd_create("pixels")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _how(worker: _Worker) -> str:
    code = worker.process.returncode
    if code >= 0:
        return f"with exit code {code}"
    with suppress(ValueError):
        return f"by {signal.Signals(-code).name}"
    return f"by signal {-code}"


def _not_started(why: str) -> ConfigError:
    return ConfigError(
        f"processes that decode photos cannot be started by {sys.executable or 'this Python'}: {why}; decode without "
        "them, by 0 workers",
        setting="workers",
    )
