"""A double of the NATS Streaming server on a real nats-server, for machines without Go and for faults it never has.

Built on `protobuf`, so that it does not share the codec it tests. Trusted because `interop/test_streaming.py` holds it
to the same conformance tests as nats-streaming-server 0.25.6.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from typing import NamedTuple

import nats
import nats.errors
from google.protobuf.message import DecodeError

from crypto_trigger.commands.server import Server
from support.loops import Loop
from support.streaming_schema import MESSAGES

_DUPLICATE_CHECK = 0.5
_CHANNEL = r"[^.*>/]+(\.[^.*>/]+)*"


class Stored(NamedTuple):
    channel: str
    data: bytes


class Registration(NamedTuple):
    inbox: str
    conn_id: bytes


class StreamingDouble:
    """Registers clients, stores messages and acknowledges them while the block runs.

    `loses` names what goes missing, each as often as it is in the list: `connect-response`, `message`, `ack` or
    `close-response`; `answers` holds errors for the next acknowledgements, of messages that are stored all the same.
    `greets` and `acknowledges`, fields or raw bytes, take the place of what would be answered.
    """

    def __init__(self, channels=100, cluster="crypto-stats"):
        self.cluster = cluster
        self.stored = []
        self.loses = []
        self.answers = []
        self.greets = None
        self.acknowledges = None
        self._limit = channels
        self._clients = {}
        self._checking = set()
        self._server = Server(jetstream=False)
        self._loop = Loop()
        self._tasks = set()

    def __enter__(self):
        self._server.__enter__()
        self._loop.__enter__()
        self.url = self._server.url
        self._loop.call(self._open())
        return self

    def __exit__(self, *_):
        self._loop.call(self._nats.close())
        self._loop.__exit__()
        self._server.__exit__(None, None, None)

    def count(self, channel):
        return sum(message.channel == channel for message in self.stored)

    def clients(self):
        return list(self._clients)

    def forget(self):
        """Forget every registration, as a restart on a memory store does."""
        self._clients.clear()

    async def _open(self):
        self._nats = await nats.connect(self.url)
        for subject, handle in (
            (f"_STAN.discover.{self.cluster}", self._spawn_connect),
            (f"_STAN.pub.{self.cluster}.>", self._publish),
            (f"_STAN.close.{self.cluster}", self._close),
        ):
            await self._nats.subscribe(subject, cb=handle)
        await self._nats.flush()
        await self._nats.flush()

    async def _answer(self, message, kind, instead=None, **fields):
        if not isinstance(instead, bytes):
            instead = MESSAGES[kind](**(fields if instead is None else instead)).SerializeToString()
        await self._nats.publish(message.reply, instead)

    def _lost(self, what):
        with suppress(ValueError):
            self.loses.remove(what)
            return True
        return False

    async def _spawn_connect(self, message):
        # A duplicate check must not keep others waiting.
        task = asyncio.ensure_future(self._connect(message))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, message):
        request = _read("ConnectRequest", message)
        error = await self._refusal(request)
        if error:
            await self._answer(message, "ConnectResponse", error=error)
            return
        self._clients[request.clientID] = Registration(request.heartbeatInbox, request.connID)
        if self._lost("connect-response"):
            return
        prefixes = {
            field: f"_STAN.{verb}.{self.cluster}"
            for field, verb in (
                ("pubPrefix", "pub"),
                ("subRequests", "sub"),
                ("unsubRequests", "unsub"),
                ("closeRequests", "close"),
                ("subCloseRequests", "subclose"),
            )
        }
        await self._answer(message, "ConnectResponse", self.greets, **prefixes, protocol=1)

    async def _refusal(self, request):
        if request is None or not request.heartbeatInbox:
            return "stan: invalid connection request"
        if not re.fullmatch("[a-zA-Z0-9_-]+", request.clientID):
            return "stan: invalid clientID: only alphanumeric and `-` or `_` characters allowed"
        name = request.clientID
        if name in self._checking:
            return "stan: clientID already registered"
        if name in self._clients:
            self._checking.add(name)
            try:
                await self._nats.request(self._clients[name].inbox, timeout=_DUPLICATE_CHECK)
            except nats.errors.Error:
                return ""
            finally:
                self._checking.discard(name)
            return "stan: clientID already registered"
        return ""

    async def _publish(self, message):
        if self._lost("message"):
            return
        request = _read("PubMsg", message)
        error = self._store(request)
        if self._lost("ack"):
            return
        if not error and self.answers:
            error = self.answers.pop(0)
        await self._answer(message, "PubAck", self.acknowledges, guid=request.guid if request else "", error=error)

    def _store(self, request):
        if not (request and request.guid and re.fullmatch(_CHANNEL, request.subject) and self._knows(request)):
            return "stan: invalid publish request"
        channels = {message.channel for message in self.stored}
        if request.subject not in channels:
            for other in channels:
                if other.lower() == request.subject.lower():
                    return (
                        f'rejecting channel "{request.subject}" because channel "{other}" '
                        "alreay exists (different cases not allowed)"
                    )
            if len(channels) >= self._limit:
                return "too many channels"
        self.stored.append(Stored(request.subject, request.data))
        return ""

    def _knows(self, request):
        if request.connID:
            return any(client.conn_id == request.connID for client in self._clients.values())
        return request.clientID in self._clients

    async def _close(self, message):
        request = _read("CloseRequest", message)
        if request is None:
            error = "stan: invalid close request"
        else:
            error = "" if self._clients.pop(request.clientID, None) else "stan: unknown clientID"
        if self._lost("close-response"):
            return
        await self._answer(message, "CloseResponse", error=error)


def _read(kind, message):
    try:
        return MESSAGES[kind].FromString(message.data)
    except DecodeError:
        return None
