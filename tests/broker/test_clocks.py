"""Hosts whose clocks are wrong beside one whose clock is right: the server's clock decides what slot it is."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from support.clocks import EARLY, OFFSETS, clock, durations, roomy, turning
from support.processes import execute
from support.streams import add_stream, put, stored
from support.subscribers import Subscriber

PAYLOAD = b'{"trigger":"update"}'
SURE = {"CRYPTO_TRIGGER_TIMEOUT": "10s", "CRYPTO_TRIGGER_GIVE_UP_AFTER": "20s"}
WRONG = pytest.mark.parametrize("offset", OFFSETS.values(), ids=OFFSETS)
HONEST = timedelta(0)


def publish(slots, *flags, offset=HONEST, **settings):
    """Run `publish` on a host whose clock is wrong by `offset`; how it ended, and its report."""
    wrong = clock(offset) if offset else {}
    ended = execute("publish", "--json", *flags, **{**SURE, **slots.settings, **wrong, **settings})
    return ended, json.loads(ended.out)


def triggers(place):
    """The slots of the triggers the stream holds, in the order of storing."""
    return [message.headers["ce-time"] for message in stored(place.url, place.stream) if message.data == PAYLOAD]


def tells_the_difference(stderr, offset):
    """Whether one line of stderr warns of the clocks, and by how much they differ."""
    lines = [line for line in stderr.splitlines() if "clock" in line]
    return (
        len(lines) == 1
        and "warning" in lines[0]
        and any(abs(seconds - abs(offset.total_seconds())) <= 5 for seconds in durations(lines[0]))
    )


@pytest.fixture
def streamed(place):
    add_stream(place.url, place.stream, [place.subject], duplicate_window=1800)
    return place


@WRONG
@pytest.mark.parametrize("first", ["the wrong clock", "the right clock"])
def test_a_host_with_a_wrong_clock_shares_the_slot_of_the_one_with_a_right_clock(first, offset, streamed):
    slots = roomy()
    slot = slots.now()
    order = [offset, HONEST] if first == "the wrong clock" else [HONEST, offset]
    runs = [publish(slots, offset=each) for each in order]
    assert triggers(streamed) == [slot]
    assert [(ended.status, report["outcome"]) for ended, report in runs] == [(0, "published"), (0, "duplicate")]
    assert [report["scheduled_at"] for _, report in runs] == [slot] * 2
    assert [report["msg_id"] for _, report in runs] == [f"{streamed.subject}:{slot}"] * 2
    for each, (ended, _) in zip(order, runs, strict=True):
        assert tells_the_difference(ended.err, each) if each else ended.err == ""


def test_no_host_silences_another_when_the_next_slot_has_begun(streamed):
    slots = turning(8)
    before = slots.now()
    hosts = [*OFFSETS.values(), HONEST]
    first = [publish(slots, offset=offset) for offset in hosts]
    slots.wait()
    second = [publish(slots, offset=offset) for offset in reversed(hosts)]
    assert triggers(streamed) == [before, slots.next]
    assert [ended.status for ended, _ in (*first, *second)] == [0] * 14
    # A slow machine may come to the turn while the first seven run.
    assert first[0][1]["outcome"] == "published"
    assert {report["outcome"] for _, report in first[1:]} <= {"published", "duplicate"}
    assert {report["outcome"] for _, report in second} <= {"published", "duplicate"}
    assert {report["scheduled_at"] for _, report in second} == {slots.next}


@WRONG
def test_after_a_host_with_a_wrong_clock_alone_the_next_slot_is_open(offset, streamed):
    slots = turning(2)
    ended, report = publish(slots, offset=offset)
    slots.wait()
    _, honest = publish(slots)
    assert triggers(streamed)[-1] == slots.next
    assert len(triggers(streamed)) == len({report["scheduled_at"], slots.next})
    assert (ended.status, report["outcome"]) == (0, "published")
    assert honest["outcome"] == ("published" if report["scheduled_at"] != slots.next else "duplicate")


def test_a_clock_wrong_by_less_than_early_is_not_worth_a_warning(streamed):
    slots = roomy()
    slot = slots.now()
    ended, report = publish(slots, offset=timedelta(seconds=3), CRYPTO_TRIGGER_EARLY="5s")
    assert triggers(streamed) == [slot]
    assert (ended.status, ended.err, report["scheduled_at"]) == (0, "", slot)


def test_a_warning_of_clocks_comes_with_every_outcome_and_on_stderr_alone(streamed):
    slots = roomy()
    wrong = clock(timedelta(hours=1))
    for outcome in ("published", "duplicate"):
        ended = execute("publish", **{**SURE, **slots.settings, **wrong})
        assert (ended.status, ended.out.split()[0].rstrip(":")) == (0, outcome)
        assert "clock" not in ended.out
        assert tells_the_difference(ended.err, timedelta(hours=1))
    assert triggers(streamed) == [slots.now()]


@pytest.mark.parametrize("offset", [HONEST, timedelta(hours=1), timedelta(days=1)], ids=["right", "1 h", "a day"])
def test_a_scheduled_time_whose_slot_has_not_begun_by_the_server_s_clock_is_refused(offset, streamed):
    slots = roomy()
    ahead = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    ended, report = publish(slots, "--scheduled-at", ahead, offset=offset)
    assert triggers(streamed) == []
    assert (ended.status, report["outcome"]) == (78, "config")
    assert ahead in ended.err
    assert "--scheduled-at" in ended.err


def test_a_scheduled_time_in_the_very_next_slot_is_refused(streamed):
    slots = roomy()
    ended, _ = publish(slots, "--scheduled-at", slots.next)
    assert triggers(streamed) == []
    assert ended.status == 78


def test_a_scheduled_time_less_than_early_before_its_slot_is_taken(streamed):
    slots = roomy()
    ended, report = publish(slots, "--scheduled-at", slots.next, CRYPTO_TRIGGER_EARLY=f"{slots.every - 1}s")
    assert triggers(streamed) == [slots.next]
    assert (ended.status, report["outcome"]) == (0, "published")


@WRONG
def test_a_scheduled_time_of_the_past_stands_for_its_slot_whatever_the_clock(offset, streamed):
    slots = roomy()
    moment = datetime.now(UTC) - timedelta(seconds=EARLY)
    ended, report = publish(slots, "--scheduled-at", moment.strftime("%Y-%m-%dT%H:%M:%SZ"), offset=offset)
    assert triggers(streamed) == [slots.of(moment)]
    assert (ended.status, report["scheduled_at"]) == (0, slots.of(moment))


def job(minutes):
    """The name of a CronJob's Job, whose scheduled minute is so far from now."""
    return {"CRYPTO_TRIGGER_K8S_JOB": f"crypto-trigger-{int(datetime.now(UTC).timestamp() // 60) + minutes}"}


