"""The configuration that a stream needs for one trigger per slot, and how an existing stream differs from it.

A configuration has the names and the units (nanoseconds) of the JetStream API. An existing stream may hold other
people's messages. So `fixed` changes only what one trigger per slot needs; the rest is the owner's choice, and
`notes` lists it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, NamedTuple

from crypto_trigger.settings.values import format_size
from crypto_trigger.slots.subjects import takes
from crypto_trigger.slots.times import format_duration

Config = Mapping[str, Any]
# Messages of a stream that `setup` creates are kept this long, or for the duplicate window if that is longer.
_KEPT = timedelta(days=7)
_DURATIONS = ("max_age", "duplicate_window")
_LIMITS = ("max_msgs", "max_bytes", "max_msgs_per_subject", "max_msg_size")
_MOST_SUBJECTS_SHOWN = 5
# A trigger takes about half of this in a stream, in bytes.
_TRIGGER = 1 << 10
_MEBIBYTE = 1 << 20
_CONSUMED = "once a trigger is consumed, only the duplicate window protects its slot"
# The effect of an owner's choice on the triggers, where it is not obvious.
_EFFECTS = {
    ("retention", "workqueue"): _CONSUMED,
    ("retention", "interest"): f"without a consumer nothing is stored; {_CONSUMED}",
    ("storage", "memory"): "a server that stops loses the triggers",
    ("discard", "new"): "a full stream refuses triggers",
    ("persist_mode", "async"): "a trigger may be acknowledged before it is on disk",
}


_LET_IN = "CRYPTO_TRIGGER_GUARD=msg-id lets them in"
# Before these versions of nats-server, a mirror obeys the conditions in a message's headers, and so does sourcing.
MIRRORS_CHECK, _SOURCING_CHECKS = (2, 11), (2, 10)
# The `err_code` of a stream that an account does not take (nats-server, `server/errors.json`).
TOO_MANY_STREAMS, STORAGE_FULL, BYTES_REQUIRED, NO_TIER, TOO_MANY_BYTES = 10027, 10047, 10113, 10120, 10122


class Difference(NamedTuple):
    """A property that must change for one trigger per slot: its value and the needed one, as a person writes them."""

    name: str
    found: str
    wanted: str


class Note(NamedTuple):
    """A property that differs from what `setup` creates: the owner's choice. `effect` is what it means for triggers."""

    name: str
    found: str
    created: str
    effect: str = ""


class Obstacle(NamedTuple):
    """Why a stream cannot have one trigger per slot, and what to do. `setup --update` may not change it."""

    problem: str
    remedy: str


def duplicate_window(every: timedelta) -> timedelta:
    """Return the shortest duplicate window: two slots, so that a retry at the end of a slot is still recognised."""
    return 2 * every


def new(stream: str, subject: str, every: timedelta, replicas: int = 1, max_bytes: int | None = None) -> dict[str, Any]:
    """Return the configuration of a new stream. `every` is the length of a slot, `max_bytes` None means no limit."""
    window = duplicate_window(every)
    config = {
        "name": stream,
        "subjects": [subject],
        "retention": "limits",
        "storage": "file",
        # The server takes no duplicate window that is longer than max_age (error 10052).
        "max_age": _nanoseconds(max(_KEPT, window)),
        "duplicate_window": _nanoseconds(window),
        "allow_direct": True,
        "num_replicas": replicas,
    }
    return config if max_bytes is None else {**config, "max_bytes": max_bytes}


