"""A link with delay between a client and the server."""

from __future__ import annotations

import queue
import socket
import threading
import time
from contextlib import suppress
from typing import Self


class Link:
    """A way to the broker that takes `delay` seconds there and back, as TCP over a long line would.

    A user-space model: the handshake's round trip and a half passes before the server is dialled, and every byte
    takes half a round trip in its direction. `trips` counts round trips: one for each handshake, and one for each time
    the server speaks after the client has, or first.
    """

    def __init__(self, port: int, delay: float) -> None:
        self._port = port
        self._half = delay / 2
        self.trips = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"nats://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):  # closed: the end
            while True:
                near, _ = self._listener.accept()
                threading.Thread(target=self._carry, args=(near,), daemon=True).start()

    def _carry(self, near: socket.socket) -> None:
        self.trips += 1
        time.sleep(3 * self._half)
        spoke = [near]
        far = socket.create_connection(("127.0.0.1", self._port))
        for one, other in ((near, far), (far, near)):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            line: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()
            threading.Thread(target=self._read, args=(one, line, spoke, near), daemon=True).start()
            threading.Thread(target=self._write, args=(other, line), daemon=True).start()

    def _read(
        self,
        source: socket.socket,
        line: queue.SimpleQueue[tuple[float, bytes]],
        spoke: list[socket.socket],
        client: socket.socket,
    ) -> None:
        data = b"-"
        while data:
            try:
                data = source.recv(65536)
            except OSError:
                data = b""
            if data and source is not spoke[0]:
                spoke[0] = source
                self.trips += source is not client
            line.put((time.monotonic() + self._half, data))

    def _write(self, sink: socket.socket, line: queue.SimpleQueue[tuple[float, bytes]]) -> None:
        with suppress(OSError):  # the other side has gone
            while True:
                due, data = line.get()
                time.sleep(max(0.0, due - time.monotonic()))
                if not data:
                    sink.shutdown(socket.SHUT_WR)
                    return
                sink.sendall(data)
