"""A process that decodes photos one after the other, for `decode_pool`.

    python -m milvus_fghash.serving.decode_worker PIPE PIXELS SETUP

PIPE (a socket) and PIXELS (a file) are descriptors it was born with, SETUP is JSON. Paths come through the socket. The
pixels of the n-th photo go into place n modulo ``slots`` of the file, the rest of the answer through the socket: as
JSON and no pickle, for a process that a hostile photo has damaged must not be able to say more than nonsense.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict

from milvus_fghash.images import Limits, Preprocessing
from milvus_fghash.serving.decoded import Refused, decode_one

READY: Final = b"ready"
"""Said once, before the first answer."""
BYTES_PER_PIXEL: Final = 32
"""Memory for each pixel that `Limits` allows. Pillow takes up to 25, for a transparent WebP that is turned."""
MEMORY: Final = 100_000_000
"""Bytes beside those of the photo; Pillow loads its decoders when it needs them."""

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


def path_to_bytes(path: Path) -> bytes:
    """Any path, also one that is no UTF-8 and one that no file can have; `path_from_bytes` gives it back."""
    return str(path).encode("utf-8", "surrogatepass")


def path_from_bytes(raw: bytes) -> Path:
    """Turns `path_to_bytes` round."""
    return Path(raw.decode("utf-8", "surrogatepass"))


def serve(pipe: Connection, pixels: int, setup: Setup) -> None:
    """Paths in, answers out, until the other side is gone."""
    for number in itertools.count():
        while not pipe.poll(_LOOK_UP):
            if os.getppid() != setup.parent:
                return
        path = path_from_bytes(pipe.recv_bytes())
        signal.setitimer(signal.ITIMER_REAL, 2 * setup.timeout)  # its signal ends a process in C code, too
        result = decode_one(number, path, setup.preprocessing, setup.limits)
        signal.setitimer(signal.ITIMER_REAL, 0)
        if isinstance(result, Refused):
            answer = [result.reason, result.message]
        else:
            raw = result.pixels.tobytes()
            if os.pwrite(pixels, raw, number % setup.slots * len(raw)) != len(raw):
                raise OSError("no room for the pixels")
            answer = [result.content_sha]
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
    bound_memory(memory_for(told.limits))
    silence()
    with suppress(EOFError, ConnectionError), Connection(int(pipe)) as ours:
        ours.send_bytes(READY)
        serve(ours, int(pixels), told)


if __name__ == "__main__":
    main(*sys.argv[1:])
