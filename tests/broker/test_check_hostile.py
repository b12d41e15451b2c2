"""Servers that answer nonsense, and streams of another shape: `check` neither hangs nor misleads."""

import asyncio
import json
import re
import time
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nats.js.api import StreamSource
from support import examples  # noqa: F401 - how they draw
from support.answers import NO_MESSAGE, stream_info
from support.clocks import roomy
from support.patience import until
from support.plugin_answers import line, see
from support.scripted import Scripted
from support.streams import add_stream, client, put, stored

DEADLINE, BEYOND = 0.2, 1.0
NOW = "2026-11-23T18:04:15.000000Z"
NONSENSE = [
    b"",
    b"x",
    b"[]",
    b"null",
    b"{}",
    b'"text"',
    b"{" * 5000,
    b'{"config": 7}',
    b'{"error": 1}',
    b'{"error": {}}',
]
CONSUMER = {
    "name": "api",
    "config": {"ack_policy": "explicit"},
    "delivered": {"stream_seq": 0},
    "ack_floor": {"stream_seq": 0},
}
CLUSTER = {"cluster": "C"}
NO_STREAM = {"error": {"code": 404, "err_code": 10059, "description": "stream not found"}}
NO_CONSUMER = {"error": {"code": 404, "err_code": 10014, "description": "consumer not found"}}


def answering(**answers):
    """A server that answers a request by a part of its subject; without one, there is no message and no batch."""
    known = {"STREAM_INFO": stream_info(), "MSG_GET": NO_MESSAGE, "CONSUMER_INFO": CONSUMER, **answers}

    def script(talk):
        talk.welcome()
        while True:
            subject, inbox = talk.published()
            for name, answer in known.items():
                if f".{name.replace('_', '.')}." in subject:
                    talk.answer(inbox, answer)
                    break
            else:
                talk.no_responders(inbox)

    return Scripted(script)


def check(run, server):
    began = time.monotonic()
    asked = ("--stream", "S", "--consumer", "api", "--timeout", "100ms", "--give-up-after", f"{DEADLINE}s")
    answer = run("check", "-s", server.url, *asked)
    assert time.monotonic() - began < DEADLINE + BEYOND
    return answer


@pytest.mark.parametrize("question", ["STREAM_INFO", "MSG_GET", "CONSUMER_INFO"])
def test_nonsense_is_unknown_and_never_ok(run, question):
    for nonsense in NONSENSE:
        with answering(**{question: nonsense}) as server:
            answer = check(run, server)
        assert answer.status in (2, 3), nonsense
        assert line(answer.out).status in ("CRITICAL", "UNKNOWN")
        assert len(answer.out) < 1000


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "other"},
        {"name": None},
        {"config": None},
        {"ack_floor": None},
        {"ack_floor": {"stream_seq": -1}},
        {"ack_floor": {"stream_seq": True}},
        {"ack_floor": {"stream_seq": "7"}},
        {"ack_floor": {}},
        {"config": {"ack_policy": "none"}, "delivered": 7},
    ],
    ids=str,
)
def test_a_consumer_s_information_that_makes_no_sense_is_unknown(run, changes):
    with answering(CONSUMER_INFO={**CONSUMER, **changes}) as server:
        answer = check(run, server)
    assert answer.status == 3
    assert "does another service answer in the place of JetStream?" in answer.out


@pytest.mark.parametrize(("policy", "left"), [("none", 0), ("explicit", 1)])
def test_without_acknowledgements_what_was_delivered_counts(run, policy, left):
    now = datetime.now(UTC).isoformat()
    message = {"message": {"subject": "crypto.update", "seq": 7, "time": now}}
    about = {**CONSUMER, "config": {"ack_policy": policy}, "delivered": {"stream_seq": 7}}
    with answering(MSG_GET=message, CONSUMER_INFO=about) as server:
        answer = check(run, server)
    assert line(answer.out).data["api_unacknowledged"] == str(left)


@pytest.mark.parametrize(
    "filters", [{"filter_subject": 5}, {"filter_subjects": [5, None]}, {"filter_subjects": 5}], ids=str
)
def test_a_consumer_whose_subjects_make_no_sense_is_taken_for_one_of_all(run, filters):
    message = {"message": {"subject": "crypto.update", "seq": 7, "time": datetime.now(UTC).isoformat()}}
    about = {**CONSUMER, "config": {"ack_policy": "explicit", **filters}, "ack_floor": {"stream_seq": 6}}
    with answering(MSG_GET=message, CONSUMER_INFO=about) as server:
        answer = check(run, server)
    assert line(answer.out).data["api_unacknowledged"] == "1"
    assert answer.err == ""


