"""What is found in slots and consumers, at the edges that a real server is seldom at."""

from datetime import timedelta

import pytest

from crypto_trigger.monitoring.coverage import Cadence, State
from crypto_trigger.monitoring.verdict import Level, Thresholds, approximate, examine, window_length
from crypto_trigger.slots.contents import Consumer, Held
from crypto_trigger.slots.times import instant
from crypto_trigger.slots.trigger import Reading, Stored

MINUTE = timedelta(minutes=1)
QUARTER = Cadence(15 * MINUTE, timedelta(seconds=5), 5 * MINUTE)
HOUR = 60 * MINUTE
LIMITS = Thresholds(1, 2, 5 * MINUTE, 15 * MINUTE)
NOW = instant("2026-11-23T18:04:15Z")


def look(*messages, consumers=(), now=NOW, skew=timedelta(0), **more):
    """What is found in a stream that holds these messages."""
    known = {
        "server": "nats://h:4222",
        "reading": Reading(now, now + skew, now + skew),
        "now": now,
        "config": {"name": "s", "subjects": ["t"]},
        "created": now - timedelta(days=9),
        "subject": "t",
        "first": messages[0] if messages else None,
        "newest": messages[-1] if messages else None,
        "messages": messages,
    }
    return examine(Held(**{**known, **more}), consumers, HOUR, QUARTER, LIMITS)


def stored(seq, text, **more):
    return Stored(seq, instant(f"2026-11-23T{text}Z"), **more)


def texts(result, level):
    return [finding.text for finding in result.findings if finding.level is level]


@pytest.mark.parametrize(
    ("age", "level"), [(0, Level.OK), (20 * 60, Level.OK), (20 * 60 + 1, Level.CRITICAL), (None, Level.CRITICAL)]
)
def test_a_stream_without_a_trigger_is_well_while_it_is_younger_than_a_slot_and_its_grace(age, level):
    created = None if age is None else NOW - timedelta(seconds=age)
    assert look(created=created).level is level


@pytest.mark.parametrize("skew", [4, -4, 5, -5, 6, -6])
def test_clocks_may_differ_by_early(skew):
    result = look(stored(1, "18:00:01"), skew=timedelta(seconds=skew))
    assert result.skew == timedelta(seconds=skew)
    assert result.level is (Level.WARNING if abs(skew) > 5 else Level.OK)


@pytest.mark.parametrize(
    ("age", "level"),
    [(300, Level.OK), (301, Level.WARNING), (900, Level.WARNING), (901, Level.CRITICAL)],
)
def test_a_consumer_is_late_beyond_its_thresholds(age, level):
    message = Stored(7, NOW - timedelta(seconds=age))
    result = look(message, Stored(8, NOW), consumers=[Consumer("c", floor=6)])
    (backlog,) = result.backlogs
    assert (backlog.level, backlog.unacknowledged, backlog.oldest) == (level, 2, message)


def test_a_newest_trigger_before_the_window_counts_for_a_consumer():
    result = look(consumers=[Consumer("c", floor=6)], first=stored(7, "09:00:00"), newest=stored(7, "09:00:00"))
    assert result.backlogs[0].oldest.seq == 7
    assert len(texts(result, Level.CRITICAL)) == 2


def test_a_marker_at_the_end_hides_neither_the_newest_trigger_nor_how_old_it_is():
    result = look(stored(1, "17:45:01"), stored(2, "18:00:01"), stored(3, "18:03:00", marker=True))
    assert (result.newest[1].seq, result.level) == (2, Level.OK)


def missed(*at, since=12 * HOUR, first="2026-11-22T01:00:00Z"):
    """The text about missed slots where there are triggers at these times, and one long before."""
    old = Stored(1, instant(first))
    messages = [Stored(number, instant(time)) for number, time in enumerate(at, 2)]
    held = Held("s", None, NOW, {}, None, "t", old, messages[-1] if messages else old, tuple(messages))
    (text,) = texts(examine(held, (), since, QUARTER, LIMITS), Level.CRITICAL)
    return text.rpartition("; ")[0]


