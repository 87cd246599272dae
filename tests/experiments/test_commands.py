"""`compare` and `ablate` from the outside: what they show and leave, what stops them, and that they go on."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from milvus_fghash.datasets.dataset import Dataset
from milvus_fghash.errors import DataError
from milvus_fghash.evaluation.protocols import PROTOCOLS
from tests.helpers.commands import Run
from tests.helpers.grid_commands import compare, words

pytestmark = pytest.mark.full

Process = subprocess.Popen[bytes]
Start = Callable[..., Process]

PROGRAM = str(Path(sys.executable).with_name("milvus-fghash"))


def seeds(data: Path, out: Path | str, *, rounds: int) -> list[str]:
    """A grid of one method with four seeds and no trials."""
    grid = ("--methods", "baseline", "--bits", "8", "--seeds", "4", "--heads", "linear", "--trials", "1")
    return ["compare", *words(data, out, *grid, rounds=rounds)]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts the command in a group of processes that does not outlive the test."""
    started: list[Process] = []

    def run_apart(command: list[str]) -> Process:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        started.append(
            subprocess.Popen(
                [PROGRAM, *command],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
                # Where the tests themselves run in a shell's background, Ctrl-C is ignored, and children inherit that.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
            )
        )
        return started[-1]

    yield run_apart
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def children(process: Process) -> list[int]:
    """Of a running process, all its processes below it."""
    found: list[int] = []
    waiting = [process.pid]
    while waiting:
        for task in Path(f"/proc/{waiting.pop()}/task").glob("*/children"):
            below = [int(number) for number in task.read_text().split()]
            found += below
            waiting += below
    return found


def workers_of(process: Process) -> list[int]:
    """The processes that train, in the order in which they were started."""
    numbers = sorted(children(process))
    return [number for number in numbers if b"spawn_main" in Path(f"/proc/{number}/cmdline").read_bytes()]


def ignores(number: int, kind: signal.Signals) -> bool:
    (line,) = [line for line in Path(f"/proc/{number}/status").read_text().splitlines() if line.startswith("SigIgn")]
    return bool(int(line.split()[1], 16) >> (kind - 1) & 1)


def gone(numbers: list[int]) -> bool:
    """Whether no such process runs any more; one that has ended and was not yet waited for does not run."""
    for number in numbers:
        try:
            state = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            continue
        if state != "Z":
            return False
    return True


def until(condition: Callable[[], object], seconds: float = 200) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.01)
    return False


def half_way(out: Path) -> bool:
    """A cell is recorded, and another one's training has a checkpoint."""
    cells = out / "cells.jsonl"
    return cells.exists() and cells.stat().st_size > 0 and bool(list(out.glob("trainings/*-seed*/checkpoints/round-*")))


def test_a_comparison_shows_and_leaves_its_tables(run: Run, drawn_birds: Dataset, tmp_path: Path) -> None:
    result = run(*compare(drawn_birds.root, "out"))
    assert result.exit_code == 0
    assert result.stdout == (tmp_path / "out" / "table.md").read_text()
    assert "## Encoded gallery" in result.stdout
    assert "| lsh | – | – | – | – |" in result.stdout  # no learned gallery at either length
    assert "| baseline | linear | V | 0." in result.stdout
    assert "[3/3] baseline-linear-8bits-rate3: mAP encoded 0." in result.stderr
    assert "[8/8] " in result.stderr
    assert len((tmp_path / "out" / "table-encoded.csv").read_text().splitlines()) == 1 + 2 * 2 + 2 * 2
    assert len((tmp_path / "out" / "table-learned.csv").read_text().splitlines()) == 1 + 2 * 2
    assert (tmp_path / "out" / "plots" / "map-linear-encoded.png").is_file()
    assert len(list((tmp_path / "out" / "codes").iterdir())) == 8
    assert not list((tmp_path / "out" / "trainings").iterdir())

    again = run(*compare(drawn_birds.root, "out", "--json"))
    document = json.loads(again.stdout)
    assert again.stderr == "", "nothing was left to be done"
    assert [len(document["trials"]), len(document["cells"]), document["missing"]] == [3, 8, 0]
    assert {key: document[key] for key in document if key != "files"} == json.loads(
        (tmp_path / "out" / "results.json").read_text()
    )
    only = run(*compare(drawn_birds.root, "out", "--table-only", "--methods", "lsh", "--bits", "8"))
    assert "| method | head | 8 bits |" in only.stdout
    assert "baseline" not in only.stdout


