"""What `check` says of triggers that were stored when they should be, some time ago, on a real server."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from support.clocks import durations
from support.consumers import add_consumer, fetch
from support.planted import trigger
from support.plugin_answers import see

LATENESS = timedelta(seconds=3.1)


def plant(field, *back):
    """Plant triggers of the slots so many slots before the present one."""
    field.plant([trigger(field.slot(ago), LATENESS) for ago in back])


def test_all_is_well(run, field):
    plant(field, 5, 4, 3, 2, 1, 0)
    seen = see(run, *field.window)
    assert seen.status == 0
    assert seen.text.startswith(f"{field.named(0)} stored 3.1s after its slot began; 4 of 4 slots in ")
    age = (datetime.now(UTC) - field.present - LATENESS).total_seconds()
    # The answer has tenths of a second.
    assert age - 10 < float(seen.data["age"].removesuffix("s")) <= age + 0.05
    assert (seen.json["late"], seen.json["surplus"]) == ([], 0)
    assert datetime.fromisoformat(seen.json["newest"]["stored"]) == field.present + LATENESS


@pytest.mark.parametrize(("held", "status"), [((5, 4, 3, 2, 0), 1), ((5, 4, 3, 0), 2), ((5, 4, 3), 2)])
def test_holes_are_named(run, field, held, status):
    plant(field, *held)
    missed = [field.named(back) for back in (2, 1) if back not in held]
    seen = see(run, *field.window, "--grace", f"{field.slots.every}s")
    assert (seen.status, seen.json["missed"]) == (status, missed)
    assert seen.text.startswith(f"missed {', '.join(missed)}; the newest is of ")


def test_a_consumer_is_late_by_the_age_of_what_it_has_not_acknowledged(run, field):
    plant(field, 3, 2, 1, 0)
    add_consumer(field.url, field.stream, "api")
    age = (datetime.now(UTC) - field.present + field.every).total_seconds()
    # The oldest that is left is that of the slot before the present one: longer ago than a slot.
    fetch(field.url, field.stream, "api", 2, (0, 1))
    seen = see(run, *field.window, "--consumer", "api")
    assert (seen.status, seen.json["consumers"][0]["unacknowledged"]) == (2, 2)
    told = re.fullmatch(
        rf"{field.named(1)} is in the stream \(sequence 3\); "
        r"consumer api has not acknowledged it for (\S+), and 1 more",
        seen.text,
    )
    assert age - 10 < durations(told[1])[0] < age + 10
    # The one of the present slot is not as old.
    fetch(field.url, field.stream, "api", 2, (0,))
    for limits, status in (
        (("--consumer-warn", "1s"), 1),
        (("--consumer-warn", f"{field.slots.every}s"), 0),
        (("--consumer-warn", "1s", "--consumer-critical", "2s"), 2),
    ):
        seen = see(run, *field.window, "--consumer", "api", *limits)
        assert (seen.status, seen.json["consumers"][0]["unacknowledged"]) == (status, 1)
    oldest = seen.metrics["consumer_oldest_unacknowledged_timestamp_seconds[api]"]
    assert oldest == pytest.approx((field.present + LATENESS).timestamp())
