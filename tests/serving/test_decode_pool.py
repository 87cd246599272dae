"""Workers that die, hang, cannot start or are left alone: no photo is lost, nobody waits, no process is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from milvus_fghash.errors import ConfigError
from milvus_fghash.images import DEFAULT_LIMITS, Limits, Preprocessing
from milvus_fghash.serving import decode_pool
from milvus_fghash.serving.decode_pool import AHEAD, STARTS, Pool
from milvus_fghash.serving.decode_worker import BYTES_PER_PIXEL, MEMORY, memory_for, path_from_bytes, path_to_bytes
from milvus_fghash.serving.decoding import Photo, Refused, decode
from tests.image_bytes import encode, noise
from tests.serving.decoders import FAILING, greys, watch

SMALL = Preprocessing(size=8, resize=8)
Processes = list[subprocess.Popen[bytes]]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Processes:
    return watch(monkeypatch)


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    return greys(tmp_path, 100)


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode_pool, "WORKER", ("-c", FAILING))


def summary(decoded: Iterator[Photo | Refused]) -> list[int | str]:
    """The grey of each photo, the reason of each refusal."""
    seen: list[int | str] = []
    for row, one in enumerate(decoded):
        assert one.row == row
        seen.append(one.reason if isinstance(one, Refused) else int(one.pixels[0, 0, 0]))
    return seen


def finished(pool: Pool, count: int) -> dict[int, Photo | Refused]:
    done: dict[int, Photo | Refused] = {}
    while len(done) < count:
        done |= {one.row: one for one in pool.step(patient=True)}
    return done


def until(true: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it does not happen"
        time.sleep(0.02)


def is_running(process: int) -> bool:
    """Not so for a zombie, which waits for its parent only."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_killed_worker_loses_nothing(pictures: list[Path], started: Processes) -> None:
    decoded = decode(pictures, SMALL, DEFAULT_LIMITS, 2)
    seen: list[int] = []
    killed: set[int] = set()
    for photo in decoded:
        assert isinstance(photo, Photo)
        seen.append(int(photo.pixels[0, 0, 0]))
        if len(seen) in (10, 25, 40, 60):
            killed.add(started[-1].pid)
            os.kill(started[-1].pid, signal.SIGKILL)
    assert seen == list(range(100))
    assert len(started) == 2 + len(killed)


def test_a_worker_killed_between_two_photos_costs_nothing(pictures: list[Path], started: Processes) -> None:
    with closing(Pool(SMALL, DEFAULT_LIMITS, 1, 30)) as pool:
        for row in range(4):  # more deaths than a photo is given
            pool.add(row, pictures[row])
            assert isinstance(finished(pool, 1)[row], Photo)
            started[-1].kill()
            started[-1].wait()
    assert len(started) == 4


@pytest.mark.usefixtures("failing")
def test_a_photo_that_kills_is_refused_after_two_tries_and_its_neighbours_are_not(
    pictures: list[Path], started: Processes
) -> None:
    wanted: list[int | str] = [*range(100)]
    for row in (0, 30, 31, 99):
        pictures[row] = pictures[row].rename(pictures[row].with_name(f"crash {row}.png"))
        wanted[row] = "crash"
    assert summary(decode(pictures, SMALL, DEFAULT_LIMITS, 2)) == wanted
    assert len(started) <= 2 + 4 * 2


@pytest.mark.usefixtures("failing")
def test_a_photo_whose_worker_dies_once_is_tried_again(pictures: list[Path]) -> None:
    for row in (3, 4, 5):
        pictures[row] = pictures[row].rename(pictures[row].with_name(f"once {row}.png"))
    assert summary(decode(pictures, SMALL, DEFAULT_LIMITS, 1)) == [*range(100)]


