"""A run that goes by the clock ends before its slot: a failure names its own slot, and no next run is blocked."""

import json
import time
from urllib.parse import urlsplit

import pytest
from support.lossy import LosesAcks
from support.monitors import Healthchecks, Monitor
from support.ports import free_port
from support.proxy import Proxy
from support.restricted import restricted_to
from support.scripted import full_backlog
from support.streams import add_stream, stored

from crypto_trigger.slots import times
from crypto_trigger.slots.times import instant

SLOT, NEXT = "2026-11-23T12:00:00Z", "2026-11-23T12:15:00Z"
SETTINGS = {
    "CRYPTO_TRIGGER_TIMEOUT": "20s",
    "CRYPTO_TRIGGER_GIVE_UP_AFTER": "50s",
    "CRYPTO_TRIGGER_BACKOFF_BASE": "50ms",
    "CRYPTO_TRIGGER_BACKOFF_MAX": "100ms",
    "CRYPTO_TRIGGER_EARLY": "0s",
}


@pytest.fixture
def publish(run, monkeypatch):
    """Run `publish` on a host whose clock shows a time of the slot at noon: how it ended, its report, its seconds."""

    def call(clock, *flags, **settings):
        monkeypatch.setattr(times, "now", lambda: instant(f"2026-11-23T{clock}Z"))
        for name, value in {**SETTINGS, **settings}.items():
            monkeypatch.setenv(name, value)
        begun = time.monotonic()
        ended = run("publish", "--json", *flags)
        return ended, json.loads(ended.out), time.monotonic() - begun

    return call


@pytest.fixture
def nowhere():
    return f"nats://127.0.0.1:{free_port()}"


@pytest.mark.parametrize(
    "flags",
    [("jetstream",), ("jetstream", "--force"), ("core",), ("streaming", "--rehearse")],
    ids=" ".join,
)
def test_a_run_without_a_server_fails_in_its_own_slot_a_second_before_its_end(flags, nowhere, publish):
    ended, report, seconds = publish("12:14:58", "--delivery", *flags, NATS_URL=nowhere)
    assert (ended.status, report["scheduled_at"]) == (69, SLOT)
    assert " attempts until the end of its slot); is the server running?" in ended.err
    # It tried for as long as it could: until 12:14:59.
    assert 0.8 < seconds < 2


def test_a_short_slot_is_left_a_twentieth_before_its_end(nowhere, publish):
    short = {"CRYPTO_TRIGGER_EVERY": "4s", "CRYPTO_TRIGGER_GIVE_UP_AFTER": "3900ms"}
    ended, report, seconds = publish("12:00:02.8", NATS_URL=nowhere, **short)
    assert (ended.status, report["scheduled_at"]) == (69, SLOT)
    # Not until 12:00:03, a second before the end, but until 12:00:03.8.
    assert 0.8 < seconds < 1.8


def test_a_trigger_that_nobody_acknowledged_until_the_end_of_the_slot_may_be_stored(place, publish):
    with restricted_to(place.subject, f"$JS.API.STREAM.INFO.{place.stream}") as (admin, user):
        add_stream(admin, place.stream, [place.subject], duplicate_window=1800)
        userinfo = urlsplit(user).netloc.rpartition("@")[0]
        with Proxy(user) as proxy, proxy.route(LosesAcks(), then=LosesAcks()) as route:
            url = route.url.replace("://", f"://{userinfo}@")
            ended, report, seconds = publish("12:14:58", NATS_URL=url)
        (message,) = stored(admin, place.stream)
    assert (ended.status, report["outcome"], report["scheduled_at"]) == (75, "unknown", message.headers["ce-time"])
    assert 0.8 < seconds < 2


def test_a_silent_server_is_waited_for_until_the_end_of_the_slot(publish):
    with full_backlog() as hole:
        ended, report, seconds = publish("12:14:58", NATS_URL=hole)
    assert (ended.status, report["scheduled_at"], 0.8 < seconds < 2) == (69, SLOT, True)
    assert report["error"]["message"].startswith(f"{hole}: no answer ")
    assert " until the end of its slot" in report["error"]["message"]


def test_the_ping_of_a_failed_run_is_within_that_time(nowhere, publish):
    with Monitor(Healthchecks()) as monitor:
        ended, _, seconds = publish("12:14:57", NATS_URL=nowhere, **monitor.environ)
    (asked,) = monitor.asked
    assert (ended.status, asked.path[-3:], json.loads(asked.body)["scheduled_at"]) == (69, "/69", SLOT)
    assert seconds < 3


@pytest.mark.parametrize(
    "given",
    [
        {"CRYPTO_TRIGGER_SCHEDULED_AT": SLOT},
        {"CRYPTO_TRIGGER_K8S_JOB": f"job-{int(instant(SLOT).timestamp()) // 60}"},
        {"CRYPTO_TRIGGER_EARLY": "3s"},
    ],
    ids=["a scheduled time", "a Job's name", "early for the next slot"],
)
def test_a_run_of_a_given_slot_and_one_that_comes_early_are_not_ended_by_the_clock(given, nowhere, publish):
    ended, report, seconds = publish("12:14:58", NATS_URL=nowhere, CRYPTO_TRIGGER_GIVE_UP_AFTER="2500ms", **given)
    assert (ended.status, report["scheduled_at"]) == (69, NEXT if "CRYPTO_TRIGGER_EARLY" in given else SLOT)
    assert "slot)" not in ended.err
    assert seconds > 2.3


def test_a_setting_that_ends_the_run_before_its_slot_ends_it(nowhere, publish):
    ended, _, seconds = publish("12:14:30", NATS_URL=nowhere, CRYPTO_TRIGGER_GIVE_UP_AFTER="500ms")
    assert (ended.status, "slot)" in ended.err, seconds < 1.5) == (69, False, True)


def test_a_run_in_the_last_second_of_its_slot_has_a_second(place, nowhere, publish):
    add_stream(place.url, place.stream, [place.subject], duplicate_window=1800)
    ended, _, seconds = publish("12:14:59.9", NATS_URL=nowhere)
    assert (ended.status, 0.8 < seconds < 2) == (69, True)
    ended, _, _ = publish("12:14:59.9", NATS_URL=place.url)
    assert (ended.status, len(stored(place.url, place.stream))) == (0, 1)
