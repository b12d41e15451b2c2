"""Schedules of the server's own, whose messages repeat the headers they were given word for word."""

import asyncio
import json
import time

import pytest
from support.clocks import roomy
from support.patience import until
from support.processes import execute
from support.streams import client, put, stored

PAYLOAD = b'{"trigger":"update"}'
OLD = "2026-01-01T00:00:00Z"
SCHEDULES = {"every second": "@every 1s", "cron": "*/3 * * * * *"}


@pytest.fixture
def scheduled(place):
    """A stream that takes schedules, and starts one; its messages carry the time of an old slot."""

    async def create():
        async with client(place.url) as connection:
            config = {
                "name": place.stream,
                "subjects": [f"{place.stream}.>"],
                "allow_msg_schedules": True,
                "allow_msg_ttl": True,
                "duplicate_window": 1800 * 10**9,
            }
            answer = await connection.request(
                f"$JS.API.STREAM.CREATE.{place.stream}", json.dumps(config).encode(), timeout=5
            )
            assert json.loads(answer.data)["config"]["allow_msg_schedules"]

    asyncio.run(create())

    def start(schedule):
        headers = {"Nats-Schedule": schedule, "Nats-Schedule-Target": place.subject, "Nats-TTL": "never"}
        put(place.url, f"{place.stream}.schedule", PAYLOAD, {**headers, "ce-time": OLD, "ce-id": "old"})

    return start


def triggers(place):
    """The messages on the subject: those of the schedule, and ours, which have a msg id."""
    found = [message for message in stored(place.url, place.stream) if message.subject == place.subject]
    ours = [message for message in found if "Nats-Msg-Id" in message.headers]
    fired = [message for message in found if "Nats-Scheduler" in message.headers]
    assert len(ours) + len(fired) == len(found)
    assert all(message.headers["ce-time"] == OLD for message in fired)
    return fired, ours


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_a_schedule_that_repeats_an_old_time_fills_the_slot_it_fires_in(schedule, place, scheduled):
    slots = roomy()
    scheduled(schedule)
    until(lambda: triggers(place)[0])
    ended = execute("publish", "--json", **slots.settings)
    fired, ours = triggers(place)
    report = json.loads(ended.out)
    assert ours == []
    assert (ended.status, report["outcome"], report["scheduled_at"]) == (0, "duplicate", slots.now())
    assert report["seq"] in {message.seq for message in fired}


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_in_every_slot_a_run_after_the_firing_stores_nothing(schedule, place, scheduled):
    """Slots of 3 seconds, in each of which the schedule fires as it begins."""
    settings = {
        "CRYPTO_TRIGGER_EVERY": "3s",
        "CRYPTO_TRIGGER_EARLY": "1ms",
        "CRYPTO_TRIGGER_GIVE_UP_AFTER": "2.9s",
        "CRYPTO_TRIGGER_TIMEOUT": "2.9s",
    }
    scheduled(schedule)
    until(lambda: triggers(place)[0])
    outcomes, slots = [], set()
    while len(slots) < 3:
        # Not at the very end of a slot: a run that arrives as the next one begins may be there before the schedule.
        while time.time() % 3 > 1.5:
            time.sleep(0.05)
        ended = execute("publish", "--json", **settings)
        report = json.loads(ended.out)
        outcomes.append((ended.status, report["outcome"]))
        slots.add(report["scheduled_at"])
    assert triggers(place)[1] == []
    assert set(outcomes) == {(0, "duplicate")}


def test_a_run_before_the_first_firing_publishes_and_the_schedule_counts_from_then_on(place, scheduled):
    slots = roomy()
    first = execute("publish", "--json", **slots.settings)
    scheduled("@every 1s")
    until(lambda: triggers(place)[0])
    second = execute("publish", "--json", **slots.settings)
    assert len(triggers(place)[1]) == 1
    assert [(run.status, json.loads(run.out)["outcome"]) for run in (first, second)] == [
        (0, "published"),
        (0, "duplicate"),
    ]
