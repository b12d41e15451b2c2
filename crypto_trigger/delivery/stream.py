"""One JetStream stream over one connection: read its last message, publish to it, ask for its configuration.

The answers are decoded as nats-py does it, but without its part for JetStream: to load that takes a fifth of the
instructions of a publish.
"""

from __future__ import annotations

import asyncio
import json
import re
from binascii import a2b_base64
from datetime import UTC, datetime, timedelta
from email.parser import BytesParser
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

import nats.errors

from crypto_trigger.connection.phases import Phase
from crypto_trigger.errors import BadPeer, BrokerError, Fact, Rejected, Unavailable, Unusable
from crypto_trigger.settings.setting import Layer
from crypto_trigger.slots.trigger import Reading, Stored, Trigger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping

    from crypto_trigger.connection.connection import Connection
    from crypto_trigger.settings.load import Settings

T = TypeVar("T")
# Nanoseconds in a second. The JetStream API gives durations in nanoseconds.
NANOSECONDS = 10**9
# A status 503 may mean that a leader is being elected (ADR-22). Like nats.go, ask twice more, 250 ms apart.
_NO_RESPONDERS_RETRIES = 2
_NO_RESPONDERS_WAIT = 0.25
# A server that is in no cluster has no JetStream if nobody has responded for this long: in seconds, and as a share of
# the deadline.
_OFF_AFTER, _OFF_SHARE = 5.0, 0.25
# Older servers ignore Nats-Expected-Last-Subject-Sequence in some cases, or cannot read a subject's last message.
LEAST_VERSION = (2, 9)
# The `err_code` of a message that is not stored because another one came first (nats-server, `server/errors.json`).
_LOST_RACE = (10071, 10164)
# A time outside these years is not a server's clock. Adding a slot to a time between them cannot overflow.
_FIRST_YEAR, _LAST_YEAR = 1970, 9000


class Last:
    """The result of reading a subject's last message: the message, if any, and whether reading is permitted.

    `subject` is the one that the message is stored under. If the published subject is mapped, the two are different.
    `counts` tells that the message is of that subject, and not one that only gives the sequence to expect.
    """

    def __init__(self, subject: str, stored: Stored | None, *, permitted: bool = True, counts: bool = True) -> None:
        self.subject: Final = subject
        self.stored: Final = stored
        self.permitted: Final = permitted
        self.counts: Final = counts


class Info:
    """The server's answer about the stream: its configuration, and the server's time, if given (2.10 and later).

    `answer` is the whole answer.
    """

    def __init__(self, config: Mapping[str, Any], reading: Reading | None, answer: Mapping[str, Any]) -> None:
        self.config: Final = config
        self.reading: Final = reading
        self.answer: Final = answer

    @property
    def created(self) -> datetime | None:
        """The time at which the stream was created, or None if it is not known."""
        return parse_time(self.answer.get("created"))

    @property
    def schedules(self) -> bool:
        """Whether the stream may hold a schedule of the server's own."""
        return self.config.get("allow_msg_schedules") is True

    @property
    def last_seq(self) -> int:
        """The sequence of the newest message of all subjects; 0 if there is none, or it is not known."""
        state = self.answer.get("state")
        last = state.get("last_seq") if isinstance(state, dict) else None
        return last if type(last) is int else 0

    @property
    def duplicate_window(self) -> timedelta | None:
        """The stream's duplicate window, or None if it is not known."""
        window = self.config.get("duplicate_window")
        try:
            return timedelta(seconds=window / NANOSECONDS) if isinstance(window, int) else None
        except OverflowError:
            return None


class LostRace(Exception):
    """The subject's last message is not the expected one. `seq` is the sequence of the actual one, if known.

    Either another message was stored after we read the last one, or the subject is mapped to another.
    """

    def __init__(self, seq: int | None) -> None:
        super().__init__(seq)
        self.seq = seq


