"""Draw a history: a strip of slots, the totals, and what is worth a look. Pure: makes lines of styled text."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple, Self, assert_never

from crypto_trigger.monitoring.coverage import Entry, State, known_since, runs
from crypto_trigger.monitoring.history import UNKNOWN
from crypto_trigger.reporting.spans import Line, Span, Style
from crypto_trigger.settings.masking import escaped
from crypto_trigger.slots.times import approximate, format_duration
from crypto_trigger.slots.trigger import source

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from crypto_trigger.monitoring.coverage import Entry
    from crypto_trigger.monitoring.history import History

# The most slots or publishers that are named in one line.
_MOST_NAMED = 8
_LONGEST_SOURCE = 60
# From this width on, the facts are in two columns; the first one is so wide.
_WIDE = 60
_NAME_WIDTH = 14
_MINUTE, _DAY = timedelta(minutes=1), timedelta(days=1)
_BETWEEN = "   "


def picture(history: History, width: int, *, ascii_only: bool = False) -> list[Line]:
    """Return the lines of the picture, none wider than `width` columns.

    `ascii_only` is for terminals that cannot show other marks.
    """
    lines: list[Line] = [*_head(history, width), ()]
    lines += _strip(history, width, ascii_only=ascii_only)
    lines += [(), *_legend(history, width, ascii_only=ascii_only), ()]
    for name, text, style in _facts(history):
        lines += _paragraph(name, text, width, style)
    return [_cut(line, width) for line in lines]


def mark(state: State, *, ascii_only: bool = False) -> str:
    """Return the mark of a state. Each can be told from the others without color."""
    match state:
        case State.TRIGGERED:
            return "#" if ascii_only else "■"
        case State.LATE:
            return "L" if ascii_only else "▲"
        case State.MISSED:
            return "x" if ascii_only else "×"
        case State.OVERDUE:
            return "!"
        case State.PENDING:
            return "." if ascii_only else "·"
        case State.UNKNOWN:
            return "?"
        case _:
            assert_never(state)


MARKS = "".join(map(mark, State))


def _head(history: History, width: int) -> Iterator[Line]:
    what = _ascii(f"{history.subject} in stream {history.stream}")
    when = f"{span(history.since)} until {history.now:%a %d %b %Y %H:%M} UTC"
    yield from ((Span(line, Style.TITLE),) for line in _wrapped(what, width))
    yield from (
        (Span(line, Style.FAINT),) for line in _wrapped(f"{when}, in slots of {span(history.cadence.every)}", width)
    )


def _strip(history: History, width: int, *, ascii_only: bool) -> Iterator[Line]:
    grid = Grid.fitting(history.cadence.every, width)
    if ruler := _ruler(grid):
        yield (Span(ruler, Style.FAINT),)
    before = None
    for start, row in grid.rows(history.entries):
        label = grid.label(start, before)
        before = start
        yield (Span(label, Style.FAINT), *_cells(row, grid, ascii_only=ascii_only))


def _cells(row: Sequence[Entry | None], grid: Grid, *, ascii_only: bool) -> Iterator[Span]:
    """Yield the marks of a row, those of one style that stand side by side as one."""

    def drawn(position: int) -> Span:
        entry = row[position]
        blank = " " if grid.group and position and position % grid.group == 0 else ""
        if entry is None:
            return Span(blank + " ")
        return Span(blank + mark(entry.state, ascii_only=ascii_only), Style(entry.state))

    for style, spans in groupby(map(drawn, range(len(row))), key=lambda span: span.style):
        yield Span("".join(span.text for span in spans), style)


def _ruler(grid: Grid) -> str:
    """Return the line above the strip: how long after the start of its row each group begins."""
    if not grid.group:
        return ""
    offsets = [f"+{format_duration(grid.group * number * grid.every)}" for number in range(grid.cells // grid.group)]
    if max(map(len, offsets)) > grid.group:
        return ""
    return (" " * grid.label_width + " ".join(offset.ljust(grid.group) for offset in ["", *offsets[1:]])).rstrip()


def _legend(history: History, width: int, *, ascii_only: bool) -> Iterator[Line]:
    """Yield the marks that occur, with their words and numbers, as many in a line as there is room for."""
    counted = [(state, history.counts[state]) for state in State if history.counts.get(state)]
    parts: list[Line] = [
        (Span(mark(state, ascii_only=ascii_only), Style(state)), Span(f" {count} {state}")) for state, count in counted
    ]
    parts.append((Span(f"of {len(history.entries)} slots", Style.FAINT),))
    line: Line = ()
    for part in parts:
        if line and _width(line) + len(_BETWEEN) + _width(part) > width:
            yield line
            line = ()
        line = (*line, Span(_BETWEEN), *part) if line else part
    yield line


def _cut(line: Line, width: int) -> Line:
    """Return what fits of a line; only a terminal of a few columns cuts any."""
    if _width(line) <= width:
        return line
    spans = []
    for text, style in line:
        spans.append(Span(text[:width], style))
        width -= len(spans[-1].text)
    return tuple(spans)


def _width(line: Line) -> int:
    return sum(len(span.text) for span in line)


def _facts(history: History) -> Iterator[tuple[str, str, Style]]:
    """Yield the name, the text and the style of each fact that is worth a line."""
    found, every = history.entries, history.cadence.every
    for state, style in ((State.MISSED, Style.MISSED), (State.OVERDUE, Style.OVERDUE)):
        calendar = _Calendar(every)
        spans = list(runs([entry.slot.start for entry in found if entry.state is state], every))
        if spans:
            yield str(state), _listed([calendar.run(*span) for span in spans[-_MOST_NAMED:]], len(spans)), style
    if unknown := history.counts.get(State.UNKNOWN):
        since = known_since(found)
        before = f" before {_Calendar(every).moment(since.start)}" if since else ""
        text = f"{unknown} slot{'s' if unknown > 1 else ''}{before}: the stream {history.memory.loss}"
        yield "unknown", text, Style.UNKNOWN
    for name, chosen, say in (
        ("late", [entry for entry in found if entry.state is State.LATE], _by),
        ("surplus", [entry for entry in found if entry.surplus], _more),
        ("claimed", [entry for entry in found if history.claimed(entry)], partial(_claim, history)),
    ):
        calendar = _Calendar(every)
        if chosen:
            texts = [calendar.moment(entry.slot.start) + say(entry, calendar) for entry in chosen[-_MOST_NAMED:]]
            yield name, _listed(texts, len(chosen)), Style.LATE if name == "late" else Style.PLAIN
    if early := [-entry.lateness for entry in found if entry.lateness and entry.lateness < timedelta(0)]:
        yield "early", f"{len(early)}, up to {short(max(early))} before the slot", Style.PLAIN
    if lateness := history.lateness:
        text = f"p50 {short(lateness.p50)}, p99 {short(lateness.p99)}, max {short(lateness.most)}"
        yield "lateness", text, Style.PLAIN
    calendar = _Calendar(every)
    start, end = calendar.moment(history.gap.start), calendar.moment(history.gap.end)
    yield "longest gap", f"{short(history.gap.length)}, from {start} to {end}", Style.PLAIN
    if history.sources:
        texts = [f"{_name(name)} ({count})" for name, count in history.sources.items()]
        yield "published by", _listed(texts[:_MOST_NAMED], len(texts), "more"), Style.PLAIN


class _Calendar:
    """Writes times, in UTC, with the date only where it changes."""

    def __init__(self, every: timedelta) -> None:
        self._every = every
        self._date: str | None = None

    def moment(self, moment: datetime) -> str:
        date, time = f"{moment:%a %d %b}", f"{moment:%H:%M}" if not self._every % _MINUTE else f"{moment:%H:%M:%S}"
        known, self._date = self._date, date
        return time if date == known else f"{date} {time}"

    def run(self, first: datetime, last: datetime) -> str:
        """Return the starts of the first and the last slot of a run, and how many slots it has."""
        if first == last:
            return self.moment(first)
        count = (last - first) // self._every + 1
        return f"{self.moment(first)} to {self.moment(last)} ({count} slots)"


def _by(entry: Entry, _: _Calendar) -> str:
    return f" by {short(entry.lateness)}" if entry.lateness is not None else ""


def _more(entry: Entry, _: _Calendar) -> str:
    return f" ({entry.surplus} more)"


def _claim(history: History, entry: Entry, calendar: _Calendar) -> str:
    """Return the slot that a trigger claims to be for, and who published it."""
    claimed = history.claimed(entry)
    if claimed is None or entry.trigger is None:
        return ""
    return f" as {calendar.moment(claimed.start)} by {_name(source(entry.trigger) or UNKNOWN)}"


def _name(of: str) -> str:
    """Return the name of a publisher, cut if it is long."""
    said = _ascii(of)
    return said if len(said) <= _LONGEST_SOURCE else said[:_LONGEST_SOURCE] + "..."


def _listed(texts: Sequence[str], count: int, rest: str = "earlier") -> str:
    """Return the texts as a list; `count` is how many there would be, and `rest` what the others are."""
    return ", ".join(texts) + (f", and {count - len(texts)} {rest}" if count > len(texts) else "")


def short(length: timedelta) -> str:
    """Return a length of time with about two digits: `412ms`, `3.1s`, `7m2s`."""
    if length < timedelta(0):
        return f"-{short(-length)}"
    seconds = length.total_seconds()
    return f"{seconds * 1000:.0f}ms" if seconds < 1 else approximate(length)


def span(length: timedelta) -> str:
    """Return a length of time as `format_duration` does, but two days and more in days: `7d`."""
    return f"{length // _DAY}d" if length >= 2 * _DAY and not length % _DAY else format_duration(length)


def _paragraph(name: str, text: str, width: int, style: Style) -> Iterator[Line]:
    """Yield a name and a text beside it, in lines of at most `width` columns."""
    indent = _NAME_WIDTH if width >= _WIDE else min(2, width - 1)
    first, *rest = _wrapped(f"{name.ljust(_NAME_WIDTH - 1 if width >= _WIDE else 0)} {text}", width, indent)
    yield Span(first[: len(name)], style), Span(first[len(name) :])
    yield from ((Span(line),) for line in rest)


def _wrapped(text: str, width: int, indent: int = 0) -> list[str]:
    """Return lines of at most `width` columns."""
    return textwrap.wrap(text, width, subsequent_indent=" " * indent, break_on_hyphens=False)


def _ascii(text: str) -> str:
    """Return a text of others as ASCII without control characters: each letter is one column wide."""
    return escaped(text).encode("ascii", "backslashreplace").decode()


# No `from __future__ import annotations` here: a named tuple would compile each field's annotation from its text, on
# every run.


# The most slots in a row: half a day at 15 minutes has 48, an hour at one minute 60.
_MOST = 60
# The fewest slots that stand together.
_LEAST_GROUP = 4
_DAY = timedelta(days=1)
_MINUTE = timedelta(minutes=1)
# A Monday, so that rows of weeks begin on one.
_EPOCH = datetime(1970, 1, 5, tzinfo=UTC)
# Rows and groups are one of these long, so that they begin at round times.
_ROUND = tuple(
    timedelta(seconds=seconds)
    for seconds in (
        *(10, 15, 30, 60, 120, 300, 600, 900, 1800),
        *(hours * 3600 for hours in (1, 2, 3, 4, 6, 12)),
        *(days * 86400 for days in (1, 7, 28)),
    )
)
# What is said of a row's start, from the longest to none.
_DATES = ("%a %d %b", "%d %b", "%d", "")


class Grid(NamedTuple):
    """How slots stand in rows: `cells` in a row, in groups of `group` cells with a blank between them.

    `date` and `time` are the formats of the label (strftime); both are empty where there is no room for one.
    """

    every: timedelta
    cells: int
    group: int
    date: str
    time: str

    @classmethod
    def fitting(cls, every: timedelta, width: int) -> Self:
        """Return the grid with the longest rows that fit `width` columns: groups come before long labels."""
        for cells in _lengths(every):
            for group in _groups(every, cells):
                for date in _DATES:
                    grid = cls(every, cells, group, date, _time_format(every, cells) if date else "")
                    if grid.width <= width:
                        return grid
        return cls(every, max(1, min(width, _MOST)), 0, "", "")

    @property
    def label_width(self) -> int:
        """The width of a row's label, with the blanks after it."""
        if not self.date:
            return 0
        blanks = 1 if self.date == "%d" else 2
        return len(" ".join(filter(None, (_EPOCH.strftime(self.date), _EPOCH.strftime(self.time))))) + blanks

    @property
    def width(self) -> int:
        """The width of a row."""
        return self.label_width + self.cells + ((self.cells - 1) // self.group if self.group else 0)

    def label(self, start: datetime, before: datetime | None) -> str:
        """Return the label of the row that begins at `start`; the date only if the row `before` has another one."""
        if not self.date:
            return ""
        date, time = start.strftime(self.date), start.strftime(self.time)
        if before and before.date() == start.date() and time:
            date = " " * len(date)
        return " ".join(filter(None, (date, time))).ljust(self.label_width)

    def rows(self, entries: Sequence[Entry]) -> Iterator[tuple[datetime, list[Entry | None]]]:
        """Yield the start and the slots of each row; None stands for a slot before the first entry."""
        row: list[Entry | None] = []
        start, before = _EPOCH, None
        for entry in entries:
            number, cell = divmod((entry.slot.start - _EPOCH) // self.every, self.cells)
            if number != before:
                if row:
                    yield start, row
                start, before = entry.slot.start - cell * self.every, number
                row = [None] * cell
            row.append(entry)
        if row:
            yield start, row


def _lengths(every: timedelta) -> list[int]:
    """Return how many slots a row may have, the most first."""
    found = {int(length / every) for length in _ROUND if not length % every}
    fitting = sorted((cells for cells in found if 1 < cells <= _MOST), reverse=True)
    # A slot that divides no round time is counted in tens.
    return fitting or [50, 40, 30, 20, 10, 5]


def _groups(every: timedelta, cells: int) -> list[int]:
    """Return how many slots may stand together, the fewest first; 0 stands for no groups."""
    dividing = (length for length in _ROUND if not (length % every or cells * every % length))
    found = {int(length / every) for length in dividing}
    return [*sorted(group for group in found if _LEAST_GROUP <= group < cells), 0]


def _time_format(every: timedelta, cells: int) -> str:
    if not cells * every % _DAY:
        return ""
    return "%H:%M:%S" if every % _MINUTE else "%H:%M"
