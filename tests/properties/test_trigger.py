"""Every moment is in one slot, whatever the time zone."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st

from crypto_trigger.slots.trigger import Slot

# Offsets of a half and a quarter hour, and days that a clock skips or repeats.
ZONES = st.sampled_from(
    [UTC, *map(ZoneInfo, ("Europe/Berlin", "America/St_Johns", "Asia/Kathmandu", "Australia/Lord_Howe"))]
)
# Hypothesis would look for the changes of every zone, which takes longer than the test.
MOMENTS = st.builds(
    lambda wall, zone, fold: wall.replace(tzinfo=zone, fold=fold),
    st.datetimes(datetime(1970, 1, 2), datetime(2100, 1, 1)),  # noqa: DTZ001 - a strategy's bounds
    ZONES,
    st.sampled_from([0, 1]),
)
PERIODS = st.sampled_from(
    [timedelta(seconds=1), timedelta(seconds=7), timedelta(minutes=1), timedelta(minutes=15), timedelta(hours=5)]
)


@settings(max_examples=30)
@given(MOMENTS, PERIODS, st.timedeltas(timedelta(0), timedelta(days=1)), ZONES)
def test_every_moment_is_in_one_slot_whatever_the_time_zone(moment, every, later, zone):
    slot = Slot.containing(moment, every)
    assert slot.start.utcoffset() == timedelta(0)
    assert slot.start.timestamp() % every.total_seconds() == 0
    assert slot.start <= moment.astimezone(UTC) < slot.start + every
    assert Slot.containing(moment.astimezone(zone), every) == slot
    # By the world's clock, not the wall's, which may go back.
    assert Slot.containing(moment.astimezone(UTC) + later, every).start >= slot.start
