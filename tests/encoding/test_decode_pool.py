"""Workers that die, hang or cannot start: no photo is lost, and nobody waits."""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from milvus_fghash.encoding import decode_pool
from milvus_fghash.encoding.decode_options import DecodeOptions
from milvus_fghash.encoding.decode_pool import AHEAD, MAX_FAILED_STARTS, DecoderPool
from milvus_fghash.encoding.decode_result import shown
from milvus_fghash.encoding.decode_stream import Photo, Rejected, decode
from milvus_fghash.errors import ConfigError
from tests.helpers.decoders import SMALL, Processes, summary, until

pytestmark = pytest.mark.full


def finished(pool: DecoderPool, count: int) -> dict[int, Photo | Rejected]:
    done: dict[int, Photo | Rejected] = {}
    while len(done) < count:
        done |= {one.row: one for one in pool.step(wait_for_result=True)}
    return done


def test_a_killed_worker_loses_nothing(pictures: list[Path], started: Processes) -> None:
    decoded = decode(pictures, SMALL, DecodeOptions(workers=2))
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
    with closing(DecoderPool(SMALL, DecodeOptions(workers=1, decode_timeout=30))) as pool:
        for row in range(4):  # more deaths than a photo is given
            pool.add(row, pictures[row])
            assert isinstance(finished(pool, 1)[row], Photo)
            started[-1].kill()
            started[-1].wait()
    assert len(started) == 4


@pytest.mark.usefixtures("failing")
def test_a_photo_that_kills_is_rejected_after_two_tries_and_its_neighbours_are_not(
    pictures: list[Path], started: Processes
) -> None:
    wanted: list[int | str] = [*range(100)]
    for row in (0, 30, 31, 99):
        pictures[row] = pictures[row].rename(pictures[row].with_name(f"crash {row}.png"))
        wanted[row] = "crash"
    assert summary(decode(pictures, SMALL, DecodeOptions(workers=2))) == wanted
    assert len(started) <= 2 + 4 * 2


@pytest.mark.usefixtures("failing")
def test_a_hash_that_can_be_none_is_nonsense(pictures: list[Path]) -> None:
    """A worker that a hostile photo has damaged must not put a number into the rows that Milvus cannot keep."""
    mad = pictures[0].rename(pictures[0].with_name("mad.png"))
    assert summary(decode([mad, *pictures[1:3]], SMALL, DecodeOptions(workers=1))) == ["crash", 1, 2]


@pytest.mark.usefixtures("failing")
def test_a_photo_whose_worker_dies_once_is_tried_again(pictures: list[Path]) -> None:
    for row in (3, 4, 5):
        pictures[row] = pictures[row].rename(pictures[row].with_name(f"once {row}.png"))
    assert summary(decode(pictures, SMALL, DecodeOptions(workers=1))) == [*range(100)]


