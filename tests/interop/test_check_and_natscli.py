"""natscli's checks beside ours, on the same streams: what they cannot see."""

import os

import pytest
from support.clocks import rfc3339, roomy
from support.consumers import add_consumer, fetch
from support.plugin_answers import line
from support.programs import program
from support.shell import do
from support.streams import add_stream, put, stored


@pytest.fixture
def nats(place):
    """natscli's `server check` of the test's own place; its status and what it says."""
    found = program("nats")

    def check(*arguments):
        ended = do(found, "-s", place.url, "server", "check", *arguments, env={**os.environ, "NO_COLOR": "1"})
        return ended.status, ended.out

    return check


@pytest.fixture
def slots(monkeypatch):
    found = roomy()
    for name, value in found.settings.items():
        monkeypatch.setenv(name, value)
    return found


def test_a_hole_between_two_triggers_is_seen_by_ours_alone(run, place, slots, nats):
    add_stream(place.url, place.stream, [place.subject])
    present = slots.turn - slots.every
    for ago in (3, 0):
        put(place.url, place.subject, b"{}", {"ce-time": rfc3339(present - ago * slots.every)})
    ages = ("--age-warn", f"{slots.every}s", "--age-critical", f"{2 * slots.every}s")
    status, said = nats("message", "--stream", place.stream, "--subject", place.subject, *ages)
    ours = run("check", "--since", f"{4 * slots.every}s")
    assert len(stored(place.url, place.stream)) == 2
    assert (status, said.split()[0]) == (0, "OK")
    assert ours.status == 2
    missed = ", ".join(rfc3339(present - ago * slots.every) for ago in (2, 1))
    assert line(ours.out).text.startswith(f"missed {missed}; ")


def test_a_trigger_that_was_not_published_is_not_a_consumer_that_does_not_take_it(run, place, slots, nats):
    """The nats CLI calls both a consumer that has not been active for too long; ours tells them apart."""
    add_stream(place.url, place.stream, [place.subject])
    add_consumer(place.url, place.stream, "api")
    present = slots.turn - slots.every
    put(place.url, place.subject, b"{}", {"ce-time": rfc3339(present - slots.every)})
    fetch(place.url, place.stream, "api", 1, (0,))
    asked = ("consumer", "--stream", place.stream, "--consumer", "api")
    asked += ("--last-ack-critical", "1ms", "--last-delivery-critical", "1ms")
    unpublished, _ = nats(*asked)
    ours = run("check", "--consumer", "api", "--grace", "1s")
    assert line(ours.out).text.startswith(f"{rfc3339(present)} is overdue: ")
    assert "consumer" not in line(ours.out).text
    put(place.url, place.subject, b"")
    unacknowledged, _ = nats(*asked)
    ours = run("check", "--consumer", "api", "--consumer-warn", "0s")
    assert line(ours.out).text.startswith(
        f"{rfc3339(present)} is in the stream (sequence 2); consumer api has not acknowledged it for "
    )
    assert unpublished == unacknowledged == 2


def test_a_usage_error_is_no_warning(run, nats):
    assert nats("message", "--bogus")[0] == 1
    assert run("check", "--bogus").status == 3


def test_a_status_of_metrics_is_that_of_the_check(run, place, slots, nats):
    add_stream(place.url, place.stream, [place.subject])
    put(place.url, place.subject, b"{}", {"ce-time": rfc3339(slots.turn - 4 * slots.every)})
    asked = ("message", "--stream", place.stream, "--subject", place.subject)
    ages = ("--age-warn", "1ms", "--age-critical", "1ms")
    assert nats(*asked, *ages)[0] == 2
    assert nats(*asked, *ages, "--format", "prometheus")[0] == 0
    assert {run("check", "--format", name).status for name in ("nagios", "json", "prometheus")} == {2}
