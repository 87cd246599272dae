"""Where Milvus is: what is rejected before, at and after connecting, and that no password is shown."""

from __future__ import annotations

import fcntl
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from importlib import metadata
from pathlib import Path

import pytest
from pymilvus import MilvusClient

from milvus_fghash.errors import ConfigError, MissingExtra, StoreError
from milvus_fghash.milvus.connection import ConnectionConfig, connect, probe
from milvus_fghash.milvus.lite import LITE_FIX

pytestmark = pytest.mark.full


@pytest.mark.parametrize("token", ["root:Milvus", "root:with space:and colon", "a1b2c3d4e5f6", "user:пароль"])
def test_tokens_of_both_kinds_are_taken(token: str) -> None:
    assert ConnectionConfig("http://localhost:19530", token).token == token


@pytest.mark.parametrize("token", ["root:", ":secret", "root:secret\n", " root:secret", "Bearer abcdef", "a\tb"])
def test_a_token_of_the_wrong_shape_is_not_repeated_in_the_error(token: str) -> None:
    with pytest.raises(ConfigError, match="expected user:password or an API key") as caught:
        ConnectionConfig("http://localhost:19530", token)
    assert "secret" not in str(caught.value)
    assert "abcdef" not in str(caught.value)


def test_a_password_is_in_no_text_of_a_connection() -> None:
    given = ConnectionConfig("https://root:sesame@db.example:443/photos")
    assert given.token == "root:sesame"
    assert given.uri == "https://db.example:443/photos"
    assert "sesame" not in f"{given!r} {given}"
    assert ConnectionConfig("http://root:sesame@localhost:1", "a:better_one").token == "a:better_one"


@pytest.mark.parametrize(
    "uri",
    ["localhost:19530", "ftp://x", "photos.sqlite", "http://", "http://h:port", "http://h?token=x", "http://h#x", ""],
)
def test_a_uri_that_cannot_be_is_rejected(uri: str) -> None:
    with pytest.raises(ConfigError, match=r"http\(s\)://host:port, or the path of a Milvus Lite file"):
        ConnectionConfig(uri)


def test_lite_has_no_databases() -> None:
    with pytest.raises(ConfigError, match="no databases"):
        ConnectionConfig("photos.db", db_name="shop")


def test_a_missing_certificate_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="ca_pem_path: there is no file"):
        ConnectionConfig("https://localhost:19530", ca_pem_path=tmp_path / "ca.pem")


def test_nobody_listens() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{unused.getsockname()[1]}"
        started = time.monotonic()
        with pytest.raises(StoreError, match=f"cannot connect to {uri}: the server cannot be reached"):
            connect(ConnectionConfig(uri))
        assert time.monotonic() - started < 15


def test_someone_listens_and_never_answers() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        started = time.monotonic()
        with pytest.raises(StoreError, match="cannot be reached") as caught:
            connect(ConnectionConfig(f"http://127.0.0.1:{silent.getsockname()[1]}", "root:sesame", timeout=2))
        assert time.monotonic() - started < 15
        assert "sesame" not in str(caught.value)


def test_lite_says_what_it_can_do(lite: MilvusClient) -> None:
    able = probe(lite)
    assert (able.kind, able.version) == ("lite", metadata.version("milvus-lite"))
    assert able.index_types == ("BIN_FLAT",)
    assert not able.aliases
    assert not able.databases


