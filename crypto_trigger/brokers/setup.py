"""Set up the stream that stores the triggers: create it, compare it, reconcile it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from crypto_trigger.brokers.servers import Servers
from crypto_trigger.brokers.stream import NANOSECONDS, Stream
from crypto_trigger.errors import BrokerError, ConfigError, Fact, Unusable
from crypto_trigger.values import Delivery, format_duration

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crypto_trigger.retry import Attempt
    from crypto_trigger.settings import Settings

MAX_AGE = timedelta(days=7)


class Change(StrEnum):
    """What `set_up` came to."""

    CREATED = "created"
    UNCHANGED = "unchanged"
    UPDATED = "updated"
    DIFFERS = "differs"


@dataclass(frozen=True, slots=True)
class Difference:
    """One property of an existing stream that is not as wanted, both values as a person writes them."""

    name: str
    found: str
    wanted: str

    def __str__(self) -> str:
        return f"{self.name} is {self.found}, wanted {self.wanted}"


@dataclass(frozen=True, slots=True)
class Setup:
    """What became of the stream: the change made, and the differences that were found."""

    change: Change
    stream: str
    server: str
    differences: tuple[Difference, ...] = ()


class SetUp:
    """Creates the stream, or compares the one there is with what is wanted; with `update`, reconciles it.

    `replicas` None means one on creation, and as it is afterwards. Call it for one attempt.
    """

    def __init__(self, settings: Settings, replicas: int | None, *, update: bool) -> None:
        """Prepare credentials and certificates. Raises ConfigError where they do not fit, or set up nothing."""
        if settings.delivery is not Delivery.JETSTREAM:
            raise ConfigError(
                settings.source("delivery").problem(
                    "has nothing to set up: setup needs JetStream, CRYPTO_TRIGGER_DELIVERY=jetstream"
                )
            )
        self._settings = settings
        self._replicas = replicas
        self._update = update
        self._servers = Servers(settings)

    async def __call__(self, attempt: Attempt) -> Setup:
        """Make one attempt. Raises a BrokerError."""
        settings = self._settings
        async with self._servers.connect(attempt) as connection:
            stream = Stream(connection, settings)
            wanted = _wanted(settings, self._replicas)
            server = str(connection.server)
            existing = await stream.config()
            if existing is None:
                config = {"num_replicas": 1, "subjects": [settings.subject], **wanted}
                await _change(stream, f"STREAM.CREATE.{settings.stream}", config)
                return Setup(Change.CREATED, settings.stream, server)
            differences = _differences(existing, wanted, settings.subject)
            if not differences:
                return Setup(Change.UNCHANGED, settings.stream, server)
            if not self._update:
                return Setup(Change.DIFFERS, settings.stream, server, differences)
            subjects = existing.get("subjects") or []
            if not _covered(settings.subject, subjects):
                subjects = [*subjects, settings.subject]
            # The whole existing configuration goes back: the server resets whatever an update leaves out.
            await _change(stream, f"STREAM.UPDATE.{settings.stream}", {**existing, **wanted, "subjects": subjects})
            return Setup(Change.UPDATED, settings.stream, server, differences)


def _wanted(settings: Settings, replicas: int | None) -> dict[str, Any]:
    """Return the part of a stream's configuration that is ours to decide, in the API's units (nanoseconds)."""
    return {
        "name": settings.stream,
        "retention": "limits",
        "storage": "file",
        "max_age": _nanoseconds(MAX_AGE),
        # Two slots: a run that is retried at the end of its slot is still recognised. Never above max_age (10052).
        "duplicate_window": _nanoseconds(min(2 * settings.every, MAX_AGE)),
        "allow_direct": True,
        "no_ack": False,
        **({"num_replicas": replicas} if replicas else {}),
    }


def _differences(existing: Mapping[str, Any], wanted: Mapping[str, Any], subject: str) -> tuple[Difference, ...]:
    found = []
    if not _covered(subject, existing.get("subjects") or []):
        found.append(Difference("subjects", _show("subjects", existing.get("subjects")), f"{subject} among them"))
    for name in wanted.keys() - {"name"}:
        # The server leaves out what is false or zero.
        value = existing.get(name, type(wanted[name])())
        if value != wanted[name]:
            found.append(Difference(name, _show(name, value), _show(name, wanted[name])))
    return tuple(sorted(found, key=lambda difference: difference.name))


def _show(name: str, value: Any) -> str:  # noqa: ANN401 - a value of the API's JSON
    if name in ("max_age", "duplicate_window"):
        return format_duration(timedelta(seconds=value / NANOSECONDS)) if value else "unlimited"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "none" if value is None else str(value)


def _covered(subject: str, patterns: list[str]) -> bool:
    """Tell whether one of a stream's subjects, wildcards included, takes `subject`."""
    tokens = subject.split(".")
    return any(_matches(tokens, pattern.split(".")) for pattern in patterns)


def _matches(tokens: list[str], pattern: list[str]) -> bool:
    for position, part in enumerate(pattern):
        if part == ">":
            return len(tokens) > position
        if position >= len(tokens) or part not in ("*", tokens[position]):
            return False
    return len(tokens) == len(pattern)


async def _change(stream: Stream, endpoint: str, config: Mapping[str, object]) -> None:
    """Create or update; what the server refuses for good is a matter of configuration, in the server's own words."""
    try:
        await stream.request(endpoint, config)
    except BrokerError as error:
        if not error.said or (error.retryable and error.fact is not Fact.SERVER_ERROR):
            raise
        hint = "change the setting that asks for it, or the stream with the nats CLI"
        raise Unusable(
            f"{stream.connection.server}: JetStream refuses: {error.said}", hint, error.fact, error.said
        ) from error


def _nanoseconds(length: timedelta) -> int:
    return length // timedelta(microseconds=1) * 1000
