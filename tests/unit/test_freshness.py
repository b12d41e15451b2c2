"""Which slots have their trigger, and which are late, missed, overdue or pending."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from support.looking import EARLY, HOUR, NOW, QUARTER, look

from crypto_trigger.monitoring.coverage import MOST_SLOTS, Entry, State, Window, check_since, entries
from crypto_trigger.slots.contents import Memory
from crypto_trigger.slots.times import instant, rfc3339
from crypto_trigger.slots.trigger import Slot, Stored


def stored(seq, text, claimed=None, **more):
    return Stored(seq, instant(f"2026-11-23T{text}Z"), claimed and f"2026-11-23T{claimed}Z", **more)


def states(found):
    return {str(entry.slot)[11:16]: entry.state.value for entry in found}


def test_an_hour_has_four_slots_of_a_quarter_of_an_hour():
    found = look([stored(n, f"{at}:03") for n, at in enumerate(("17:15", "17:30", "17:45", "18:00"), 1)])
    assert states(found) == dict.fromkeys(("17:15", "17:30", "17:45", "18:00"), "triggered")
    assert [entry.trigger.seq for entry in found] == [1, 2, 3, 4]
    assert {entry.lateness for entry in found} == {timedelta(seconds=3)}


@pytest.mark.parametrize(
    ("now", "first", "present"),
    [
        ("17:59:54", "17:00", "17:45"),
        # From here on, a run is for the next slot.
        ("17:59:55", "17:15", "18:00"),
        ("18:00:00", "17:15", "18:00"),
        ("18:14:54", "17:15", "18:00"),
    ],
)
def test_the_window_goes_by_the_slot_that_a_run_would_stand_for(now, first, present):
    window = Window.before(instant(f"2026-11-23T{now}Z"), HOUR, QUARTER)
    assert (str(window.first)[11:16], str(window.present)[11:16]) == (first, present)
    assert window.stored_from(QUARTER) == window.first.start - QUARTER.early


def test_the_present_slot_is_looked_at_even_if_it_began_before_the_window():
    assert states(look([stored(1, "18:00:01")], since=timedelta(seconds=1))) == {"18:00": "triggered"}


@pytest.mark.parametrize(
    ("now", "state"),
    [("18:00:00", "pending"), ("18:05:00", "pending"), ("18:05:01", "overdue"), ("18:15:00", "missed")],
)
def test_a_slot_without_a_trigger_is_pending_then_overdue_then_missed(now, state):
    found = look([stored(1, "17:45:01")], now=instant(f"2026-11-23T{now}Z"))
    assert states(found)["18:00"] == state


@pytest.mark.parametrize(
    ("at", "state"), [("17:44:55", "triggered"), ("17:50:00", "triggered"), ("17:50:01", "late"), ("18:03:00", "late")]
)
def test_a_trigger_is_late_if_it_was_stored_after_the_grace(at, state):
    found = look([stored(1, "17:30:01"), stored(2, at, "17:45:00")])
    assert states(found)["17:45"] == state


def test_slots_before_the_first_trigger_that_is_held_are_not_missed():
    assert states(look([stored(7, "17:46:00")])) == {"17:45": "triggered", "18:00": "pending"}


def test_a_first_trigger_before_the_window_makes_every_slot_since_then_count():
    found = look([], first=stored(1, "09:00:00"))
    assert states(found) == {"17:15": "missed", "17:30": "missed", "17:45": "missed", "18:00": "pending"}


def test_without_any_trigger_only_the_present_slot_is_due():
    assert states(look([])) == {"18:00": "pending"}
    assert states(look([stored(1, "17:31:00", marker=True)])) == {"18:00": "pending"}


def test_more_triggers_of_a_slot_are_surplus_and_the_first_one_counts():
    messages = [stored(3, "18:04:01"), stored(2, "18:04:00", msg_id="forced"), stored(1, "18:00:02")]
    (found,) = look([*messages, messages[0]])
    assert found == Entry(Slot.containing(NOW, QUARTER.every), State.TRIGGERED, messages[2], surplus=2)


def test_a_trigger_that_names_a_later_slot_than_it_was_stored_in_is_told():
    fast = stored(1, "17:50:00", "18:00:00", source="//fast/worker")
    assert states(look([fast])) == {"17:45": "triggered", "18:00": "pending"}
    assert str(QUARTER.claimed(fast)) == "2026-11-23T18:00:00Z"
    for honest in (stored(2, "17:59:55", "18:00:00"), stored(3, "18:00:03", "17:30:00"), stored(4, "18:00:00")):
        assert QUARTER.claimed(honest) is None
    # The server's scheduler repeats the headers of its schedule, and a marker those of the message it stands for.
    assert QUARTER.claimed(fast._replace(scheduler=True)) is None
    assert QUARTER.claimed(fast._replace(marker=True)) is None


def test_too_many_slots_are_refused():
    check_since(timedelta(seconds=MOST_SLOTS), timedelta(seconds=1))
    with pytest.raises(ValueError, match=f"holds more than {MOST_SLOTS} slots of 1s"):
        check_since(timedelta(seconds=MOST_SLOTS + 1), timedelta(seconds=1))


def test_every_slot_of_a_day_on_which_clocks_change_is_looked_at_once():
    for day, length in (("2026-03-29", 23), ("2026-10-25", 25)):
        midnight = datetime.fromisoformat(day).replace(tzinfo=ZoneInfo("Europe/Berlin"))
        end = (midnight + timedelta(days=1)).astimezone(UTC)
        messages = [Stored(n, midnight.astimezone(UTC) + n * QUARTER.every) for n in range(4 * length)]
        now = (end - timedelta(seconds=EARLY + 1)).astimezone(midnight.tzinfo)
        found = look(messages, now=now, since=timedelta(hours=length))
        assert len(found) == 4 * length
        assert {entry.state for entry in found} == {State.TRIGGERED}
        assert rfc3339(found[0].slot.start) == rfc3339(midnight)


def test_who_published_is_read_from_the_message():
    assert Stored.with_headers(1, NOW, {"ce-source": "//host/worker"}).source == "//host/worker"
    assert Stored.with_headers(1, NOW, {}).source is None


def remembered(*messages, first=None, **memory):
    window = Window.before(NOW, HOUR, QUARTER)
    return states(entries(messages, first or messages[0], window, NOW, QUARTER, Memory(**memory)))


AT_17 = instant("2026-11-23T17:00:00Z")
HELD = {"17:45": "triggered", "18:00": "triggered"}
LOST = {"17:15": "unknown", "17:30": "unknown", **HELD}


@pytest.mark.parametrize(
    ("memory", "found"),
    [
        # It has removed nothing, or nothing that was stored in the window, or nothing since it was created.
        ({}, HELD),
        ({"since": AT_17}, HELD),
        ({"since": instant("2026-11-23T17:40:00Z"), "created": instant("2026-11-23T17:40:00Z")}, HELD),
        # It may have removed messages of the window from its beginning, or of the subject between others.
        ({"since": instant("2026-11-23T17:15:00Z")}, LOST),
        ({"since": AT_17, "holes": True}, LOST),
        # Slots before its creation do not count.
        ({"since": AT_17, "holes": True, "created": instant("2026-11-23T17:30:00Z")}, {"17:30": "unknown", **HELD}),
        ({"since": AT_17, "holes": True, "created": instant("2026-11-23T17:30:01Z")}, HELD),
    ],
)
def test_slots_before_the_oldest_trigger_are_unknown_if_messages_of_that_time_were_removed(memory, found):
    assert remembered(stored(7, "17:45:01"), stored(8, "18:00:01"), **memory) == found


def test_slots_since_the_oldest_trigger_are_known_whatever_was_removed():
    first = stored(1, "16:00:01")
    found = remembered(stored(7, "17:45:01"), first=first, since=AT_17, holes=True)
    assert found == {"17:15": "missed", "17:30": "missed", "17:45": "triggered", "18:00": "pending"}


def test_a_trigger_of_an_earlier_slot_does_not_tell_of_the_slot_in_which_it_was_stored():
    found = remembered(stored(7, "17:46:00", "17:30:00"), since=AT_17, holes=True)
    assert found == {"17:15": "unknown", "17:30": "late", "17:45": "unknown", "18:00": "pending"}
