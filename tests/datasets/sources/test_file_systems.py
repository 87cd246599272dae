"""File systems of fsspec that do not start, are set up wrongly, or cannot list a folder: one line, no photo lost."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import pytest
from fsspec.implementations.local import LocalFileSystem

from milvus_fghash.datasets.read import Url, read
from milvus_fghash.datasets.sources.file_systems import filesystem
from milvus_fghash.datasets.sources.location import InvalidSource, PhotoLocation, resolve_source, url_problem
from milvus_fghash.datasets.sources.reader import read_source
from milvus_fghash.errors import ConfigError, DataError, ImageRejected
from tests.helpers.commands import GOLDEN, Run
from tests.helpers.http_server import Site
from tests.helpers.image_bytes import grey


class Flaky(LocalFileSystem):
    """A disk elsewhere that does not let everybody into each folder, as those of SFTP and SMB."""

    protocol = ("flaky", "flaky")

    @classmethod
    def _strip_protocol(cls, path: str) -> Any:
        return path.removeprefix("flaky://").rstrip("/")

    def ls(self, path: str, detail: bool = False, **options: Any) -> Any:
        if "shut" in path:
            raise PermissionError(f"Permission denied: {path} for me:SECRET")
        return cast(Any, super()).ls(path, detail, **options)


class Unreachable(LocalFileSystem):
    protocol = ("unreachable", "unreachable")

    def __init__(self, **_options: Any) -> None:
        raise ConnectionRefusedError("no answer for me:SECRET")


@pytest.fixture(autouse=True)
def protocols() -> None:
    register = import_module("fsspec").register_implementation
    for kind in (Flaky, Unreachable):
        register(kind.protocol[0], kind, clobber=True)


def test_a_folder_that_cannot_be_listed_is_rejected_and_the_others_are_read(tmp_path: Path) -> None:
    for name in ("jay", "shut", ".hidden"):
        (tmp_path / "birds" / name).mkdir(parents=True)
        (tmp_path / "birds" / name / "a.png").write_bytes(grey(1))
    (tmp_path / "birds" / "empty").mkdir()
    (tmp_path / "birds" / "b.png").write_bytes(grey(2))
    dataset = read("folder", Url(f"flaky://{tmp_path}/birds"))
    assert (dataset.paths, dataset.labels) == (("b.png", "jay/a.png", "shut"), ("", "jay", ""))
    barred, photo = dataset.source(2), dataset.source(1)
    assert isinstance(barred, InvalidSource)
    assert "Permission denied" in barred.message
    assert dataset.unlisted == ("shut", "empty")
    assert isinstance(photo, PhotoLocation)
    assert read_source(photo, 1000) == grey(1)
    with pytest.raises(DataError, match=r"cannot list flaky://.*shut"):
        read("folder", Url(f"flaky://{tmp_path}/birds/shut"))


@pytest.mark.parametrize("url", ["unreachable://me:SECRET@host/birds", "ftp://me:SECRET@127.0.0.1:9/birds"])
def test_one_that_connects_at_once_to_nobody(url: str, run: Run) -> None:
    for doing in (lambda: read("folder", Url(url)), lambda: read_source(PhotoLocation(url, "it"), 1000)):
        with pytest.raises(DataError, match=r"://(host|127.0.0.1:9)/birds cannot be fetched: ") as caught:
            doing()
        assert "SECRET" not in str(caught.value)
    result = run("ingest", GOLDEN, url)
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert "SECRET" not in result.output


@pytest.mark.parametrize(
    "url",
    [
        "https://u:SECRET@[bad/",
        "http://",
        "http:///a.png",
        "http://host:x/a.png",
        "http://h:99999/a",
        "http://u:SEC/RET@h/",
    ],
)
def test_no_url_is_one_line(url: str, run: Run, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^list, line 2: .* is not a valid URL: expected https?://HOST"):
        resolve_source(url, Path(), "list, line 2")
    (tmp_path / "list.csv").write_text(f"path\n{url}\n")
    for words in ([tmp_path / "list.csv"], [url], [url, "--layout", "archive"], [url, "--layout", "table"]):
        result = run("ingest", GOLDEN, *words)
        assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
        assert "is not a valid URL: expected http" in result.stderr
        assert "SEC" not in result.stderr


def test_credentials_in_a_url_of_s3_are_rejected_with_what_to_do() -> None:
    for url in ("s3://AKIA:SECRET@birds/a.jpg", "s3a://AKIA:SEC/RET+@birds"):
        problem = url_problem(url)
        assert "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in problem
        assert not {"AKIA", "SEC"} & set(problem.replace("/", ":").split(":"))
        for rejecting in (filesystem, Url):
            with pytest.raises(DataError, match="URL cannot contain credentials"):
                rejecting(url)
    assert url_problem("s3://birds/me@home:x.jpg") == ""
    assert url_problem("abfs://photos@account.dfs.core.windows.net/a.jpg") == ""


@pytest.mark.parametrize("value", ['{"anon": tru}', "[1]", '"x"', "", "key=SECRETSECRET", "[" * 100_000])
@pytest.mark.parametrize(("name", "url"), [("FSSPEC_HTTP", "https://h/x"), ("FSSPEC_HTTPS", "http://h/x")])
def test_a_malformed_variable_is_named(name: str, url: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=f"the environment variable {name} is not a JSON object") as caught:
        read("folder", Url(url))
    assert "SECRET" not in str(caught.value)
    monkeypatch.setenv(name, '{"headers": {}}')
    filesystem(url)
    monkeypatch.setenv("FSSPEC_S3", value)  # of another protocol
    filesystem(url)


def test_a_variable_that_says_what_cannot_be_is_named(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.files["/a.png"] = grey(1)
    settings = {"headers": "Bearer SECRETSECRET"}
    monkeypatch.setenv("FSSPEC_HTTP", json.dumps(settings))
    monkeypatch.setitem(import_module("fsspec.config").conf, "http", settings)
    with pytest.raises(ImageRejected, match="check FSSPEC_HTTP") as caught:
        read_source(PhotoLocation(f"{site.url}/a.png", "a.png"), 1000)
    assert "SECRETSECRET" not in str(caught.value)


def test_settings_files_that_cannot_be_read_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    (tmp_path / "fsspec").mkdir()
    (tmp_path / "fsspec" / "s3.json").write_text('{"s3": {"secret": "SECRETSECRET"')
    monkeypatch.setenv("FSSPEC_CONFIG_DIR", str(tmp_path / "fsspec"))
    code = f"from milvus_fghash.cli import main; main(['ingest', {str(GOLDEN)!r}, 'https://host/birds/'])"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert done.stderr.startswith("Error: fsspec cannot read its settings in ~/.config/fsspec")
    assert "SECRET" not in done.stderr