def test_protocols_are_measured_by_name_and_added_later(run: Run, drawn_birds: Dataset, tmp_path: Path) -> None:
    grid = ("--methods", "itq,kinhash", "--bits", "8", "--seeds", "1", "--heads", "linear", "--trials", "1",
            "--set", "backbone.frozen=true", "--set", "head.standardise=true")  # fmt: skip
    command = ["compare", *words(drawn_birds.root, "out", *grid)]
    first = run(*command, "--protocols", "B,C")
    assert first.exit_code == 0, first.stderr
    headings = [line for line in first.stdout.splitlines() if line.startswith("## ")]
    assert headings == ["## New photos (B)", "## New classes (C)"]
    assert "new-classes-0.5-draw0: [2/2] kinhash-linear-8bits-seed0: mAP C 0." in first.stderr
    more = run(*command, "--protocols", "C,D,E2,Mn,A", "--draws", "2")
    assert more.exit_code == 0, more.stderr
    assert more.stderr.count("itq-8bits-seed0") == 4  # of the second draw of C, of D, of two draws of E2 and Mn
    assert more.stderr.count("kinhash-linear-8bits-seed0") == 1, "it needs labels"
    headings = [line for line in more.stdout.splitlines() if line.startswith("## ")]
    assert [line[-3:] for line in headings] == ["(C)", "(D)", "E2)", "Mn)", "ery", "ery"]
    assert more.stdout.count("| kinhash | linear | – |") == 3
    with_lda = ["Floats of the same features, lda, 256 axes: mAP 0." in part for part in more.stdout.split("\n## ")[1:]]
    assert with_lda == [True, False, True, True, True, False], "not without labels, and not for learned codes"
    values = json.loads((tmp_path / "out" / "results.json").read_text())
    assert (values["missing"], len(values["cells"])) == (0, 2 + 4 + 1 + 2)
    assert {entry["lda"]["lda, 256 axes"]["n_queries"] for entry in values["tables"]["C"]} == {6}


def test_the_help_names_every_protocol(run: Run, drawn_birds: Dataset) -> None:
    for command in ("compare", "ablate"):
        assert f"of {', '.join(PROTOCOLS)}." in " ".join(run(command, "--help").stdout.split())
    wrong = run("compare", "demo", "--data", drawn_birds.root, "--out", "out", "--protocols", "B,Q")
    assert wrong.exit_code == 2
    assert "there is no protocol 'Q'" in wrong.stderr


def hide_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its parts too: what an earlier test has imported would be found."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)


LSH = ("--methods", "lsh", "--bits", "8", "--seeds", "1")