@pytest.mark.parametrize("ts", [None, "soon", 7, "2026-11-23T18:00:00", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z"])
def test_without_a_sensible_time_of_the_server_our_clock_decides(run, ts):
    with answering(STREAM_INFO=stream_info(ts=ts, created=None)) as server:
        answer = check(run, server)
    # The stream has no trigger, and nobody knows how old it is.
    assert answer.status == 2
    assert "skew" not in answer.out


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 2**70) | st.sampled_from(["\x1b", NOW, "S", "api", "crypto.update"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["config", "ts", "created", "state", "error", "message", "seq", "time", "hdrs", "name", "ack_floor",
             "delivered", "stream_seq", "paused", "pause_remaining", "filter_subject", "filter_subjects", "subjects",
             "subject_transform", "mirror", "retention", "code", "err_code", "description", "last_seq", "subject"]
        ),
        inner,
        max_size=5,
    ),
    max_leaves=12,
)  # fmt: skip


@settings(max_examples=25, derandomize=True)
@given(question=st.sampled_from(["STREAM_INFO", "MSG_GET", "CONSUMER_INFO"]), answer=JUNK)
def test_no_answer_makes_it_hang_crash_or_say_that_all_is_well(run, question, answer):
    sane = {"STREAM_INFO": stream_info(), "CONSUMER_INFO": CONSUMER, "MSG_GET": NO_MESSAGE}[question]
    mixed = {**sane, **answer} if isinstance(answer, dict) else answer
    with answering(**{question: json.dumps(mixed).encode()}) as server:
        ended = check(run, server)
    assert ended.status in (2, 3)
    assert "bug" not in ended.out
    assert ended.err == ""


# Streams of another shape.


@pytest.fixture
def slots(monkeypatch):
    found = roomy()
    for name, value in found.settings.items():
        monkeypatch.setenv(name, value)
    return found


def test_messages_of_other_subjects_neither_count_nor_hide_the_triggers(run, place, slots):
    add_stream(place.url, place.stream, [f"{place.stream}.>"])
    put(place.url, place.subject)

    async def crowd():
        async with client(place.url) as connection:
            for number in range(3000):
                await connection.publish(f"{place.stream}.other.{number % 500}", b"x" * 100)
            await connection.flush()

    asyncio.run(crowd())
    seen = see(run)
    assert (seen.status, seen.json["newest"]["seq"], seen.json["surplus"]) == (0, 1, 0)
    assert seen.json["newest"]["slot"] == slots.now()


def test_messages_without_headers_count_for_the_slot_they_were_stored_in(run, place, slots):
    add_stream(place.url, place.stream, [place.subject])
    for _ in range(3):
        put(place.url, place.subject, b"whatever")
    seen = see(run)
    assert (seen.status, seen.json["newest"]["slot"], seen.json["surplus"]) == (0, slots.now(), 2)
    assert "source" not in seen.json["newest"]


@pytest.mark.parametrize("time", ["soon", "", "2026-13-01T00:00:00Z", "9999-12-31T23:59:59Z", "-1", "\x1b[31m"])
def test_a_ce_time_that_is_no_time_does_not_mislead(run, place, slots, time):
    add_stream(place.url, place.stream, [place.subject])
    put(place.url, place.subject, b"", {"ce-time": time, "ce-source": "\x1b]0;owned\x07|"})
    seen = see(run)
    assert seen.json["newest"]["slot"] == slots.now()
    assert seen.status == (1 if time.startswith("9999") else 0)


def test_triggers_of_another_length_of_a_slot_count_for_the_slots_they_name(run, place, slots):
    add_stream(place.url, place.stream, [place.subject])
    third = slots.every // 3
    for number in range(7):
        moment = datetime.fromtimestamp(slots.turn - slots.every - number * third, UTC)
        put(place.url, place.subject, b"", {"ce-time": moment.strftime("%Y-%m-%dT%H:%M:%SZ")})
    seen = see(run, "--since", f"{3 * slots.every}s")
    assert (seen.status, seen.json["missed"], seen.json["surplus"]) == (0, [], 4)


def test_a_delete_marker_is_no_trigger(run, place, slots):
    add_stream(place.url, place.stream, [place.subject])
    put(place.url, place.subject)
    put(place.url, place.subject, b"", {"Nats-Marker-Reason": "MaxAge"})
    seen = see(run)
    assert len(stored(place.url, place.stream)) == 2
    assert (seen.status, seen.json["newest"]["seq"], seen.json["surplus"]) == (0, 1, 0)
    assert seen.json["newest"]["slot"] == slots.now()


def test_a_stream_with_markers_alone_holds_no_trigger(run, place, slots):
    add_stream(place.url, place.stream, [place.subject])
    put(place.url, place.subject, b"", {"Nats-Marker-Reason": "Purge"})
    answer = run("check")
    assert (answer.status, line(answer.out).text.partition(":")[0]) == (0, "no trigger has been stored yet")
    assert slots


def test_a_sealed_stream_is_judged_by_what_it_holds(run, place, slots):
    add_stream(place.url, place.stream, [place.subject])
    put(place.url, place.subject)

    async def seal():
        async with client(place.url) as connection:
            js = connection.jetstream()
            config = (await js.stream_info(place.stream)).config
            await js.update_stream(config.evolve(sealed=True))

    asyncio.run(seal())
    assert see(run).status == 0
    assert slots


