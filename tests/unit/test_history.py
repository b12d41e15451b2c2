"""The totals of a history: lateness by nearest rank, the longest gap, publishers, surplus."""

from datetime import timedelta

import pytest

from crypto_trigger.commands.history import history_data, history_text
from crypto_trigger.monitoring.coverage import Cadence, State
from crypto_trigger.monitoring.history import History, Lateness
from crypto_trigger.slots.contents import Memory
from crypto_trigger.slots.times import instant
from crypto_trigger.slots.trigger import Slot, Stored

EVERY = timedelta(minutes=15)
CADENCE = Cadence(EVERY, timedelta(seconds=5), timedelta(minutes=5))
NOW = instant("2026-11-23T18:04:15Z")
HOUR = timedelta(hours=1)


def at(text):
    return instant(f"2026-11-23T{text}Z")


def stored(seq, text, claimed=None, source="//h/c", **more):
    return Stored(seq, at(text), claimed and f"2026-11-23T{claimed}Z", source=source, **more)


def history(*messages, first=None, now=NOW, since=HOUR):
    return History.of(messages, first or (messages or (None,))[0], now, since, CADENCE, "crypto.update", "S")


def test_percentiles_are_by_nearest_rank():
    seconds = [timedelta(seconds=n) for n in range(200, 0, -1)]
    assert Lateness.of(seconds) == Lateness(*(timedelta(seconds=n) for n in (100, 198, 200)))
    assert Lateness.of(seconds[:1]) == Lateness(*[timedelta(seconds=200)] * 3)
    assert Lateness.of([]) is None


GAPS = {
    "between triggers": (["17:15:01", "17:45:01", "18:00:01"], "17:15:01", "17:45:01"),
    "until now": (["17:15:01", "17:30:01"], "17:30:01", "18:04:15"),
    "after an early trigger": (["17:59:57"], "17:59:57", "18:04:15"),
    "within the window": (["17:15:10", "17:30:10", "17:45:10", "18:00:10"], "17:15:10", "17:30:10"),
}


@pytest.mark.parametrize(("times", "start", "end"), GAPS.values(), ids=GAPS)
def test_the_longest_gap_is_the_longest_time_without_a_trigger(times, start, end):
    gap = history(*(stored(n, text) for n, text in enumerate(times, 1))).gap
    assert (gap.start, gap.end) == (at(start), at(end))


def test_a_gap_at_the_start_counts_from_the_first_slot():
    before = stored(1, "10:00:01")
    gap = history(stored(2, "17:45:01"), stored(3, "18:00:01"), first=before).gap
    assert (gap.start, gap.end) == (at("17:15:00"), at("17:45:01"))


def test_no_gap_is_known_of_slots_that_are_not_known():
    memory = Memory(since=at("17:45:01"), holes=True)
    messages = stored(7, "17:45:01"), stored(8, "18:00:01")
    found = History.of(messages, messages[0], NOW, HOUR, CADENCE, "crypto.update", "S", memory)
    assert found.counts[State.UNKNOWN] == 2
    assert (found.gap.start, found.gap.end) == (at("17:45:01"), at("18:00:01"))


def test_without_triggers_the_gap_is_the_present_slot():
    found = history()
    assert (found.gap.start, found.gap.end) == (at("18:00:00"), NOW)
    assert (found.lateness, found.sources, found.surplus) == (None, {}, 0)


def test_the_first_trigger_of_a_slot_counts_and_the_others_are_surplus():
    found = history(
        stored(1, "17:15:01"),
        stored(2, "17:15:02", source="//other"),
        stored(3, "17:15:03", source="//other"),
        stored(4, "17:30:00", scheduler=True),
        stored(5, "17:45:00", source=None),
        stored(6, "17:50:01", marker=True),
        stored(7, "18:00:02"),
    )
    assert found.surplus == 2
    assert found.sources == {"//h/c": 2, "nats-schedule": 1, "unknown": 1}
    assert found.counts == {State.TRIGGERED: 4}


def test_the_slots_of_the_json_object_have_the_keys_that_apply():
    data = history_data(
        history(stored(1, "17:15:01", "17:30:00"), stored(2, "17:31:00"), stored(3, "17:31:30"), stored(4, "17:59:58"))
    )
    assert data["slots"] == [
        {
            "start": "2026-11-23T17:15:00Z",
            "state": "triggered",
            "stored": "2026-11-23T17:15:01.000Z",
            "lateness_seconds": 1.0,
            "seq": 1,
            "source": "//h/c",
            "surplus": 0,
            "claimed": "2026-11-23T17:30:00Z",
        },
        {
            "start": "2026-11-23T17:30:00Z",
            "state": "triggered",
            "stored": "2026-11-23T17:31:00.000Z",
            "lateness_seconds": 60.0,
            "seq": 2,
            "source": "//h/c",
            "surplus": 1,
        },
        {"start": "2026-11-23T17:45:00Z", "state": "missed", "surplus": 0},
        {
            "start": "2026-11-23T18:00:00Z",
            "state": "triggered",
            "stored": "2026-11-23T17:59:58.000Z",
            "lateness_seconds": -2.0,
            "seq": 4,
            "source": "//h/c",
            "surplus": 0,
        },
    ]
    assert data["totals"] == {
        "slots": 4,
        "triggered": 3,
        "late": 0,
        "missed": 1,
        "overdue": 0,
        "pending": 0,
        "unknown": 0,
        "surplus": 1,
        "lateness_p50_seconds": 1.0,
        "lateness_p99_seconds": 60.0,
        "lateness_max_seconds": 60.0,
        "longest_gap_seconds": 1738.0,
        "sources": {"//h/c": 3},
    }


def test_the_lines_say_what_the_json_object_says():
    found = history(stored(1, "17:15:01", "17:30:00"), stored(2, "17:45:00"), stored(3, "17:45:30"))
    assert history_text(found).splitlines() == [
        "2026-11-23T17:15:00Z triggered    +1.000s sequence 1 //h/c claims 2026-11-23T17:30:00Z",
        "2026-11-23T17:30:00Z missed",
        "2026-11-23T17:45:00Z triggered    +0.000s sequence 2 //h/c surplus 1",
        "2026-11-23T18:00:00Z pending",
    ]


def test_a_claim_of_an_earlier_slot_is_no_claim():
    found = history(stored(1, "17:16:00", "17:00:00"), first=stored(1, "17:00:00"), since=2 * HOUR)
    assert [(str(entry.slot), found.claimed(entry)) for entry in found.entries if entry.trigger] == [
        ("2026-11-23T17:00:00Z", None)
    ]
    ahead = history(stored(1, "17:16:00", "18:30:00"))
    assert ahead.claimed(ahead.entries[0]) == Slot(at("18:30:00"), EVERY)