@pytest.mark.parametrize("command", [["compare", "demo", *LSH], ["ablate", "demo", "--bits", "8", "--seeds", "1"]])
def test_without_matplotlib_nothing_is_begun(
    run: Run, drawn_birds: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    hide_matplotlib(monkeypatch)
    result = run(*command, "--data", drawn_birds.root, "--out", "out")
    assert result.exit_code == 1
    assert "pip install 'milvus-fghash[plot]'" in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_the_table_is_shown_before_anything_is_drawn(
    run: Run, drawn_birds: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> list[Path]:
        raise DataError("the disk rejects")

    with monkeypatch.context() as patch:
        patch.setattr("milvus_fghash.experiments.plots.write_plots", fail)
        failed = run(*compare(drawn_birds.root, "out", *LSH))
    assert failed.exit_code == 1
    assert "## Encoded gallery" in failed.stdout
    assert "Error: the disk rejects" in failed.stderr
    # What is there can be looked at without matplotlib.
    hide_matplotlib(monkeypatch)
    only = run(*compare(drawn_birds.root, "out", *LSH, "--table-only"))
    assert (only.exit_code, only.stdout) == (1, failed.stdout)
    assert "pip install 'milvus-fghash[plot]'" in only.stderr


def test_an_ablation_has_its_groups_and_no_trials(run: Run, drawn_birds: Dataset, tmp_path: Path) -> None:
    grid = ("--bits", "8", "--seeds", "1", "--heads", "linear")
    result = run("ablate", *words(drawn_birds.root, "out", *grid))
    assert result.exit_code == 0
    new, _, rest = result.stdout.partition("## Encoded gallery")
    for table in (new, rest.partition("## Learned gallery")[0]):
        assert [line for line in table.splitlines() if line.startswith("### ")] == [
            "### Components",
            "### Number of boxes",
            "### Size of a box",
        ]
        assert table.count("| linear | 0.") == 12
    assert "Learning-rate trials" not in result.stdout
    assert len((tmp_path / "out" / "cells.jsonl").read_text().splitlines()) == 10  # three rows are one training


def test_a_killed_grid_goes_on_to_the_same_table(run: Run, start: Start, drawn_birds: Dataset, tmp_path: Path) -> None:
    assert run(*seeds(drawn_birds.root, "whole", rounds=6)).exit_code == 0
    command = seeds(drawn_birds.root, tmp_path / "killed", rounds=6)
    victim = start([*command, "--jobs", "2"])
    assert until(lambda: half_way(tmp_path / "killed")), "it never came half way"
    below = children(victim)
    victim.send_signal(signal.SIGKILL)
    victim.communicate()
    assert until(lambda: gone(below), 20)
    done = (tmp_path / "killed" / "cells.jsonl").read_bytes()
    left = 4 - done.count(b"\n")
    assert 0 < left < 4, "it was too quick to be killed half way"
    (tmp_path / "killed" / "cells.jsonl").write_bytes(done + done[:200])  # as if a line was being written
    result = run(*command)
    assert result.exit_code == 0
    assert f"[{left}/{left}] " in result.stderr
    assert (tmp_path / "killed" / "table.md").read_bytes() == (tmp_path / "whole" / "table.md").read_bytes()
    assert not list((tmp_path / "killed" / "trainings").iterdir())


def test_ctrl_c_ends_all_workers_and_says_how_to_go_on(start: Start, drawn_birds: Dataset, tmp_path: Path) -> None:
    process = start([*seeds(drawn_birds.root, tmp_path / "out", rounds=99), "--jobs", "2"])
    assert until(lambda: list((tmp_path / "out").glob("trainings/*/checkpoints/round-*"))), "it never began"
    below = children(process)
    assert all(ignores(number, signal.SIGINT) for number in workers_of(process)), "each would show a traceback"
    os.killpg(process.pid, signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert stdout == b""
    assert b"run the same command again to continue.\nInterrupted.\n" in stderr
    assert b"Traceback" not in stderr
    assert until(lambda: gone(below), 20)


def test_workers_end_with_a_grid_that_is_killed(start: Start, drawn_birds: Dataset, tmp_path: Path) -> None:
    process = start([*seeds(drawn_birds.root, tmp_path / "out", rounds=9999), "--jobs", "2"])
    assert until(lambda: list((tmp_path / "out").glob("trainings/*/checkpoints/round-*"))), "it never began"
    workers = workers_of(process)
    assert len(workers) == 2
    process.kill()
    assert until(lambda: gone(workers), 20), "workers outlived their grid"


def test_a_killed_worker_is_one_clear_line(start: Start, drawn_birds: Dataset, tmp_path: Path) -> None:
    process = start([*seeds(drawn_birds.root, tmp_path / "out", rounds=99), "--jobs", "2"])
    assert until(lambda: list((tmp_path / "out").glob("trainings/*/checkpoints/round-*"))), "it never began"
    workers = workers_of(process)
    os.kill(workers[-1], signal.SIGKILL)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    assert re.search(rb"the process of the training baseline-linear-8bits-seed[01] was killed, perhaps", stderr)
    assert b"Traceback" not in stderr
    assert gone(workers)
