"""One stream, seen over one connection: read its last message, publish to it, ask for its configuration."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import nats.js.errors

from crypto_trigger.brokers.faults import (
    LOST_RACE,
    NO_MESSAGE,
    SETUP,
    STREAM_NOT_FOUND,
    Phase,
    Violation,
    api_error,
    nobody_responds,
)
from crypto_trigger.errors import BrokerError, Denied, NoAck, Unavailable, Unusable
from crypto_trigger.trigger import TIME, Stored, Trigger
from crypto_trigger.values import format_duration

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from crypto_trigger.brokers.access import Access
    from crypto_trigger.brokers.connection import Connection
    from crypto_trigger.settings import Settings

T = TypeVar("T")
# The JetStream API counts time in these.
NANOSECONDS = 10**9
# ADR-22: a 503 may be a leader election; nats.go asks twice more, 250 ms apart.
_NO_RESPONDERS_RETRIES = 2
_NO_RESPONDERS_WAIT = 0.25


class Last(NamedTuple):
    """What reading the subject's last message gave: the message if there is one, and whether reading is permitted."""

    stored: Stored | None
    permitted: bool = True


class LostRace(Exception):
    """Another message was stored on the subject between our reading and our publishing."""


class Stream:
    """The stream seen over one connection."""

    def __init__(self, connection: Connection, settings: Settings, access: Access) -> None:
        self.connection = connection
        self._name = settings.stream
        # nats-py's own timeouts stay behind ours, which `ask` keeps.
        self._patience = access.timeout + 1
        self._domain = settings.js_domain
        self._prefix = f"$JS.{self._domain}.API" if self._domain else "$JS.API"
        self._js = connection.client.jetstream(prefix=self._prefix, timeout=self._patience)

    async def last(self, subject: str) -> Last:
        """Read the last message on `subject`. Raises a BrokerError, Unusable where there is no stream."""
        api = f"{self._prefix}.STREAM.MSG.GET.{self._name}"
        try:
            message = await self._patiently(lambda: self._js.get_last_msg(self._name, subject), api)
        except BrokerError as error:
            cause = error.__cause__
            if isinstance(cause, nats.js.errors.APIError) and cause.err_code == NO_MESSAGE:
                return Last(None)
            if isinstance(error, Denied) and isinstance(cause, Violation) and api.lower() in str(cause).lower():
                return Last(None, permitted=False)
            raise self._named(error) from cause
        if message.seq is None or message.time is None:
            raise Unavailable(f"{self.connection.server}: the answer to reading {self._name} has no sequence or time")
        time = (message.headers or {}).get(TIME)
        # What is not ASCII comes as an email.header.Header.
        return Last(Stored(message.seq, message.time, None if time is None else str(time)))

    async def publish(self, trigger: Trigger, headers: dict[str, str], *, known: bool) -> tuple[int, bool]:
        """Publish and return the sequence and whether the server calls it a duplicate.

        `known` says that the stream is known to hold messages of this subject. Raises LostRace or a BrokerError.
        """
        request = self._js.publish(
            trigger.subject, trigger.payload, timeout=self._patience, stream=self._name, headers=headers
        )
        try:
            ack = await self.connection.ask(request, trigger.subject, Phase.PUBLISH)
        except BrokerError as error:
            cause = error.__cause__
            if isinstance(cause, nats.js.errors.APIError) and cause.err_code in LOST_RACE:
                raise LostRace from error
            if isinstance(cause, nats.js.errors.NoStreamResponseError) and not known:
                raise await self._why_no_stream(trigger.subject, error) from cause
            raise self._named(error) from cause
        if ack.stream != self._name or not isinstance(ack.seq, int) or ack.seq < 1:
            raise NoAck(
                f"{self.connection.server}: what answers on {trigger.subject} is not the stream {self._name}",
                "does another service listen on the subject?",
            )
        return ack.seq, bool(ack.duplicate)

    async def config(self) -> dict[str, Any] | None:
        """Return the stream's configuration as the server gives it, or None if there is no stream."""
        try:
            config: dict[str, Any] = (await self.request(f"STREAM.INFO.{self._name}", {}))["config"]
        except Unusable as error:
            cause = error.__cause__
            if isinstance(cause, nats.js.errors.APIError) and cause.err_code == STREAM_NOT_FOUND:
                return None
            raise
        return config

    async def request(self, endpoint: str, body: Mapping[str, object]) -> dict[str, Any]:
        """Ask the JetStream API and return its answer as the server wrote it.

        Not through nats-py's StreamConfig: a server's newer fields would be lost on the way back.
        """
        subject = f"{self._prefix}.{endpoint}"

        async def ask() -> dict[str, Any]:
            answer = await self.connection.client.request(subject, json.dumps(body).encode(), timeout=self._patience)
            if error := api_error(answer.data):
                raise error
            content: dict[str, Any] = json.loads(answer.data)
            return content

        return await self._patiently(ask, subject)

    async def window_warning(self, every: timedelta) -> tuple[str, ...]:
        """Return a warning if the duplicate window is shorter than a slot; what cannot be learnt is not warned about.

        Asked only where the window matters: without permission to read, and where nothing was there to read, as on
        streams that let go of messages once they are consumed. Not even the end of our time is passed on: the message
        is acknowledged by now, and this must not change it.
        """
        try:
            config = await self.config() or {}
            window = timedelta(seconds=config["duplicate_window"] / NANOSECONDS)
        except (BrokerError, TypeError, LookupError, OverflowError, asyncio.CancelledError):
            return ()
        if window >= every:
            return ()
        warning = (
            f"the duplicate window of stream {self._name} is {format_duration(window)}, shorter than a slot "
            f"({format_duration(every)}); mend it with: crypto-trigger setup --update"
        )
        return (warning,)

    async def _patiently(self, request: Callable[[], Coroutine[Any, Any, T]], subject: str) -> T:
        """Ask, and ask again where nobody responds: only when that stays so is JetStream off."""
        for _ in range(_NO_RESPONDERS_RETRIES):
            try:
                return await self.connection.ask(request(), subject, Phase.ASK)
            except BrokerError as error:
                if not nobody_responds(error.__cause__):
                    raise
            await asyncio.sleep(_NO_RESPONDERS_WAIT)
        try:
            return await self.connection.ask(request(), subject, Phase.ASK)
        except Unusable as error:
            server = self.connection.server
            if nobody_responds(error.__cause__) and self.connection.leaving:
                raise Unavailable(f"{server}: the server is shutting down (lame duck mode)") from error
            if nobody_responds(error.__cause__) and self._domain:
                raise Unavailable(
                    f"{server}: JetStream domain {self._domain} does not answer",
                    "check NATS_JS_DOMAIN, and the leaf node connection to it",
                ) from error
            raise

    async def _why_no_stream(self, subject: str, error: BrokerError) -> BrokerError:
        """Find out whether no stream takes the subject, which is for good, or its leader is missing, which passes."""
        api = f"{self._prefix}.STREAM.NAMES"
        try:
            await self.connection.ask(self._js.find_stream_name_by_subject(subject), api, Phase.ASK)
        except BrokerError as failure:
            cause = failure.__cause__
            if isinstance(cause, nats.js.errors.NotFoundError):
                return Unusable(
                    f"{self.connection.server}: no stream takes the subject {subject}",
                    "let crypto-trigger setup create one, or add the subject with: crypto-trigger setup --update",
                )
            if isinstance(failure, Unusable):
                return failure
        return error

    def _named(self, error: BrokerError) -> BrokerError:
        """Return the error with the stream's name where it is the stream that is missing."""
        cause = error.__cause__
        if isinstance(cause, nats.js.errors.APIError) and cause.err_code == STREAM_NOT_FOUND:
            return Unusable(f"{self.connection.server}: there is no stream {self._name}", SETUP)
        return error
