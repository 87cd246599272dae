"""A process that decodes photos one after the other, for `decode_pool`.

    python -m milvus_fghash.encoding.decode_worker PIPE PIXELS SETUP

PIPE (a socket) and PIXELS (a file) are inherited descriptors, SETUP is JSON. The socket receives paths and locations;
photos behind URLs are fetched while others are decoded. The pixels of photo n go into slot n modulo ``slots`` of the
file, the rest of the answer into the socket. Answers are JSON, not pickles: a process that a hostile photo has taken
over must not be able to run code in its parent.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
from collections import deque
from contextlib import suppress
from dataclasses import astuple
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict

from milvus_fghash.core.image_formats import use_one_thread
from milvus_fghash.core.images import Limits, Preprocessing
from milvus_fghash.datasets.sources.location import PhotoLocation
from milvus_fghash.datasets.sources.reader import PendingRead, start_read
from milvus_fghash.encoding.decode_result import Rejected, decode_one

READY: Final = b"ready"
"""Sent once, before the first answer."""
BYTES_PER_PIXEL: Final = 32
"""Memory for each pixel that `Limits` allows. Pillow needs up to 25, for a rotated transparent WebP."""
BASE_MEMORY: Final = 100_000_000
"""Bytes beside those of the photo; Pillow loads its decoders when it needs them."""

FETCH_MEMORY: Final = 500_000_000
"""Additional bytes once a photo is behind a URL: threads with their stacks, connections."""
FETCH_SHARE: Final = 0.8
"""Share of the time for one photo in which it must be fetched: a server that hangs must not end the worker."""

_PATH, _LOCATION = b"f", b"p"
_POLL_SECONDS = 5.0
"""Time between two checks for the parent, whose death need not close the socket: others may have a copy of it."""


class Setup(BaseModel):
    """The settings of a worker."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    preprocessing: Preprocessing
    limits: Limits
    slots: int
    """Photos that fit into the file of pixels."""
    timeout: float
    """Seconds for one photo. The parent enforces it; the worker ends itself after twice as long."""
    parent: int
    """Process id."""


def memory_for(limits: Limits) -> int:
    """Bytes that a worker may use beyond those it has when it is ready; 3.5 GB with the default limits."""
    return BASE_MEMORY + BYTES_PER_PIXEL * limits.max_pixels + 2 * limits.max_bytes


def source_to_bytes(source: Path | PhotoLocation) -> bytes:
    """A path, be it valid or not, or a location; the inverse of `source_from_bytes`."""
    if isinstance(source, Path):
        return _PATH + str(source).encode("utf-8", "surrogatepass")
    return _LOCATION + json.dumps(astuple(source), ensure_ascii=False).encode("utf-8", "surrogatepass")


def source_from_bytes(raw: bytes) -> Path | PhotoLocation:
    """The inverse of `source_to_bytes`."""
    text = raw[1:].decode("utf-8", "surrogatepass")
    if raw[:1] == _PATH:
        return Path(text)
    where, shown, version, start, size, zipped = json.loads(text)
    return PhotoLocation(where, shown, version, start, size, zipped and tuple(zipped))


class Inbox:
    """The photos that a worker has to decode, in order. Those behind URLs are fetched as soon as they are received.

    It has no thread of its own, whose stack would count as memory.
    """

    def __init__(self, pipe: Connection, setup: Setup) -> None:
        self.pipe, self.setup = pipe, setup
        self._queue: deque[Path | PendingRead] = deque()
        self._woken, self._wake = Pipe(duplex=False)
        self._fetches = False

    def next(self) -> Path | PendingRead | None:
        """The next photo, once its bytes are here; None when the parent is gone."""
        while os.getppid() == self.setup.parent:
            while self.pipe.poll():
                self._queue.append(self._start(source_from_bytes(self.pipe.recv_bytes())))
            if self._queue and _is_here(self._queue[0]):
                return self._queue.popleft()
            if self._woken in wait([self.pipe, self._woken], _POLL_SECONDS):
                self._woken.recv_bytes()
        return None

    def _start(self, source: Path | PhotoLocation) -> Path | PendingRead:
        if isinstance(source, Path):
            return source
        limits = self.setup.limits
        pending = start_read(source, limits.max_bytes, FETCH_SHARE * self.setup.timeout)
        if pending.future:
            pending.future.add_done_callback(lambda _: self._wake.send_bytes(b"."))
            if not self._fetches:  # now, when all modules it needs are loaded
                self._fetches = True
                bound_memory(memory_for(limits) + FETCH_MEMORY + self.setup.slots * limits.max_bytes)
        return pending


def _is_here(source: Path | PendingRead) -> bool:
    return isinstance(source, Path) or source.future is None or source.future.done()


def serve(pipe: Connection, pixels: int, setup: Setup) -> None:
    """Answer until the parent is gone."""
    inbox = Inbox(pipe, setup)
    for number in itertools.count():
        if (source := inbox.next()) is None:
            return
        signal.setitimer(signal.ITIMER_REAL, 2 * setup.timeout)  # its signal also ends a process inside C code
        result = decode_one(number, source, setup.preprocessing, setup.limits)
        signal.setitimer(signal.ITIMER_REAL, 0)
        if isinstance(result, Rejected):
            answer: list[str | int] = [result.reason, result.message]
        else:
            raw = result.pixels.tobytes()
            if os.pwrite(pixels, raw, number % setup.slots * len(raw)) != len(raw):
                raise OSError("no space left for the pixels")
            answer = [result.content_sha, result.phash]
        pipe.send_bytes(json.dumps(answer).encode())


def bound_memory(more: int) -> None:
    """Limit this process to ``more`` bytes than it has now, and make it the first victim when memory runs out.

    On Linux only: other systems do not enforce such a limit, or count memory differently.
    """
    import resource  # not on Windows, where photos are decoded without workers

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # hostile photos must not fill the disk with core dumps
    if sys.platform == "linux":
        taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        limit = taken + more
        resource.setrlimit(resource.RLIMIT_AS, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
        with suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text("500")


def silence() -> None:
    """Discard stderr: codecs write messages there whose text a photo can choose."""
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)


def main(pipe: str, pixels: str, setup: str) -> None:
    """Entry point of the process, see above."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes of a terminal; the parent decides
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    settings = Setup.model_validate_json(setup)
    use_one_thread()
    bound_memory(memory_for(settings.limits))
    silence()
    with suppress(EOFError, ConnectionError), Connection(int(pipe)) as ours:
        ours.send_bytes(READY)
        serve(ours, int(pixels), settings)


if __name__ == "__main__":
    main(*sys.argv[1:])