class Stream:
    """The stream of the settings, over one connection. `name` is its name."""

    def __init__(self, connection: Connection, settings: Settings) -> None:
        """Take a connection. Raises Unusable where the server is older than 2.9."""
        self.connection = connection
        self._settings = settings
        self.name = settings.stream
        self._domain = settings.js_domain
        self._prefix = f"$JS.{self._domain}.API" if self._domain else "$JS.API"
        version = connection.version
        if version and version < LEAST_VERSION:
            raise Unusable(
                f"{connection.server}: this is nats-server {_dotted(version)}; one trigger per slot needs "
                f"{_dotted(LEAST_VERSION)} or later",
                "update the server, or set CRYPTO_TRIGGER_DELIVERY=core",
                Fact.SERVER_TOO_OLD,
            )

    async def last(self, subject: str) -> Last:
        """Read the last message on `subject`. Raises a BrokerError; Unusable if there is no stream."""
        try:
            return Last(subject, await self.newest(subject))
        except BrokerError as error:
            if error.fact == Fact.NO_PERMISSION:
                return Last(subject, None, permitted=False)
            raise

    async def newest(self, subject: str) -> Stored | None:
        """Return the last message on `subject`, or None. Raises a BrokerError; Denied without permission to read."""
        message = await self._get({"last_by_subj": subject})
        return self._stored(message) if message else None

    async def next(self, seq: int, subject: str) -> Stored | None:
        """Return the first message on `subject` with sequence `seq` or a later one, or None. Raises a BrokerError."""
        message = await self._get({"seq": seq, "next_by_subj": subject})
        if message is None:
            return None
        found = self._stored(message)
        if found.seq < seq or message.subject != subject:
            raise self.nonsense("is another message than the one that was asked for")
        return found

    async def at(self, seq: int) -> Last | None:
        """Read the message with that sequence; return None if there is none. Raises a BrokerError."""
        message = await self._get({"seq": seq})
        return Last(message.subject or "", self._stored(message)) if message else None

    async def _get(self, wanted: Mapping[str, object]) -> Message | None:
        """Return the answer of the stream's leader to a request for a message, or None if there is no such message."""
        subject = self.api("STREAM.MSG.GET")

        async def ask() -> Message | None:
            return message_of((await self.connection.request(subject, json.dumps(wanted).encode())).data)

        return await self._explained(self._with_retries(ask, subject))

    def _stored(self, message: Message) -> Stored:
        seq, time = message.seq, message.time
        # `True` is an int in Python, but it is not a sequence.
        if type(seq) is not int or seq < 1 or time is None or not _FIRST_YEAR < time.year < _LAST_YEAR:
            raise self.nonsense("has no sequence or time")
        return Stored.with_headers(seq, time, message.headers)

    def nonsense(self, what: str) -> BadPeer:
        """Return the error for an answer that JetStream does not give."""
        return BadPeer(
            f"{self.connection.server}: the answer to reading {self.name} {what}",
            "does another service answer in the place of JetStream?",
            Fact.NOT_JETSTREAM,
        )

    def api(self, endpoint: str) -> str:
        """Return the subject of an endpoint of the JetStream API for this stream."""
        return f"{self._prefix}.{endpoint}.{self.name}"

    async def publish(self, trigger: Trigger, headers: dict[str, str], *, known: bool) -> tuple[int | None, bool]:
        """Publish and return the sequence, if the server gives it, and whether the server calls it a duplicate.

        `known` says that the stream is known to hold messages of this subject. Only what this stream itself answers
        counts: another one may take the subject, too, for example that of a leaf node, and answer first. Raises
        LostRace or a BrokerError; NoAck if others have answered, and this stream has not.
        """
        others: list[tuple[object, BrokerError]] = []
        try:
            ack = await self.connection.ask(self._send(trigger, headers, others), trigger.subject, Phase.PUBLISH)
        except BrokerError as error:
            match error.fact:
                case Fact.OTHER_MESSAGE_FIRST if not error.perhaps:
                    raise LostRace(_sequence(error.said)) from error
                case Fact.NO_STREAM_ANSWERS if not known:
                    raise await self._why_no_stream(trigger.subject, error) from error.__cause__
                case Fact.NOT_ACKNOWLEDGED if others:
                    raise await self._answered(others, trigger.subject) from error
                case _:
                    raise
        return ack.seq or None, bool(ack.duplicate)

    async def _send(self, trigger: Trigger, headers: dict[str, str], others: list[tuple[object, BrokerError]]) -> Ack:
        """Send the trigger and return this stream's acknowledgement. Raises nats-py's APIError if it refuses.

        Add to `others` each other answer: the stream that it names, and what it means.
        """
        answers = await self.connection.send(trigger.subject, trigger.payload, headers)
        while True:
            try:
                answer = await answers.next()
            except nats.errors.NoRespondersError as error:
                from nats.js.errors import NoStreamResponseError

                raise NoStreamResponseError from error
            try:
                ack = ack_of(answer.data)
                own = self._is_own(ack)
                refusal = None if ack.error is None else api_error(ack.error)
            except Exception as error:  # what a parser lets out
                meaning = self.connection.explained(error, Phase.PUBLISH, trigger.subject)
                if not isinstance(meaning, BrokerError):
                    raise
                others.append((None, meaning))
                continue
            if own and refusal:
                raise refusal
            if own:
                return ack
            from crypto_trigger.delivery.other_answers import explain_other

            meaning = explain_other(ack, refusal, self.connection, self._settings, trigger.subject)
            others.append((ack.stream, meaning))

    def _is_own(self, ack: Ack) -> bool:
        """Tell whether an answer is this stream's. Raises AttributeError and others for nonsense.

        A refusal does not name its domain. Where a domain is set, it counts only if it says that a race was lost: that
        is answered by reading again, whoever has lost it.
        """
        if ack.stream != self.name:
            return False
        if ack.error is not None:
            return self._domain is None or ack.error.get("err_code") in _LOST_RACE
        # On an interest stream, nats-server 2.9 gives a duplicate no sequence.
        numbered = type(ack.seq) is int and (ack.seq > 0 or (ack.seq == 0 and ack.duplicate is True))
        return numbered and self._domain in (None, ack.domain)

    async def _answered(self, others: list[tuple[object, BrokerError]], subject: str) -> BrokerError:
        """Return the error for a trigger that only others have answered.

        The streams of one account share no subject: where one of them takes it, this stream does not have the trigger.
        """
        try:
            names = await self.names_for(subject)
        except BrokerError:
            names = []
        taking = next((name for name, _ in others if name in names), None)
        if taking is None or self.name in names:
            return others[0][1]
        from crypto_trigger.delivery.other_answers import taken_by

        return taken_by(str(taking), self.connection, subject)

    async def info(self) -> Info:
        """Ask for the stream's configuration and the server's time. Raises a BrokerError; Unusable without a stream."""
        return await self._info(self.request)

    async def _info(self, request: Callable[[str, Mapping[str, object]], Awaitable[dict[str, Any]]]) -> Info:
        asked = datetime.now(UTC)
        answer = await request(f"STREAM.INFO.{self.name}", {})
        answered = datetime.now(UTC)
        config = answer.get("config")
        if not isinstance(config, dict):
            raise Unavailable(
                f"{self.connection.server}: the answer about stream {self.name} has no configuration",
                "does another service answer in the place of JetStream?",
                Fact.NOT_JETSTREAM,
            )
        server = parse_time(answer.get("ts"))
        return Info(config, Reading(server, asked, answered) if server else None, answer)

    async def config(self) -> dict[str, Any] | None:
        """Return the stream's configuration unchanged, or None if there is no stream. Raises a BrokerError."""
        try:
            return dict((await self._info(self._ask)).config)
        except Unusable as error:
            if error.fact == Fact.NO_STREAM:
                return None
            raise

    async def request(self, endpoint: str, body: Mapping[str, object]) -> dict[str, Any]:
        """Send a request to the JetStream API and return the decoded answer. Raises a BrokerError.

        nats-py's StreamConfig is not used, because it would drop the fields of newer servers.
        """
        return await self._explained(self._ask(endpoint, body))

    async def _ask(self, endpoint: str, body: Mapping[str, object]) -> dict[str, Any]:
        subject = f"{self._prefix}.{endpoint}"

        async def ask() -> dict[str, Any]:
            answer = await self.connection.request(subject, json.dumps(body).encode())
            content: dict[str, Any] = json.loads(answer.data)
            if error := content.get("error"):
                from nats.js.errors import APIError

                raise APIError(error.get("code"), error.get("description"), error.get("err_code"))
            return content

        return await self._with_retries(ask, subject)

    async def _with_retries(self, request: Callable[[], Coroutine[Any, Any, T]], subject: str) -> T:
        """Ask, and ask again while nobody responds. Raises Unavailable if nobody does, Unusable if JetStream is off."""
        asked = asyncio.get_running_loop().time()
        for left in reversed(range(_NO_RESPONDERS_RETRIES + 1)):
            try:
                answer = await self.connection.ask(request(), subject, Phase.ASK)
            except BrokerError as error:
                if error.fact != Fact.NO_RESPONDERS:
                    if error.code:
                        self.connection.answered()
                    raise
                if not left:
                    raise self._nobody(error, asked) from error
            else:
                self.connection.answered()
                return answer
            await asyncio.sleep(_NO_RESPONDERS_WAIT)
        raise AssertionError  # the last request returns or raises

    def _nobody(self, error: BrokerError, asked: float) -> BrokerError:
        """Return the error if nobody has responded since `asked`, a time of the event loop.

        JetStream is off only if the server is in no cluster, and nobody has answered for some time. Otherwise those who
        have it may be back soon.
        """
        server = self.connection.server
        if self.connection.shutting_down:
            return Unavailable(
                f"{server}: the server is shutting down (lame duck mode)",
                "run it again when the server is back, or list a second one in NATS_URL",
                Fact.JETSTREAM_BUSY,
            )
        if self._domain:
            return Unavailable(
                f"{server}: JetStream domain {self._domain} does not answer",
                "check NATS_JS_DOMAIN, and the leaf node connection to it",
                Fact.JETSTREAM_BUSY,
            )
        patience = min(_OFF_AFTER, self._settings.give_up_after.total_seconds() * _OFF_SHARE)
        if self.connection.clustered or self.connection.unanswered(asked) < patience:
            return error
        return Unusable(
            f"{server}: JetStream is off",
            "start the server with JetStream: nats-server -js; or, if it is a leaf node: is its hub away?",
            Fact.JETSTREAM_OFF,
        )

    async def names_for(self, subject: str) -> list[str]:
        """Return the names of the streams that take messages of `subject`. Raises a BrokerError."""
        answer = await self._ask("STREAM.NAMES", {"subject": subject})
        return [name for name in answer.get("streams") or [] if isinstance(name, str)]

    async def configs(self) -> list[dict[str, Any]]:
        """Return the configurations of all streams of the account. Raises a BrokerError."""
        found: list[dict[str, Any]] = []
        while True:
            answer = await self._ask("STREAM.LIST", {"offset": len(found)})
            streams = answer.get("streams") or []
            found += [stream["config"] for stream in streams]
            if not streams or len(found) >= answer.get("total", 0):
                return found

    async def refuse_other(self, subject: str) -> None:
        """Raise Rejected if another stream takes the subject, which this one does not.

        If none does, a publish may still succeed: the account may map the subject to another.
        """
        if owner := await self.owner(subject):
            raise Rejected(
                f"{self.connection.server}: stream {owner} takes {subject}, and stream {self.name} does not",
                f"{self.instead(owner)}, or choose another subject",
                Fact.STREAM_REFUSES,
            )

    async def owner(self, subject: str) -> str:
        """Return the other stream that takes the subject, or an empty text if there is none or it is not known."""
        try:
            names = await self.names_for(subject)
        except BrokerError:
            return ""
        from crypto_trigger.connection.faults import clean

        return clean(", ".join(name for name in names if name != self.name))

    async def _explained(self, request: Awaitable[T]) -> T:
        """Return what `request` does. Where there is no stream, say which one takes the subject."""
        try:
            return await request
        except Unusable as error:
            if error.fact == Fact.NO_STREAM and (owner := await self.owner(self._settings.subject)):
                hint = f"stream {owner} takes {self._settings.subject}: {self.instead(owner)}"
                raise error.reworded(error.message, hint) from error.__cause__
            raise

    def instead(self, owner: str) -> str:
        """Return the advice to name another stream in the setting that named this one."""
        source = self._settings.named_by("stream")
        if source.layer == Layer.FLAG:
            return f"give {source.setting.flag} {owner} in place of '{source.shown}'"
        return f"set {source.setting.variable}={owner} in place of '{source.shown}' (from {source.origin})"

    async def _why_no_stream(self, subject: str, error: BrokerError) -> BrokerError:
        """Return Unusable if no stream takes the subject, or `error` if one does: its leader may be missing."""
        try:
            if await self.names_for(subject):
                return error
        except BrokerError as failure:
            return failure if isinstance(failure, Unusable) else error
        from crypto_trigger.settings.command_line import command_line

        return Unusable(
            f"{self.connection.server}: no stream takes the subject {subject}",
            f"create one with: {command_line(self._settings, 'setup')}, or add --update to add the subject to "
            f"stream {self.name}",
            Fact.NO_STREAM,
        )


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def _sequence(said: str) -> int | None:
    """Return the sequence in the server's text `wrong last sequence: 7` (err_code 10071), or None."""
    found = re.search(r"wrong last sequence: ([0-9]{1,20})", said)
    return int(found[1]) if found else None


