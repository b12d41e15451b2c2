"""Show a history: as a picture on a terminal and in an SVG file, as a JSON object, or as a line for each slot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crypto_trigger.deadline.files import STDOUT, own_descriptor, put, reason
from crypto_trigger.errors import ConfigError, Usage
from crypto_trigger.monitoring.coverage import State, known_since
from crypto_trigger.settings.masking import shown_path
from crypto_trigger.slots.times import rfc3339_milliseconds
from crypto_trigger.slots.trigger import source

if TYPE_CHECKING:
    from datetime import timedelta

    from crypto_trigger.monitoring.coverage import Entry
    from crypto_trigger.monitoring.history import History
    from crypto_trigger.reporting.terminal import Output

# The columns of a picture that is not for a terminal.
_SVG_WIDTH = 80


def show_history(history: History, output: Output, svg: str | None, warning: str = "") -> None:
    """Print a history, and write its picture to the file `svg`. Raises ConfigError if the file cannot be written.

    `warning` is what to know of the whole of it, or empty.
    """
    if warning:
        output.warn(warning)
    if svg is not None:
        _write_svg(history, output, svg)
        if own_descriptor(svg) == STDOUT:
            return
    if output.as_json:
        output.answer("", history_data(history) | ({"warnings": [warning]} if warning else {}))
    elif width := output.canvas:
        from crypto_trigger.monitoring.picture import MARKS, picture

        output.picture(picture(history, width, ascii_only=not output.takes(MARKS)), width)
    else:
        output.answer(history_text(history), {})


def refuse_two_answers(svg: str) -> None:
    """Raise Usage for a picture that would go to stdout beside the JSON object."""
    if own_descriptor(svg) == STDOUT:
        raise Usage(f"--svg '{shown_path(svg)}' is stdout, where --json has its answer: leave one of the two out")


def _write_svg(history: History, output: Output, path: str) -> None:
    from crypto_trigger.monitoring.picture import picture, span

    title = f"crypto-trigger history --since {span(history.since)}"
    drawn = output.svg(picture(history, _SVG_WIDTH), _SVG_WIDTH, title)
    try:
        put(path, drawn.encode(), output.seconds_left)
    except (OSError, ValueError, OverflowError) as error:
        raise ConfigError(f"--svg '{shown_path(path)}' cannot be written: {reason(error)}") from None


def history_text(history: History) -> str:
    """Return a line for each slot: its start, its state and, if it has a trigger, what is known of that."""
    return "\n".join(_slot_line(history, entry) for entry in history.entries)


def history_data(history: History) -> dict[str, Any]:
    """Return a history as a JSON object; keys that do not apply are absent."""
    lateness = history.lateness
    totals = {
        "slots": len(history.entries),
        **{str(state): history.counts.get(state, 0) for state in State},
        "surplus": history.surplus,
        "lateness_p50_seconds": lateness and _seconds(lateness.p50),
        "lateness_p99_seconds": lateness and _seconds(lateness.p99),
        "lateness_max_seconds": lateness and _seconds(lateness.most),
        "longest_gap_seconds": _seconds(history.gap.length),
        "sources": dict(history.sources),
    }
    since = known_since(history.entries)
    return {
        **({"known_since": str(since)} if since else {}),
        "slots": [_slot_data(history, entry) for entry in history.entries],
        "totals": {key: value for key, value in totals.items() if value is not None},
    }


def _slot_data(history: History, entry: Entry) -> dict[str, Any]:
    data: dict[str, Any] = {"start": str(entry.slot), "state": str(entry.state)}
    if entry.trigger and entry.lateness is not None:
        data |= {
            "stored": rfc3339_milliseconds(entry.trigger.stored_at),
            "lateness_seconds": _seconds(entry.lateness),
            "seq": entry.trigger.seq,
        }
        if name := source(entry.trigger):
            data["source"] = name
    data["surplus"] = entry.surplus
    if claimed := history.claimed(entry):
        data["claimed"] = str(claimed)
    return data


def _slot_line(history: History, entry: Entry) -> str:
    words = [str(entry.slot), f"{entry.state:<9}"]
    if entry.trigger and entry.lateness is not None:
        words += [f"{_seconds(entry.lateness):>+9.3f}s", f"sequence {entry.trigger.seq}"]
        words += filter(None, [source(entry.trigger)])
    if entry.surplus:
        words.append(f"surplus {entry.surplus}")
    if claimed := history.claimed(entry):
        words.append(f"claims {claimed}")
    return " ".join(words).rstrip()


def _seconds(length: timedelta) -> float:
    return round(length.total_seconds(), 3)
