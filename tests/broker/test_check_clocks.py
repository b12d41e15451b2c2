"""Wrong clocks of the checking host and of publishers: the verdict on the slots is the same, and the clock is named."""

import json
import re
from datetime import UTC, datetime, timedelta

import pytest
from support.clocks import clock, durations, roomy
from support.plugin_answers import line
from support.processes import execute
from support.restricted import restricted_to
from support.streams import add_stream, put, stored

OFFSETS = [timedelta(minutes=10), timedelta(minutes=-10), timedelta(hours=2), timedelta(hours=-2)]
WRONG = pytest.mark.parametrize("offset", OFFSETS, ids=str)
SURE = {"CRYPTO_TRIGGER_TIMEOUT": "10s", "CRYPTO_TRIGGER_GIVE_UP_AFTER": "20s"}


@pytest.fixture
def slots():
    # Shorter than the smallest offset, which then always leads to another slot.
    return roomy(longest=300)


def check(slots, *argv, **settings):
    ended = execute("check", "--since", f"{4 * slots.every}s", *argv, **{**SURE, **slots.settings, **settings})
    return ended, json.loads(ended.out) if "--json" in argv else line(ended.out)


def start(slots, ago):
    moment = datetime.fromtimestamp(slots.turn - (ago + 1) * slots.every, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


@WRONG
def test_the_checker_s_clock_decides_nothing_and_its_skew_is_told(place, slots, offset):
    add_stream(place.url, place.stream, [place.subject])
    for ago in (4, 3, 1, 0):
        put(place.url, place.subject, b"", {"ce-time": start(slots, ago)})
    _, right = check(slots, "--json")
    ended, wrong = check(slots, "--json", **clock(offset))
    assert ended.status == 1
    for key in ("missed", "overdue", "late", "surplus", "newest", "status"):
        assert wrong[key] == right[key]
    assert wrong["missed"] == [start(slots, 2)]
    assert abs(right["skew_seconds"]) < 0.1
    assert abs(wrong["skew_seconds"] - offset.total_seconds()) < 0.1
    (told,) = set(wrong["warning"]) - set(right["warning"])
    side = "ahead of" if offset > timedelta(0) else "behind"
    assert re.fullmatch(rf"the clock of this host is \S+ {side} the server's", told)
    assert abs(durations(told)[0] - abs(offset.total_seconds())) <= 1


@WRONG
def test_a_publisher_that_may_ask_for_the_server_s_time_makes_no_difference(place, slots, offset):
    add_stream(place.url, place.stream, [place.subject])
    published = execute("publish", **SURE, **slots.settings, **clock(offset))
    assert [message.headers["ce-time"] for message in stored(place.url, place.stream)] == [start(slots, 0)]
    ended, seen = check(slots)
    assert (published.status, ended.status) == (0, 0)
    assert seen.text.startswith(f"{start(slots, 0)} stored ")


@WRONG
def test_a_publisher_that_goes_by_its_own_clock_is_named_if_that_is_ahead(place, slots, offset):
    """It may not ask for the server's time. With a clock behind, its trigger looks late, and of an earlier slot."""
    with restricted_to(place.subject, f"$JS.API.STREAM.MSG.GET.{place.stream}") as (url, user):
        add_stream(url, place.stream, [place.subject])
        wrong = {"NATS_URL": user, "NATS_CLIENT_ID": "fast", **clock(offset)}
        assert execute("publish", **SURE, **slots.settings, **wrong).status == 0
        (message,) = stored(url, place.stream)
        ended, seen = check(slots, "--json", "--grace", f"{slots.every}s", NATS_URL=url)
    claimed, now = message.headers["ce-time"], slots.now()
    if offset < timedelta(0):
        assert claimed < now
        assert seen["newest"]["slot"] == claimed
        return
    assert claimed > now
    # It counts for the slot it was stored in.
    assert (ended.status, seen["missed"], seen["newest"]["slot"]) == (1, [], now)
    (told,) = seen["warning"]
    source = message.headers["ce-source"]
    assert source.endswith("/fast")
    assert told.startswith(f"the clock of the publisher {source} is at least ")
    assert f"its trigger for {claimed} was stored at " in told
    assert offset.total_seconds() - slots.every <= durations(told)[0] <= offset.total_seconds() + 1
