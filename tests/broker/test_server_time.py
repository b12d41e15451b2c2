"""What asking the server for its time costs, what a run does without the answer, and that the slot stays the same."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from support.clocks import clock, roomy, turning
from support.flights import Flights
from support.lossy import HangsUpAt
from support.processes import Process, execute
from support.proxy import Fault, Proxy
from support.restricted import restricted_to
from support.streams import add_stream, put, stored

from crypto_trigger.commands.server import Server

SURE = {"CRYPTO_TRIGGER_TIMEOUT": "20s", "CRYPTO_TRIGGER_GIVE_UP_AFTER": "30s"}
HOUR_AHEAD = timedelta(hours=1)


@pytest.fixture
def streamed(place):
    add_stream(place.url, place.stream, [place.subject], duplicate_window=1800)
    return place


def slots_of(place):
    """The slots that the messages of the stream name, in the order of storing."""
    return [message.headers["ce-time"] for message in stored(place.url, place.stream)]


def test_a_run_takes_five_round_trips_and_four_where_the_slot_has_its_trigger(streamed):
    slots = roomy()
    put(streamed.url, streamed.subject, b"", {"ce-time": "2020-01-01T00:00:00Z"})
    counted = []
    for outcome in ("published", "duplicate"):
        with Flights(streamed.url) as flights:
            ended = execute("publish", "--json", NATS_URL=flights.url, **SURE, **slots.settings)
        counted.append(flights.count)
        assert (ended.status, json.loads(ended.out)["outcome"]) == (0, outcome)
    assert slots_of(streamed)[1:] == [slots.now()]
    # TCP's handshake, the greeting, CONNECT, the reading; the publishing.
    assert counted == [5, 4]


def test_the_first_run_of_a_stream_takes_at_most_one_round_trip_more(streamed):
    with Flights(streamed.url) as flights:
        ended = execute("publish", NATS_URL=flights.url, **SURE)
    assert len(stored(streamed.url, streamed.stream)) == 1
    assert (ended.status, ended.err) == (0, "")
    assert flights.count <= 6


@pytest.mark.parametrize("moment", ["before the turn", "after the turn"])
def test_the_slot_of_the_first_answer_is_kept_when_the_retry_comes_in_the_next_slot(moment, streamed):
    """The trigger is stored, its acknowledgement lost, and the connection ends when the next slot has begun, or not."""
    slots = turning(4)
    slot = slots.now()
    until = slots.turn + 0.2 if moment == "after the turn" else 0
    fault = HangsUpAt(until)
    with Proxy(streamed.url) as proxy, proxy.route(fault, then=Fault()) as route:
        # By the clock of this host the slot does not end yet.
        behind = clock(timedelta(minutes=-1))
        process = Process("publish", "--json", NATS_URL=route.url, **SURE, **slots.settings, **behind)
        ended = process.end()
        connections = route.connections
    report = json.loads(ended.out)
    assert slots_of(streamed) == [slot]
    assert (ended.status, report["scheduled_at"], report["msg_id"]) == (0, slot, f"{streamed.subject}:{slot}")
    assert connections > 1
    assert fault.struck


def test_a_run_that_finds_no_server_before_the_turn_stands_for_the_slot_in_which_one_answers(place):
    """The slot is that of the server's time at the first answer, where this host's clock is behind and lets it wait."""
    slots = turning(2)
    behind = clock(timedelta(minutes=-1))
    with Server() as server:
        add_stream(server.url, place.stream, [place.subject], duplicate_window=1800)
        server.stop()
        backoff = {"CRYPTO_TRIGGER_BACKOFF_BASE": "50ms", "CRYPTO_TRIGGER_BACKOFF_MAX": "200ms"}
        process = Process("publish", "--json", NATS_URL=server.url, **SURE, **backoff, **slots.settings, **behind)
        slots.wait()
        server.start()
        ended = process.end()
        assert slots_of(place._replace(url=server.url)) == [slots.next]
    assert (ended.status, json.loads(ended.out)["scheduled_at"]) == (0, slots.next)


@pytest.fixture
def restricted(place):
    """A server, seen by the tests, and its URL for a user who may publish and read, but not ask about the stream."""
    with restricted_to(place.subject, f"$JS.API.STREAM.MSG.GET.{place.stream}") as (admin, user):
        add_stream(admin, place.stream, [place.subject], duplicate_window=1800)
        yield place._replace(url=admin), user


@pytest.mark.parametrize("offset", [timedelta(0), HOUR_AHEAD], ids=["right", "an hour ahead"])
def test_without_permission_to_ask_for_the_time_the_clock_of_the_host_decides_and_verbose_says_so(offset, restricted):
    admin, url = restricted
    slots = roomy()
    wrong = clock(offset) if offset else {}
    before = slots.of(datetime.now(UTC) + offset)
    quiet, verbose = (
        execute("publish", *flags, NATS_URL=url, **SURE, **slots.settings, **wrong) for flags in ((), ("-v",))
    )
    assert slots_of(admin) == [before]
    assert (quiet.status, quiet.err) == (0, "")
    assert verbose.status == 0
    assert [line for line in verbose.err.splitlines() if "clock" in line and "host" in line]


def test_what_such_a_run_stores_counts_for_the_slot_it_was_stored_in(restricted):
    admin, url = restricted
    slots = roomy()
    ahead = execute("publish", NATS_URL=url, **SURE, **slots.settings, **clock(HOUR_AHEAD))
    honest = execute("publish", "--json", NATS_URL=admin.url, **SURE, **slots.settings)
    assert len(slots_of(admin)) == 1
    assert ahead.status == 0
    assert (honest.status, json.loads(honest.out)["outcome"]) == (0, "duplicate")
