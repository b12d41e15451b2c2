"""How slots are laid out in rows: as long as fits, at round times, every slot once and in its place."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crypto_trigger.monitoring.coverage import Entry, State
from crypto_trigger.monitoring.picture import Grid
from crypto_trigger.slots.trigger import Slot

QUICK = settings(max_examples=40)
DAY = timedelta(days=1)
START = datetime(2026, 11, 25, 2, 30, tzinfo=UTC)
EVERIES = st.one_of(
    st.sampled_from([1, 5, 10, 60, 300, 420, 900, 1200, 1800, 3600, 5400, 6 * 3600, 86400, 7 * 86400]),
    st.integers(1, 10**6),
).map(lambda seconds: timedelta(seconds=seconds))


def slots(every, count, start=START):
    first = Slot.containing(start, every)
    return [Entry(Slot(first.start + number * every, every), State.MISSED) for number in range(count)]


@pytest.mark.parametrize(
    ("every", "width", "row", "group"),
    [
        ("15m", 80, "12h", "1h"),
        ("15m", 200, "12h", "1h"),
        ("15m", 40, "6h", "1h"),
        ("1m", 80, "1h", "5m"),
        ("1h", 80, "24h", "4h"),
        ("1h", 40, "24h", "4h"),
        ("5m", 80, "4h", "30m"),
        ("24h", 80, "672h", "168h"),
        ("10s", 120, "10m", "1m"),
    ],
)
def test_rows_and_groups_are_round_times(every, width, row, group):
    from crypto_trigger.slots.times import duration

    grid = Grid.fitting(duration(every), width)
    assert grid.cells * grid.every == duration(row)
    assert grid.group * grid.every == duration(group)


def test_slots_that_divide_no_round_time_stand_in_no_groups():
    # Thirty slots are three and a half hours, and half an hour is not a whole number of slots.
    grid = Grid.fitting(timedelta(minutes=7), 39)
    assert (grid.cells, grid.group) == (30, 0)


@QUICK
@given(every=EVERIES, width=st.integers(1, 250), count=st.integers(1, 200), offset=st.integers(0, 10**7))
def test_every_slot_has_one_place_and_no_row_is_too_wide(every, width, count, offset):
    entries = slots(every, count, START + timedelta(seconds=offset))
    grid = Grid.fitting(every, width)
    assert grid.width <= width
    rows = list(grid.rows(entries))
    assert [entry for _, row in rows for entry in row if entry] == entries
    before = None
    for start, row in rows:
        assert len(row) <= grid.cells
        # Blanks stand for slots before the first one, and so in the first row only.
        assert before is None or None not in row
        for position, entry in enumerate(row):
            assert entry is None or entry.slot.start == start + position * every
        assert before is None or start == before + grid.cells * every
        assert len(grid.label(start, before)) <= grid.label_width
        before = start


@pytest.mark.parametrize("every", ["15m", "1m", "1h", "10s"])
def test_rows_begin_at_multiples_of_their_length(every):
    from crypto_trigger.slots.times import duration

    grid = Grid.fitting(duration(every), 80)
    length = grid.cells * grid.every
    midnight = START.replace(hour=0, minute=0)
    for start, _ in grid.rows(slots(grid.every, 300)):
        assert not (start - midnight) % min(length, DAY)


def test_rows_of_weeks_begin_on_a_monday():
    grid = Grid.fitting(DAY, 80)
    assert {start.strftime("%a") for start, _ in grid.rows(slots(DAY, 90))} == {"Mon"}


def test_the_date_is_written_where_it_changes():
    grid = Grid.fitting(timedelta(minutes=15), 80)
    starts = [start for start, _ in grid.rows(slots(grid.every, 150))]
    labels = [grid.label(start, before) for before, start in zip([None, *starts], starts, strict=False)]
    assert [label.split() for label in labels] == [
        ["Wed", "25", "Nov", "00:00"],
        ["12:00"],
        ["Thu", "26", "Nov", "00:00"],
        ["12:00"],
    ]
    assert len({len(label) for label in labels}) == 1
