"""A whole Milvus server (PyPI `milvus`, embedded etcd and all) on free ports of 127.0.0.1, for tests and benchmarks.

    with milvus_server() as uri:
        MilvusClient(uri)

The server runs below a small process of its own, ``python milvus_server.py``, which stops it and deletes its data as
soon as its standard input closes. So nothing is left behind even when the process that asked for it is killed.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

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


LISTENING: Final = (15_000, 32_000)
"""Ports to choose from: below those that Linux takes for connections."""
TRIES: Final = 3
"""Starts of a server, before it is given up."""


class RunningServer:
    """A server that can be killed and started again, on the same ports and data; use `running_server`."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.ports, self.starts = folder, free_ports(20), 0
        self.start()

    def start(self) -> None:
        """Wait until it is up: about 8 seconds, after a kill half a minute. On a busy machine it may take two tries.

        Raises:
            RuntimeError: when it does not come up.
        """
        for _ in range(TRIES):
            self.uri = self._start()
            if self.uri:
                self.starts += 1
                return
            self.kill()
        raise RuntimeError("the Milvus server did not start; its own words are above")

    def _start(self) -> str:
        command = [sys.executable, __file__, str(self.folder), *map(str, self.ports)]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, start_new_session=True)
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    @property
    def memory(self) -> int:
        """Bytes in memory of all its processes; Linux only."""
        pages = 0
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError, ProcessLookupError):
                if os.getpgid(int(folder.name)) == self._process.pid:
                    pages += int((folder / "statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    @property
    def disk(self) -> int:
        """Bytes of its files, the write-ahead log included."""
        return sum(file.stat().st_size for file in self.folder.rglob("*") if file.is_file())

    def kill(self) -> None:
        """End it and all its parts at once, by SIGKILL."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._close()

    def stop(self) -> None:
        """End it in order, and delete its data."""
        self._close()

    def _close(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()  # which stops the server, if it is still there
        self._process.wait()


@contextmanager
def running_server() -> Iterator[RunningServer]:
    """Start a server, and stop it at the end."""
    with tempfile.TemporaryDirectory(prefix="milvus-", ignore_cleanup_errors=True) as folder:
        server = RunningServer(Path(folder))
        try:
            yield server
        finally:
            server.stop()


@contextmanager
def milvus_server() -> Iterator[str]:
    """Start a server, give its URI, and stop it at the end. It is up within about 8 seconds."""
    with running_server() as server:
        yield server.uri


def free_ports(count: int) -> list[int]:
    """Different ports that nobody listens on, and that no connection is given while a killed server is away."""
    with ExitStack() as stack:
        found: list[int] = []
        while len(found) < count:
            one = stack.enter_context(socket.socket())
            port = random.randrange(*LISTENING)
            with suppress(OSError):
                one.bind(("127.0.0.1", port))
                found.append(port)
        return found


def _bound(port: int) -> socket.socket | None:
    """A socket at a port, also one whose connections were cut a moment ago; the package's own way waits a minute."""
    one = socket.socket()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        one.bind(("127.0.0.1", port))
    except OSError:
        one.close()
        return None
    return one


def serve(folder: Path, ports: Sequence[int]) -> None:
    """Run a server until standard input closes; then delete its data."""
    from milvus import MilvusServer

    peer, etcd, web, *others = ports
    config = folder / "etcd.yaml"
    config.write_text(ETCD_CONFIG.format(folder=folder, peer=peer, client=etcd), encoding="utf-8")
    os.environ["ETCD_CONFIG_PATH"] = str(config)
    os.environ["ETCD_ENDPOINTS"] = f"127.0.0.1:{etcd}"
    os.environ["COMMON_SESSION_TTL"] = "5"  # seconds until a new server takes the place of one that was killed
    server = MilvusServer()
    server.set_base_dir(str(folder))
    names = [name for name in server.config_keys if name.endswith("_port") and name != "etcd_port"]
    server.config.update(etcd_port=etcd, **dict(zip(names, others, strict=False)))
    settings: Any = server.config
    settings.try_bind_port = _bound
    server.webservice_port = web
    server.start()  # where that fails, the data stays for another try
    try:
        print(f"http://127.0.0.1:{server.listen_port}", flush=True)
        sys.stdin.read()
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    serve(Path(sys.argv[1]), [int(port) for port in sys.argv[2:]])
