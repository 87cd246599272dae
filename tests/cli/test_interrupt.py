"""Ctrl-C on a running ingest, for real: what was begun is finished, and the same command goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from milvus_fghash.cli.terminal.interrupt import STOPPING, stop_on_interrupt
from tests.helpers.graph_faults import change_graph, never_end_on_black
from tests.helpers.image_bytes import encode
from tests.helpers.small_bundle import write_small_bundle

pytestmark = pytest.mark.full

N = 100


TELLS_OF_BLACK = """
from milvus_fghash.encoding.graph_runs import GraphRuns
from milvus_fghash.cli import main

def run(self, images, outputs):
    if not images.any():
        print("black", flush=True)
    return original(self, images, outputs)

original, GraphRuns.run = GraphRuns.run, run
main()
"""
"""The command, which says when it is about to encode a black photo."""


def ingest(folder: Path, code: str = "from milvus_fghash.cli import main; main()") -> subprocess.Popen[str]:
    return start(folder, code, "ingest", "bundle", "photos", "--rows-per-write", "10", "--json")


def start(folder: Path, code: str, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *words]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def interrupt_on_black(process: subprocess.Popen[str], answers: Sequence[str]) -> None:
    """Once it hangs in the graph, one Ctrl-C for each line it is to answer with, and another one that is to end it."""
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline() == "black\n"
    time.sleep(0.5)  # from Python into the graph
    for line in answers:
        process.send_signal(signal.SIGINT)
        assert f"{line}\n" in process.stderr  # reads until there; what it found comes before
    process.send_signal(signal.SIGINT)
    try:
        assert process.wait(20) == 130
    finally:
        process.kill()


def test_ctrl_c_finishes_what_was_begun(tmp_path: Path) -> None:
    write_small_bundle(tmp_path / "bundle")
    (tmp_path / "photos").mkdir()
    large = encode(Image.new("RGB", (4000, 3000)))  # a small file that takes long: all of them some seconds
    for number in range(N):
        (tmp_path / "photos" / f"{number:03}.png").write_bytes(large)
    folder = tmp_path / "milvus-fghash.db.journals" / "photos"
    with ingest(tmp_path) as process:
        while not list(folder.glob("journal-*")):
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        time.sleep(2)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert err.startswith(f"{N} photos in photos; no classes (no photo lies in a class folder); no splits\n")
    assert f"\n{STOPPING}\n" in err
    assert err.splitlines()[-1].startswith("Error: stopped after ")  # on a slow machine, a line of progress is between
    with ingest(tmp_path) as process:
        result = json.loads(process.communicate(timeout=120)[0])
    assert result["unchanged"] > 0
    assert result["stored"] + result["unchanged"] == result["rows_in_collection"] == N
    assert f"stopped after {result['unchanged']:,} photos were written" in err
    outcomes = [json.loads(file.read_text())["outcome"] for file in sorted(folder.glob("runs/*.json"))]
    assert outcomes == ["stopped", "done"]


def test_a_graph_that_never_ends_is_left_by_ctrl_c(tmp_path: Path) -> None:
    """The second one leaves an ingest; the first one a search, which has begun nothing that must be finished."""
    change_graph(write_small_bundle(tmp_path / "bundle"), never_end_on_black)
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (16, 16), "black").save(tmp_path / "photos" / "black.png")
    with ingest(tmp_path, TELLS_OF_BLACK) as process:
        interrupt_on_black(process, [STOPPING])
    with start(tmp_path, TELLS_OF_BLACK, "search", "bundle", "--image", "photos/black.png") as process:
        interrupt_on_black(process, [])


def test_the_third_signal_kills() -> None:
    """Even a program that takes every interrupt for nothing."""
    code = """
import time
from milvus_fghash.cli.terminal.interrupt import stop_on_interrupt
with stop_on_interrupt():
    try:
        print("ready", flush=True)
        time.sleep(60)
    except KeyboardInterrupt:
        while True:
            try:
                print("second", flush=True)
                time.sleep(60)
            except KeyboardInterrupt:
                pass
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGINT)
        assert process.stderr.readline().decode() == f"{STOPPING}\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == b"second\n"
        process.send_signal(signal.SIGINT)
        try:
            assert process.wait(10) == -signal.SIGINT
        finally:
            process.kill()


def test_the_second_signal_does_what_it_did_before() -> None:
    seen: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _frame: seen.append(number))
    try:
        with stop_on_interrupt() as asked:
            os.kill(os.getpid(), signal.SIGTERM)
            assert asked.wait(5)
            assert not seen
            os.kill(os.getpid(), signal.SIGTERM)
            assert seen == [signal.SIGTERM]
        os.kill(os.getpid(), signal.SIGTERM)
        assert seen == [signal.SIGTERM] * 2
    finally:
        signal.signal(signal.SIGTERM, before)


def test_other_threads_are_let_alone() -> None:
    def work() -> None:
        with stop_on_interrupt() as asked:
            done.append(asked.is_set())

    done: list[bool] = []
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [False]