def test_a_mirror_is_judged_by_what_it_holds(run, place, slots):
    add_stream(place.url, place.stream, [place.subject])
    add_stream(place.url, f"{place.stream}-m", None, mirror=StreamSource(name=place.stream))
    put(place.url, place.subject)
    until(lambda: stored(place.url, f"{place.stream}-m"), "mirrored")
    seen = see(run, "--stream", f"{place.stream}-m")
    assert (seen.status, seen.json["newest"]["slot"]) == (0, slots.now())


def test_a_subject_that_the_stream_maps_is_found_under_its_other_name(run, place, slots):
    async def add():
        async with client(place.url) as connection:
            config = {
                "name": place.stream,
                "subjects": [place.subject],
                "subject_transform": {"src": place.subject, "dest": f"{place.stream}.mapped"},
            }
            await connection.request(f"$JS.API.STREAM.CREATE.{place.stream}", json.dumps(config).encode())

    asyncio.run(add())
    put(place.url, place.subject)
    assert stored(place.url, place.stream)[0].subject == f"{place.stream}.mapped"
    assert see(run).json["newest"]["slot"] == slots.now()


def test_a_window_of_more_slots_than_there_are_triggers_is_quick(run, place, monkeypatch):
    for name, value in (("EVERY", "6s"), ("EARLY", "0s"), ("GIVE_UP_AFTER", "5s")):
        monkeypatch.setenv(f"CRYPTO_TRIGGER_{name}", value)
    add_stream(place.url, place.stream, [place.subject])
    put(place.url, place.subject, b"", {"ce-time": "2020-01-01T00:00:00Z"})
    began = time.monotonic()
    answer = run("check", "--since", f"{timedelta(seconds=6 * 99_000).total_seconds():.0f}s")
    assert time.monotonic() - began < 5 + BEYOND
    read = line(answer.out)
    assert answer.status == 2
    assert read.data["missed"].startswith("98999;")
    assert re.match("missed [^ ,]+ to [^ ,]+ \\(98999 slots\\); the newest is of 2020-01-01T00:00:00Z", read.text)


@pytest.mark.parametrize("cluster", [True, False])
@pytest.mark.parametrize("first", ["no trigger", "no stream", "no consumer"])
def test_bad_news_from_a_cluster_is_looked_at_once_more(run, first, cluster):
    """A leader that was frozen answers once from its past."""
    asked = Counter()

    def script(talk):
        talk.welcome(**(CLUSTER if cluster else {}))
        while True:
            subject, inbox = talk.published()
            name = next((name for name in ("STREAM.INFO", "MSG.GET", "CONSUMER.INFO") if name in subject), "")
            asked[name] += 1
            # The newest and the first message are asked for at once.
            stale = asked[name] <= (2 if name == "MSG.GET" else 1)
            now = datetime.now(UTC).isoformat()
            message = {"message": {"subject": "crypto.update", "seq": 7, "time": now}}
            state = {"messages": 7, "first_seq": 1, "last_seq": 7}
            past = {
                "STREAM.INFO": NO_STREAM if first == "no stream" else None,
                "MSG.GET": NO_MESSAGE if first == "no trigger" else None,
                "CONSUMER.INFO": NO_CONSUMER if first == "no consumer" else None,
            }
            present = {
                "STREAM.INFO": stream_info(state=state),
                "MSG.GET": message,
                "CONSUMER.INFO": {**CONSUMER, "ack_floor": {"stream_seq": 7}},
            }
            if name:
                talk.answer(inbox, (stale and past[name]) or present[name])
            else:
                talk.no_responders(inbox)

    with Scripted(script) as server:
        options = ("--stream", "S", "--consumer", "api", "--give-up-after", "20s")
        answer = run("check", "-s", server.url, *options)
    assert answer.status == (0 if cluster else 2), answer.out


def test_what_was_seen_first_counts_if_there_is_nothing_to_see_a_second_time(run):
    """The deadline holds, and the first answer is not lost."""
    seen = []

    def script(talk):
        talk.welcome(**CLUSTER)
        while True:
            subject, inbox = talk.published()
            if "STREAM.INFO" in subject:
                seen.append(subject)
                if len(seen) == 1:
                    talk.answer(inbox, stream_info())
            elif "MSG.GET" in subject and len(seen) == 1:
                talk.answer(inbox, NO_MESSAGE)
            elif "DIRECT" in subject:
                talk.no_responders(inbox)

    with Scripted(script) as server:
        began = time.monotonic()
        answer = run("check", "-s", server.url, "--stream", "S", "--timeout", "20s", "--give-up-after", "2s")
    assert time.monotonic() - began < 2 + BEYOND
    assert len(seen) == 2
    assert answer.status == 2
    assert "no trigger is stored for " in answer.out
