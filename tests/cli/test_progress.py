"""Progress where stderr is no terminal: never silent for long, never chatty, and the time left; a bar on a terminal."""

from __future__ import annotations

import io
import json
import time
from contextlib import redirect_stderr

import pytest

from milvus_fghash.cli.terminal import progress
from milvus_fghash.cli.terminal.progress import INTERVAL, progress_bar
from tests.helpers.commands import Run


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def test_what_is_short_tells_its_stages_only(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("training") as update:
        update.stage("checking 6 photos")
        for done in range(7):
            clock.now += 1
            update(done, 6)
    assert capsys.readouterr().err == "training: checking 6 photos\n"


def test_what_is_long_tells_how_far_it_is_and_how_long_it_takes(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress_bar("ingesting") as update:
        for done in range(0, 31):
            update(done, 30, "quick")
            clock.now += INTERVAL / 10
        clock.now -= INTERVAL / 10
        update(30, 30)
    assert capsys.readouterr().err.splitlines() == [
        "ingesting: 10 of 30, 0:00:20 left; quick",
        "ingesting: 20 of 30, 0:00:10 left; quick",
        "ingesting: 30 of 30; quick",
    ]


def test_a_new_count_begins_anew(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("training") as update:
        update(90, 100, "photos checked")
        clock.now += 3 * INTERVAL
        update(10, 20, "passes")  # as one that goes on from a checkpoint
        clock.now += INTERVAL
        update(15, 20)
        update.finished("round 3 of 4: loss 0.5", 15, 20)
    assert capsys.readouterr().err.splitlines() == [
        "training: 10 of 20; passes",
        "training: 15 of 20, 0:00:10 left",
        "training: round 3 of 4: loss 0.5, 0:00:10 left",
    ]


def test_silence_is_broken_ever_more_seldom(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "INTERVAL", 0.05)
    monkeypatch.setattr(progress, "MAX_INTERVAL", 0.2)
    with progress_bar("exporting") as update:
        time.sleep(0.6)
        update.stage("the graph")
        time.sleep(0.1)
        update(3, 4, "parts")
        time.sleep(0.2)
    lines = capsys.readouterr().err.splitlines()
    at = lines.index("exporting: the graph")
    assert 2 <= at <= 5  # after 0.05, 0.15, 0.35, 0.55 s, or a little later
    assert set(lines[:at]) <= {"exporting: running for 0:00:00", "exporting: running for 0:00:01"}
    assert any(line.startswith("exporting: the graph; running for 0:00:") for line in lines)
    assert any(line.startswith("exporting: 3 of 4; parts") for line in lines)
    after = len(lines)
    time.sleep(0.2)
    assert len(lines) == after
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("run")
def test_json_has_stages_and_seconds_left(clock: Clock, run: Run) -> None:
    output = io.StringIO()
    with redirect_stderr(output):
        from milvus_fghash.cli.terminal.messages import write_messages

        write_messages("json")
        with progress_bar("training") as update:
            update.stage("building")
            update(0, 10)
            clock.now += INTERVAL
            update(5, 10, "a note")
            update.finished("round 1 of 2: loss 1", 5, 10)
    result = [
        {k: v for k, v in json.loads(line).items() if k not in ("time", "level")}
        for line in output.getvalue().splitlines()
    ]
    same = {"what": "training", "stage": "building"}
    assert result == [
        {"message": "training: building", "event": "stage", **same},
        {"message": "training: 0 of 10", "event": "progress", "done": 0, "total": 10, **same},
        {
            "message": "training: 5 of 10, 0:00:10 left; a note",
            **{"event": "progress", "done": 5, "total": 10, "seconds_left": 10, **same},
        },
        {
            "message": "training: round 1 of 2: loss 1, 0:00:10 left",
            **{"event": "progress", "done": 5, "total": 10, "seconds_left": 10, **same},
        },
    ]


def test_a_terminal_keeps_its_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    shown = Terminal()
    with redirect_stderr(shown), progress_bar("training") as update:
        update.stage("checking 6 photos")
        update(3, 6, "a note")
        update.finished("round 1", 6, 6)
    assert "training" in shown.getvalue()
    assert "\x1b[" in shown.getvalue()
    assert "training: " not in shown.getvalue()
