"""Which slots have their trigger: held against sums of whole seconds that know nothing of datetimes."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st
from support.looking import EARLY, EVERY, look

from crypto_trigger.monitoring.coverage import Cadence, State
from crypto_trigger.slots.times import instant
from crypto_trigger.slots.trigger import Stored

QUICK = settings(max_examples=60)
# Midnight before the days on which clocks in Europe go forward and back, and an ordinary day. In seconds.
DAYS = [int(instant(f"{day}T00:00:00Z").timestamp()) for day in ("2026-03-29", "2026-10-25", "2026-11-23")]
ZONES = st.sampled_from([UTC, ZoneInfo("Europe/Berlin"), ZoneInfo("Australia/Lord_Howe"), ZoneInfo("Asia/Kathmandu")])


def moment(seconds):
    return datetime.fromtimestamp(seconds, UTC)


@st.composite
def histories(draw):
    """Triggers of two lengths of a slot, some late, early, doubled or by wrong clocks; a time, and what is looked at.

    All in whole seconds. A trigger is the second it was stored in and the second its `ce-time` names, or None.
    """
    day = draw(st.sampled_from(DAYS)) + draw(st.integers(0, 86400))
    old, every = draw(st.tuples(*2 * [st.sampled_from([60, 300, 420, EVERY, 3600])]))
    triggers = []
    for number in draw(st.lists(st.integers(0, 12), max_size=14)):
        slot = (day // old - number) * old
        at = slot + draw(st.sampled_from([-EARLY, -1, 0, 3, old // 3, old // 3 + 1, old - 1, old + 7]))
        off = draw(st.sampled_from([0, 0, 0, -7200, -600, 600, 7200]))
        triggers.append((at, draw(st.sampled_from([None, slot, slot + off]))))
    return triggers, day, every, draw(st.integers(1, 12)) * every, draw(st.integers(0, every))


@QUICK
@given(histories(), st.randoms(use_true_random=False), ZONES)
def test_no_order_gap_surplus_clock_cadence_or_zone_changes_which_slots_are_missed(history, random, zone):
    triggers, now, every, since, grace = history
    cadence = Cadence(timedelta(seconds=every), timedelta(seconds=EARLY), timedelta(seconds=grace))
    messages = [
        Stored(seq, moment(at), None if claimed is None else moment(claimed).astimezone(zone).isoformat())
        for seq, (at, claimed) in enumerate(triggers, 1)
    ]
    first = messages[0] if messages else None
    random.shuffle(messages)
    found = look(messages, first, moment(now).astimezone(zone), timedelta(seconds=since), cadence)
    # The sums: a trigger counts for the slot it names, but for none that was later than its storing.
    counts = [
        (min((at + EARLY) // every, (at + EARLY if claimed is None else claimed) // every), at)
        for at, claimed in triggers
    ]
    present = (now + EARLY) // every
    held = min((number for number, _ in counts), default=present)
    window = range(min(present, max(held, (now + EARLY - since) // every + 1)), present + 1)
    assert [entry.slot.start.timestamp() for entry in found] == [number * every for number in window]
    for entry, number in zip(found, window, strict=True):
        stored_at = [at for slot, at in counts if slot == number]
        assert (entry.trigger is not None) == bool(stored_at)
        assert entry.surplus == max(0, len(stored_at) - 1)
        if stored_at:
            late = stored_at[0] - number * every > grace
            assert entry.state is (State.LATE if late else State.TRIGGERED)
            assert entry.lateness == timedelta(seconds=stored_at[0] - number * every)
        elif number < present:
            assert entry.state is State.MISSED
        else:
            assert entry.state is (State.OVERDUE if now - number * every > grace else State.PENDING)
