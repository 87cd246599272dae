"""Environment variables that send a connection to Milvus through a proxy: the message agrees with what gRPC does."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress

import grpc
import pytest

from milvus_fghash.errors import StoreError
from milvus_fghash.milvus.connection import ConnectionConfig, connect
from milvus_fghash.milvus.proxies import grpc_proxy, http_proxy

NAMES = (
    "grpc_proxy",
    "https_proxy",
    "http_proxy",
    "no_grpc_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
)


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def proxy() -> Iterator[tuple[str, threading.Event]]:
    """Takes connections and hangs up; its address, and whether anybody came."""
    came = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def take() -> None:
            with suppress(OSError):
                while True:
                    listening.accept()[0].close()
                    came.set()

        threading.Thread(target=take, daemon=True).start()
        yield f"127.0.0.1:{listening.getsockname()[1]}", came
        listening.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"grpc_proxy": "P"}, "grpc_proxy"),
        ({"https_proxy": "P"}, "https_proxy"),
        ({"http_proxy": "P"}, "http_proxy"),
        ({"http_proxy": "P", "no_proxy": "example.org, 10.0.0.0/8"}, "http_proxy"),
        ({"http_proxy": "P", "no_grpc_proxy": "example.org", "no_proxy": "127.0.0.1"}, "http_proxy"),
        ({"http_proxy": "P", "no_proxy": "example.org, 127.0.0.1"}, ""),
        ({"http_proxy": "P", "no_proxy": "127.0.0.0/8"}, ""),
        ({"http_proxy": "P", "no_proxy": ".0.1"}, ""),
        ({"http_proxy": "P", "grpc_proxy": ""}, ""),
        ({"HTTP_PROXY": "P"}, ""),
        ({}, ""),
    ],
)
def test_the_named_proxy_is_the_one_that_grpc_uses(
    variables: dict[str, str],
    named: str,
    proxy: tuple[str, threading.Event],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    address, came = proxy
    for name, value in variables.items():
        monkeypatch.setenv(name, value.replace("P", f"http://user:sesame@{address}") if "proxy" in name else value)
    message = grpc_proxy("127.0.0.1")
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        with grpc.insecure_channel(f"127.0.0.1:{nobody.getsockname()[1]}") as channel:
            ready = grpc.channel_ready_future(channel)
            assert came.wait(5 if named else 0.3) == bool(named)
            ready.cancel()
    if not named:
        assert message == ""
    else:
        assert message.startswith(f"The variable {named} sends this connection through the proxy {address}: ")
        assert "add 127.0.0.1 to the variable no_proxy" in message
        assert "sesame" not in message


def test_a_failed_connection_names_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://user:sesame@127.0.0.1:9")
    with pytest.raises(
        StoreError, match=r"cannot be reached.* The variable http_proxy sends this connection"
    ) as caught:
        connect(ConnectionConfig("http://localhost:9", timeout=0.5))
    assert "sesame" not in str(caught.value)
    monkeypatch.setenv("no_proxy", "localhost")
    with pytest.raises(StoreError, match="cannot be reached") as caught:
        connect(ConnectionConfig("http://localhost:9", timeout=0.5))
    assert "proxy" not in str(caught.value)


def test_imports_by_rest_go_the_way_of_http(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://[half")
    assert http_proxy("http", "db.example") == ""
    assert http_proxy("https", "db.example").startswith(
        "The variable HTTPS_PROXY sends this connection through a proxy:"
    )
    monkeypatch.setenv("no_proxy", "db.example")
    assert http_proxy("https", "db.example") == ""