@pytest.mark.usefixtures("failing")
def test_the_second_try_is_made_alone(pictures: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    given_to: dict[int, list[str]] = {}
    give = DecoderPool._give

    def watched(pool: DecoderPool, worker: decode_pool._Worker, task: decode_pool._Task) -> None:
        given_to.setdefault(worker.process.pid, []).append(Path(shown(task.source)).name)
        assert not worker.tasks or worker.tasks[0].crashes == 0
        give(pool, worker, task)

    monkeypatch.setattr(DecoderPool, "_give", watched)
    pictures[5] = pictures[5].rename(pictures[5].with_name("crash.png"))
    assert summary(decode(pictures, SMALL, DecodeOptions(workers=1)))[5] == "crash"
    assert ["crash.png"] in given_to.values()


def test_a_worker_that_does_not_answer_is_ended_in_time(pictures: list[Path], started: Processes) -> None:
    with closing(DecoderPool(SMALL, DecodeOptions(workers=1, decode_timeout=0.5))) as pool:
        pool.add(0, pictures[0])
        finished(pool, 1)
        os.kill(started[0].pid, signal.SIGSTOP)
        for row in (1, 2, 3):
            pool.add(row, pictures[row])
        before = time.monotonic()
        done = finished(pool, 3)
        assert 0.5 <= time.monotonic() - before < 10
    assert isinstance(late := done[1], Rejected)
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
    assert summary(decode(pictures, SMALL, DecodeOptions(workers=2, decode_timeout=0.5))) == wanted


def test_nobody_is_late_because_the_taker_is_slow(pictures: list[Path]) -> None:
    decoded = decode(pictures[: 3 * AHEAD], SMALL, DecodeOptions(workers=1, decode_timeout=0.5))
    for row, photo in enumerate(decoded):
        assert isinstance(photo, Photo)
        if row in (0, 1, 10):
            time.sleep(1)


def test_paths_longer_than_any_system_takes_do_not_fill_the_socket(pictures: list[Path], started: Processes) -> None:
    with closing(DecoderPool(SMALL, DecodeOptions(workers=1, decode_timeout=30))) as pool:
        pool.add(0, pictures[0])
        finished(pool, 1)
        os.kill(started[0].pid, signal.SIGSTOP)  # it reads nothing
        for row in range(1, AHEAD + 1):
            pool.add(row, Path("x" * 500_000))
        for late in finished(pool, AHEAD).values():
            assert isinstance(late, Rejected)
            assert late.reason == "broken"


def test_the_longest_paths_do_not_fill_the_socket(pictures: list[Path], started: Processes) -> None:
    with closing(DecoderPool(SMALL, DecodeOptions(workers=1, decode_timeout=30))) as pool:
        pool.add(0, pictures[0])
        finished(pool, 1)
        os.kill(started[0].pid, signal.SIGSTOP)
        for row in range(1, AHEAD + 1):
            pool.add(row, Path("x" * 4096))
        pool.step(wait_for_result=False)
        os.kill(started[0].pid, signal.SIGCONT)
        assert len(finished(pool, AHEAD)) == AHEAD


def test_the_time_begins_with_the_photo(pictures: list[Path]) -> None:
    with closing(DecoderPool(SMALL, DecodeOptions(workers=1, decode_timeout=0.5))) as pool:
        for row in range(2):
            pool.add(row, pictures[row])
            assert isinstance(finished(pool, 1)[row], Photo)
            time.sleep(0.6)


def test_an_answer_that_comes_at_the_last_moment_counts(pictures: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(DecoderPool(SMALL, DecodeOptions(workers=1, decode_timeout=1))) as pool:
        for row in range(2):
            pool.add(row, pictures[row])
            finished(pool, 1)
        pool.add(2, pictures[2])
        with monkeypatch.context() as patch:  # the answer comes when the pool has just listened
            patch.setattr(decode_pool, "wait", lambda pipes, seconds: [])
            assert pool.step(wait_for_result=False) == []
            time.sleep(1.2)
            assert pool.step(wait_for_result=False) == []
        assert isinstance(finished(pool, 1)[2], Photo)


@pytest.mark.usefixtures("failing")
def test_a_worker_ends_itself_when_nobody_looks(tmp_path: Path, started: Processes) -> None:
    with closing(DecoderPool(SMALL, DecodeOptions(workers=1, decode_timeout=0.5))) as pool:
        pool.add(0, tmp_path / "a.png")
        finished(pool, 1)
        pool.add(1, tmp_path / "hang.png")
        pool.step(wait_for_result=False)
        until(lambda: started[0].poll() is not None)
        assert started[0].returncode == -signal.SIGALRM
        assert isinstance(late := finished(pool, 1)[1], Rejected)
        assert late.reason == "timeout"
    assert len(started) == 1


@pytest.mark.parametrize("program", ["raise SystemExit(7)", "print('hello')"])
def test_workers_that_cannot_start_are_one_error(
    pictures: list[Path], started: Processes, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    monkeypatch.setattr(decode_pool, "WORKER", ("-c", program))
    with pytest.raises(ConfigError, match=rf"{MAX_FAILED_STARTS} of them ended, the last one with exit code \d; "):
        next(decode(pictures, SMALL, DecodeOptions(workers=1)))
    assert len(started) == MAX_FAILED_STARTS


def test_a_python_that_is_not_there_is_one_error(pictures: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/no/python")
    with pytest.raises(ConfigError, match="cannot be started by /no/python"):
        next(decode(pictures, SMALL, DecodeOptions(workers=1)))
