"""Shards by actors on a real Ray, one of which is killed in the middle."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from milvus_fghash.datasets.synthetic.drawings import draw_birds

PROGRAM = Path(sys.executable).parent / "milvus-fghash"
GOLDEN = Path(__file__).parent.parent / "tests" / "golden" / "bundle-v1"
SHARDS, PHOTOS = 6, 150


def actors_of(mark: str) -> Iterator[int]:
    """Processes of actors that make shards, of the run whose environment holds ``mark``."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            ours = mark.encode() in (process / "environ").read_bytes()
            if ours and b"ShardActor" in (process / "cmdline").read_bytes():
                yield int(process.name)
        except OSError:  # gone meanwhile, or of another user
            continue


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("shard-*")}


def test_a_killed_actor_costs_nothing_but_time(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    birds = draw_birds(tmp_path / "birds", classes=3, train_per_class=5, test_per_class=1, size=64, seed=1)
    for number in range(SHARDS * PHOTOS):
        link = tmp_path / "many" / f"{number:04}.jpg"
        link.parent.mkdir(exist_ok=True)
        os.link(birds.file(number % len(birds)), link)
    lines = [f"many/{number:04}.jpg,{number}" for number in range(SHARDS * PHOTOS)]
    (tmp_path / "many.csv").write_text("\n".join(["path,stock", *lines]))
    words = [
        str(PROGRAM),
        "shards",
        "build",
        str(GOLDEN),
        "many.csv",
        "--column",
        "stock:int64",
        "--shard-rows",
        str(PHOTOS),
        "--json",
    ]
    subprocess.run([*words, "--out", "here", "--threads", "1"], cwd=tmp_path, check=True, capture_output=True)
    whole = contents(tmp_path / "here")
    shutil.copytree(tmp_path / "here", tmp_path / "ray")
    left = sorted(whole)[-8:]  # of the last four shards
    for name in left:
        (tmp_path / "ray" / name).unlink()
    mark = uuid.uuid4().hex
    by_ray, pipe = [*words, "--out", "ray", "--engine", "ray", "--ray-actors", "2"], subprocess.PIPE
    environment = {**os.environ, "FGHASH_TEST": mark}
    running = subprocess.Popen(by_ray, cwd=tmp_path, env=environment, stdout=pipe, stderr=pipe, text=True)
    killed = 0
    while running.poll() is None and not killed:
        made = len(contents(tmp_path / "ray")) - len(whole) + len(left)
        actors = list(actors_of(mark)) if made else []
        if actors and made < len(left):
            os.kill(actors[0], signal.SIGKILL)
            killed = actors[0]
        time.sleep(0.01)
    out, err = running.communicate()
    assert running.returncode == 0, err
    assert killed
    result = json.loads(out)
    assert (result["made"], result["shards"], result["rows"]) == (4, SHARDS, SHARDS * PHOTOS)
    assert contents(tmp_path / "ray") == whole
    assert "Traceback" not in err
    ours = (f"{SHARDS * PHOTOS} photos in many.csv; ", "encoding: ")
    assert all(" ray log level " in line or "(raylet)" in line or line.startswith(ours) for line in err.splitlines())
    deadline = time.monotonic() + 20  # Ray ends its workers a moment after the program
    while (remaining := list(actors_of(mark))) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert remaining == []
