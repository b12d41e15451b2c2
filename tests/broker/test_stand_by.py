"""A run as the stand-by of a schedule of the server's own: what it sees of the schedule, and what it cannot see."""

import asyncio
import json
from datetime import UTC, datetime, timedelta

import pytest
from support import schedules
from support.clocks import roomy
from support.patience import PATIENCE, until
from support.processes import Process, execute
from support.proxy import Cut, Fault, Proxy, Way
from support.streams import client, put, stored
from support.subscribers import Subscriber

from crypto_trigger.commands.server import Server
from crypto_trigger.delivery import jetstream

SECOND = 10**9
PATIENT = {"CRYPTO_TRIGGER_TIMEOUT": "5s", "CRYPTO_TRIGGER_GIVE_UP_AFTER": "20s"}
EAGER = {"CRYPTO_TRIGGER_BACKOFF_BASE": "20ms", "CRYPTO_TRIGGER_BACKOFF_MAX": "50ms"}


@pytest.fixture
def alone(place):
    """A server that the test may stop, with a stream for the triggers and a schedule."""
    with Server() as server:
        schedules.create(server.url, place.stream, [f"{place.stream}.>"], duplicate_window=1800 * SECOND)
        yield server


def once_a_day(moment):
    """A cron line of the server's that fires at that time of each day."""
    return f"{moment.second} {moment.minute} {moment.hour} * * *"


def triggers(url, place):
    """Who stored each message on the subject: the schedule, or a run."""
    return [
        "schedule" if "Nats-Scheduler" in message.headers else "run"
        for message in stored(url, place.stream)
        if message.subject == place.subject
    ]


def test_a_run_that_waits_for_the_server_lets_the_schedule_catch_up(place, alone):
    """The server is down when the schedule is due, and comes back while the run tries again."""
    slots = roomy()
    due = datetime.now(UTC) + timedelta(seconds=2)
    schedules.start(alone.url, f"{place.stream}.schedule", once_a_day(due), place.subject)
    alone.stop()
    until(lambda: datetime.now(UTC) > due)
    run = Process("publish", "--json", "-v", NATS_URL=alone.url, **slots.settings, **PATIENT, **EAGER)
    # The line about its first attempt.
    assert "connection refused" in run.popen.stderr.readline()
    alone.start()
    ended = run.end()
    until(lambda: "schedule" in triggers(alone.url, place))
    assert triggers(alone.url, place) == ["schedule"]
    assert (ended.status, json.loads(ended.out)["outcome"]) == (0, "duplicate")


@pytest.mark.parametrize("options", [(), ("--force",)], ids=["has its trigger", "forced"])
def test_a_run_that_tries_again_does_not_wait_where_no_schedule_can_matter(options, run, place, alone, monkeypatch):
    for name, value in {**roomy().settings, **EAGER, **PATIENT}.items():
        monkeypatch.setenv(name, value)
    put(alone.url, place.subject)
    monkeypatch.setattr(jetstream, "_CATCHES_UP", 60.0)  # half of the time that is left, then
    with Proxy(alone.url) as proxy, proxy.route(Cut(Way.TO_CLIENT, 600), then=Fault()) as route:
        result = run("publish", "--json", "--server", route.url, *options)
    report = json.loads(result.out)
    assert len(triggers(alone.url, place)) == len(options) + 1
    assert (result.status, report["attempts"]) == (0, 2)
    assert report["elapsed_ms"] < 5000


def test_a_schedule_is_the_first_message_that_a_full_stream_removes(place, alone):
    limits = {"name": place.stream, "subjects": [f"{place.stream}.>"], "max_msgs": 2, **schedules.STREAM}
    schedules.ask(alone.url, f"STREAM.UPDATE.{place.stream}", limits)
    tomorrow = datetime.now(UTC) - timedelta(hours=1)
    schedules.start(alone.url, f"{place.stream}.schedule", once_a_day(tomorrow), place.subject)
    for _ in range(2):
        put(alone.url, place.subject)
    assert [message.subject for message in stored(alone.url, place.stream)] == [place.subject] * 2


def test_a_subscriber_without_jetstream_gets_nothing_from_a_schedule(place, alone):
    with Subscriber(alone.url, place.subject) as subscriber:
        schedules.start(alone.url, f"{place.stream}.schedule", "* * * * * *", place.subject)
        until(lambda: triggers(alone.url, place))
        put(alone.url, place.subject, b"of a client")
        assert [heard.data for heard in subscriber.heard()] == [b"of a client"]


def test_in_a_work_queue_a_run_cannot_see_a_trigger_that_was_consumed(place, alone):
    """What docs/scheduling.md warns of."""
    slots = roomy()
    queue = f"{place.stream}q"
    subjects = {"subjects": [f"{queue}.>"], "retention": "workqueue", "duplicate_window": 1800 * SECOND}
    schedules.create(alone.url, queue, **subjects)
    due = datetime.now(UTC) + timedelta(seconds=2)
    schedules.start(alone.url, f"{queue}.schedule", once_a_day(due), f"{queue}.update")
    taken = asyncio.run(take(alone.url, queue))
    ended = execute(
        "publish",
        "--json",
        NATS_URL=alone.url,
        CRYPTO_TRIGGER_STREAM=queue,
        CRYPTO_TRIGGER_SUBJECT=f"{queue}.update",
        **slots.settings,
        **PATIENT,
    )
    held = [message for message in stored(alone.url, queue) if message.subject == f"{queue}.update"]
    assert "Nats-Scheduler" in taken.headers
    assert len(held) == 1
    assert (ended.status, json.loads(ended.out)["outcome"]) == (0, "published")


async def take(url, queue):
    """Consume the first trigger of a work queue."""
    async with client(url) as connection:
        js = connection.jetstream()
        subscription = await js.pull_subscribe(f"{queue}.update", durable="api", stream=queue)
        (message,) = await subscription.fetch(1, timeout=PATIENCE)
        await message.ack_sync()
        return message
