"""Photos to decode, and workers that can be watched or that fail on purpose."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pytest
from PIL import Image

from milvus_fghash.core.images import Preprocessing
from milvus_fghash.encoding import decode_pool
from milvus_fghash.encoding.decode_stream import Photo, Rejected, RejectedSource

Processes = list[subprocess.Popen[bytes]]
SMALL = Preprocessing(size=8, resize=8)

FAILING = """
import dataclasses, os, signal, sys, time
from milvus_fghash.encoding import decode_worker

decode_one = decode_worker.decode_one

def fail(row, path, *rest):
    if path.name.startswith("crash"):
        os.kill(os.getpid(), signal.SIGKILL)
    if path.name.startswith("once") and not os.path.exists(f"{path}.seen"):
        open(f"{path}.seen", "w").close()
        os.kill(os.getpid(), signal.SIGSEGV)
    if path.name.startswith("hang"):
        time.sleep(1000)
    result = decode_one(row, path, *rest)
    return dataclasses.replace(result, phash=2**63) if path.name.startswith("mad") else result

decode_worker.decode_one = fail
decode_worker.memory_for = lambda limits: 150_000_000
decode_worker.main(*sys.argv[1:])
"""
"""A worker that dies of some names, once or always, hangs at others, says nonsense of others, and may take 150 MB."""


def watch(monkeypatch: pytest.MonkeyPatch) -> Processes:
    """Grows by each worker that is started."""
    started: Processes = []
    run = decode_pool._run

    def watched(arguments: Sequence[str], descriptors: Sequence[int]) -> subprocess.Popen[bytes]:
        started.append(run(arguments, descriptors))
        return started[-1]

    monkeypatch.setattr(decode_pool, "_run", watched)
    return started


def greys(folder: Path, count: int) -> list[Path]:
    """Pictures of 9 x 9 pixels, each of its own grey: the n-th is n."""
    paths = [folder / f"{grey}.png" for grey in range(count)]
    for grey, path in enumerate(paths):
        Image.new("RGB", (9, 9), (grey, grey, grey)).save(path)
    return paths


def summary(decoded: Iterable[Photo | RejectedSource]) -> list[int | str]:
    """The grey of each photo, the reason of each rejection."""
    seen: list[int | str] = []
    for row, one in enumerate(decoded):
        assert one.row == row
        seen.append(one.reason if isinstance(one, Rejected) else int(one.pixels[0, 0, 0]))
    return seen


def until(true: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it does not happen"
        time.sleep(0.02)
