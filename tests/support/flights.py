"""A slow way to a server that counts how often the client has to wait for it."""

from __future__ import annotations

import queue
import socket
import threading
import time
from contextlib import suppress

from support.patience import PATIENCE


class Flights:
    """A way to a server that takes `delay` seconds in each direction; `count` is that of the round trips.

    A model of TCP over a long line: the round trip and a half of the handshake passes before the server is dialled.
    There is one round trip for each handshake, and one for each time the server speaks after the client has, or first.
    What one side says before the other has answered goes in one flight, in however many packets.
    """

    def __init__(self, url, delay=0.05):
        host, _, port = url.rpartition("//")[2].rpartition(":")
        self._target = host, int(port)
        self._delay = delay
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads = []
        self._ends = []
        self.count = 0
        self.url = f"nats://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self):
        self._start(self._accept)
        return self

    def __exit__(self, *_):
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for end in self._ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(PATIENCE)
            assert not thread.is_alive(), "a connection does not end"
        for end in self._ends:
            end.close()

    def _start(self, work, *arguments):
        self._threads.append(threading.Thread(target=work, args=arguments))
        self._threads[-1].start()

    def _accept(self):
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._ends.append(client)
                self.count += 1
                self._start(self._carry, client)

    def _carry(self, client):
        time.sleep(3 * self._delay)
        server = socket.create_connection(self._target, PATIENCE)
        self._ends.append(server)
        spoke = [client]
        for source, sink in ((client, server), (server, client)):
            source.settimeout(None)
            source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            way = queue.SimpleQueue()
            self._start(self._read, source, way, spoke, source is server)
            self._start(self._write, sink, way)

    def _read(self, source, way, spoke, of_server):
        data = b"-"
        while data:
            try:
                data = source.recv(65536)
            except OSError:
                data = b""
            if data and source is not spoke[0]:
                spoke[0] = source
                self.count += of_server
            way.put((time.monotonic() + self._delay, data))

    def _write(self, sink, way):
        with suppress(OSError):
            while True:
                due, data = way.get()
                time.sleep(max(0.0, due - time.monotonic()))
                if not data:
                    sink.shutdown(socket.SHUT_WR)
                    return
                sink.sendall(data)
