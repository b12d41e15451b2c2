"""Follow a stream: get each message of one subject as it is stored, none twice, and none left out.

nats-py's ordered consumer is not used: it relies on nats-py's own reconnects, and it has no time limits. Here each
connection has a consumer of its own, which begins after the last message that was handed on. Whatever goes wrong ends
the connection, and the next one goes on from there. The consumer is ephemeral, is not acknowledged, and belongs to this
run alone, so no other consumer is affected.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from crypto_trigger.connection.phases import Phase
from crypto_trigger.connection.servers import Servers
from crypto_trigger.delivery.reading import mapped
from crypto_trigger.delivery.stream import NANOSECONDS, Info, Stream
from crypto_trigger.delivery.subscriber import Inbox
from crypto_trigger.errors import BrokerError, Fact, Unavailable, Unusable
from crypto_trigger.slots.arrival import Arrival
from crypto_trigger.slots.subjects import takes
from crypto_trigger.slots.trigger import Stored

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from nats.aio.msg import Msg

    from crypto_trigger.deadline.retry import Attempt
    from crypto_trigger.settings.load import Settings

# How many messages one request asks for. Not more are in memory at a time.
_BATCH = 32
# The server removes a consumer that was not asked for messages for this long, in nanoseconds.
_INACTIVE = 10 * NANOSECONDS
# The server sends a heartbeat so often in the time that we wait for one, and ends a request after so many such times.
_HEARTBEATS = 4
_WAITS = 4
# The `err_code` of a stream or account that takes no more consumers (nats-server, `server/errors.json`).
_TOO_MANY_CONSUMERS = 10026
_ACK_PREFIX = "$JS.ACK."
_PENDING = "Nats-Pending-Messages"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# A later time is not a server's clock, and adding a slot to it could overflow.
_LAST = datetime(9000, 1, 1, tzinfo=UTC)
# The tokens of a message's reply subject, without and with domain and account (ADR-15).
_SHORT, _LONG = 9, 11


class Delivered(NamedTuple):
    """What the reply subject of a message says: its stream and consumer, its sequences in both, when it was stored."""

    stream: str
    consumer: str
    seq: int
    number: int
    stored_at: datetime

    @classmethod
    def parse(cls, reply: str) -> Delivered | None:
        """Return what the subject says, or None if it is not that of a JetStream message."""
        tokens = reply.split(".")
        if len(tokens) < _SHORT or _SHORT < len(tokens) < _LONG:
            return None
        stream, consumer, _, *numbers = tokens[2:8] if len(tokens) == _SHORT else tokens[4:10]
        # nats-py would round the time, which may move it into the next slot.
        try:
            seq, number, stored = map(int, numbers)
            stored_at = _EPOCH + timedelta(microseconds=stored // 1000)
        except (ValueError, OverflowError):
            return None
        return cls(stream, consumer, seq, number, stored_at) if _EPOCH < stored_at < _LAST else None


class _Place(NamedTuple):
    """Where the follower is: when the stream was created, and the last message that was handed on."""

    created: datetime | None
    last: Stored


class Follower:
    """Follows the stream in the settings, over one connection after another.

    It begins with what was stored `since` before now or, without `since`, since `started`, a time of
    `time.monotonic()`. Both are by the server's clock; where it does not tell its time, by this host's.
    """

    # What is stored while there is no connection comes later.
    misses = False

    def __init__(self, settings: Settings, started: float, since: timedelta | None) -> None:
        """Load credentials and certificates. Raises ConfigError if they cannot be used."""
        self._settings = settings
        self._servers = Servers(settings)
        self._started = started
        self._since = since
        self._begin: datetime | None = None
        self._place: _Place | None = None
        # The consumer that may exist. It is left behind when its connection is lost.
        self._consumer = ""

    @asynccontextmanager
    async def open(self, attempt: Attempt) -> AsyncIterator[_Messages]:
        """Connect and create a consumer, which lasts as long as the block. Raises a BrokerError."""
        async with self._servers.connect(attempt) as connection:
            stream = Stream(connection, self._settings)
            try:
                asked = time.monotonic()
                info = await stream.info()
                subject = self._check(stream, info)
                start = self._start(info, asked)
                await self._delete(stream)
                name = f"listen-{os.urandom(6).hex()}"
                await self._create(stream, name, subject, start, info.created)
                await connection.end_answers()
            except BrokerError as error:
                raise self.explained(error, stream) from error.__cause__
            try:
                async with Inbox.open(connection, connection.client.new_inbox()) as inbox:
                    yield _Messages(self, stream, name, subject, inbox, info, start)
            finally:
                await self._delete(stream)

    @property
    def heartbeat(self) -> int:
        """How often the server is to say that it is there, in nanoseconds."""
        return max(1, round(self._settings.timeout.total_seconds() / _HEARTBEATS * NANOSECONDS))

    def arrived(self, created: datetime | None, subject: str, message: Stored, payload: bytes) -> Arrival | None:
        """Note that a message is handed on. Return the trigger that it is, or None if it is not one."""
        self._place = _Place(created, message)
        return Arrival.of(subject, message, payload, self._settings.every, self._settings.early)

    def _check(self, stream: Stream, info: Info) -> str:
        """Return the subject that triggers are stored under. Raises Unusable if this stream cannot be followed."""
        subject, config = self._settings.subject, info.config
        if config.get("retention") == "workqueue":
            raise Unusable(
                f"{stream.connection.server}: stream {stream.name} is a work queue, which takes no second consumer",
                "listen with --delivery core",
            )
        patterns = config.get("subjects")
        if isinstance(patterns, list) and patterns and not config.get("sources"):
            if not takes([p for p in patterns if isinstance(p, str)], subject):
                from crypto_trigger.settings.command_line import command_line

                raise Unusable(
                    f"{stream.connection.server}: stream {stream.name} does not take the subject {subject}",
                    f"add it with: {command_line(self._settings, 'setup', '--update')}; or, where the account maps the "
                    "subject, name the one it is stored by with --subject",
                    Fact.NO_STREAM,
                )
            return mapped(stream, info, subject)
        return subject

    def _start(self, info: Info, asked: float) -> dict[str, object]:
        """Return where the consumer begins, as the fields of its configuration. `asked` is when the server was asked.

        The server's time is from a moment between the question and the answer. It is taken for that of the question, so
        that nothing is shown that was stored before the start.
        """
        if self._begin is None:
            now = info.reading.server if info.reading else datetime.now(UTC)
            back = self._since or timedelta(seconds=max(0.0, asked - self._started))
            self._begin = now - min(back, now - _EPOCH)
        begin = self._begin
        if self._place:
            created, last = self._place
            if created == info.created and last.seq <= info.last_seq:
                return {"deliver_policy": "by_start_sequence", "opt_start_seq": last.seq + 1}
            # Another stream of the same name, or one that has lost its newest messages: sequences begin again.
            begin = max(begin, last.stored_at + timedelta(microseconds=1))
        return {"deliver_policy": "by_start_time", "opt_start_time": begin.isoformat(timespec="microseconds")}

    async def _create(
        self, stream: Stream, name: str, subject: str, start: Mapping[str, object], created: datetime | None
    ) -> None:
        self._consumer, before = name, self._consumer
        config = {
            "name": name,
            "description": "crypto-trigger listen",
            "ack_policy": "none",
            "replay_policy": "instant",
            "filter_subject": subject,
            "inactive_threshold": _INACTIVE,
            "mem_storage": True,
            **start,
        }
        api = f"CONSUMER.CREATE.{stream.name}.{name}.{subject}"
        try:
            answer = await stream.request(api, {"stream_name": stream.name, "config": config})
        except BrokerError as error:
            if before and error.code == _TOO_MANY_CONSUMERS:
                # The one that was left behind still counts.
                raise Unavailable(error.message, error.hint, error.fact, error.said) from error
            raise
        delivered = answer.get("delivered")
        if answer.get("name") != name or not isinstance(delivered, dict):
            raise stream.nonsense("does not describe the consumer that was created")
        seq = delivered.get("stream_seq")
        if self._place is None and self._begin and type(seq) is int:
            # The next consumer begins here as well, even if a new leader's clock is behind.
            self._place = _Place(created, Stored(seq, self._begin))

    async def _delete(self, stream: Stream) -> None:
        """Ask the server to delete our consumer, and wait for no answer: if that fails, the server does it later."""
        client = stream.connection.client
        if self._consumer:
            with suppress(Exception):
                api = f"{stream.api('CONSUMER.DELETE')}.{self._consumer}"
                await client.publish(api, b"", reply=client.new_inbox())

    def explained(self, error: BrokerError, stream: Stream) -> BrokerError:
        """Return the error in the words of a listener."""
        if error.fact == Fact.NO_PERMISSION:
            needed = ", ".join(
                stream.api(endpoint) + rest
                for endpoint, rest in (
                    ("STREAM.INFO", ""),
                    ("CONSUMER.CREATE", ".>"),
                    ("CONSUMER.MSG.NEXT", ".>"),
                    ("CONSUMER.DELETE", ".>"),
                )
            )
            return error.reworded(error.message, f"listen needs to publish to {needed}")
        if error.code and not error.retryable and error.fact in (Fact.STREAM_REFUSES, Fact.STORAGE_FULL):
            return Unusable(
                f"{stream.connection.server}: JetStream refuses a consumer of stream {stream.name}: {error.said}",
                "raise the limit, or listen with --delivery core",
                error.fact,
                error.said,
                error.code,
            )
        return error


class _Messages:
    """The messages of one consumer, which is asked for the next ones only when the last ones have been taken."""

    def __init__(
        self,
        follower: Follower,
        stream: Stream,
        consumer: str,
        subject: str,
        inbox: Inbox,
        info: Info,
        start: Mapping[str, object],
    ) -> None:
        clock = "" if info.reading else "; it does not tell its time, so that the clock of this host decides"
        self.server = f"{stream.connection.server}{clock}"
        self._follower = follower
        self._stream = stream
        self._consumer = consumer
        self._subject = subject
        self._inbox = inbox
        self._created = info.created
        self._api = f"{stream.api('CONSUMER.MSG.NEXT')}.{consumer}"
        # How many messages of the last request are still to come, and the sequences of the last one in the consumer and
        # in the stream.
        self._due = 0
        self._number = 0
        first = start.get("opt_start_seq")
        self._seq = first - 1 if isinstance(first, int) else 0

    async def next(self) -> Arrival:
        """Return the next trigger. Raises a BrokerError."""
        try:
            while True:
                if not self._due:
                    await self._ask_for_more()
                message = await self._inbox.next(self._api, Phase.ASK)
                if not message.reply.startswith(_ACK_PREFIX):
                    self._heed(message)
                elif arrival := self._take(message):
                    return arrival
        except BrokerError as error:
            raise self._follower.explained(error, self._stream) from error.__cause__

    async def _ask_for_more(self) -> None:
        connection, heartbeat = self._stream.connection, self._follower.heartbeat
        body = {"batch": _BATCH, "expires": heartbeat * _HEARTBEATS * _WAITS, "idle_heartbeat": heartbeat}
        request = connection.client.publish(self._api, json.dumps(body).encode(), reply=self._inbox.subject)
        await connection.ask(request, self._api, Phase.ASK)
        self._due = _BATCH

    def _heed(self, message: Msg) -> None:
        """Act on a status message. Raises Unavailable if no more messages come from this consumer."""
        headers = message.headers or {}
        status = headers.get("Status")
        match status:
            case "100":  # a heartbeat
                pass
            case "404" | "408":  # the end of a request
                if headers.get(_PENDING, str(self._due)) != str(self._due):
                    raise self._lost()
                self._due = 0
            case _:
                from crypto_trigger.connection.faults import clean

                said = f"{status} {headers.get('Description', '')}" if status else "an answer without a status"
                raise self._unavailable(f"the consumer of stream {self._stream.name} has ended: {clean(said)}")

    def _take(self, message: Msg) -> Arrival | None:
        """Return the trigger that a message of the stream is, or None if it is not one."""
        delivered = Delivered.parse(message.reply)
        if (
            delivered is None
            or (delivered.stream, delivered.consumer) != (self._stream.name, self._consumer)
            or message.subject != self._subject
            or delivered.seq <= self._seq
            or not self._due
        ):
            raise self._stream.nonsense("is not a message that was asked for")
        if delivered.number != self._number + 1:
            raise self._lost()
        self._seq, self._number = delivered.seq, delivered.number
        self._due -= 1
        stored = Stored.with_headers(delivered.seq, delivered.stored_at, message.headers)
        return self._follower.arrived(self._created, message.subject, stored, message.data)

    def _lost(self) -> Unavailable:
        return self._unavailable(f"messages of stream {self._stream.name} were lost on their way")

    def _unavailable(self, what: str) -> Unavailable:
        return Unavailable(f"{self._stream.connection.server}: {what}", fact=Fact.CONNECTION_LOST)
