"""No secret leaves: every way to give one, with every place where it could show, files that were written included."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
from click.testing import Result

from tests.helpers.archives import tar_of, zip_of
from tests.helpers.commands import GOLDEN, Run
from tests.helpers.http_server import Site, serving
from tests.helpers.image_bytes import grey

pytestmark = pytest.mark.full

SECRET = "S3CR3T-v4lue/+="
SHOWN = (
    b"S3CR3T",
    b"S3CR3T-v4lue%2F",
    base64.b64encode(SECRET.encode())[:12],
    base64.b64encode(f"me:{SECRET}".encode())[6:18],
)
"""Any of them is too much."""
ENCODED = "S3CR3T-v4lue%2F%2B%3D"
NOBODY = "127.0.0.1:9"
"""Port 9 (discard) is closed everywhere that tests run."""

WAYS: dict[str, tuple[list[str], dict[str, str], str]] = {
    "--uri": (["--uri", f"http://root:{ENCODED}@{NOBODY}"], {}, ""),
    "--uri, not encoded": (["--uri", f"http://root:{SECRET}@{NOBODY}"], {}, ""),
    "--uri, query": (["--uri", f"http://{NOBODY}/?token={ENCODED}"], {}, ""),
    "--uri, bare query": (["--uri", f"https://{NOBODY}?{SECRET}"], {}, ""),
    "--uri, fragment": (["--uri", f"http://{NOBODY}/#token={SECRET}"], {}, ""),
    "--uri, malformed": (["--uri", f"http://root:{SECRET}@[{NOBODY}"], {}, ""),
    "MILVUS_URI": ([], {"MILVUS_URI": f"http://root:{ENCODED}@{NOBODY}"}, ""),
    "MILVUS_URI, query": ([], {"MILVUS_URI": f"http://{NOBODY}?token={ENCODED}"}, ""),
    "--token": (["--uri", f"http://{NOBODY}", "--token", f"root:{SECRET}"], {}, ""),
    "--token, malformed": (["--uri", f"http://{NOBODY}", "--token", f" root:{SECRET}"], {}, ""),
    "MILVUS_TOKEN": (["--uri", f"http://{NOBODY}"], {"MILVUS_TOKEN": SECRET}, ""),
    "--token-file": (["--uri", f"http://{NOBODY}", "--token-file", "token"], {}, ""),
    "settings: token": (["--config", "settings.toml"], {}, f'uri = "http://{NOBODY}"\ntoken = "root:{SECRET}"'),
    "settings: uri": (["--config", "settings.toml"], {}, f'uri = "http://root:{ENCODED}@{NOBODY}"'),
    "settings: uri, query": (["--config", "settings.toml"], {}, f'uri = "http://{NOBODY}/?token={ENCODED}"'),
    "settings: token, malformed": (["--config", "settings.toml"], {}, f'token = ["{SECRET}"]'),
    "settings: no TOML": (["--config", "settings.toml"], {}, f'token = "{SECRET}'),
}
COMMANDS = (
    ["doctor", "--json"],
    ["--log-format", "json", "--log-level", "debug", "doctor"],
    ["--log-level", "debug", "inspect", "--json"],
    ["--log-format", "json", "search", "--id", "7"],
)


def check(result: Result, folder: Path, given: set[Path]) -> None:
    """Neither what was said, nor any file but the given ones, holds the secret."""
    state = Path(os.environ["XDG_STATE_HOME"])
    files = [file for root in (folder, state) for file in root.rglob("*") if file.is_file() and file not in given]
    # By another process: one that closes a file loses all its locks on it, those of Milvus Lite too.
    found = subprocess.run(
        ["grep", "-lF", *(f"-e{part.decode()}" for part in SHOWN), "--", "/dev/null", *files],
        capture_output=True,
        check=False,
    )
    assert found.returncode == 1, found.stdout
    texts = [("output", result.output.encode(errors="replace")), *((str(file), str(file).encode()) for file in files)]
    for where, raw in texts:
        for part in SHOWN:
            assert part not in raw, f"{where}: {raw[:2000]!r}"


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("milvus_fghash.datasets.sources.fetch._RETRY_DELAY_SECONDS", 0)


@pytest.fixture
def site() -> Iterator[Site]:
    with serving() as site:
        yield site


@pytest.mark.parametrize("way", WAYS)
def test_secrets_of_milvus(way: str, run: Run, tmp_path: Path) -> None:
    flags, env, settings = WAYS[way]
    given = {tmp_path / "settings.toml", tmp_path / "token"}
    (tmp_path / "settings.toml").write_text(f"[milvus]\n{settings}\n")
    (tmp_path / "token").write_text(f"root:{SECRET}\n")
    for words in COMMANDS:
        result = run(*words, *flags, env=env)
        assert result.exit_code in (1, 2), "nothing listens there"
        check(result, tmp_path, given)


BROKEN = {
    "s3": f"s3://AKIAIOSFODNN7EXAMPLE:{SECRET}@birds/jay",
    "user of https": f"http://me:{ENCODED}@{NOBODY}/birds/",
    "signed": f"http://{NOBODY}/birds/?X-Amz-Signature={ENCODED}",
    "list": f"http://me:{SECRET}@{NOBODY}/birds.csv",
    "signed list": f"http://{NOBODY}/birds.parquet?Signature={SECRET}",
    "archive": f"http://me:{ENCODED}@{NOBODY}/birds.tar?sig={ENCODED}",
    "chained": f"zip://::http://me:{ENCODED}@{NOBODY}/birds?sig={ENCODED}",
    "shards": f"http://{NOBODY}/birds-{{00..01}}.tar?sig={ENCODED}",
    "malformed": f"https://me:{SECRET}@[bad/",
    "ftp": f"ftp://me:{ENCODED}@{NOBODY}/birds",
    "no such protocol": f"nosuch://me:{SECRET}@host/birds?key={SECRET}",
    "token as user": f"https://S3CR3T-v4lue-as-user@{NOBODY}/birds",
}


@pytest.mark.parametrize("name", BROKEN)
def test_secrets_of_where_photos_are(name: str, run: Run, tmp_path: Path) -> None:
    url = BROKEN[name]
    (tmp_path / "list.csv").write_text(f'path\n"{url}"\n')
    for words in (
        ["ingest", GOLDEN, url, "--report", "report.jsonl"],
        ["--log-format", "json", "--log-level", "debug", "ingest", GOLDEN, url, "--json"],
        ["ingest", GOLDEN, "list.csv", "--json", "--workers", "0"],
        ["search", GOLDEN, "--image", url],
        ["train", "demo-lsh", "--out", "out", "--data", url],
        ["explain", url, "--data", url],
        ["collections", "list", url],
        [url],
        ["--log-level", url],
        ["shards", "import", ".", "--bucket", url],
    ):
        result = run(*words)
        assert result.exit_code in (1, 2, 3), words
        check(result, tmp_path, {tmp_path / "list.csv"})


@pytest.mark.extras
@pytest.mark.parametrize("status", [200, 403, 500])
def test_secrets_of_photos_that_come_or_do_not(status: int, site: Site, run: Run, tmp_path: Path) -> None:
    site.files = {f"/birds/{n}.png": grey(9 * n) for n in range(3)}
    site.files["/birds/"] = b'<a href="0.png"> <a href="1.png"> <a href="2.png">'
    site.files["/birds.tar"] = tar_of({"a.png": grey(1)})
    site.files["/birds.zip"] = zip_of({"a.png": grey(2), "b.png": b"broken"})
    site.files["/list.csv"] = f"path,seen\n{site.url}/birds/2.png?id=7&sig={ENCODED},2024\nbirds/1.png,2025\n".encode()
    if status != 200:
        site.status = {path: status for path in site.files if path not in ("/birds/", "/list.csv")}
    here = site.url.replace("://", f"://me:{ENCODED}@")
    rows = [
        f"{here}/birds/0.png",
        f"{site.url}/birds/1.png?X-Amz-Signature={ENCODED}",
        f"{here}/none.png?id=8&sig={SECRET}",
    ]
    (tmp_path / "list.csv").write_text("path\n" + "\n".join(f'"{row}"' for row in rows))
    options = ["--workers", "0", "--report", "report.jsonl", "--json"]
    for data in (
        f"{here}/birds/",
        "list.csv",
        f"{here}/list.csv?Signature={ENCODED}",
        f"{here}/birds.tar?sig={ENCODED}",
        f"{here}/birds.zip?sig={ENCODED}",
    ):
        for before in ([], ["--log-format", "json", "--log-level", "debug"]):
            result = run(*before, "ingest", GOLDEN, data, *options)
            assert result.exit_code in ((0, 3) if status == 200 else (1, 3)), result.output
            check(result, tmp_path, {tmp_path / "list.csv"})
    given = {tmp_path / "list.csv"}
    check(
        run("shards", "build", GOLDEN, f"{here}/birds/", "--out", "shards", "--workers", "0"),
        tmp_path,
        given,
    )
    for words in (
        ["verify", GOLDEN, "list.csv"],
        ["inspect", "--json"],
        ["search", GOLDEN, "--image", f"{here}/birds/1.png?sig={ENCODED}", "--html", "hits.html", "--photos", "."],
        ["dedupe", "--json"],
        ["evaluate", GOLDEN, "--data", f"{here}/birds/"],
    ):
        check(run(*words), tmp_path, given)


@pytest.mark.extras
def test_secrets_of_settings_of_fsspec(site: Site, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site.status["/birds/"] = 403
    for settings in (
        {"headers": {"Authorization": f"Bearer {SECRET}"}},
        {"headers": f"Bearer {SECRET}"},
        {"nosuch": SECRET},
    ):
        monkeypatch.setenv("FSSPEC_HTTP", json.dumps(settings))
        monkeypatch.setitem(import_module("fsspec.config").conf, "http", settings)
        result = run("--log-level", "debug", "ingest", GOLDEN, f"{site.url}/birds/")
        assert result.exit_code == 1
        check(result, tmp_path, set())


@pytest.mark.parametrize("style", ["text", "json"])
def test_secrets_of_tracebacks(style: str, tmp_path: Path) -> None:
    code = f"""
import threading, warnings
from milvus_fghash.cli.terminal.messages import write_messages
from milvus_fghash.core.masking import KNOWN_SECRETS
write_messages({style!r})
KNOWN_SECRETS.add_token("root:{SECRET}")
def fail():
    raise RuntimeError("thread: {SECRET} at http://me:S3CR3T@host/?sig=S3CR3T")
thread = threading.Thread(target=fail)
thread.start()
thread.join()
warnings.warn("warned: {SECRET}")
raise RuntimeError("bug: {SECRET} at http://me:S3CR3T@host/?sig=S3CR3T")
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert all(f"{what}: ***" in done.stderr for what in ("thread", "warned", "bug")), done.stderr
    assert done.stderr.count("Traceback") == 2
    # Python shows the line of the source, which is none here; in a file it holds no secret
    assert "S3CR3T" not in done.stderr
