"""The server's clock goes back: what it stored while it was ahead keeps no slot from its trigger."""

import json
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
from support.answers import stream_info
from support.clock_back import ClockBack
from support.clocks import roomy
from support.pages import blocks, masked
from support.plugin_answers import see
from support.processes import execute, is_one_clean_line
from support.proxy import Proxy
from support.scripted import Scripted
from support.streams import add_stream, put, stored

SURE = {"CRYPTO_TRIGGER_TIMEOUT": "10s", "CRYPTO_TRIGGER_GIVE_UP_AFTER": "20s"}
PAYLOAD = b'{"trigger":"update"}'
BACK = timedelta(hours=2)


@pytest.fixture
def streamed(place):
    add_stream(place.url, place.stream, [place.subject], duplicate_window=7 * 86400)
    return place


@contextmanager
def gone_back(place, by=BACK):
    """The server at a URL of its own: its clock has gone back since it stored what is in the stream."""
    with Proxy(place.url) as proxy, proxy.route(then=ClockBack(by, len(stored(place.url, place.stream)))) as route:
        yield route.url


def publish(slots, url, *flags):
    ended = execute("publish", "--json", *flags, NATS_URL=url, **SURE, **slots.settings)
    return ended, json.loads(ended.out)


def triggers(place):
    return [message.headers["ce-time"] for message in stored(place.url, place.stream) if message.data == PAYLOAD]


def slot_then(slots, by=BACK):
    """The slot that is the present one by the clock that went back."""
    return slots.of(datetime.now(UTC) - by)


def tells_both_times(warning):
    """Whether a line says that the clock went back, from about now to two hours before."""
    times = [datetime.fromisoformat(word.strip(",")) for word in warning.split() if word.startswith("20")]
    return "the server's clock went back" in warning and abs(times[0] - times[1] - BACK) < timedelta(seconds=60)


@pytest.mark.parametrize("source", ["this program", "another"])
def test_a_message_of_the_server_s_future_keeps_no_slot_from_its_trigger(source, streamed):
    slots = roomy()
    if source == "another":
        put(streamed.url, streamed.subject, b"{}")
    else:
        assert execute("publish", **SURE, **slots.settings).status == 0
    before = triggers(streamed)
    with gone_back(streamed) as url:
        slot = slot_then(slots)
        ended, report = publish(slots, url)
        again, repeated = publish(slots, url)
        assert triggers(streamed) == [*before, slot]
    assert (ended.status, report["outcome"], report["guard"]) == (0, "published", "compare-and-set")
    assert report["scheduled_at"] == slot
    assert any(tells_both_times(warning) for warning in report["warnings"])
    (line,) = (line for line in ended.err.splitlines() if tells_both_times(line))
    (shown,) = (block.first for block in blocks("docs/guarantees.md") if "clock went back" in block.first)
    assert masked(line).replace(streamed.subject, "crypto.update") == masked(shown)
    # The last message is now this slot's trigger.
    assert (again.status, repeated["outcome"], repeated["seq"]) == (0, "duplicate", report["seq"])


def test_a_slot_that_got_its_trigger_while_the_clock_was_ahead_keeps_it(streamed):
    """The slot's trigger lies before the message of the future, so that the server knows it by its msg id alone."""
    slots = roomy()
    earlier = (datetime.now(UTC) - BACK).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert execute("publish", "--scheduled-at", earlier, **SURE, **slots.settings).status == 0
    assert execute("publish", **SURE, **slots.settings).status == 0
    before = triggers(streamed)
    with gone_back(streamed) as url:
        ended, report = publish(slots, url)
    assert triggers(streamed) == before == [slots.of(datetime.fromisoformat(earlier) - timedelta(seconds=1)), before[1]]
    assert (ended.status, report["outcome"], report["seq"]) == (0, "duplicate", 1)
    assert any(tells_both_times(warning) for warning in report["warnings"])


def test_a_rehearsal_tells_the_same(streamed):
    slots = roomy()
    assert execute("publish", **SURE, **slots.settings).status == 0
    with gone_back(streamed) as url:
        ended, report = publish(slots, url, "--rehearse")
    assert len(triggers(streamed)) == 1
    assert (ended.status, report["would_be"]) == (0, "published")
    assert any(tells_both_times(warning) for warning in report["warnings"])


def test_a_clock_that_went_back_within_the_slot_changes_nothing(streamed):
    slots = roomy()
    assert execute("publish", **SURE, **slots.settings).status == 0
    # By half of what has passed of the slot.
    passed = slots.every - (slots.turn - datetime.now(UTC).timestamp())
    with gone_back(streamed, timedelta(seconds=passed / 2)) as url:
        ended, report = publish(slots, url)
    assert len(triggers(streamed)) == 1
    assert (ended.status, report["outcome"]) == (0, "duplicate")
    assert "went back" not in ended.err


def test_a_forced_run_asks_nothing_and_stores(streamed):
    slots = roomy()
    assert execute("publish", **SURE, **slots.settings).status == 0
    with gone_back(streamed) as url:
        ended = execute("publish", "--force", NATS_URL=url, **SURE, **slots.settings)
    assert len(triggers(streamed)) == 2
    assert ended.status == 0
    assert is_one_clean_line(ended.err)


def test_check_warns_and_history_says_so(run, streamed, monkeypatch):
    slots = roomy()
    for name, value in {**slots.settings, "CRYPTO_TRIGGER_GIVE_UP_AFTER": "20s"}.items():
        monkeypatch.setenv(name, value)
    put(streamed.url, streamed.subject, PAYLOAD)
    assert run("check").status == 0
    with gone_back(streamed) as url:
        seen = see(run, "-s", url)
        history = run("history", "-s", url)
        as_json = run("history", "--json", "-s", url)
    assert seen.status == 1
    assert any(map(tells_both_times, seen.text.split("; ")))
    assert any(map(tells_both_times, seen.json["warning"]))
    assert tells_both_times(history.err)
    assert any(map(tells_both_times, json.loads(as_json.out)["warnings"]))
    assert (history.status, as_json.status) == (0, 0)


def test_a_message_that_is_stored_after_the_time_was_told_is_not_taken_for_one_of_the_future(run, place, monkeypatch):
    """Without the time of a second answer, a host that allows no run to be early would warn."""
    monkeypatch.setenv("CRYPTO_TRIGGER_SUBJECT", "crypto.update")
    monkeypatch.setenv("CRYPTO_TRIGGER_EARLY", "0s")
    told = []

    def script(talk):
        talk.welcome()
        while True:
            subject, inbox = talk.published()
            if ".STREAM.INFO." in subject:
                told.append(datetime.now(UTC))
                late = timedelta(seconds=2) if len(told) == 1 else timedelta(0)
                talk.answer(inbox, stream_info(ts=(datetime.now(UTC) - late).isoformat()))
            elif ".MSG.GET." in subject:
                now = datetime.now(UTC).isoformat()
                talk.answer(inbox, {"message": {"subject": "crypto.update", "seq": 7, "time": now}})
            else:
                talk.no_responders(inbox)

    with Scripted(script) as server:
        answer = run("check", "-s", server.url, "--stream", "S")
    assert "clock" not in answer.out
    assert len(told) == 2
    assert place
