"""Set up the stream that stores the triggers: create it, compare it, or change what one trigger per slot needs."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, assert_never

from crypto_trigger.connection.servers import Servers
from crypto_trigger.delivery import configuration
from crypto_trigger.delivery.stream import Stream
from crypto_trigger.errors import BrokerError, ConfigError, Fact, Interrupted, Status, Unusable
from crypto_trigger.settings.command_line import command_line
from crypto_trigger.settings.values import Delivery, format_size

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crypto_trigger.deadline.retry import Attempt, GaveUp
    from crypto_trigger.settings.load import Settings


# What to do about a refusal, by its `err_code`.
_REMEDIES = {
    configuration.TOO_MANY_STREAMS: "remove one, or store the triggers in an existing one: --stream NAME",
    configuration.STORAGE_FULL: "ask for less with --max-bytes, or raise the limits of the account or of the server",
    configuration.NO_TIER: "ask for another number with --replicas",
    configuration.TOO_MANY_BYTES: "ask for less with --max-bytes",
}


class Change(StrEnum):
    """What a setup did, or would do."""

    CREATED = "created"
    UNCHANGED = "unchanged"
    UPDATED = "updated"
    DIFFERS = "differs"
    WOULD_CREATE = "would-create"
    WOULD_UPDATE = "would-update"


@dataclass(frozen=True, slots=True)
class SetupResult:
    """The result of a setup: the change, and what was found.

    `differences` are properties that must change for one trigger per slot, `notes` properties that are the owner's
    choice, `created` the properties of a stream that was created, or would be. `hint` says what to do, if anything.
    """

    change: Change
    stream: str
    server: str
    differences: tuple[configuration.Difference, ...] = ()
    notes: tuple[configuration.Note, ...] = ()
    created: Mapping[str, str] = field(default_factory=dict)
    hint: str = ""

    @property
    def status(self) -> Status:
        """The exit status of `setup`."""
        match self.change:
            case Change.CREATED | Change.UNCHANGED | Change.UPDATED | Change.WOULD_CREATE | Change.WOULD_UPDATE:
                return Status.OK
            case Change.DIFFERS:
                return Status.CONFIG
            case _:
                assert_never(self.change)


class StreamSetup:
    """Creates the stream, or compares the existing one with what is needed; with `update`, changes what is needed.

    `replicas` None means one replica for a new stream, and no change to an existing one. `max_bytes` is the limit of a
    new stream, None for none; an existing one keeps its own. With `dry_run` nothing is changed, and the result says
    what would be. Each call makes one attempt.
    """

    def __init__(
        self,
        settings: Settings,
        replicas: int | None,
        max_bytes: int | None = None,
        *,
        update: bool,
        dry_run: bool = False,
    ) -> None:
        """Prepare credentials and certificates. Raises ConfigError where they do not fit, or set up nothing."""
        match settings.delivery:
            case Delivery.JETSTREAM:
                pass
            case Delivery.CORE | Delivery.STREAMING:
                raise ConfigError(
                    settings.source("delivery").problem(
                        "has nothing to set up: setup needs JetStream, CRYPTO_TRIGGER_DELIVERY=jetstream"
                    )
                )
            case _:
                assert_never(settings.delivery)
        self._settings = settings
        self._replicas = replicas
        self._max_bytes = max_bytes
        self._update = update
        self._dry_run = dry_run
        self._servers = Servers(settings)
        self._perhaps_changed = False

    async def __call__(self, attempt: Attempt) -> SetupResult:
        """Make one attempt. Raises a BrokerError."""
        async with self._servers.connect(attempt) as connection:
            stream = Stream(connection, self._settings)
            existing = await stream.config()
            if existing is None:
                return await self._create(stream)
            return await self._compare(stream, existing)

    def error(self, end: GaveUp) -> BrokerError | Interrupted:
        """Return one error for all attempts. After a signal it says whether the stream may have been changed."""
        error = end.error()
        if isinstance(error, Interrupted):
            stream = f"stream {self._settings.stream}"
            said = f"{stream} was not changed"
            if self._perhaps_changed:
                said = f"{stream} may have been changed; see with: {command_line(self._settings, 'setup')}"
            return Interrupted(end.signum, f"setup was {error.message}; {said}", perhaps=self._perhaps_changed)
        return error

    async def _create(self, stream: Stream) -> SetupResult:
        settings = self._settings
        config = configuration.new(
            settings.stream, settings.subject, settings.every, self._replicas or 1, self._max_bytes
        )
        if self._dry_run:
            if owner := await stream.owner(self._settings.subject):
                raise self._overlap(stream, owner)
            await self._check_limits(stream, config)
            change = Change.WOULD_CREATE
        else:
            await self._change(stream, "STREAM.CREATE", config)
            change = Change.CREATED
        return self._result(change, stream, created=configuration.properties(config))

    async def _compare(self, stream: Stream, existing: Mapping[str, Any]) -> SetupResult:
        settings = self._settings
        if obstacle := configuration.obstacle(existing, settings.every):
            raise Unusable(f"{stream.connection.server}: {obstacle.problem}", obstacle.remedy)
        wanted = configuration.fixed(existing, settings.subject, settings.every, self._replicas)
        differences = configuration.differences(existing, wanted)
        notes = configuration.notes(existing, settings.subject, settings.every, self._replicas, self._max_bytes)
        notes = tuple(sorted((*notes, *await self._copies(stream, existing))))
        if not differences:
            return self._result(Change.UNCHANGED, stream, notes=notes)
        if not self._update:
            hint = f"change it with: {self._command('--update')}"
            return self._result(Change.DIFFERS, stream, differences=differences, notes=notes, hint=hint)
        if self._dry_run:
            if wanted.get("subjects") != existing.get("subjects") and (owner := await stream.owner(settings.subject)):
                raise self._overlap(stream, owner)
            return self._result(Change.WOULD_UPDATE, stream, differences=differences, notes=notes)
        # Send the whole existing configuration: the server resets every field that an update leaves out.
        await self._change(stream, "STREAM.UPDATE", wanted)
        return self._result(Change.UPDATED, stream, differences=differences, notes=notes)

    def _result(self, change: Change, stream: Stream, **found: Any) -> SetupResult:  # noqa: ANN401 - SetupResult's
        return SetupResult(change, self._settings.stream, str(stream.connection.server), **found)

    async def _change(self, stream: Stream, endpoint: str, config: Mapping[str, object]) -> None:
        """Create or update the stream. Raises a BrokerError; Unusable if the server refuses the configuration."""
        self._perhaps_changed = True
        try:
            await stream.request(f"{endpoint}.{self._settings.stream}", config)
        except BrokerError as error:
            if error.fact == Fact.NO_PERMISSION or error.code:
                self._perhaps_changed = False
            # Here, a server error (5xx) that is not in the table is about the configuration.
            if not error.code or (error.retryable and error.fact != Fact.SERVER_ERROR):
                raise
            if error.fact == Fact.SUBJECTS_OVERLAP:
                raise self._overlap(stream, await stream.owner(self._settings.subject)) from error
            raise Unusable(
                f"{stream.connection.server}: JetStream refuses stream {self._settings.stream}: {error.said}",
                self._remedy(error.code),
                error.fact,
                error.said,
            ) from error

    async def _check_limits(self, stream: Stream, config: Mapping[str, Any]) -> None:
        """Raise Unusable if the account's limits are against a new stream, as far as that may be asked."""
        try:
            account = await stream.request("INFO", {})
        except BrokerError as error:
            if error.fact == Fact.NO_PERMISSION:
                return
            raise
        if over := configuration.over_limit(account, config):
            code, problem = over
            raise Unusable(f"{stream.connection.server}: {problem}", self._remedy(code), Fact.ACCOUNT_LIMIT)

    async def _copies(self, stream: Stream, existing: Mapping[str, Any]) -> tuple[configuration.Note, ...]:
        """Return notes about what copies the stream's messages and may refuse triggers, as far as that may be asked."""
        if self._settings.guard == "msg-id":
            return ()
        notes = configuration.copies(existing, self._settings.subject)
        version = stream.connection.version
        if not version or version >= configuration.MIRRORS_CHECK:
            return notes
        try:
            streams = await stream.configs()
        except BrokerError as error:
            if error.fact == Fact.NO_PERMISSION:
                return notes
            raise
        return (*notes, *configuration.copied_by(existing, streams, version))

    def _remedy(self, code: int) -> str:
        """Return what to do about a refusal with this `err_code`."""
        if code == configuration.BYTES_REQUIRED:
            enough = format_size(configuration.enough_bytes(self._settings.every))
            return f"give it one with: {self._command('--max-bytes', enough)}"
        return _REMEDIES.get(code, "change the option that asks for it, or create the stream with the nats CLI")

    def _command(self, *options: str) -> str:
        """Return the command line of a setup like this one, with `options`."""
        replicas = ("--replicas", str(self._replicas)) if self._replicas else ()
        return command_line(self._settings, "setup", *options, *replicas)

    def _overlap(self, stream: Stream, owner: str) -> Unusable:
        subject = self._settings.subject
        found = (
            f"stream {owner} takes the subject {subject}" if owner else f"another stream takes the subject {subject}"
        )
        remedy = stream.instead(owner) if owner else f"find it with: nats stream ls --subject {subject}"
        return Unusable(
            f"{stream.connection.server}: {found}",
            f"{remedy}, or choose another subject with --subject",
            Fact.SUBJECTS_OVERLAP,
        )