@pytest.mark.parametrize("offset", [HONEST, timedelta(hours=1), timedelta(hours=-1)], ids=["right", "ahead", "behind"])
@pytest.mark.parametrize("minutes", [16, 60])
def test_a_job_whose_slot_has_not_begun_stands_for_the_server_s_slot(minutes, offset, streamed):
    slots = roomy()
    slot = slots.now()
    ended, report = publish(slots, offset=offset, **job(minutes))
    _, again = publish(slots)
    assert triggers(streamed) == [slot]
    assert (ended.status, report["outcome"], report["scheduled_at"]) == (0, "published", slot)
    assert (again["outcome"], again["scheduled_at"]) == ("duplicate", slot)


@pytest.mark.parametrize("offset", [HONEST, timedelta(hours=1), timedelta(hours=-1)], ids=["right", "ahead", "behind"])
def test_a_job_of_the_past_stands_for_its_slot(offset, streamed):
    slots = roomy()
    named = job(-90)
    minute = int(named["CRYPTO_TRIGGER_K8S_JOB"].rpartition("-")[2]) * 60
    slot = slots.of(datetime.fromtimestamp(minute - EARLY, UTC))
    ended, report = publish(slots, offset=offset, **named)
    assert triggers(streamed) == [slot]
    assert (ended.status, report["outcome"], report["scheduled_at"]) == (0, "published", slot)


