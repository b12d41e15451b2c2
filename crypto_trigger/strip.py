"""Lay slots out in rows that fit a terminal: how many in a row, and in what groups. Pure."""

# No `from __future__ import annotations` here: a named tuple would compile each field's annotation from its text, on
# every run.

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, Self

from crypto_trigger.freshness import Entry

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
