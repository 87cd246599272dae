"""A TCP proxy that can keep the server's answers back: what was asked is done, and who asked never hears of it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field


@dataclass
class LosingProxy:
    """Forwards every byte both ways until `lose` is called; use `losing_proxy`."""

    upstream: tuple[str, int]
    losing: threading.Event = field(default_factory=threading.Event)
    lost: int = 0
    """Bytes of answers that were kept back."""
    _pairs: list[tuple[socket.socket, socket.socket]] = field(default_factory=list)
    _threads: list[threading.Thread] = field(default_factory=list)

    def lose(self, seconds: float) -> None:
        """From now on keep all answers back; after ``seconds`` hang up, and forward again for whoever comes back."""
        self.losing.set()
        threading.Timer(seconds, self._hang_up).start()

    def _hang_up(self) -> None:
        pairs, self._pairs = self._pairs, []
        for pair in pairs:
            for one in pair:
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
        self.losing.clear()

    def close(self) -> None:
        """Hang up, and wait until nothing is forwarded any more."""
        self._hang_up()
        for thread in self._threads:
            thread.join()

    def serve(self, listener: socket.socket) -> None:
        """Until the listener is closed."""
        while True:
            try:
                client, _ = listener.accept()
                server = socket.create_connection(self.upstream)
            except OSError:
                return
            self._pairs.append((client, server))
            for source, target, is_answer in ((client, server, False), (server, client, True)):
                self._threads.append(threading.Thread(target=self._forward, args=(source, target, is_answer)))
                self._threads[-1].start()

    def _forward(self, source: socket.socket, target: socket.socket, is_answer: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                if is_answer and self.losing.is_set():
                    self.lost += len(data)
                else:
                    target.sendall(data)
        for one in (source, target):  # which ends the other direction too
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        source.close()


@contextmanager
def losing_proxy(host: str, port: int) -> Iterator[tuple[LosingProxy, str]]:
    """A proxy before a server, and the URI it listens at."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        proxy = LosingProxy((host, port))
        accepting = threading.Thread(target=proxy.serve, args=(listener,))
        accepting.start()
        try:
            yield proxy, f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            accepting.join()
            proxy.close()
