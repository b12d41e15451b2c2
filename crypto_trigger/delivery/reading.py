"""Read what a stream holds of one subject since a time, in as few round trips as the server allows.

Servers since 2.11 send many messages for one request (batched direct get, ADR-31). Before, and where direct get is off
or not permitted, messages are read one by one. Nothing is ever read of other subjects: the server has an index of them.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple, Self, assert_never

from crypto_trigger.connection.phases import Phase
from crypto_trigger.connection.servers import Servers
from crypto_trigger.delivery.stream import NANOSECONDS, Info, Stream, parse_time
from crypto_trigger.errors import BrokerError, ConfigError, Fact, Unusable
from crypto_trigger.settings.load import Settings
from crypto_trigger.settings.masking import escaped
from crypto_trigger.settings.values import Delivery
from crypto_trigger.slots.contents import Consumer, Held, Memory
from crypto_trigger.slots.subjects import capture
from crypto_trigger.slots.times import format_duration
from crypto_trigger.slots.trigger import Stored

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence

    from nats.aio.msg import Msg

    from crypto_trigger.deadline.retry import Attempt
    from crypto_trigger.settings.load import Settings

# No `from __future__ import annotations` here: a named tuple would compile each field's annotation from its text, on
# every run.


# The most messages that are read. Each takes about half a kilobyte of memory.
MOST = 100_000
_BATCHES_SINCE = (2, 11)
# The largest batch, in messages and in bytes; the server ends it at the message that exceeds the bytes.
_BATCH = 1000
_BATCH_BYTES = 1 << 20
# The server's time is not known when the first batch is asked for. It begins this much earlier than by our clock.
_MARGIN = timedelta(minutes=1)
# A direct get may be answered by a replica that does not have the newest messages yet: how often it is asked again, and
# the wait before that, in seconds.
_LAGS = 4
_LAG_WAIT = 0.05
# How many requests wait for an answer at the same time if messages are read one by one.
_WALKERS = 16
_SEQUENCE = "Nats-Sequence"
_PENDING = "Nats-Num-Pending"
# JetStream gives these in place of a batch: it is off for the stream, or not permitted; a service import may pass on
# only the first message of an answer.
_NO_BATCHES = (Fact.NO_RESPONDERS, Fact.NO_PERMISSION, Fact.NO_ANSWER)


class Reader:
    """Reads what the stream of the settings holds of their subject, back to `back` before now. One attempt per call."""

    def __init__(self, settings: Settings, back: timedelta) -> None:
        """Load credentials and certificates. Raises ConfigError if they cannot be used, or nothing is stored."""
        self._servers = servers_that_store(settings)
        self._settings = settings
        self._back = back

    async def __call__(self, attempt: Attempt) -> Held:
        """Make one attempt. Raises a BrokerError."""
        async with self._servers.connect(attempt) as connection:
            return await read(Stream(connection, self._settings), self._settings.subject, self._back)


def servers_that_store(settings: Settings) -> Servers:
    """Return the servers of the settings. Raises ConfigError if credentials cannot be used, or nothing is stored."""
    match settings.delivery:
        case Delivery.JETSTREAM:
            return Servers(settings)
        case Delivery.CORE | Delivery.STREAMING:
            raise ConfigError(
                settings.source("delivery").problem(
                    "keeps nothing that this command could read: it needs JetStream, CRYPTO_TRIGGER_DELIVERY=jetstream"
                )
            )
        case _:
            assert_never(settings.delivery)


async def read(stream: Stream, subject: str, back: timedelta) -> Held:
    """Return what the stream holds of `subject`, with the messages since `back` before now, by the server's clock.

    Raises a BrokerError: Unusable if there is no stream, if there are more than `MOST` messages, or if the stream maps
    the subject in a way that this program cannot follow; Denied without permission to read.
    """
    guess = _before(datetime.now(UTC), back + _MARGIN)
    info, found = await together(stream.info(), _Look.at(stream, subject, guess))
    stored_as = mapped(stream, info, subject)
    if stored_as == subject and found.newest is None:
        stored_as = await _named_by_newest(stream, info, subject)
    if stored_as != subject:
        found = await _Look.at(stream, stored_as, guess)
    now = info.reading.server if info.reading else datetime.now(UTC)
    start = _before(now, back)
    messages = [message for message in await found.since(start, guess) if message.stored_at >= start]
    first, newest = await found.first_trigger(), found.newest
    reading = info.reading
    if reading and any(message.stored_at > now for message in (*messages, *((newest,) if newest else ()))):
        # It was stored after the server told its time, or the server's clock has gone back since.
        reading = (await stream.info()).reading or reading
        now = max(now, reading.server)
    if messages:
        # A message may have been stored between the two answers.
        first = first or messages[0]
        newest = messages[-1] if newest is None or newest.seq < messages[-1].seq else newest
    return Held(
        server=str(stream.connection.server),
        reading=reading,
        now=now,
        config=info.config,
        created=info.created,
        subject=stored_as,
        first=first,
        newest=newest,
        messages=tuple(messages),
        memory=_memory(info),
        last_seq=info.last_seq,
        is_clustered=_is_clustered(stream, info),
    )


def _memory(info: Info) -> Memory:
    """Return how much of what the stream was given it still holds, by its state."""
    state = info.answer.get("state")
    if not isinstance(state, dict):
        return Memory(info.created)
    last, first, count, begins = (
        value if type(value) is int and value > 0 else 0
        for value in (*(state.get(key) for key in ("last_seq", "first_seq", "messages")), info.config.get("first_seq"))
    )
    # An empty stream begins at 1, or at 0 after its leader has changed.
    first, begins = max(1, first), max(1, begins)
    holes = count < last - first + 1
    if first <= begins and not holes:
        return Memory(info.created)
    # If it is empty, nothing was stored after the message that was the last one.
    times = [parse_time(state.get(key)) for key in (("first_ts", "last_ts") if count else ("last_ts",))]
    now = info.reading.server if info.reading else datetime.now(UTC)
    since = next((time for time in times if time), now)
    return Memory(info.created, since, holes, tuple(_limits(info.config)))


def _limits(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield the limits by which a stream removes messages, in words."""
    for name in ("max_msgs_per_subject", "max_msgs", "max_bytes"):
        limit = config.get(name)
        if type(limit) is int and limit > 0:
            yield f"{name} {limit}"
    age = config.get("max_age")
    if type(age) is int and age > 0:
        yield f"max_age {format_duration(timedelta(seconds=age / NANOSECONDS))}"


