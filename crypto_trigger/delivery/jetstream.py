"""JetStream: publish one trigger per slot, by compare-and-set on the subject's last message and by msg id."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from crypto_trigger.connection.servers import Servers
from crypto_trigger.delivery.stream import Info, Last, LostRace, Stream
from crypto_trigger.errors import BrokerError, Fact, NoAck, Outcome, Unavailable, Unusable
from crypto_trigger.slots.subjects import takes
from crypto_trigger.slots.times import format_duration, rfc3339
from crypto_trigger.slots.trigger import Receipt, Stored, Trigger

if TYPE_CHECKING:
    from datetime import timedelta

    from crypto_trigger.deadline.retry import Attempt
    from crypto_trigger.delivery.draft import Draft
    from crypto_trigger.settings.load import Settings
    from crypto_trigger.settings.values import Guard

# Conditions of a publish (ADR-8): every stream that receives the message obeys them, copies of it included. The first
# asks for the sequence of the subject's last message, the second for the name of the stream.
EXPECTED_LAST = "Nats-Expected-Last-Subject-Sequence"
_EXPECTED_STREAM = "Nats-Expected-Stream"
# How often one attempt publishes again after it lost a race, and how long it waits before it reads again, in seconds.
_RACES = 20
_RACE_WAIT = 0.01
# A schedule that was due while the server was down fires 250 ms after it came back (`resetTimer` in nats-server's
# `server/scheduler.go`). After a failed attempt, a run waits for it as long as this, in seconds.
_CATCHES_UP = 1.0
# The server's time cannot be asked for. Other failures may pass.
_CANNOT_ASK = (Fact.NO_PERMISSION, Fact.NO_RESPONDERS)


class Publisher:
    """Publishes triggers, one attempt per call: connect, read the subject's last message, publish, close."""

    def __init__(self, settings: Settings) -> None:
        """Load credentials and certificates. Raises ConfigError if they cannot be used."""
        self._settings = settings
        self._servers = Servers(settings)
        self._info: Info | None = None
        self._taken = False
        self._guarded_by_msg_id = False
        self._forced = False
        # That the server's clock went back is said once.
        self._warned = False

    async def publish(self, draft: Draft, attempt: Attempt) -> Receipt:
        """Make one attempt (see `delivery.Publisher`)."""
        async with self._servers.connect(attempt) as connection:
            stream = Stream(connection, self._settings)
            last = await self._read(stream, draft, attempt)
            trigger = draft.trigger
            self._forced, self._guarded_by_msg_id = trigger.force, self._guard(last) == "msg-id"
            scheduled = self._info is not None and self._info.schedules
            if attempt.number > 1 and scheduled and not trigger.force and not await self._already(draft, last, stream):
                await asyncio.sleep(min(_CATCHES_UP, attempt.share()))
                last = await stream.last(last.subject)
            for _ in range(_RACES):
                if not trigger.force and (receipt := await self._already(draft, last, stream)):
                    return receipt
                attempt.sent = True
                try:
                    return await self._store(trigger, last, stream)
                except LostRace as lost:
                    # With a domain, a stream of the same name on this side of a leaf node may be the one that refuses.
                    attempt.sent = self._settings.js_domain is not None
                    last = await self._read_again(stream, last, lost, draft)
        from crypto_trigger.connection.faults import BUSY  # only a failure needs it

        kind = NoAck if attempt.sent else Unavailable
        raise kind(
            f"{connection.server}: other messages kept coming first on {trigger.subject}",
            BUSY,
            Fact.OTHER_MESSAGE_FIRST,
        )

    def again(self) -> str:
        """Return a hint about running again, for a trigger that may be stored."""
        if self._forced:
            return "with --force, running it again may store another"
        if not self._guarded_by_msg_id:
            return "run it again to make sure: that cannot double it"
        window = self._info.duplicate_window if self._info else None
        length = f" ({format_duration(window)})" if window else ""
        return f"run it again to make sure: that cannot double it within the stream's duplicate window{length}"

    async def _read(self, stream: Stream, draft: Draft, attempt: Attempt) -> Last:
        """Read the subject's last message and the server's time in one round trip; fix the draft's slot."""
        subject = draft.trigger.subject
        if draft.fixed:
            last = await stream.last(subject)
            await self._check(stream, draft.trigger)
            return last
        reading = asyncio.ensure_future(stream.last(subject))
        try:
            unknown = await self._fix(stream, draft, attempt)
            last = await reading
        finally:
            reading.cancel()
            await asyncio.wait({reading})
        if unknown:
            draft.details.append(f"the clock of this host decides the slot: {unknown}")
            draft.fix(None)
        if not last.permitted:
            draft.details.append("no permission to read the stream: the msg id alone guards the slot")
        await self._check(stream, draft.trigger)
        return last

    async def _check(self, stream: Stream, trigger: Trigger) -> None:
        """Find out whether the stream takes the subject, and whether the guard is enough, as far as can be known.

        Raises Rejected where another stream takes the subject, and Unusable where the duplicate window is too short.
        """
        if self._info is None:
            return
        window, needed = self._info.duplicate_window, 2 * self._settings.every
        if self._settings.guard == "msg-id" and not trigger.force and window is not None and window < needed:
            raise Unusable(
                f"{stream.connection.server}: {self._window(window)}; CRYPTO_TRIGGER_GUARD=msg-id needs one "
                f"of two slots ({format_duration(needed)})",
                self._longer_window(),
                Fact.WINDOW_TOO_SHORT,
            )
        config = self._info.config
        patterns = config.get("subjects")
        self._taken = isinstance(patterns, list) and trigger.subject in patterns
        if config and not self._taken:
            from crypto_trigger.delivery import configuration  # where the stream names the subject, it is not needed

            self._taken = takes(configuration.subjects(config), trigger.subject)
            if not self._taken:
                await stream.refuse_other(trigger.subject)

    async def _fix(self, stream: Stream, draft: Draft, attempt: Attempt) -> str:
        """Fix the draft's slot by the server's clock. Return why it cannot be asked for, or an empty text.

        A request without an answer is repeated once, in a new attempt. Raises a BrokerError or ConfigError.
        """
        try:
            self._info = await stream.info()
        except BrokerError as error:
            unanswered = error.fact == Fact.NO_ANSWER and attempt.number > 1
            if error.fact not in _CANNOT_ASK and not unanswered:
                raise
            return error.message
        if self._info.reading is None:
            return f"{stream.connection.server}: the server does not tell its time"
        draft.fix(self._info.reading)
        return ""

    async def _read_again(self, stream: Stream, last: Last, lost: LostRace, draft: Draft) -> Last:
        """Read the subject's last message again after a lost race, or the one that the stream says is the last.

        The two differ if the account or the stream maps the subject to another. A message is then stored under that
        other subject, whose last message counts if it is a trigger of ours or of a schedule. Any other message gives
        the sequence to expect and no more: it may be of a stream of the same name that does not take the subject.
        """
        # Another run has just stored a message, which may be readable only a moment later.
        await asyncio.sleep(_RACE_WAIT)
        again = await stream.last(last.subject)
        if lost.seq is None or not again.permitted or lost.seq == (again.stored.seq if again.stored else 0):
            return again
        if lost.seq == 0:
            return Last(last.subject, None)
        named = await stream.at(lost.seq)
        if named is None or named.stored is None or named.subject == again.subject:
            return named or again
        if not (named.stored.scheduler or (named.stored.msg_id or "").startswith(f"{draft.trigger.subject}:")):
            return Last(again.subject, named.stored, counts=False)
        draft.details.append(f"{last.subject} is mapped: the stream stores it as {named.subject}")
        return named

    async def _already(self, draft: Draft, last: Last, stream: Stream) -> Receipt | None:
        """Return the receipt if this slot or a later one already has its trigger, else None. Raises a BrokerError."""
        if last.stored is None or not last.counts:
            return None
        trigger = draft.trigger
        slot = last.stored.slot(self._settings.every, self._settings.early)
        ahead = await self._is_ahead(draft, last.stored, stream)
        duplicate = last.stored.msg_id == trigger.msg_id or slot == trigger.slot
        if not duplicate and (slot is None or slot.start < trigger.slot.start or ahead):
            return None
        return Receipt(
            outcome=Outcome.DUPLICATE if duplicate else Outcome.SUPERSEDED,
            seq=last.stored.seq,
            guard=self._guard(last),
            server=str(stream.connection.server),
            later=None if duplicate else slot,
        )

    async def _is_ahead(self, draft: Draft, stored: Stored, stream: Stream) -> bool:
        """Tell whether the server's clock has gone back since it stored a message, and warn if so.

        The server's time that is known may be from before the message was stored, so it is asked for again before that
        is believed. Nothing can be said where the server does not tell its time. Raises a BrokerError.
        """
        every, early = self._settings.every, self._settings.early
        known = self._info.reading if self._info else None
        if known is None or not stored.is_ahead(known.server, every, early):
            return False
        reading = (await stream.info()).reading
        if reading is None or not stored.is_ahead(reading.server, every, early):
            return False
        if not self._warned:
            self._warned = True
            draft.warnings.append(
                f"the server's clock went back: by it, the last message on {draft.trigger.subject} was stored at "
                f"{rfc3339(stored.stored_at)}, and now it is {rfc3339(reading.server)}"
            )
        return True

    async def _store(self, trigger: Trigger, last: Last, stream: Stream) -> Receipt:
        headers = self.conditions(stream)
        if self._guard(last) == "compare-and-set" and not trigger.force:
            headers[EXPECTED_LAST] = str(last.stored.seq if last.stored else 0)
        headers = {**trigger.headers, **headers}
        seq, duplicate = await stream.publish(trigger, headers, known=last.stored is not None)
        return self._receipt(Outcome.DUPLICATE if duplicate else Outcome.PUBLISHED, seq, trigger, last, stream)

    def conditions(self, stream: Stream) -> dict[str, str]:
        """Return the headers that keep a message out of other streams.

        They also keep it out of the streams that copy it, so there are none where the stream is known to take the
        subject: no other stream of its account can. The acknowledgement names the stream in any case.
        """
        return {} if self._taken else {_EXPECTED_STREAM: stream.name}

    def _guard(self, last: Last) -> Guard:
        """Return what keeps the slot single."""
        return self._settings.guard if last.permitted else "msg-id"

    def _receipt(self, outcome: Outcome, seq: int | None, trigger: Trigger, last: Last, stream: Stream) -> Receipt:
        return Receipt(
            outcome=outcome,
            seq=seq,
            guard="none" if trigger.force else self._guard(last),
            server=str(stream.connection.server),
            warnings=() if trigger.force or last.stored else self._window_warning(),
        )

    def _window_warning(self) -> tuple[str, ...]:
        """Return a warning if the duplicate window is shorter than a slot and is the only protection of the slot.

        It is the only one without permission to read, and where there was no message to read, for example in a stream
        that removes consumed messages. There is no warning if the window is not known.
        """
        window = self._info.duplicate_window if self._info else None
        if window is None or window >= self._settings.every:
            return ()
        slot = format_duration(self._settings.every)
        return (f"{self._window(window)}, shorter than a slot ({slot}); {self._longer_window()}",)

    def _window(self, window: timedelta) -> str:
        return f"the duplicate window of stream {self._settings.stream} is {format_duration(window)}"

    def _longer_window(self) -> str:
        from crypto_trigger.settings.command_line import command_line

        return f"make it two slots long with: {command_line(self._settings, 'setup', '--update')}"
