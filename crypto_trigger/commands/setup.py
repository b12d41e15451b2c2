"""The result of `setup` as a line and as a JSON object."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, assert_never

if TYPE_CHECKING:
    from crypto_trigger.delivery.setup import SetupResult


def setup_line(setup: SetupResult) -> str:
    """Return the result of a setup for a person to read, with the notes about the owner's choices."""
    from crypto_trigger.delivery.setup import Change  # loaded already; a publish does not load it

    name = f"stream {setup.stream}"
    there = f"{name} on {setup.server}"
    created = ", ".join(f"{key} {value}" for key, value in setup.created.items())
    match setup.change:
        case Change.CREATED:
            line = f"{name} created on {setup.server}: {created}"
        case Change.WOULD_CREATE:
            line = f"dry run: {name} would be created on {setup.server}: {created}"
        case Change.UNCHANGED:
            line = f"{there} is as needed"
        case Change.UPDATED:
            line = f"{there} updated: {_differences(setup, 'was', 'is')}"
        case Change.WOULD_UPDATE:
            line = f"dry run: {there} would be updated: {_differences(setup, 'is', 'would be')}"
        case Change.DIFFERS:
            line = f"{there} differs: {_differences(setup, 'is', 'must be')}"
        case _:
            assert_never(setup.change)
    notes = ", ".join(
        f"{note.name} is {note.found}{f' ({note.effect})' if note.effect else ''}" for note in setup.notes
    )
    return f"{line}; left to its owner: {notes}" if notes else line


def _differences(setup: SetupResult, found: str, wanted: str) -> str:
    return "; ".join(
        f"{difference.name} {found} {difference.found}, {wanted} {difference.wanted}"
        for difference in setup.differences
    )


def setup_data(setup: SetupResult) -> dict[str, Any]:
    """Return the result of a setup as a JSON object; keys that do not apply are absent."""
    data = {
        "outcome": str(setup.change),
        "status": int(setup.status),
        "stream": setup.stream,
        "server": setup.server,
        "created": dict(setup.created),
        "differences": [difference._asdict() for difference in setup.differences],
        "notes": [{key: text for key, text in note._asdict().items() if text} for note in setup.notes],
        "hint": setup.hint,
    }
    return {key: value for key, value in data.items() if value not in ({}, [], "")}
