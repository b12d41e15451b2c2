"""The configuration that a stream needs for one trigger per slot, and how an existing stream differs from it.

A configuration has the names and the units (nanoseconds) of the JetStream API. An existing stream may hold other
people's messages. So `mended` changes only what one trigger per slot needs; the rest is the owner's choice, and
`notes` lists it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, NamedTuple

from crypto_trigger.values import format_duration

Config = Mapping[str, Any]
# Messages of a stream that `setup` creates are kept this long, or for the duplicate window if that is longer.
_KEPT = timedelta(days=7)
_DURATIONS = ("max_age", "duplicate_window")
_LIMITS = ("max_msgs", "max_bytes", "max_msgs_per_subject", "max_msg_size")
_MOST_SUBJECTS_SHOWN = 5
_CONSUMED = "once a trigger is consumed, only the duplicate window protects its slot"
# The effect of an owner's choice on the triggers, where it is not obvious.
_EFFECTS = {
    ("retention", "workqueue"): _CONSUMED,
    ("retention", "interest"): f"without a consumer nothing is stored; {_CONSUMED}",
    ("storage", "memory"): "a server that stops loses the triggers",
    ("discard", "new"): "a full stream refuses triggers",
    ("persist_mode", "async"): "a trigger may be acknowledged before it is on disk",
}


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


def new(stream: str, subject: str, every: timedelta, replicas: int = 1) -> dict[str, Any]:
    """Return the configuration of a new stream. `every` is the length of a slot."""
    window = duplicate_window(every)
    return {
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


def properties(config: Config) -> dict[str, str]:
    """Return the configuration of a new stream as a person writes it, without the stream's name."""
    return {name: _show(name, value) for name, value in config.items() if name != "name"}


def mended(config: Config, subject: str, every: timedelta, replicas: int | None = None) -> dict[str, Any]:
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
    """Return how a configuration differs from its `mended` form, by name."""
    return tuple(
        Difference(name, _show(name, config.get(name)), _show(name, wanted[name]))
        for name in sorted(wanted)
        if config.get(name) != wanted[name]
    )


def notes(config: Config, subject: str, every: timedelta, replicas: int | None = None) -> tuple[Note, ...]:
    """Return the owner's choices by name: properties that differ from what `setup` creates, and are not changed."""
    created: dict[str, Any] = {
        **new("", subject, every),
        **dict.fromkeys(_LIMITS, -1),
        "discard": "old",
        "persist_mode": "default",
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


def takes(patterns: Sequence[str], subject: str) -> bool:
    """Tell whether one of a stream's subjects, wildcards included, takes the literal `subject`."""
    tokens = subject.split(".")
    return any(_matches(tokens, pattern.split(".")) for pattern in patterns)


def _matches(tokens: Sequence[str], pattern: Sequence[str]) -> bool:
    for position, part in enumerate(pattern):
        if part == ">":
            return len(tokens) > position
        if position >= len(tokens) or part not in ("*", tokens[position]):
            return False
    return len(tokens) == len(pattern)


def _show(name: str, value: Any) -> str:  # noqa: ANN401 - a value of the API's JSON
    if name in _DURATIONS:
        none = "unlimited" if name == "max_age" else "none"
        return format_duration(timedelta(microseconds=value / 1000)) if value else none
    if name == "no_ack" or isinstance(value, bool):
        return "on" if value else "off"
    if name in _LIMITS and value == -1:
        return "unlimited"
    if name == "subjects":
        subjects = list(value or ["none"])
        # The last one is always shown: an update adds the subject there.
        cut = len(subjects) - _MOST_SUBJECTS_SHOWN
        shown = [*subjects[: _MOST_SUBJECTS_SHOWN - 1], f"({cut} more)", subjects[-1]] if cut > 0 else subjects
        return ", ".join(map(str, shown))
    return "none" if value is None else str(value)


def _nanoseconds(length: timedelta) -> int:
    return length // timedelta(microseconds=1) * 1000
