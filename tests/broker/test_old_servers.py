"""Servers of other releases: below 2.9 jetstream is refused by name; from 2.9 on a slot has one trigger."""

import asyncio
import json
from datetime import UTC, datetime, timedelta

import nats
import pytest
from support.clocks import clock, roomy
from support.old_servers import find, serving, version
from support.processes import execute, is_one_clean_line
from support.scripted import Scripted
from support.streams import add_stream, stored
from support.subscribers import Subscriber

PAYLOAD = b'{"trigger":"update"}'
SURE = {"CRYPTO_TRIGGER_TIMEOUT": "5s", "CRYPTO_TRIGGER_GIVE_UP_AFTER": "10s"}
TOO_OLD = ["2.1", "2.2", "2.3", "2.4", "2.8"]
# Before 2.2 there is no JetStream, and no header.
TRY_JETSTREAM = TOO_OLD[1:]
GOOD = ["2.9", "2.10", "2.11", "2.12", "2.14"]
# The server tells its time from here on.
TELLS_TIME = GOOD[1:]


def refused_by_name(ended, url, release):
    """78 at once, in one line that names the server, its version and the least one that will do."""
    assert (ended.status, json.loads(ended.out)["outcome"]) == (78, "config")
    assert json.loads(ended.out)["attempts"] == 1
    assert is_one_clean_line(ended.err)
    assert all(word in ended.err for word in (url, release, "2.9"))
    assert ended.seconds < 4


@pytest.fixture(params=TOO_OLD)
def too_old(request):
    return find(request.param)


async def create(url, place):
    """Create a stream in words that every release knows."""
    config = {"name": place.stream, "subjects": [place.subject], "duplicate_window": 1800 * 10**9}
    limits = {"max_consumers": -1, "max_msgs": -1, "max_bytes": -1, "storage": "file", "num_replicas": 1}
    connection = await nats.connect(url)
    try:
        body = json.dumps({**config, **limits, "retention": "limits", "discard": "old"}).encode()
        answer = await connection.request(f"$JS.API.STREAM.CREATE.{place.stream}", body, timeout=5)
        assert "error" not in json.loads(answer.data), answer.data
    finally:
        await connection.close()


async def count(url, place):
    """How many messages the stream holds."""
    connection = await nats.connect(url)
    try:
        answer = await connection.request(f"$JS.API.STREAM.INFO.{place.stream}", b"", timeout=5)
        return json.loads(answer.data)["state"]["messages"]
    finally:
        await connection.close()


@pytest.mark.parametrize("release", TRY_JETSTREAM)
def test_a_server_before_2_9_is_refused_by_name_and_stores_nothing(release, place):
    path = find(release)
    with serving(path) as server:
        asyncio.run(create(server.url, place))
        ended = execute("publish", "--json", NATS_URL=server.url, **SURE)
        assert asyncio.run(count(server.url, place)) == 0
        refused_by_name(ended, server.url, version(path))


def test_a_server_without_jetstream_of_an_old_release_is_refused_by_name(too_old):
    with serving(too_old, jetstream=False) as server:
        ended = execute("publish", "--json", NATS_URL=server.url, **SURE)
        refused_by_name(ended, server.url, version(too_old))


def test_core_works_with_an_old_server(too_old, place):
    with serving(too_old, jetstream=False) as server, Subscriber(server.url, place.subject) as subscriber:
        ended = execute("publish", "--json", "--delivery", "core", NATS_URL=server.url, **SURE)
        assert [heard.data for heard in subscriber.heard()] == [PAYLOAD]
    assert (ended.status, ended.err) == (0, "")


@pytest.mark.parametrize("release", ["2.8.4", "2.2.0", "2.0.4", "1.4.1", "0.9.6"])
def test_a_greeting_of_an_old_server_is_enough(release, place):  # noqa: ARG001 - a clean place
    def script(talk):
        talk.welcome(version=release)
        talk.listen()

    with Scripted(script) as server:
        ended = execute("publish", "--json", NATS_URL=server.url, **SURE)
        assert b"PUB crypto.update" not in server.heard
        refused_by_name(ended, server.url, release)


@pytest.mark.parametrize("release", ["2.9.0", "2.10.0", "3.0.0", "2.15.1-preview.1", "", "dev"])
def test_a_greeting_of_another_release_is_not_taken_for_an_old_one(release, place):  # noqa: ARG001 - a clean place
    """A version that cannot be read is no reason to refuse."""

    def script(talk):
        talk.welcome(version=release)
        talk.listen()

    short = {"CRYPTO_TRIGGER_TIMEOUT": "300ms", "CRYPTO_TRIGGER_GIVE_UP_AFTER": "500ms"}
    with Scripted(script) as server:
        ended = execute("publish", "--json", NATS_URL=server.url, **short)
    assert ended.status == 69


def test_in_a_list_a_newer_server_takes_the_place_of_an_old_one(place):
    add_stream(place.url, place.stream, [place.subject], duplicate_window=1800)

    def script(talk):
        talk.welcome(version="2.8.4")
        talk.listen()

    with Scripted(script) as old:
        ended = execute("publish", NATS_URL=f"{old.url},{place.url}", **SURE)
    # Or the list is refused because of the old server, and nothing is stored.
    assert ended.status in {0, 78}
    assert len(stored(place.url, place.stream)) == (1 if ended.status == 0 else 0)


@pytest.mark.parametrize("release", GOOD)
def test_from_2_9_on_a_slot_has_one_trigger(release, place):
    slots = roomy()
    with serving(find(release)) as server:
        asyncio.run(create(server.url, place))
        runs = [execute("publish", "--json", NATS_URL=server.url, **SURE, **slots.settings) for _ in range(2)]
        assert [message.headers["ce-time"] for message in stored(server.url, place.stream)] == [slots.now()]
    assert [(run.status, run.err) for run in runs] == [(0, "")] * 2
    assert [json.loads(run.out)["outcome"] for run in runs] == ["published", "duplicate"]


@pytest.mark.parametrize("release", TELLS_TIME)
def test_from_2_10_on_the_server_s_clock_decides(release, place):
    slots = roomy()
    with serving(find(release)) as server:
        asyncio.run(create(server.url, place))
        ended = execute("publish", "--json", NATS_URL=server.url, **SURE, **slots.settings, **clock(timedelta(hours=1)))
        assert [message.headers["ce-time"] for message in stored(server.url, place.stream)] == [slots.now()]
    assert (ended.status, json.loads(ended.out)["scheduled_at"]) == (0, slots.now())
    assert "clock" in ended.err


def test_on_2_9_the_clock_of_the_host_decides_and_verbose_says_so(place):
    slots = roomy()
    offset = timedelta(hours=1)
    slot = slots.of(datetime.now(UTC) + offset)
    with serving(find("2.9")) as server:
        asyncio.run(create(server.url, place))
        quiet, verbose = (
            execute("publish", *flags, NATS_URL=server.url, **SURE, **slots.settings, **clock(offset))
            for flags in ((), ("-v",))
        )
        assert stored(server.url, place.stream)[0].headers["ce-time"] == slot
    assert (quiet.status, quiet.err) == (0, "")
    assert verbose.status == 0
    assert [line for line in verbose.err.splitlines() if "clock" in line and "host" in line]
