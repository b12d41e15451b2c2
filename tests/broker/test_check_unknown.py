"""Slots of which the stream holds too little to tell: `check` and `history` say so, and call none of them well."""

import asyncio
import base64
import json
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
from support.answers import NO_MESSAGE, stream_info
from support.clocks import roomy
from support.patience import until
from support.plugin_answers import line, see
from support.scripted import Scripted
from support.streams import add_stream, client, put

SIZE = 200


@pytest.fixture
def seconds(place, monkeypatch):
    """Slots of a second, so that some have passed soon after the stream was created."""
    monkeypatch.setenv("CRYPTO_TRIGGER_EVERY", "1s")
    monkeypatch.setenv("CRYPTO_TRIGGER_EARLY", "0s")
    monkeypatch.setenv("CRYPTO_TRIGGER_GIVE_UP_AFTER", "900ms")
    return place


def purged(place):
    async def purge():
        async with client(place.url) as connection:
            await connection.jetstream().purge_stream(place.stream)

    asyncio.run(purge())


def deleted(place):
    """Delete all messages of the subject but the newest, as an operator may."""

    async def delete():
        async with client(place.url) as connection:
            js = connection.jetstream()
            last = (await js.stream_info(place.stream)).state.last_seq
            await js.publish(f"{place.stream}.other", b"")
            await js.purge_stream(place.stream, subject=place.subject, seq=last)

    asyncio.run(delete())


LOSSES = {
    "max_msgs_per_subject": ({"max_msgs_per_subject": 1}, None, " (max_msgs_per_subject 1)"),
    "max_msgs": ({"max_msgs": 1}, None, " (max_msgs 1)"),
    "max_bytes": ({"max_bytes": 2 * SIZE}, None, f" (max_bytes {2 * SIZE})"),
    "max_age": ({"max_age": 0.5, "duplicate_window": 0.5}, None, " (max_age 500ms)"),
    "a purge": ({}, purged, ""),
    "a purge of the subject alone": ({}, deleted, ""),
}


@pytest.mark.parametrize(("config", "lose", "why"), LOSSES.values(), ids=LOSSES)
def test_slots_whose_triggers_the_stream_has_removed_are_not_called_well(run, seconds, config, lose, why):
    add_stream(seconds.url, seconds.stream, [f"{seconds.stream}.>"], **config)

    def look():
        """One trigger a while after the stream was created, and nothing else that is still there."""
        for _ in range(3):
            put(seconds.url, seconds.subject, b"x" * SIZE)
        if lose:
            lose(seconds)
            put(seconds.url, seconds.subject, b"x" * SIZE)
        found = run("check", "--since", "4s", "--json")
        return json.loads(found.out) if found.status == 0 and "known_since" in found.out else None

    found = until(look)
    known = datetime.fromisoformat(found["known_since"])
    assert known == datetime.fromisoformat(found["newest"]["slot"])
    (said,) = found["ok"]
    assert f" before {found['known_since']} " in said
    assert said.endswith(f"not known: stream {seconds.stream} has removed messages{why}")
    assert "1 of 1 slots in 4s" in said
    assert found["missed"] == []
    assert "missed" not in [value["name"] for value in found["perf_data"]]


def test_a_missed_slot_is_told_beside_those_that_are_not_known(run, seconds):
    add_stream(seconds.url, seconds.stream, [seconds.subject], max_msgs_per_subject=1)
    until(lambda: put(seconds.url, seconds.subject) and "known_since" in run("check", "--json").out)

    def missed():
        found = run("check", "--since", "1m", "--missed-critical", "1", "--missed-warn", "1")
        return found if found.out.startswith("TRIGGER CRITICAL - missed ") else None

    found = line(until(missed).out)
    assert "not known: stream" in found.text
    assert found.data["missed"].split(";")[0].isdigit()


@contextmanager
def holding(created, state, message=None):
    """A server whose stream is in this state, and holds this message of the subject at most."""

    def script(talk):
        talk.welcome()
        while True:
            subject, inbox = talk.published()
            if ".STREAM.INFO." in subject:
                talk.answer(inbox, stream_info(created=created, state=state))
            elif ".MSG.GET." in subject:
                talk.answer(inbox, message or NO_MESSAGE)
            else:
                talk.no_responders(inbox)

    with Scripted(script) as server:
        yield server.url