def with_lite(version: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let pip seem to have installed this version."""
    real = metadata.version

    def pretend(name: str) -> str:
        if name != "milvus-lite":
            return real(name)
        if version is None:
            raise metadata.PackageNotFoundError(name)
        return version

    monkeypatch.setattr(metadata, "version", pretend)


def test_lite_3_is_one_sentence_with_the_fix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_lite("3.2.2", monkeypatch)
    with pytest.raises(StoreError) as caught:
        connect(ConnectionConfig(str(tmp_path / "a.db")))
    assert str(caught.value) == (
        "Milvus Lite 3.2.2 has no binary vectors; only Milvus Lite 2 has. "
        "Fix it with: pip install 'milvus-lite>=2.4.10,<3' 'setuptools<82'"
    )
    assert not list(tmp_path.iterdir())


def test_without_lite_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_lite(None, monkeypatch)
    with pytest.raises(MissingExtra, match=r"pip install 'milvus-fghash\[lite\]'"):
        connect(ConnectionConfig(str(tmp_path / "a.db")))


def test_without_pkg_resources_setuptools_is_named(tmp_path: Path) -> None:
    probe = (
        "import sys; sys.modules['pkg_resources'] = None\n"
        "from milvus_fghash.milvus.connection import ConnectionConfig, connect\n"
        f"connect(ConnectionConfig({str(tmp_path / 'a.db')!r}))"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=False)
    last = done.stderr.strip().splitlines()[-1]
    assert "MissingExtra: Milvus Lite" in last
    assert "'setuptools<82'" in last


def test_a_file_in_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no folder"):
        connect(ConnectionConfig(str(tmp_path / "gone" / "a.db")))


@pytest.mark.parametrize("name", ["white space.db", f"{'x' * 40}.db", "ä.db"])
def test_a_file_name_lite_does_not_take(tmp_path: Path, name: str) -> None:
    with pytest.raises(StoreError, match="at most 36 letters"):
        connect(ConnectionConfig(str(tmp_path / name)))


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "a.db").write_text("not a database" * 100)
    with pytest.raises(StoreError, match=r"Start milvus-lite failed; is it an undamaged Milvus Lite 2 file"):
        connect(ConnectionConfig(str(tmp_path / "a.db")))


@pytest.fixture
def open_elsewhere(tmp_path: Path) -> Iterator[Path]:
    """A Lite file that another process has open."""
    path = tmp_path / "a.db"
    script = (
        "import sys\nfrom milvus_fghash.milvus.connection import ConnectionConfig, connect\n"
        f"client = connect(ConnectionConfig({str(path)!r}))\nprint('open', flush=True)\nsys.stdin.read()"
    )
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", script], stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        yield path


def test_a_file_another_process_has_open(open_elsewhere: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(StoreError, match="another process has it open"):
        connect(ConnectionConfig(str(open_elsewhere)))
    assert not caplog.records


def test_pymilvus_does_not_log_what_it_raises(tmp_path: Path) -> None:
    script = (
        "from milvus_fghash.milvus.connection import ConnectionConfig, connect\n"
        f"client = connect(ConnectionConfig({str(tmp_path / 'a.db')!r}))\n"
        "try:\n    client.load_collection('nobody')\n"
        "except Exception as error:\n    print(type(error).__name__)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("MilvusException\n", "")


class FakeServer:
    """Answers only with its version: the one thing `probe` asks."""

    def __init__(self, version: str) -> None:
        self.version = version

    def get_server_version(self, timeout: float) -> str:
        return self.version


@pytest.mark.parametrize(
    ("version", "several", "iterators", "ids"),
    [
        ("v2.3.5-lite", False, False, False),
        ("v2.4.0", True, False, False),
        ("2.6.8", True, True, False),
        ("v2.6.10-gpu", True, True, True),
        ("v3.0.2", True, True, True),
    ],
)
def test_what_a_server_can_do_follows_from_its_version(version: str, several: bool, iterators: bool, ids: bool) -> None:
    able = probe(FakeServer(version))  # type: ignore[arg-type]
    assert able.kind == "server"
    assert (able.several_vectors, able.iterators, able.ids_search) == (several, iterators, ids)
    assert able.index_types == ("BIN_FLAT", "BIN_IVF_FLAT")
    assert able.partition_keys
    assert able.keyed_upsert is not version.startswith("v2.3"), "2.3.5 loses rows by their key (milvus#30607)"


def test_lite_3_behind_a_uri_is_rejected_too() -> None:
    with pytest.raises(StoreError, match="has no binary vectors; only Milvus Lite 2 has"):
        probe(FakeServer("milvus_lite-3.2.2"))  # type: ignore[arg-type]


def test_two_clients_of_one_file_in_one_process(tmp_path: Path) -> None:
    target = ConnectionConfig(str(tmp_path / "a.db"))
    with closing(connect(target)) as one, closing(connect(target)) as two:
        one.create_collection("seen_by_both", dimension=4)
        assert two.list_collections() == ["seen_by_both"]


def test_the_fix_names_what_the_extra_pins() -> None:
    wanted = metadata.requires("milvus-fghash") or []
    pins = [line.split(";")[0].strip() for line in wanted if 'extra == "lite"' in line]
    for pin in pins:
        name = "milvus-lite" if pin.startswith("milvus-lite") else "setuptools"
        (pinned,) = [part for part in LITE_FIX.split("'") if part.startswith(name)]
        assert sorted(pinned.removeprefix(name).split(",")) == sorted(pin.removeprefix(name).split(","))
    assert len(pins) == 2


def test_milvus_lites_start_one_after_the_other(tmp_path: Path) -> None:
    home = os.open(Path.home(), os.O_RDONLY)
    fcntl.flock(home, fcntl.LOCK_EX)
    with ThreadPoolExecutor(1) as pool:
        opened = pool.submit(connect, ConnectionConfig(str(tmp_path / "second.db")))
        try:
            with pytest.raises(TimeoutError):
                opened.result(timeout=2)
        finally:
            os.close(home)
        opened.result(timeout=60).close()
