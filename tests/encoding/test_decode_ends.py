"""No worker and no descriptor outlives the decoding, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from milvus_fghash.encoding.decode_options import DecodeOptions
from milvus_fghash.encoding.decode_stream import decode
from tests.helpers.decoders import SMALL, Processes, until

pytestmark = pytest.mark.full


def is_running(process: int) -> bool:
    """Not so for a zombie, which waits for its parent only."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("stopped", [False, True])
def test_closing_early_ends_all_workers_at_once(pictures: list[Path], started: Processes, stopped: bool) -> None:
    decoded = decode(pictures, SMALL, DecodeOptions(workers=2))
    next(decoded)
    if stopped:
        os.kill(started[0].pid, signal.SIGSTOP)
    before = time.monotonic()
    decoded.close()
    assert time.monotonic() - before < 5
    assert len(started) == 2
    assert None not in [process.returncode for process in started]


def test_an_error_of_the_paths_ends_all_workers(pictures: list[Path], started: Processes) -> None:
    def paths() -> Iterator[Path]:
        yield from pictures[:30]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(decode(paths(), SMALL, DecodeOptions(workers=2)))
    assert None not in [process.returncode for process in started]


def test_ctrl_c_is_left_to_the_parent(pictures: list[Path], started: Processes) -> None:
    decoded = decode(pictures, SMALL, DecodeOptions(workers=1))
    next(decoded)
    assert os.getpgid(started[0].pid) != os.getpgid(0)  # a terminal sends it to groups
    os.kill(started[0].pid, signal.SIGINT)
    assert len(list(decoded)) == 99
    assert len(started) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_each_worker_has_its_own_socket_only(pictures: list[Path], started: Processes) -> None:
    decoded = decode(pictures, SMALL, DecodeOptions(workers=3))
    next(decoded)
    for process in started:
        held = [os.readlink(file) for file in Path(f"/proc/{process.pid}/fd").iterdir()]
        assert len([name for name in held if name.startswith("socket:")]) == 1
        assert len([name for name in held if "pixels" in name]) == 1
    decoded.close()


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_no_descriptor_is_left(pictures: list[Path], started: Processes) -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    assert len(list(decode(pictures, SMALL, DecodeOptions(workers=2)))) == 100
    assert sorted(os.listdir("/proc/self/fd")) == before


SCRIPT = """
import os, signal, sys
from pathlib import Path
from milvus_fghash.core.images import Preprocessing
from milvus_fghash.encoding import decode_pool
from milvus_fghash.encoding.decode_options import DecodeOptions
from milvus_fghash.encoding.decode_stream import decode

run = decode_pool._run
decode_pool._run = lambda *told: print((process := run(*told)).pid) or process
decoded = decode([Path(path) for path in sys.argv[1:]], Preprocessing(size=8, resize=8), DecodeOptions(workers=2))
next(decoded)
print("done", flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
"""Has no `if __name__ == "__main__"`, and needs none."""


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_workers_end_with_a_killed_parent(pictures: list[Path], tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    result = subprocess.run([sys.executable, tmp_path / "script.py", *pictures], capture_output=True, text=True)
    assert result.returncode == -signal.SIGKILL, result.stderr
    *workers, last = result.stdout.split()
    assert (len(workers), last, result.stderr) == (2, "done", "")
    until(lambda: not any(is_running(int(worker)) for worker in workers))