def ago(**age):
    return (datetime.now(UTC) - timedelta(**age)).isoformat()


def one_left(seq=7):
    """The state of a stream of which one message is left, stored now."""
    now = datetime.now(UTC).isoformat()
    return {"messages": 1, "first_seq": seq, "last_seq": seq, "first_ts": now, "last_ts": now}


def stored_now(seq=7, **headers):
    head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    hdrs = base64.b64encode(f"NATS/1.0\r\n{head}\r\n".encode()).decode()
    time = datetime.now(UTC).isoformat()
    return {"message": {"subject": "crypto.update", "seq": seq, "time": time, "hdrs": hdrs}}


@pytest.mark.usefixtures("place")
def test_each_format_tells_that_slots_are_not_known(run, monkeypatch):
    slots = roomy()
    for name, value in {"CRYPTO_TRIGGER_SUBJECT": "crypto.update", **slots.settings}.items():
        monkeypatch.setenv(name, value)
    since = ("--since", f"{4 * slots.every}s", "--grace", f"{slots.every}s", "--stream", "S")
    with holding(ago(days=9), one_left(), stored_now()) as url:
        seen = see(run, *since, "-s", url, "--missed-warn", "3", "--missed-critical", "3")
        history = run("history", *since, "-s", url)
        as_json = json.loads(run("history", *since, "-s", url, "--json").out)
    assert seen.status == 0
    assert "3 slots before " in seen.text
    assert (seen.data["missed"], seen.data["late"], seen.data["surplus"]) == ("U;2;2;0", "U", "U")
    assert (seen.json["known_since"], seen.json["missed"]) == (slots.now(), [])
    assert (seen.metrics["window_unknown_slots"], seen.metrics["window_expected_slots"]) == (3, 1)
    assert not {"window_missed_slots", "window_late_slots", "window_surplus_triggers"} & set(seen.metrics)
    assert [words.split()[1] for words in history.out.splitlines()] == ["unknown"] * 3 + ["triggered"]
    assert (as_json["known_since"], as_json["totals"]["unknown"], as_json["totals"]["missed"]) == (slots.now(), 3, 0)


@pytest.mark.parametrize(
    ("state", "status"),
    [
        # The stream's last messages were removed after they were stored: perhaps a trigger was among them.
        ({"messages": 0, "first_seq": 8, "last_seq": 7, "last_ts": ago(minutes=10)}, 3),
        ({"messages": 1, "first_seq": 7, "last_seq": 7, "first_ts": ago(minutes=10), "last_ts": ago(minutes=10)}, 3),
        # Nothing was stored for longer than a slot and its grace, or everything since then is there.
        ({"messages": 0, "first_seq": 8, "last_seq": 7, "last_ts": ago(minutes=21)}, 2),
        ({"messages": 7, "first_seq": 7, "last_seq": 13, "first_ts": ago(minutes=21), "last_ts": ago(minutes=1)}, 2),
        ({"messages": 7, "first_seq": 1, "last_seq": 7, "first_ts": ago(minutes=1), "last_ts": ago(minutes=1)}, 2),
    ],
)
@pytest.mark.usefixtures("place")
def test_a_stream_without_a_trigger_that_may_have_had_one_is_unknown(run, monkeypatch, state, status):
    monkeypatch.setenv("CRYPTO_TRIGGER_SUBJECT", "crypto.update")
    with holding(ago(days=9), state) as url:
        answer = run("check", "-s", url, "--stream", "S")
    assert answer.status == status
    assert ("whether there was one is not known: stream S has removed messages" in answer.out) == (status == 3)
    # It is known of the whole window only where nothing was removed.
    assert line(answer.out).data["missed"].startswith("0;") == (state["first_seq"] == 1)


@pytest.mark.usefixtures("place")
def test_a_late_run_for_an_earlier_slot_does_not_tell_of_its_own_slot(run, monkeypatch):
    """The only message that is held was stored for an earlier slot: the present slot's may have been removed for it."""
    monkeypatch.setenv("CRYPTO_TRIGGER_SUBJECT", "crypto.update")
    message = stored_now(ce_time=ago(minutes=30))
    with holding(ago(days=9), one_left(), message) as url:
        answer = run("check", "-s", url, "--stream", "S")
    assert answer.status == 3
    assert " has its trigger is not known: stream S has removed messages" in answer.out
