"""A run as the stand-by of a schedule of the server's own: what it sees of the schedule, and what it cannot see."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from support import schedules
from support.clocks import roomy
from support.patience import until
from support.processes import Process
from support.streams import stored

from crypto_trigger.server import Server

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