def _is_clustered(stream: Stream, info: Info) -> bool:
    """Tell whether the stream is in a cluster; a server that is in none names a leader all the same."""
    cluster = info.answer.get("cluster")
    return stream.connection.clustered or (isinstance(cluster, dict) and bool(cluster.get("name")))


class _Look(NamedTuple):
    """The first answers about one subject: its first and newest message, from the leader, and the first batch, if any.

    `batch` is None if the stream gives no batches.
    """

    stream: Stream
    subject: str
    first: Stored | None = None
    newest: Stored | None = None
    batch: list[Stored] | None = None

    @classmethod
    async def at(cls, stream: Stream, subject: str, guess: datetime) -> Self:
        """Ask for the first and the newest message and the first batch since `guess`, in one flight."""
        asked = cls(stream, subject)
        first, newest, batch = await together(
            stream.next(1, subject), stream.newest(subject), asked.ask_batch(start_time=_rfc3339(guess))
        )
        return asked._replace(first=first, newest=newest, batch=batch)

    async def first_trigger(self) -> Stored | None:
        """Return the first message that is no marker, or else the first message."""
        first = self.first
        while first and first.marker:
            first = await self.stream.next(first.seq + 1, self.subject)
        return first or self.first

    async def since(self, start: datetime, guess: datetime) -> list[Stored]:
        """Return all messages since `start`, and perhaps some before. The first batch began at `guess`."""
        batch, newest = self.batch, self.newest
        if newest is None or newest.stored_at < start:
            return batch or []
        if batch is not None and not start - 2 * _MARGIN <= guess <= start:
            batch = await self.ask_batch(start_time=_rfc3339(start))
        found: list[Stored] = []
        lags = 0
        while batch is not None:
            found += batch
            self._limit(len(found))
            if found and found[-1].seq >= newest.seq:
                return found
            if not batch:
                lags += 1
                if lags > _LAGS:
                    break
                await asyncio.sleep(_LAG_WAIT)
            then: dict[str, Any] = {"seq": found[-1].seq + 1} if found else {"start_time": _rfc3339(start)}
            batch = await self.ask_batch(**then)
        begin = found[-1].seq + 1 if found else await self._first_since(start, newest)
        return found + await self._one_by_one(begin, newest.seq)

    async def ask_batch(self, **start: object) -> list[Stored] | None:
        """Return one batch, oldest first, or None if the stream does not give batches. Raises a BrokerError."""
        version = self.stream.connection.version
        if version and version < _BATCHES_SINCE:
            return None  # 2.9 does not even answer where direct get is off
        body = {**start, "next_by_subj": self.subject, "batch": _BATCH, "max_bytes": _BATCH_BYTES}
        try:
            return await self.stream.connection.ask(
                self._collect(json.dumps(body).encode()), self.stream.api("DIRECT.GET"), Phase.ASK
            )
        except BrokerError as error:
            if error.fact in _NO_BATCHES:
                return None
            raise

    async def _collect(self, body: bytes) -> list[Stored] | None:
        """Ask for a batch and wait for its end."""
        answers = await self.stream.connection.send(self.stream.api("DIRECT.GET"), body)
        found: list[Stored] = []
        while (more := self._take(await answers.next(), found)) is None:
            pass
        return found if more else None

    def _take(self, message: Msg, found: list[Stored]) -> bool | None:
        """Add a message of the answer to `found`. Return None if more follow, else whether the answer is a batch."""
        headers = message.headers or {}
        if _SEQUENCE not in headers:
            match headers.get("Status"):
                case "204" | "404":  # the end of a batch, and of one without messages
                    return True
                case _:
                    return False
        # A mirror of the stream may answer as well, and it may hold less. A server before 2.11 answers with one message
        # and does not count those that follow.
        if headers.get("Nats-Stream") != self.stream.name or _PENDING not in headers:
            return False
        said, stored_at = headers[_SEQUENCE], parse_time(headers.get("Nats-Time-Stamp"))
        seq = int(said) if said.isascii() and said.isdigit() and len(said) <= len(str(1 << 64)) else 0
        if stored_at is None or seq <= (found[-1].seq if found else 0) or headers.get("Nats-Subject") != self.subject:
            raise self.stream.nonsense("is not what was asked for")
        if len(found) >= _BATCH:
            raise self.stream.nonsense("has no end")
        found.append(Stored.with_headers(seq, stored_at, headers))
        return None

    async def _first_since(self, start: datetime, newest: Stored) -> int:
        """Return the sequence of the first message since `start`, by bisection; `newest` is one of those."""
        if self.first is None or self.first.stored_at >= start:
            return self.first.seq if self.first else newest.seq
        low, high = self.first.seq + 1, newest.seq
        while low < high:
            middle = (low + high) // 2
            found = await self.stream.next(middle, self.subject)
            if found is None or found.seq >= high or found.stored_at >= start:
                high = middle
            else:
                low = found.seq + 1
        return low

    async def _one_by_one(self, begin: int, end: int) -> list[Stored]:
        """Return the messages with sequences from `begin` to `end`, both included, read one by one.

        Each request names the sequence after the last answer, so the range is divided among several walkers.
        """
        walkers = max(1, min(_WALKERS, end + 1 - begin))
        bounds = [begin + (end + 1 - begin) * number // walkers for number in range(walkers + 1)]
        count = 0

        async def walk(seq: int, stop: int) -> list[Stored]:
            nonlocal count
            part: list[Stored] = []
            while seq < stop:
                message = await self.stream.next(seq, self.subject)
                if message is None or message.seq >= stop:
                    break
                part.append(message)
                count += 1
                self._limit(count)
                seq = message.seq + 1
            return part

        parts = await together(*(walk(*pair) for pair in pairwise(bounds)))
        return [message for part in parts for message in part]

    def _limit(self, count: int) -> None:
        if count > MOST:
            raise Unusable(
                f"{self.stream.connection.server}: stream {self.stream.name} has more than {MOST} messages of "
                f"{self.subject} in that time",
                "look back less far with --since",
            )


async def together(*work: Awaitable[Any]) -> list[Any]:
    """Return the results of all of `work`, which runs at the same time. The first failure ends the rest."""
    tasks = [asyncio.ensure_future(part) for part in work]
    try:
        return await asyncio.gather(*tasks)
    finally:
        unfinished = [task for task in tasks if not task.done()]
        for task in unfinished:
            task.cancel()
        if unfinished:
            await asyncio.wait(unfinished)


async def _named_by_newest(stream: Stream, info: Info, subject: str) -> str:
    """Return the subject that triggers of `subject` are stored under, by the newest message of the whole stream.

    The account may map the subject to another, which no client can ask for. The msg id tells the published subject.
    """
    newest = await stream.at(info.last_seq) if info.last_seq > 0 else None
    if newest and newest.stored and (newest.stored.msg_id or "").startswith(f"{subject}:"):
        return newest.subject
    return subject


def mapped(stream: Stream, info: Info, subject: str) -> str:
    """Return the subject that the stream's own transform makes of `subject`. Raises Unusable if it is not known."""
    transform = info.config.get("subject_transform")
    if not isinstance(transform, dict):
        return subject
    source, target = str(transform.get("src") or ">"), str(transform.get("dest") or "")
    captured = capture(source.split("."), subject.split("."))
    if captured is None or not target:
        return subject
    wildcards, rest = captured
    tokens: list[str] = []
    for part in target.split("."):
        number = part.removeprefix("{{wildcard(").removesuffix(")}}").removeprefix("$")
        if part == ">":
            tokens += rest
        elif number == part and not part.startswith("{{"):
            tokens.append(part)
        elif number.isascii() and number.isdigit() and 0 < int(number) <= len(wildcards):
            tokens.append(wildcards[int(number) - 1])
        else:
            raise Unusable(
                f"{stream.connection.server}: stream {stream.name} stores {subject} under another name ({target})",
                "name that subject with --subject",
                Fact.STREAM_REFUSES,
            )
    return ".".join(tokens)


def _before(moment: datetime, length: timedelta) -> datetime:
    """Return the time `length` before `moment`, but not before 1970."""
    earliest = datetime(1970, 1, 1, tzinfo=UTC)
    return moment - min(length, moment - earliest)


def _rfc3339(moment: datetime) -> str:
    """Return a time with microseconds, for a request."""
    return moment.isoformat(timespec="microseconds")


# A leader that was frozen learns within this time, in seconds, that there is another one: from its first heartbeat.
_SETTLES = 1.0
# So many of the consumers that exist are named in place of one that does not.
_MOST_NAMED = 10


class Inspection:
    """Reads what the stream of the settings holds, back to `back` before now, and its consumers.

    `seems_bad` tells whether what was read is bad news. From a cluster it is read once more before it is believed: a
    leader that was frozen answers once from its past. Each call makes one attempt.
    """

    def __init__(
        self,
        settings: Settings,
        back: timedelta,
        consumers: Sequence[str],
        seems_bad: Callable[[Held, Sequence[Consumer]], bool] = lambda *_: False,
    ) -> None:
        """Load credentials and certificates. Raises ConfigError if they cannot be used, or nothing is stored."""
        self._servers = servers_that_store(settings)
        self._settings = settings
        self._back = back
        self._consumers = tuple(dict.fromkeys(consumers))
        self._seems_bad = seems_bad

    async def __call__(self, attempt: Attempt) -> tuple[Held, Sequence[Consumer]]:
        """Make one attempt. Raises a BrokerError; Unusable if missed slots cannot be told from consumed triggers."""
        async with self._servers.connect(attempt) as connection:
            held, consumers = await self._look(Stream(connection, self._settings), attempt)
        held.require_memory()
        return held, consumers

    async def _look(self, stream: Stream, attempt: Attempt) -> tuple[Held, Sequence[Consumer]]:
        """Read, and read once more what seems bad in a cluster."""
        try:
            held, consumers = await self._read(stream)
        except Unusable:
            if not stream.connection.clustered:
                raise
            await asyncio.sleep(min(_SETTLES, attempt.share()))
            return await self._read(stream)
        if held.is_clustered and self._seems_bad(held, consumers):
            # What was seen counts if there is no time to look again, or nobody answers any more.
            with suppress(TimeoutError, BrokerError):
                async with asyncio.timeout(attempt.share()):
                    await asyncio.sleep(min(_SETTLES, attempt.share() / 2))
                    return await self._read(stream)
        return held, consumers

    async def _read(self, stream: Stream) -> tuple[Held, Sequence[Consumer]]:
        held, *consumers = await together(
            read(stream, self._settings.subject, self._back),
            *(consumer(stream, name) for name in self._consumers),
        )
        if any(found.floor > held.last_seq for found in consumers):
            # A message may have been stored, and acknowledged, after the first answer.
            held = held._replace(last_seq=(await stream.info()).last_seq)
        return held, tuple(found._replace(beyond=found.floor > held.last_seq) for found in consumers)


async def consumer(stream: Stream, name: str) -> Consumer:
    """Ask the consumer's leader how far it is. Raises a BrokerError."""
    try:
        answer = await stream.request(f"CONSUMER.INFO.{stream.name}.{name}", {})
    except BrokerError as error:
        if error.fact == Fact.NO_CONSUMER:
            return await _missing(stream, name)
        raise
    config = answer.get("config")
    if answer.get("name") != name or not isinstance(config, dict):
        raise stream.nonsense(f"is not about consumer {name}")
    floor, delivered = (_sequence(stream, answer, key) for key in ("ack_floor", "delivered"))
    acknowledges, begun = config.get("ack_policy") != "none", answer["delivered"].get("consumer_seq") != 0
    # Before 2.14 the floor of a consumer that begins later in the stream is 0 until its first acknowledgement.
    if not acknowledges or not begun:
        floor = max(floor, delivered)
    # And what was delivered ends with the stream, even if the consumer begins later.
    begins = config.get("opt_start_seq")
    if config.get("deliver_policy") == "by_start_sequence" and type(begins) is int:
        floor = max(floor, begins - 1)
    waiting = [answer.get(key) for key in ("num_pending", "num_ack_pending")]
    remaining = answer.get("pause_remaining")
    paused = remaining / NANOSECONDS if type(remaining) is int and remaining > 0 else 0.0
    return Consumer(
        name,
        takes=_subjects(config),
        floor=floor,
        paused=timedelta(seconds=paused) if answer.get("paused") is True else None,
        idle=waiting == [0, 0],
        acknowledges=acknowledges,
        begun=begun,
    )


async def _missing(stream: Stream, name: str) -> Consumer:
    """Return a consumer that does not exist, with the names of those that do, where they may be read."""
    try:
        answer = await stream.request(f"CONSUMER.NAMES.{stream.name}", {})
    except BrokerError:
        return Consumer(name, exists=False)
    names, total = answer.get("consumers"), answer.get("total")
    found = [other for other in names if isinstance(other, str)] if isinstance(names, list) else []
    count = max(len(found), total) if type(total) is int else len(found)
    others = tuple(map(escaped, found[:_MOST_NAMED]))
    return Consumer(name, exists=False, others=others, more=count - len(others))


def _sequence(stream: Stream, answer: Mapping[str, Any], key: str) -> int:
    place = answer.get(key)
    found = place.get("stream_seq") if isinstance(place, dict) else None
    # `True` is an int in Python, but it is not a sequence.
    if type(found) is not int or found < 0:
        raise stream.nonsense(f"has no {key}")
    return found


def _subjects(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the subjects that a consumer takes; none means all."""
    several, one = config.get("filter_subjects"), config.get("filter_subject")
    found = several if isinstance(several, list) and several else [one]
    return tuple(subject for subject in found if isinstance(subject, str) and subject)
