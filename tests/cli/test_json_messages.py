"""With --log-format json all of stderr is one object a line, whoever writes it; stdout stays as it is."""

from __future__ import annotations

import io
import json
import logging
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from milvus_fghash.cli.terminal import progress
from milvus_fghash.cli.terminal.messages import JsonFormatter, MaskedFormatter, notify, write_messages
from milvus_fghash.cli.terminal.progress import INTERVAL, progress_bar
from tests.helpers.commands import GOLDEN, Run

pytestmark = pytest.mark.full

TOKEN = "root:hunter2-secret"
EVENTS = {"message", "photos", "progress", "error", "log", "warning", "bug", "stderr"}


def lines_of(output: str) -> list[dict[str, Any]]:
    """Each line as an object, with the parts that all have checked."""
    found = [json.loads(line) for line in output.splitlines()]
    for one in found:
        when = datetime.fromisoformat(one["time"])
        assert when.utcoffset() == timedelta(0)
        assert abs(datetime.now(UTC) - when) < timedelta(minutes=5)
        assert one["level"] in {"debug", "info", "warning", "error", "critical"}
        assert one["event"] in EVENTS
        assert isinstance(one["message"], str)
    return found


def python(code: str, **environment: str) -> tuple[int, str, list[dict[str, Any]]]:
    """Exit code, stdout and stderr of some lines of Python, in which `main` is the command."""
    code = "import sys\nfrom milvus_fghash.cli import main\n" + textwrap.dedent(code)
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True, text=True, timeout=120
    )
    return done.returncode, done.stdout, lines_of(done.stderr)


@contextmanager
def messages(style: str) -> Iterator[io.StringIO]:
    """What this process says within the block. The fixture `run` puts the handlers back."""
    with redirect_stderr(io.StringIO()) as stream:
        write_messages(style)
        yield stream


def test_a_run_is_told_in_objects_and_its_result_stays(run: Run, birds: Path) -> None:
    plain = json.loads(run("ingest", GOLDEN, birds, "--json").stdout)
    (birds / "train" / "wren").mkdir(exist_ok=True)
    Image.new("RGB", (9, 9)).save(birds / "train" / "wren" / "new.png")
    (birds / "train" / "wren" / "bad\x1b[31m.png").write_text("no photo")
    result = run("--log-format", "json", "ingest", GOLDEN, birds, "--json")
    outcome = lines_of(result.stderr)
    assert json.loads(result.stdout).keys() == plain.keys()
    assert [one["event"] for one in outcome][0 :: len(outcome) - 1] == ["photos", "error"]
    assert {name: outcome[0][name] for name in ("photos", "classes", "splits", "class_from", "left_out")} == {
        "photos": 38, "classes": 5, "splits": {"test": 12, "train": 26}, "class_from": "from the folder of each photo",
        "left_out": {},
    }  # fmt: skip
    progress = [one for one in outcome if one["event"] == "progress"]
    assert (progress[-1]["what"], progress[-1]["done"]) == ("ingesting", progress[-1]["total"])
    last = outcome[-1]
    assert (last["kind"], last["exit_code"], last["level"]) == ("TooManyRejected", result.exit_code, "error")


@pytest.mark.parametrize(
    ("words", "exit_code", "kind"),
    [
        (["inspect", "--uri", "http://127.0.0.1:1", "--token", TOKEN], 1, "StoreBusy"),
        (["inspect", "--uri", "nowhere.db"], 1, "StoreError"),
        (["serch"], 2, "UsageError"),
        (["search", "--nothing"], 2, "NoSuchOption"),
        (["search"], 2, "UsageError"),
        (["--log-level", "loud", "search"], 2, ""),
    ],
)
def test_what_went_wrong_is_the_last_object(run: Run, words: list[str], exit_code: int, kind: str) -> None:
    environment = {"MILVUS_FGHASH_LOG_FORMAT": "json"}
    result = run("--log-level", "debug", *words, env=environment)
    assert result.exit_code == exit_code
    assert "hunter2" not in result.output
    if kind:
        last = lines_of(result.stderr)[-1]
        assert (last["event"], last["kind"], last["exit_code"]) == ("error", kind, exit_code)
        assert not last["message"].startswith("Error")


def test_whatever_else_writes_to_stderr_is_caught() -> None:
    code, out, result = python(
        """
        import logging, os, subprocess, warnings
        def work():
            from milvus_fghash.cli.terminal.messages import notify
            os.write(2, b"from a codec\\x1b[31m\\xff\\n")
            subprocess.run(["sh", "-c", "echo from a child >&2; echo result"])
            print("by print", file=sys.stderr)
            warnings.warn("a warning")
            logging.getLogger("grpc").error("hunter2-%s", "secret")
            os.write(2, b"without an end")
            raise ZeroDivisionError("our own mistake")
        from milvus_fghash.cli.options.connection import Connection
        Connection.connect = lambda *_, **__: work()
        main(["--log-format", "json", "collections", "list", "--uri", "http://h:1"])
        """,
        MILVUS_TOKEN=TOKEN,
    )
    assert (code, out) == (1, "result\n")
    found = {(one["event"], one["message"].splitlines()[0].split("Warning: ")[-1]) for one in result}
    wanted = {
        ("stderr", "from a codec\x1b[31m\\xff"),
        ("stderr", "from a child"),
        ("stderr", "by print"),
        ("stderr", "without an end"),
        ("warning", "a warning"),
        ("log", "***"),
        ("bug", "our own mistake"),
    }
    assert found == wanted
    (bug,) = (one for one in result if one["event"] == "bug")
    assert bug["kind"] == "ZeroDivisionError"
    assert "Traceback" in bug["traceback"]