def test_four_missed_slots_are_named_and_more_as_runs_with_their_date():
    four = missed(*(f"2026-11-23T{at}:01Z" for at in ("17:15", "18:00")), since=90 * MINUTE)
    assert four == "missed " + ", ".join(f"2026-11-23T{at}:00Z" for at in ("16:45", "17:00", "17:30", "17:45"))
    assert missed("2026-11-23T17:00:01Z", "2026-11-23T18:00:01Z", since=2 * HOUR) == (
        "missed 2026-11-23T16:15:00Z to 16:45:00Z (3 slots), 2026-11-23T17:15:00Z to 17:45:00Z (3 slots)"
    )
    assert missed(since=19 * HOUR) == "missed 2026-11-22T23:15:00Z to 2026-11-23T17:45:00Z (75 slots)"


def test_of_many_runs_ten_are_named():
    at = [f"2026-11-23T{hour:02}:{minute}:01Z" for hour in range(6, 18) for minute in ("15", "45")]
    text = missed(*at)
    assert text.count("2026-11-23T") == 10
    assert text.startswith("missed 2026-11-23T06:30:00Z, 2026-11-23T07:00:00Z, ")
    assert text.endswith(" and 13 more")


def test_a_trigger_of_another_day_is_named_with_its_date():
    old = Stored(1, instant("2026-11-22T18:00:00Z"))
    (text,) = texts(look(first=old, newest=old), Level.CRITICAL)
    assert text.endswith("; the newest is of 2026-11-22T18:00:00Z")


def test_a_publisher_whose_clock_was_set_right_is_not_named_any_more():
    fast = stored(1, "17:20:00", claimed="2026-11-23T17:45:00Z", source="//a")
    slow = stored(2, "17:31:00", claimed="2026-11-23T18:00:00Z", source="//b")
    right = stored(3, "18:00:00", claimed="2026-11-23T18:00:00Z", source="//a")
    (text,) = (text for text in texts(look(fast, slow, right), Level.WARNING) if "clock" in text)
    assert text == (
        "the clock of the publisher //b is at least 29m ahead: its trigger for 2026-11-23T18:00:00Z was stored at "
        "2026-11-23T17:31:00Z (sequence 2)"
    )


def test_the_window_has_two_finished_slots_at_least():
    assert window_length(HOUR, 15 * MINUTE, LIMITS) == HOUR
    assert window_length(HOUR, HOUR, LIMITS) == 3 * HOUR


def test_the_window_grows_until_each_threshold_can_be_reached():
    """Else a check with them would be OK or WARNING for ever."""
    for limits in (LIMITS._replace(missed_critical=8), LIMITS._replace(consumer_critical=5 * HOUR)):
        since = window_length(HOUR, 15 * MINUTE, limits)
        messages = [Stored(1, NOW - 50 * HOUR)]
        late = [Stored(2, NOW - since + 17 * MINUTE), Stored(3, NOW)]
        held = Held("s", None, NOW, {"name": "s"}, None, "t", messages[0], messages[0], ())
        assert len(examine(held, (), since, QUARTER, limits).slots(State.MISSED)) >= limits.missed_critical
        held = held._replace(messages=tuple(late), newest=late[-1])
        (backlog,) = examine(held, [Consumer("c", floor=1)], since, QUARTER, limits).backlogs
        assert backlog.level is Level.CRITICAL


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0.0s"), (3.14, "3.1s"), (59.94, "59.9s"), (60, "1m"), (964.4, "16m4s"), (7200.6, "2h1s"), (-3.1, "-3.1s")],
)
def test_a_duration_is_shown_as_exactly_as_a_person_needs(seconds, shown):
    assert approximate(timedelta(seconds=seconds)) == shown