def test_superseded_names_the_later_slot(streamed):
    slots = roomy()
    earlier = (datetime.now(UTC) - timedelta(hours=2)).strftime("%Y-%m-%dT%H:%M:%SZ")
    publish(slots)
    ended = execute("publish", "--scheduled-at", earlier, **{**SURE, **slots.settings})
    assert triggers(streamed) == [slots.now()]
    assert (ended.status, ended.err) == (0, "")
    assert ended.out.startswith("superseded")
    assert slots.now() in ended.out


def test_core_goes_by_the_clock_of_the_host(place):
    slots = roomy()
    offset = timedelta(hours=1)
    with Subscriber(place.url, place.subject) as subscriber:
        ended, report = publish(slots, "--delivery", "core", offset=offset)
        (heard,) = subscriber.heard()
    slot = slots.of(datetime.now(UTC) + offset)
    assert (heard.data, heard.headers["ce-time"]) == (PAYLOAD, slot)
    assert (ended.status, ended.err, report["scheduled_at"]) == (0, "", slot)


@pytest.mark.parametrize("hours", [1, 20])
def test_a_message_that_claims_a_later_slot_counts_for_the_one_it_was_stored_in(hours, streamed):
    slots = turning(5)
    claimed = slots.of(datetime.now(UTC) + timedelta(hours=hours))
    put(streamed.url, streamed.subject, b"{}", {"ce-time": claimed})
    slot = slots.now()
    same, same_report = publish(slots)
    slots.wait()
    following, following_report = publish(slots)
    assert triggers(streamed) == [slots.next]
    assert [same.status, following.status] == [0, 0]
    assert (same_report["outcome"], same_report["scheduled_at"]) == ("duplicate", slot)
    assert (following_report["outcome"], following_report["scheduled_at"]) == ("published", slots.next)


def test_a_message_with_the_run_s_own_msg_id_is_its_trigger_though_it_claims_a_later_slot(streamed):
    slots = roomy()
    moment = datetime.now(UTC) - timedelta(hours=3)
    headers = {
        "Nats-Msg-Id": f"{streamed.subject}:{slots.of(moment)}",
        "ce-time": slots.of(moment + timedelta(hours=1)),
    }
    put(streamed.url, streamed.subject, PAYLOAD, headers)
    ended, report = publish(slots, "--scheduled-at", (moment + timedelta(seconds=EARLY)).isoformat())
    assert len(triggers(streamed)) == 1
    assert (ended.status, report["outcome"], report["seq"]) == (0, "duplicate", 1)


def test_a_message_with_the_run_s_own_msg_id_is_not_doubled_after_the_duplicate_window(place):
    add_stream(place.url, place.stream, [place.subject], duplicate_window=0.1)
    slots = roomy()
    headers = {"Nats-Msg-Id": f"{place.subject}:{slots.now()}", "ce-time": "2020-01-01T00:00:00Z"}
    put(place.url, place.subject, PAYLOAD, headers)
    # The window has passed when the stream takes the same id again.
    while len(stored(place.url, place.stream)) < 2:
        put(place.url, place.subject, PAYLOAD, headers)
    ended, report = publish(slots)
    assert len(triggers(place)) == 2
    assert (ended.status, report["outcome"], report["seq"]) == (0, "duplicate", 2)


@pytest.mark.parametrize("moment", ["1969-12-31T23:00:00Z", "1832-03-04T05:06:07Z"])
def test_a_slot_before_1970_is_refused(moment, streamed):
    ended, report = publish(roomy(), "--scheduled-at", moment)
    assert triggers(streamed) == []
    assert (ended.status, report["outcome"]) == (78, "config")
    assert moment in ended.err


def test_a_message_of_a_slot_before_1970_leaves_the_present_one_open(streamed):
    slots = roomy()
    put(streamed.url, streamed.subject, b"{}", {"ce-time": "1969-12-31T23:00:00Z"})
    ended, report = publish(slots)
    assert triggers(streamed) == [slots.now()]
    assert (ended.status, report["outcome"]) == (0, "published")
