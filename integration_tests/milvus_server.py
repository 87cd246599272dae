"""A whole Milvus server (PyPI `milvus`, embedded etcd and all) on free ports of 127.0.0.1, for tests and benchmarks.

    with milvus_server() as uri:
        MilvusClient(uri)

The server runs below a small process of its own, ``python milvus_server.py``, which stops it and deletes its data as
soon as its standard input closes. So nothing is left behind even when the process that asked for it is killed.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

# The embedded etcd talks to its peers on port 2380 unless it is told otherwise, so a second server would hang.
ETCD_CONFIG = """\
name: default
data-dir: {folder}/etcd
listen-peer-urls: http://127.0.0.1:{peer}
initial-advertise-peer-urls: http://127.0.0.1:{peer}
initial-cluster: default=http://127.0.0.1:{peer}
listen-client-urls: http://127.0.0.1:{client}
advertise-client-urls: http://127.0.0.1:{client}
log-level: error
"""


@contextmanager
def milvus_server() -> Iterator[str]:
    """Start a server, give its URI, and stop it at the end. It is up within about 8 seconds.

    Raises:
        RuntimeError: when it does not come up.
    """
    command = [sys.executable, __file__]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, start_new_session=True) as process:
        assert process.stdout is not None
        uri = process.stdout.readline().strip()
        if not uri:
            raise RuntimeError("the Milvus server did not start; its own words are above")
        yield uri  # leaving the block closes the pipe, which stops the server


def free_ports(count: int) -> list[int]:
    """Different ports that nobody listens on."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]


def serve(folder: Path) -> None:
    """Run a server until standard input closes."""
    from milvus import MilvusServer

    peer, etcd, web, *others = free_ports(20)
    config = folder / "etcd.yaml"
    config.write_text(ETCD_CONFIG.format(folder=folder, peer=peer, client=etcd), encoding="utf-8")
    os.environ["ETCD_CONFIG_PATH"] = str(config)
    os.environ["ETCD_ENDPOINTS"] = f"127.0.0.1:{etcd}"
    server = MilvusServer()
    server.set_base_dir(str(folder))
    names = [name for name in server.config_keys if name.endswith("_port") and name != "etcd_port"]
    server.config.update(etcd_port=etcd, **dict(zip(names, others, strict=False)))
    server.webservice_port = web
    try:
        server.start()
        print(f"http://127.0.0.1:{server.listen_port}", flush=True)
        sys.stdin.read()
    finally:
        server.stop()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="milvus-", ignore_cleanup_errors=True) as name:
        serve(Path(name))