def enough_bytes(every: timedelta) -> int:
    """Return a `max_bytes` that holds all triggers of a new stream, in whole mebibytes."""
    needed = max(_KEPT, duplicate_window(every)) // every * _TRIGGER
    return max(1, -(-needed // _MEBIBYTE)) * _MEBIBYTE


def properties(config: Config) -> dict[str, str]:
    """Return the configuration of a new stream as a person writes it, without the stream's name."""
    return {name: _show(name, value) for name, value in config.items() if name != "name"}


def fixed(config: Config, subject: str, every: timedelta, replicas: int | None = None) -> dict[str, Any]:
    """Return an existing configuration with the changes that one trigger per slot needs; the rest stays as it is.

    With `replicas` None the number of replicas stays as it is, too.
    """
    subjects = config.get("subjects") or []
    window = _nanoseconds(duplicate_window(every))
    needed: dict[str, Any] = {}
    if not takes(subjects, subject):
        needed["subjects"] = [*subjects, subject]
    if (config.get("duplicate_window") or 0) < window:
        needed["duplicate_window"] = window
    if config.get("no_ack"):
        needed["no_ack"] = False
    if replicas is not None and config.get("num_replicas") != replicas:
        needed["num_replicas"] = replicas
    return {**config, **needed}


def differences(config: Config, wanted: Config) -> tuple[Difference, ...]:
    """Return how a configuration differs from its `fixed` form, by name."""
    return tuple(
        Difference(name, _show(name, config.get(name)), _show(name, wanted[name]))
        for name in sorted(wanted)
        if config.get(name) != wanted[name]
    )


def notes(
    config: Config, subject: str, every: timedelta, replicas: int | None = None, max_bytes: int | None = None
) -> tuple[Note, ...]:
    """Return the owner's choices by name: properties that differ from what `setup` creates, and are not changed.

    `replicas` and `max_bytes` are what is asked for: the number of replicas is then not left to the owner.
    """
    created: dict[str, Any] = {
        **dict.fromkeys(_LIMITS, -1),
        "discard": "old",
        "persist_mode": "default",
        **new("", subject, every, max_bytes=max_bytes),
    }
    others = {"name", "subjects", "duplicate_window", *(("num_replicas",) if replicas is not None else ())}
    found = []
    for name, value in created.items():
        # The server leaves out a field that has its default value.
        present = config.get(name, False if value is True else value)
        if name not in others and present != value:
            shown = _show(name, present)
            found.append(Note(name, shown, _show(name, value), _EFFECTS.get((name, shown), "")))
    if config.get("sources"):
        names = ", ".join(str(source.get("name")) for source in config["sources"])
        effect = f"a message of theirs on {subject} counts as a trigger"
        found.append(Note("sources", names, "none", effect))
    transform = config.get("subject_transform") or {}
    if takes([transform.get("src") or ">"], subject) and transform.get("dest"):
        mapped = f"{transform.get('src') or '>'} to {transform['dest']}"
        found.append(Note("subject_transform", mapped, "none", f"{subject} is stored under another subject"))
    return tuple(sorted(found))


def copies(config: Config, subject: str) -> tuple[Note, ...]:
    """Return a note if the stream publishes the triggers again: other streams may take them, and obey their headers."""
    again = config.get("republish")
    if not isinstance(again, dict):
        return ()
    source, target = again.get("src") or ">", again.get("dest")
    if not takes([source], subject):
        return ()
    return (
        Note("republish", f"{source} to {target}", "none", f"a stream that takes it may refuse triggers: {_LET_IN}"),
    )


def copied_by(config: Config, streams: Sequence[Config], version: tuple[int, ...]) -> tuple[Note, ...]:
    """Return notes about those of `streams` (configurations) that copy this one and may refuse triggers.

    In newer versions than those that are compared here, copies within an account do not look at the headers.
    """
    mirrors = _names(other for other in streams if _is(config, other.get("mirror")))
    sourcing = _names(other for other in streams if any(_is(config, one) for one in other.get("sources") or ()))
    found = []
    if mirrors and version < MIRRORS_CHECK:
        found.append(Note("mirrored_by", mirrors, "none", f"a mirror may refuse triggers: {_LET_IN}"))
    if sourcing and version < _SOURCING_CHECKS:
        found.append(Note("source_of", sourcing, "none", f"it stops at a trigger that it refuses: {_LET_IN}"))
    return tuple(found)


def _is(config: Config, copied: Any) -> bool:  # noqa: ANN401 - a value of the API's JSON
    """Tell whether a mirror or a source is this stream, and not one of its name in another account or domain."""
    return isinstance(copied, dict) and copied.get("name") == config.get("name") and not copied.get("external")


def _names(streams: Iterable[Config]) -> str:
    return ", ".join(sorted(str(stream.get("name")) for stream in streams))


def over_limit(account: Config, config: Config) -> tuple[int, str] | None:
    """Return why an account takes no new stream with this configuration, or None if nothing is known against it.

    `account` is the answer to `$JS.API.INFO`. The reason is the `err_code` of the server's refusal (nats-server,
    `server/errors.json`), and words. A limit that is -1 or 0 is none, and other streams may use up what is left.
    """
    replicas, asked = config["num_replicas"], config.get("max_bytes") or 0
    if tiers := account.get("tiers"):
        if f"R{replicas}" not in tiers:
            return NO_TIER, f"the account has no limits for {replicas} replicas, only for {', '.join(sorted(tiers))}"
        account = tiers[f"R{replicas}"]
    limits = account.get("limits") or {}
    most, each = limits.get("max_streams") or 0, limits.get("storage_max_stream_bytes") or 0
    storage, reserved = limits.get("max_storage") or 0, account.get("reserved_storage") or 0
    if limits.get("max_bytes_required") and not asked:
        return BYTES_REQUIRED, "the account takes only streams with a limit of bytes (max_bytes)"
    if 0 < most <= (account.get("streams") or 0):
        return TOO_MANY_STREAMS, f"the account has all the streams that it may have, {most}"
    if 0 < each < asked:
        return TOO_MANY_BYTES, f"the account allows a stream {format_size(each)}, not {format_size(asked)} (max_bytes)"
    if 0 < storage < reserved + asked and asked:
        used = f", {format_size(reserved)} of it reserved" if reserved else ""
        return (
            STORAGE_FULL,
            f"the account has {format_size(storage)} of storage{used}, too little for {format_size(asked)}",
        )
    return None


def obstacle(config: Config, every: timedelta) -> Obstacle | None:
    """Return why an update by `setup` is not enough, or None if it is."""
    stream = config.get("name")
    elsewhere = "store the triggers in another stream: --stream NAME"
    if config.get("mirror"):
        return Obstacle(
            f"stream {stream} is a mirror of {config['mirror'].get('name')}: it takes no published messages", elsewhere
        )
    if config.get("sealed"):
        return Obstacle(f"stream {stream} is sealed: it takes no more messages", elsewhere)
    if config.get("allow_msg_counter"):
        return Obstacle(f"stream {stream} holds counters (allow_msg_counter) and takes no other message", elsewhere)
    window, max_age = duplicate_window(every), config.get("max_age") or 0
    if 0 < max_age < _nanoseconds(window) and (config.get("duplicate_window") or 0) < _nanoseconds(window):
        needed = format_duration(window)
        return Obstacle(
            f"stream {stream} needs a duplicate window of two slots ({needed}), which its max_age of "
            f"{_show('max_age', max_age)} does not allow",
            f"its owner can run: nats stream edit {stream} --max-age={needed}; or {elsewhere}",
        )
    return None


def subjects(config: Config) -> tuple[str, ...]:
    """Return the subjects of a configuration, as far as they are texts."""
    found = config.get("subjects")
    return tuple(pattern for pattern in found if isinstance(pattern, str)) if isinstance(found, list) else ()


def _show(name: str, value: Any) -> str:  # noqa: ANN401 - a value of the API's JSON
    if name in _DURATIONS:
        none = "unlimited" if name == "max_age" else "none"
        return format_duration(timedelta(microseconds=value / 1000)) if value else none
    if name == "no_ack" or isinstance(value, bool):
        return "on" if value else "off"
    if name in _LIMITS and value == -1:
        return "unlimited"
    if name == "max_bytes" and isinstance(value, int):
        return format_size(value)
    if name == "subjects":
        subjects = list(value or ["none"])
        # The last one is always shown: an update adds the subject there.
        cut = len(subjects) - _MOST_SUBJECTS_SHOWN
        shown = [*subjects[: _MOST_SUBJECTS_SHOWN - 1], f"({cut} more)", subjects[-1]] if cut > 0 else subjects
        return ", ".join(map(str, shown))
    return "none" if value is None else str(value)


def _nanoseconds(length: timedelta) -> int:
    return length // timedelta(microseconds=1) * 1000
