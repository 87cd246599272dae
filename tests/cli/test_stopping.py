"""Ctrl-C on a running ingest, for real: what was begun is finished, and the same command goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from PIL import Image

from milvus_fghash.cli.stopping import finishing_when_interrupted
from tests.image_bytes import encode
from tests.serving.small_bundle import write_small_bundle

N = 100


def ingest(folder: Path) -> subprocess.Popen[str]:
    words = ["ingest", "bundle", "photos", "--batch-size", "10", "--json"]
    command = [sys.executable, "-c", "from milvus_fghash.cli import main; main()", *words]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


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
    assert "\nFinishing what was begun; once more leaves after the write under way.\nError: stopped; " in err
    with ingest(tmp_path) as process:
        told = json.loads(process.communicate(timeout=120)[0])
    assert told["unchanged"] > 0
    assert told["stored"] + told["unchanged"] == told["rows_in_collection"] == N
    assert f"stopped; {told['unchanged']:,} more photos are in" in err
    outcomes = [json.loads(file.read_text())["outcome"] for file in sorted(folder.glob("runs/*.json"))]
    assert outcomes == ["stopped", "done"]


def test_the_second_signal_does_what_it_did_before() -> None:
    seen: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _frame: seen.append(number))
    try:
        with finishing_when_interrupted() as asked:
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
        with finishing_when_interrupted() as asked:
            done.append(asked.is_set())

    done: list[bool] = []
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [False]
