"""A process that decodes photos one after the other, for `decode_pool`.

    python -m milvus_fghash.encoding.decode_worker PIPE PIXELS SETUP

PIPE (a socket) and PIXELS (a file) are descriptors it was born with, SETUP is JSON. Paths and places come through the
socket; what is behind URLs is fetched while other photos are decoded. The pixels of the n-th photo go into place n
modulo ``slots`` of the file, the rest of the answer through the socket: as JSON and no pickle, for a process that a
hostile photo has damaged must not be able to say more than nonsense.
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
"""Said once, before the first answer."""
BYTES_PER_PIXEL: Final = 32
"""Memory for each pixel that `Limits` allows. Pillow takes up to 25, for a transparent WebP that is turned."""
MEMORY: Final = 100_000_000
"""Bytes beside those of the photo; Pillow loads its decoders when it needs them."""

MEMORY_FETCHING: Final = 500_000_000
"""More of it, once something is behind a URL: threads and their stacks, connections."""
FETCHING: Final = 0.8
"""Part of the time for one photo its bytes may take: a server that hangs costs the photo, a decoder the process."""

_PATH, _PLACE = b"f", b"p"
_LOOK_UP = 5.0
"""Seconds between two looks for the parent, by whom the socket is not always closed: others may have a copy of it."""


class Setup(BaseModel):
    """What a worker is told at its start."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    preprocessing: Preprocessing
    limits: Limits
    slots: int
    """Photos that fit into the file of pixels."""
    timeout: float
    """Seconds for one photo. The parent keeps to it; the worker ends itself after twice as long, if nobody looks."""
    parent: int
    """Process id."""


def memory_for(limits: Limits) -> int:
    """Bytes a worker may take beyond what it takes when it is ready; 3.5 GB with the default limits."""
    return MEMORY + BYTES_PER_PIXEL * limits.max_pixels + 2 * limits.max_bytes


def source_to_bytes(source: Path | PhotoLocation) -> bytes:
    """Any path, also one that is no UTF-8 and one that no file can have, or a place; turned round by the next."""
    if isinstance(source, Path):
        return _PATH + str(source).encode("utf-8", "surrogatepass")
    return _PLACE + json.dumps(astuple(source), ensure_ascii=False).encode("utf-8", "surrogatepass")


def source_from_bytes(raw: bytes) -> Path | PhotoLocation:
    """Turns `source_to_bytes` round."""
    text = raw[1:].decode("utf-8", "surrogatepass")
    if raw[:1] == _PATH:
        return Path(text)
    where, shown, version, start, size, zipped = json.loads(text)
    return PhotoLocation(where, shown, version, start, size, zipped and tuple(zipped))


class Inbox:
    """What a worker has been asked for, in order. What is behind URLs is on its way as soon as it is asked for.

    Without a thread of its own, whose stack would count as memory.
    """

    def __init__(self, pipe: Connection, setup: Setup) -> None:
        self.pipe, self.setup = pipe, setup
        self._asked: deque[Path | PendingRead] = deque()
        self._woken, self._wake = Pipe(duplex=False)
        self._fetches = False

    def next(self) -> Path | PendingRead | None:
        """The next photo, when its bytes are here; None when the other side is gone."""
        while os.getppid() == self.setup.parent:
            while self.pipe.poll():
                self._asked.append(self._begun(source_from_bytes(self.pipe.recv_bytes())))
            if self._asked and _is_here(self._asked[0]):
                return self._asked.popleft()
            if self._woken in wait([self.pipe, self._woken], _LOOK_UP):
                self._woken.recv_bytes()
        return None

    def _begun(self, source: Path | PhotoLocation) -> Path | PendingRead:
        if isinstance(source, Path):
            return source
        limits = self.setup.limits
        begun = start_read(source, limits.max_bytes, FETCHING * self.setup.timeout)
        if begun.future:
            begun.future.add_done_callback(lambda _: self._wake.send_bytes(b"."))
            if not self._fetches:  # now that all is loaded which that takes
                self._fetches = True
                bound_memory(memory_for(limits) + MEMORY_FETCHING + self.setup.slots * limits.max_bytes)
        return begun


def _is_here(source: Path | PendingRead) -> bool:
    return isinstance(source, Path) or source.future is None or source.future.done()


def serve(pipe: Connection, pixels: int, setup: Setup) -> None:
    """Places in, answers out, until the other side is gone."""
    inbox = Inbox(pipe, setup)
    for number in itertools.count():
        if (source := inbox.next()) is None:
            return
        signal.setitimer(signal.ITIMER_REAL, 2 * setup.timeout)  # its signal ends a process in C code, too
        result = decode_one(number, source, setup.preprocessing, setup.limits)
        signal.setitimer(signal.ITIMER_REAL, 0)
        if isinstance(result, Rejected):
            answer: list[str | int] = [result.reason, result.message]
        else:
            raw = result.pixels.tobytes()
            if os.pwrite(pixels, raw, number % setup.slots * len(raw)) != len(raw):
                raise OSError("no room for the pixels")
            answer = [result.content_sha, result.phash]
        pipe.send_bytes(json.dumps(answer).encode())


def bound_memory(more: int) -> None:
    """Let this process take ``more`` bytes than it has now, and let it be the first to go where memory is short.

    On Linux only: other systems do not keep to such a limit, or count otherwise.
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
    """Nothing more goes to stderr: codecs write there what they think of a photo, in words that it may choose."""
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)


def main(pipe: str, pixels: str, setup: str) -> None:
    """Run as a process, see above."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes of a terminal: the parent decides
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    told = Setup.model_validate_json(setup)
    use_one_thread()
    bound_memory(memory_for(told.limits))
    silence()
    with suppress(EOFError, ConnectionError), Connection(int(pipe)) as ours:
        ours.send_bytes(READY)
        serve(ours, int(pixels), told)


if __name__ == "__main__":
    main(*sys.argv[1:])