def test_a_flood_from_who_holds_the_lock_of_python_stops_nothing() -> None:
    code, out, result = python(
        """
        import ctypes
        from milvus_fghash.cli.terminal.messages import write_messages
        write_messages("json")
        lines = (b"flood" * 200 + b"\\n") * 6_000
        for start in range(0, len(lines), 60_000):
            ctypes.PyDLL(None).write(2, lines[start:start + 60_000], 60_000)
        print("done")
        """
    )
    assert (code, out) == (0, "done\n")
    assert {one["event"] for one in result} == {"stderr"}


def test_what_is_said_in_a_signal_handler_is_an_object_too() -> None:
    code, _, result = python(
        f"""
        import os
        from milvus_fghash.cli.terminal.messages import write_messages
        from milvus_fghash.cli.terminal.interrupt import stop_on_interrupt
        write_messages("json")
        with stop_on_interrupt() as asked:
            os.kill(os.getpid(), {signal.SIGINT.value})
            assert asked.wait(5)
        """
    )
    assert (code, [one["event"] for one in result]) == (0, ["message"])
    assert result[0]["message"].startswith("Finishing the work in progress")


def test_an_error_comes_after_what_libraries_wrote_before_it() -> None:
    code, _, result = python("""
        import os
        from milvus_fghash.cli.methods import methods
        from milvus_fghash.errors import DataError
        def failing(**_):
            os.write(2, b"stray\\n" * 2000)
            raise DataError("no more")
        methods.callback = failing
        main(["--log-format", "json", "methods"])
        """)
    assert code == 1
    assert [one["event"] for one in result] == ["stderr"] * 2000 + ["error"]


def test_milvus_lite_s_own_lines_are_caught_where_they_are_asked_for(tmp_path: Path) -> None:
    """It writes them from a process of its own; usually none, for what it writes is raised as well."""
    pytest.importorskip("milvus_lite")
    words = ["delete", "--uri", str(tmp_path / "a.db"), "--filter", "nosuch == 3"]
    run = f"""
        from pathlib import Path
        from milvus_fghash.milvus import collection
        from milvus_fghash.milvus.collection import HashCollection
        from milvus_fghash.milvus.connection import ConnectionConfig, connect
        from milvus_fghash.bundle.bundle import read_bundle
        from milvus_fghash import catalog
        def filled(target, **_):
            client = connect(ConnectionConfig({str(tmp_path / "a.db")!r}))
            HashCollection.create(client, "photos", read_bundle(Path({str(GOLDEN)!r})).manifest)
            return client
        catalog.connect = filled
        collection.check_filter = lambda *_: None  # it would not let this one through
        main(["--log-format", "json", *{words!r}])
        """
    for level, events in (("", {"error"}), ("0", {"stderr", "error"})):
        environment = {"GLOG_minloglevel": level} if level else {}
        code, _, result = python(run, **environment)
        assert (code, {one["event"] for one in result}) == (1, events)
        assert result[-1]["message"].startswith("Milvus rejects the filter 'nosuch == 3'")
        (tmp_path / "a.db").unlink()


@pytest.mark.usefixtures("run")
def test_progress_is_told_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0, 0, 1, 2, INTERVAL, INTERVAL + 1, INTERVAL + 2, INTERVAL + 3])
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: next(times)))
    with messages("json") as message, progress_bar("counting") as update:
        for done in (1, 2, 3, 4, 5, 6, 6):
            update(done, 6, "a note")
    result = lines_of(message.getvalue())
    assert [one["done"] for one in result] == [1, 4, 6]
    assert result[0]["message"] == "counting: 1 of 6; a note"


@pytest.mark.usefixtures("run")
@pytest.mark.parametrize("style", ["text", "json"])
def test_lines_for_people_keep_no_control_characters(style: str) -> None:
    with messages(style) as message:
        notify("\x1b]0;owned\a and \u202e\x9b")
        logging.getLogger("pymilvus").error("\x1b[2J")
    assert message.getvalue().count("x1b") + message.getvalue().count("u001b") == 2
    assert not [letter for letter in message.getvalue() if not (letter.isprintable() or letter == "\n")]


@given(st.text(st.characters(codec=None)), st.text(st.characters(codec=None)))
def test_any_message_is_one_line(message: str, name: str) -> None:
    record = logging.LogRecord(name, logging.WARNING, "", 0, "%s", (message,), None)
    line = JsonFormatter().format(record)
    assert "\n" not in line
    assert line.isascii()
    assert json.loads(line)["message"] == message.strip()
    shown = MaskedFormatter().format(record)
    shown.encode()
    assert all(letter.isprintable() or letter == "\n" for letter in shown)
