"""Marks that the server leaves for messages that are gone: none of them is a trigger."""

import asyncio
import json

import pytest
from support.clocks import roomy
from support.patience import until
from support.processes import Process, execute
from support.streams import client, put, stored

PAYLOAD = b'{"trigger":"update"}'


def ask(place, endpoint, **body):
    """Ask the JetStream API, which knows fields that nats-py does not."""

    async def request():
        async with client(place.url) as connection:
            answer = await connection.request(f"$JS.API.{endpoint}.{place.stream}", json.dumps(body).encode())
            content = json.loads(answer.data)
            assert "error" not in content, content

    asyncio.run(request())


def config(place, **changes):
    return {
        "name": place.stream,
        "subjects": [f"{place.stream}.>"],
        "duplicate_window": 10**9,
        "allow_msg_ttl": True,
        "subject_delete_marker_ttl": 3600 * 10**9,
        **changes,
    }


@pytest.fixture
def marked(place):
    """A stream whose last message on the subject is the server's mark of a trigger that has expired."""
    ask(place, "STREAM.CREATE", **config(place, max_age=10**9))
    put(place.url, place.subject, PAYLOAD, {"ce-time": "2026-01-01T00:00:00Z"})

    def mark():
        found = stored(place.url, place.stream)
        return found and "Nats-Marker-Reason" in found[-1].headers

    until(mark)
    # What is published from here on stays.
    ask(place, "STREAM.UPDATE", **config(place, max_age=3600 * 10**9, duplicate_window=1800 * 10**9))
    (left,) = stored(place.url, place.stream)
    assert (left.subject, left.headers["Nats-Marker-Reason"]) == (place.subject, "MaxAge")
    return left


def triggers(place):
    return [message for message in stored(place.url, place.stream) if message.data == PAYLOAD]


def test_the_mark_of_an_expired_trigger_leaves_the_slot_open(place, marked):
    slots = roomy()
    runs = [execute("publish", "--json", **slots.settings) for _ in range(2)]
    (trigger,) = triggers(place)
    assert (trigger.seq, trigger.headers["ce-time"]) == (marked.seq + 1, slots.now())
    reports = [json.loads(run.out) for run in runs]
    assert [(run.status, run.err) for run in runs] == [(0, "")] * 2
    assert [report["outcome"] for report in reports] == ["published", "duplicate"]
    assert [report["seq"] for report in reports] == [trigger.seq] * 2


def test_runs_at_once_after_a_mark_store_one_trigger(place, marked):
    slots = roomy()
    runs = [Process("publish", "--json", **slots.settings) for _ in range(5)]
    ended = [run.end() for run in runs]
    assert [trigger.seq for trigger in triggers(place)] == [marked.seq + 1]
    assert sorted(json.loads(run.out)["outcome"] for run in ended) == ["duplicate"] * 4 + ["published"]


@pytest.mark.parametrize("reason", ["MaxAge", "Purge", "Remove"])
def test_a_mark_of_any_kind_is_no_trigger(reason, place):
    """Clients of key-value stores write such marks, too; a `ce-time` on one is no trigger's."""
    slots = roomy()
    ask(place, "STREAM.CREATE", **config(place))
    put(place.url, place.subject, b"", {"Nats-Marker-Reason": reason, "ce-time": slots.now()})
    ended = execute("publish", "--json", **slots.settings)
    assert [message.headers["ce-time"] for message in triggers(place)] == [slots.now()]
    assert (ended.status, json.loads(ended.out)["outcome"]) == (0, "published")