@pytest.mark.usefixtures("failing")
def test_the_second_try_is_made_alone(pictures: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    given_to: dict[int, list[str]] = {}
    give = Pool._give

    def watched(pool: Pool, worker: decode_pool._Worker, task: decode_pool._Task) -> None:
        given_to.setdefault(worker.process.pid, []).append(task.path.name)
        assert not worker.tasks or worker.tasks[0].deaths == 0
        give(pool, worker, task)

    monkeypatch.setattr(Pool, "_give", watched)
    pictures[5] = pictures[5].rename(pictures[5].with_name("crash.png"))
    assert summary(decode(pictures, SMALL, DEFAULT_LIMITS, 1))[5] == "crash"
    assert ["crash.png"] in given_to.values()


def test_a_worker_that_does_not_answer_is_ended_in_time(pictures: list[Path], started: Processes) -> None:
    with closing(Pool(SMALL, DEFAULT_LIMITS, 1, 0.5)) as pool:
        pool.add(0, pictures[0])
        finished(pool, 1)
        os.kill(started[0].pid, signal.SIGSTOP)
        for row in (1, 2, 3):
            pool.add(row, pictures[row])
        before = time.monotonic()
        done = finished(pool, 3)
        assert 0.5 <= time.monotonic() - before < 10
    assert isinstance(late := done[1], Refused)
    assert (late.reason, late.message) == ("timeout", "the image takes longer than 0.5 seconds to decode")
    assert isinstance(done[2], Photo)
    assert isinstance(done[3], Photo)
    assert [process.returncode for process in started] == [-signal.SIGKILL, -signal.SIGKILL]


@pytest.mark.usefixtures("failing")
def test_a_photo_that_hangs_its_decoder_stops_only_itself(pictures: list[Path]) -> None:
    wanted: list[int | str] = [*range(100)]
    for row in (0, 50):
        pictures[row] = pictures[row].rename(pictures[row].with_name(f"hang {row}.png"))
        wanted[row] = "timeout"
    assert summary(decode(pictures, SMALL, DEFAULT_LIMITS, 2, timeout=0.5)) == wanted


def test_nobody_is_late_because_the_taker_is_slow(pictures: list[Path]) -> None:
    decoded = decode(pictures[: 3 * AHEAD], SMALL, DEFAULT_LIMITS, 1, timeout=0.5)
    for row, photo in enumerate(decoded):
        assert isinstance(photo, Photo)
        if row in (0, 1, 10):
            time.sleep(1)


def test_the_time_begins_with_the_photo(pictures: list[Path]) -> None:
    with closing(Pool(SMALL, DEFAULT_LIMITS, 1, 0.5)) as pool:
        for row in range(2):
            pool.add(row, pictures[row])
            assert isinstance(finished(pool, 1)[row], Photo)
            time.sleep(0.6)


def test_an_answer_that_comes_at_the_last_moment_counts(pictures: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(Pool(SMALL, DEFAULT_LIMITS, 1, 0.5)) as pool:
        for row in range(2):
            pool.add(row, pictures[row])
            finished(pool, 1)
        pool.add(2, pictures[2])
        pool.step(patient=False)
        time.sleep(0.6)
        with monkeypatch.context() as patch:  # it comes when the pool has just listened
            patch.setattr(decode_pool, "wait", lambda pipes, seconds: [])
            assert pool.step(patient=False) == []
        assert isinstance(finished(pool, 1)[2], Photo)


@pytest.mark.usefixtures("failing")
def test_a_worker_ends_itself_when_nobody_looks(tmp_path: Path, started: Processes) -> None:
    with closing(Pool(SMALL, DEFAULT_LIMITS, 1, 0.5)) as pool:
        pool.add(0, tmp_path / "a.png")
        finished(pool, 1)
        pool.add(1, tmp_path / "hang.png")
        pool.step(patient=False)
        until(lambda: started[0].poll() is not None)
        assert started[0].returncode == -signal.SIGALRM
        assert isinstance(late := finished(pool, 1)[1], Refused)
        assert late.reason == "timeout"
    assert len(started) == 1


@pytest.mark.parametrize("stopped", [False, True])
def test_closing_early_ends_all_workers_at_once(pictures: list[Path], started: Processes, stopped: bool) -> None:
    decoded = decode(pictures, SMALL, DEFAULT_LIMITS, 2)
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
        list(decode(paths(), SMALL, DEFAULT_LIMITS, 2))
    assert None not in [process.returncode for process in started]


def test_ctrl_c_is_left_to_the_parent(pictures: list[Path], started: Processes) -> None:
    decoded = decode(pictures, SMALL, DEFAULT_LIMITS, 1)
    next(decoded)
    assert os.getpgid(started[0].pid) != os.getpgid(0)  # a terminal sends it to groups
    os.kill(started[0].pid, signal.SIGINT)
    assert len(list(decoded)) == 99
    assert len(started) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_each_worker_has_its_own_socket_only(pictures: list[Path], started: Processes) -> None:
    decoded = decode(pictures, SMALL, DEFAULT_LIMITS, 3)
    next(decoded)
    for process in started:
        held = [os.readlink(file) for file in Path(f"/proc/{process.pid}/fd").iterdir()]
        assert len([name for name in held if name.startswith("socket:")]) == 1
        assert len([name for name in held if "pixels" in name]) == 1
    decoded.close()


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_no_descriptor_is_left(pictures: list[Path], started: Processes) -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    assert len(list(decode(pictures, SMALL, DEFAULT_LIMITS, 2))) == 100
    assert sorted(os.listdir("/proc/self/fd")) == before


SCRIPT = """
import os, signal, sys
from pathlib import Path
from milvus_fghash.images import DEFAULT_LIMITS, Preprocessing
from milvus_fghash.serving import decode_pool
from milvus_fghash.serving.decoding import decode

run = decode_pool._run
decode_pool._run = lambda *told: print((process := run(*told)).pid) or process
decoded = decode([Path(path) for path in sys.argv[1:]], Preprocessing(size=8, resize=8), DEFAULT_LIMITS, 2)
next(decoded)
print("done", flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
"""Has no `if __name__ == "__main__"`, and needs none."""


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_workers_end_with_a_killed_parent(pictures: list[Path], tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    told = subprocess.run([sys.executable, tmp_path / "script.py", *pictures], capture_output=True, text=True)
    assert told.returncode == -signal.SIGKILL, told.stderr
    *workers, last = told.stdout.split()
    assert (len(workers), last, told.stderr) == (2, "done", "")
    until(lambda: not any(is_running(int(worker)) for worker in workers))


@pytest.mark.parametrize("program", ["raise SystemExit(7)", "print('hello')"])
def test_workers_that_cannot_start_are_one_error(
    pictures: list[Path], started: Processes, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    monkeypatch.setattr(decode_pool, "WORKER", ("-c", program))
    with pytest.raises(ConfigError, match=rf"{STARTS} of them ended, the last with exit code \d; decode without them"):
        next(decode(pictures, SMALL, DEFAULT_LIMITS, 1))
    assert len(started) == STARTS


def test_a_python_that_is_not_there_is_one_error(pictures: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/no/python")
    with pytest.raises(ConfigError, match="cannot be started by /no/python"):
        next(decode(pictures, SMALL, DEFAULT_LIMITS, 1))


@pytest.mark.usefixtures("failing")
@pytest.mark.skipif(sys.platform != "linux", reason="other systems keep to no such limit")
def test_a_photo_that_fills_the_memory_is_refused_and_the_worker_goes_on(tmp_path: Path, started: Processes) -> None:
    (tmp_path / "bomb.png").write_bytes(encode(Image.new("RGB", (8000, 8000))))  # 256 MB
    (tmp_path / "good.png").write_bytes(encode(Image.new("RGB", (8, 8), (7, 7, 7))))
    paths = [tmp_path / name for name in ("good.png", "bomb.png", "good.png")]
    decoded = list(decode(paths, SMALL, DEFAULT_LIMITS, 1))
    assert summary(iter(decoded)) == [7, "broken", 7]
    assert isinstance(decoded[1], Refused)
    assert "MemoryError" in decoded[1].message
    assert len(started) == 1


TURNED = Image.Exif()
TURNED[0x0112] = 6


@pytest.mark.parametrize(
    "raw",
    [
        encode(noise(1500, 1000).convert("RGBA"), "WEBP", exif=TURNED, method=0),
        encode(noise(1500, 1000).convert("RGBA"), "PNG", exif=TURNED, compress_level=1),
        encode(noise(1500, 1000).convert("CMYK"), "JPEG", progressive=True, exif=TURNED),
        encode(Image.new("I;16", (1500, 1000)), "PNG", transparency=3),
    ],
    ids=["webp", "png", "jpeg", "16-bit"],
)
def test_a_photo_at_the_limit_is_not_short_of_memory(raw: bytes, tmp_path: Path) -> None:
    (tmp_path / "photo").write_bytes(raw)
    limits = Limits(max_pixels=1_500_000, max_bytes=len(raw))
    (photo,) = decode([tmp_path / "photo"], Preprocessing(), limits, 1)
    assert isinstance(photo, Photo)


def test_memory_worked_by_hand() -> None:
    assert memory_for(Limits(max_pixels=1000, max_bytes=7)) == MEMORY + 1000 * BYTES_PER_PIXEL + 14
    assert memory_for(DEFAULT_LIMITS) == 3_500_000_000


@given(st.text(st.characters(codec=None)).map(Path))
def test_any_path_comes_through(path: Path) -> None:
    assert path_from_bytes(path_to_bytes(path)) == path


def test_a_worker_loads_little() -> None:
    probe = "import milvus_fghash.serving.decode_worker, sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True).stdout.split()
    assert {"numpy", "PIL", "pydantic"} <= set(loaded)
    assert not {"onnxruntime", "pymilvus", "grpc", "torch", "rich", "click"} & set(loaded)
