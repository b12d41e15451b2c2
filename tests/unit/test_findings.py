"""What is found in slots and consumers, at the edges that a real server is seldom at."""

from datetime import timedelta

import pytest

from crypto_trigger.brokers.held import Held
from crypto_trigger.findings import Consumer, Level, Thresholds, approximate, examine, window_length
from crypto_trigger.freshness import Cadence
from crypto_trigger.trigger import Reading, Stored
from crypto_trigger.values import instant

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


def test_many_missed_slots_are_not_all_named():
    result = examine(
        Held("s", None, NOW, {}, None, "t", stored(1, "01:00:00"), stored(1, "01:00:00"), ()),
        (), 12 * HOUR, QUARTER, LIMITS,
    )  # fmt: skip
    (text,) = texts(result, Level.CRITICAL)
    assert text.count("2026-11-23T") == 10
    assert text.endswith(" and 37 more; the newest is of 01:00:00Z")


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
    assert window_length(HOUR, 15 * MINUTE) == HOUR
    assert window_length(HOUR, HOUR) == 3 * HOUR


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0.0s"), (3.14, "3.1s"), (59.94, "59.9s"), (60, "1m"), (964.4, "16m4s"), (7200.6, "2h1s"), (-3.1, "-3.1s")],
)
def test_a_duration_is_shown_as_exactly_as_a_person_needs(seconds, shown):
    assert approximate(timedelta(seconds=seconds)) == shown