def parse_time(text: object) -> datetime | None:
    """Return a time of an answer (RFC 3339 with nanoseconds), or None if it is invalid or far from now."""
    try:
        moment = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
    if moment is None or moment.tzinfo is None or not _FIRST_YEAR < moment.year < _LAST_YEAR:
        return None
    return moment.astimezone(UTC)


# No `from __future__ import annotations` here: defining a NamedTuple would then load more.


# The `code` and the `err_code` of the answer if there is no such message (nats-server, `server/errors.json`).
_NO_MESSAGE = (404, 10037)
# What comes before the headers of a message.
_START = b"NATS/1.0\r\n"


class Message(NamedTuple):
    """A message that a stream holds. Only of `time` it is known that it is one; the rest is as the server says."""

    subject: Any
    seq: Any
    time: datetime
    headers: dict[str, Any] | None


class Ack(NamedTuple):
    """An answer to a publish, as it came: which stream gives it, and its acknowledgement or its error."""

    stream: Any
    seq: Any
    domain: Any
    duplicate: Any
    error: Any


def message_of(data: bytes) -> Message | None:
    """Return the message in an answer to STREAM.MSG.GET, or None if the answer is that there is no such message.

    Raises nats-py's APIError for the other errors, and ValueError, LookupError and others for nonsense.
    """
    content = json.loads(data)
    if "error" in content:
        error = content["error"]
        # Not left to the table of faults, which is loaded after a failure: a subject without a message is none.
        if (error["code"], error.get("err_code")) == _NO_MESSAGE:
            return None
        raise api_error(error)
    message = content["message"]
    headers = None
    if encoded := message.get("hdrs"):
        headers = dict(BytesParser().parsebytes(a2b_base64(encoded)[len(_START) :]).items()) or None
    time = datetime.fromisoformat(message["time"]).astimezone(UTC)
    return Message(message.get("subject"), message.get("seq"), time, headers)


def ack_of(data: bytes) -> Ack:
    """Return an answer to a publish. Raises ValueError, LookupError and others for nonsense.

    A refusal names its stream beside the error (nats-server 2.9 to 2.15, `JSPubAckResponse`).
    """
    content = json.loads(data)
    if "error" in content:
        return Ack(content.get("stream"), None, None, None, content["error"])
    return Ack(content["stream"], content["seq"], content.get("domain"), content.get("duplicate"), None)


def api_error(error: dict[str, Any]) -> Exception:
    """Return nats-py's APIError for the error of an answer. Raises LookupError and others for nonsense."""
    from nats.js.errors import APIError

    return APIError(error["code"], error.get("description"), error.get("err_code"))
