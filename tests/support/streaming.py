"""NATS Streaming servers: the real program, and a peer of the tests' own that registers as other clients do."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import urllib.error
import urllib.request
from contextlib import contextmanager, suppress
from http import HTTPStatus
from pathlib import Path
from uuid import uuid4

import nats

from support.loops import Loop
from support.patience import PATIENCE, until
from support.ports import free_port
from support.processes import freeze
from support.programs import program
from support.streaming_schema import MESSAGES

_READY = "Streaming Server is ready"


class StreamingServer:
    """A nats-streaming-server 0.25.6 on loopback while the block runs, its NATS server embedded or that of `nats_url`.

    Its data outlives `kill` and `start`, in a FILE store. `trusts` is the authority of the NATS server's certificate.
    """

    def __init__(self, store="FILE", *, nats_url=None, arguments=(), trusts="", cluster="crypto-stats"):
        self.cluster = cluster
        self._store = store
        self._nats_url = nats_url
        self._arguments = arguments
        # Go reads its authorities from here. The server's own flags for them are taken for its clients' side of TLS.
        self._environment = {**os.environ, **({"SSL_CERT_FILE": trusts} if trusts else {})}
        self._program = program("nats-streaming-server")
        self._home = Path()
        self._port, self._monitor = free_port(), free_port()
        self.url = nats_url or f"nats://127.0.0.1:{self._port}"
        self.process = None

    def __enter__(self):
        self._home = Path(tempfile.mkdtemp(prefix="streaming-"))
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.kill()
        shutil.rmtree(self._home, ignore_errors=True)

    def start(self):
        """Start the process on the data there is, and wait until it serves."""
        where = ["-ns", self._nats_url] if self._nats_url else ["-a", "127.0.0.1", "-p", self._port]
        store = ["-st", self._store, *(["-dir", self._home / "data"] if self._store == "FILE" else [])]
        command = [self._program, "-cid", self.cluster, "-m", self._monitor, *where, *store, *self._arguments]
        before = self._log.count(_READY)
        with (self._home / "log").open("ab") as log:
            self.process = subprocess.Popen(
                list(map(str, command)),
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        until(lambda: (self._log.count(_READY) > before and self._monitored()) or self._ended())

    def kill(self):
        """End the process as a power cut would."""
        process, self.process = self.process, None
        if process:
            process.kill()
            process.wait(PATIENCE)

    def freeze(self):
        freeze(self.process)

    def thaw(self):
        self.process.send_signal(signal.SIGCONT)

    def count(self, channel):
        """How many messages the channel holds."""
        return self._ask(f"channelsz?channel={channel}").get("msgs", 0)

    def clients(self):
        """The IDs of the clients that are registered."""
        return [client["id"] for client in self._ask("clientsz").get("clients") or []]

    def _ask(self, what):
        address = f"http://127.0.0.1:{self._monitor}/streaming/{what}"
        try:
            with urllib.request.urlopen(address, timeout=PATIENCE) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code != HTTPStatus.NOT_FOUND:
                raise
            # There is no such channel.
            return {}

    def _monitored(self):
        with suppress(OSError):
            return self._ask("serverz")
        return False

    @property
    def _log(self):
        path = self._home / "log"
        return path.read_text() if path.exists() else ""

    def _ended(self):
        assert self.process.poll() is None, self._log


class Peer:
    """Another client of NATS Streaming, on `protobuf`: registers and, unless told otherwise, answers heartbeats."""

    def __init__(self, loop, url, cluster, client_id, **options):
        self._loop = loop
        self._url = url
        self._cluster = cluster
        self._id = client_id
        self._conn_id = uuid4().hex.encode()
        self._options = options

    def __enter__(self):
        try:
            self._loop.call(self._open())
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self._loop.call(self._close())

    def publish(self, channel, data=b""):
        """Publish, and return the error of the acknowledgement."""
        return self._loop.call(self._publish(channel, data))

    async def _open(self):
        self._client = await nats.connect(self._url, **self._options)
        inbox = self._client.new_inbox()
        await self._client.subscribe(inbox, cb=self._live)
        request = MESSAGES["ConnectRequest"](clientID=self._id, heartbeatInbox=inbox, protocol=1, connID=self._conn_id)
        self._answer = await self._ask(f"_STAN.discover.{self._cluster}", request, "ConnectResponse")
        assert not self._answer.error, self._answer.error

    async def _live(self, heartbeat):
        await self._client.publish(heartbeat.reply)

    async def _publish(self, channel, data):
        message = MESSAGES["PubMsg"](
            clientID=self._id, guid=uuid4().hex, subject=channel, data=data, connID=self._conn_id
        )
        ack = await self._ask(f"{self._answer.pubPrefix}.{channel}", message, "PubAck")
        assert ack.guid == message.guid
        return ack.error

    async def _close(self):
        with suppress(Exception):
            await self._ask(self._answer.closeRequests, MESSAGES["CloseRequest"](clientID=self._id), "CloseResponse")
        await self._client.close()

    async def _ask(self, subject, request, answer):
        message = await self._client.request(subject, request.SerializeToString(), timeout=PATIENCE)
        return MESSAGES[answer].FromString(message.data)


@contextmanager
def peer(url, cluster, client_id, **options):
    """A peer in a thread of its own."""
    with Loop() as loop, Peer(loop, url, cluster, client_id, **options) as found:
        yield found
