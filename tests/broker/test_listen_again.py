"""`listen` goes on over restarts, new leaders and lost connections: no trigger is left out, and none comes twice."""

import asyncio
import json
from contextlib import closing
from uuid import uuid4

import nats
import pytest
from support.cluster import Cluster
from support.links import Link
from support.listening import Listening, told
from support.loops import Loop
from support.patience import until
from support.processes import is_one_clean_line
from support.proxy import Cut, Fault, Freeze, Proxy, Tamper, Way
from support.senders import Sender
from support.streams import add_stream, client, put, stored

from crypto_trigger.commands.server import Server

SETTINGS = {
    "CRYPTO_TRIGGER_TIMEOUT": "400ms",
    "CRYPTO_TRIGGER_GIVE_UP_AFTER": "30s",
    "CRYPTO_TRIGGER_BACKOFF_BASE": "2ms",
    "CRYPTO_TRIGGER_BACKOFF_MAX": "50ms",
}
STREAM, SUBJECT = "S", "crypto.update"
LIMIT = ("--for", "60s")
pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture
def quick(place, monkeypatch):  # noqa: ARG001 - a clean place
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def own(monkeypatch):
    """A server of the test's own, with a stream."""
    with Server() as server:
        monkeypatch.setenv("NATS_URL", server.url)
        monkeypatch.setenv("CRYPTO_TRIGGER_STREAM", STREAM)
        monkeypatch.setenv("CRYPTO_TRIGGER_SUBJECT", SUBJECT)
        add_stream(server.url, STREAM, [SUBJECT])
        yield server


def fill(place, count):
    """Store so many messages, as fast as one connection can."""

    async def publish():
        async with client(place.url) as connection:
            js = connection.jetstream()
            for number in range(count):
                await js.publish(place.subject, str(number).encode())

    asyncio.run(publish())


def seen(result):
    """The sequences and payloads of the lines, of a run that got all that it was asked for."""
    assert (result.status, told(result.err)[1]) == (0, "")
    return [(found["seq"], found["payload"]) for found in map(json.loads, result.out.splitlines())]


def held(url, stream):
    return [(message.seq, message.data.decode()) for message in stored(url, stream)]


def restart(server):
    server.stop()
    server.start()


# Where the connection is lost, in bytes of one direction: before, within and after the first messages.
POINTS = (0, 300, 1200, 2500, *range(2800, 4400, 97), 5000, 6000)


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
def test_a_connection_that_is_cut_again_and_again_loses_and_repeats_nothing(reset, run, place):
    assert run("setup").status == 0
    fill(place, 100)
    cuts = [Cut(Way.TO_CLIENT, after, reset=reset) for after in POINTS]
    with Proxy(place.url) as proxy, proxy.route(*cuts, then=Fault()) as route:
        result = run("listen", "--json", "--since", "1h", "--count", 100, *LIMIT, "--server", route.url)
    assert all(cut.struck for cut in cuts[:-2])
    assert seen(result) == held(place.url, place.stream)
    assert len(held(place.url, place.stream)) == 100


def test_a_connection_that_is_cut_on_the_way_to_the_server_loses_and_repeats_nothing(run, place):
    assert run("setup").status == 0
    fill(place, 100)
    cuts = [Cut(Way.TO_SERVER, after) for after in range(0, 1200, 60)]
    with Proxy(place.url) as proxy, proxy.route(*cuts, then=Fault()) as route:
        result = run("listen", "--json", "--since", "1h", "--count", 100, *LIMIT, "--server", route.url)
    assert seen(result) == held(place.url, place.stream)


@pytest.mark.parametrize("what", ["drop", "double"])
def test_a_message_that_is_lost_or_doubled_on_its_way_comes_once(what, run, place):
    assert run("setup").status == 0
    fill(place, 40)
    tampers = [
        Tamper(Way.TO_CLIENT, what, fits=lambda message, part=part: part in message)
        for part in (b"\r\n3\r\n", b"\r\n31\r\n", b"\r\n38\r\n")
    ]
    with Proxy(place.url) as proxy, proxy.route(*tampers, then=Fault()) as route:
        result = run("listen", "--json", "--since", "1h", "--count", 40, *LIMIT, "--server", route.url)
    assert tampers[0].struck
    if what == "drop":
        assert seen(result) == held(place.url, place.stream)
    else:
        # A connection on which a message comes twice is not one to believe.
        assert result.status == 76
        assert is_one_clean_line(result.err)
        assert len(result.out.splitlines()) == 4


def test_a_last_message_that_is_lost_is_missed_when_the_request_ends(run, place):
    assert run("setup").status == 0
    fill(place, 3)
    lost = Tamper(Way.TO_CLIENT, "drop", fits=lambda message: b"\r\n2\r\n" in message)
    with Proxy(place.url) as proxy, proxy.route(lost, then=Fault()) as route:
        result = run("listen", "--json", "--since", "1h", "--count", 3, *LIMIT, "--server", route.url)
    assert lost.struck
    assert seen(result) == held(place.url, place.stream)


def test_a_connection_that_falls_silent_is_left(run, place):
    assert run("setup").status == 0
    fill(place, 20)
    silences = [Freeze(Way.TO_CLIENT, after) for after in (0, 2000, 3600)]
    with Proxy(place.url) as proxy, proxy.route(*silences, then=Fault()) as route:
        result = run("listen", "--json", "--since", "1h", "--count", 20, *LIMIT, "--server", route.url)
    assert all(silence.struck for silence in silences)
    assert seen(result) == held(place.url, place.stream)


def test_a_restart_of_the_server_loses_and_repeats_nothing(run, own):
    disturb = {10: lambda: restart(own), 25: lambda: restart(own)}
    with Sender(own.url, SUBJECT, 40, disturb):
        result = run("listen", "--json", "--since", "1h", "--count", 40, *LIMIT)
    assert seen(result) == held(own.url, STREAM)
    assert len(held(own.url, STREAM)) == 40


def test_a_stream_that_takes_one_consumer_is_followed_again_as_well(run, place):
    add_stream(place.url, place.stream, [place.subject], max_consumers=1)
    fill(place, 20)
    cuts = [Cut(Way.TO_CLIENT, after) for after in (3000, 3300, 3600)]
    with Proxy(place.url) as proxy, proxy.route(*cuts, then=Fault()) as route:
        result = run("listen", "--json", "--since", "1h", "--count", 20, *LIMIT, "--server", route.url)
    assert seen(result) == held(place.url, place.stream)


def test_what_is_stored_while_the_listener_is_cut_off_comes_afterwards(run, own, monkeypatch):
    with Loop() as loop, closing(Link(loop, int(own.url.rpartition(":")[2]))) as link:
        monkeypatch.setenv("NATS_URL", link.url)
        disturb = {10: link.hush, 25: link.speak, 32: link.tear}
        with Sender(own.url, SUBJECT, 40, disturb):
            result = run("listen", "--json", "--since", "1h", "--count", 40, *LIMIT)
    assert seen(result) == held(own.url, STREAM)


def consumers(url, stream=STREAM):
    async def ask():
        async with client(url) as connection:
            return [info.name for info in await connection.jetstream().consumers_info(stream)]

    return asyncio.run(ask())


def test_a_consumer_that_somebody_deletes_is_made_again(run, own):
    def delete():
        async def ask():
            async with client(own.url) as connection:
                (name,) = await asyncio.to_thread(lambda: until(lambda: consumers(own.url)))
                await connection.jetstream().delete_consumer(STREAM, name)

        asyncio.run(ask())

    with Sender(own.url, SUBJECT, 20, {10: delete}):
        result = run("listen", "--json", "--since", "1h", "--count", 20, *LIMIT)
    assert seen(result) == held(own.url, STREAM)


def js(url, work):
    async def call():
        async with client(url) as connection:
            await work(connection.jetstream())

    asyncio.run(call())


def test_a_stream_that_is_made_anew_is_followed_from_its_beginning(own):
    options = ("--json", "--count", "6", "--since", "1h", *LIMIT)
    with (
        Loop() as loop,
        closing(Link(loop, int(own.url.rpartition(":")[2]))) as link,
        Listening(*options, "--server", link.url) as listening,
    ):
        old = [f"old {number}" for number in range(3)]
        for payload in old:
            put(own.url, SUBJECT, payload.encode())
        found = [json.loads(listening.line()) for _ in old]
        # The listener is away while the stream is, or it would end: there is no such stream.
        link.hush()
        js(own.url, lambda stream: stream.delete_stream(STREAM))
        add_stream(own.url, STREAM, [SUBJECT])
        for number in range(3):
            put(own.url, SUBJECT, f"new {number}".encode())
        link.tear()
        link.speak()
        found += [json.loads(listening.line()) for _ in range(3)]
        status, err = listening.end()
    assert (status, told(err)) == (0, (1, ""))
    assert [each["payload"] for each in found] == [*old, "new 0", "new 1", "new 2"]
    assert held(own.url, STREAM) == [(1, "new 0"), (2, "new 1"), (3, "new 2")]


def test_a_stream_that_is_deleted_ends_it_with_78(run, own):
    class Deletion(Sender):
        def run(self):
            until(lambda: consumers(own.url))
            js(own.url, lambda stream: stream.delete_stream(STREAM))

    with Deletion(own.url, SUBJECT, 0):
        result = run("listen", *LIMIT)
    assert result.status == 78
    assert f"there is no stream {STREAM}" in result.err


def test_a_server_that_does_not_come_back_ends_it_with_69_after_the_limit(own):
    put(own.url, SUBJECT, b"one")
    with Listening("--since", "1h", *LIMIT, CRYPTO_TRIGGER_GIVE_UP_AFTER="2s") as listening:
        assert listening.line().endswith(": one")
        own.stop()
        status, err = listening.end()
        assert listening.line() is None
    assert status == 69
    lost, end = told(err)
    assert lost == 1
    assert is_one_clean_line(end)
    assert "connection refused" in end


def test_a_server_that_never_comes_ends_it_with_69_at_the_end_of_the_time_or_of_the_limit(run, monkeypatch):
    monkeypatch.setenv("NATS_URL", "nats://127.0.0.1:1")
    monkeypatch.setenv("CRYPTO_TRIGGER_GIVE_UP_AFTER", "300ms")
    for options in ((), ("--for", "200ms"), ("--for", "20s"), ("--for", "200ms", "--count", "1")):
        result = run("listen", *options)
        assert result.status == 69
        assert is_one_clean_line(result.err)
        assert "connection refused" in result.err


# Core NATS.


@pytest.fixture
def core(own, monkeypatch):
    """A server, and a subject that no stream takes."""
    monkeypatch.setenv("CRYPTO_TRIGGER_DELIVERY", "core")
    monkeypatch.setenv("CRYPTO_TRIGGER_SUBJECT", CORE)
    return own


CORE = "plain.update"


def tell(url, payload, headers=None):
    """Publish once there is a subscriber; nobody else gets the message."""

    async def request():
        async with client(url) as connection:
            try:
                await connection.request(CORE, payload, timeout=0.2, headers=headers)
            except nats.errors.NoRespondersError:
                return False
            except nats.errors.TimeoutError:
                return True

    until(lambda: asyncio.run(request()), "somebody listens")


@pytest.mark.parametrize("log", ["text", "json"])
def test_a_lost_connection_and_the_next_one_are_told_without_v_and_in_a_json_log(own, log):
    put(own.url, SUBJECT, b"one")
    with Listening("--since", "1h", "--count", "2", *LIMIT, CRYPTO_TRIGGER_LOG_FORMAT=log) as listening:
        listening.line()
        restart(own)
        put(own.url, SUBJECT, b"two")
        listening.line()
        status, err = listening.end()
    if log == "json":
        found = [json.loads(line) for line in err.splitlines()]
        assert {line["event"] for line in found} == {"warning"}
        err = "".join(f"crypto-trigger: warning: {line['message']}\n" for line in found)
    assert (status, told(err)) == (0, (1, ""))
    assert f"listening again on {SUBJECT} at nats://" in err


def test_core_shows_what_is_published_while_it_listens(run, core):
    class Talk(Sender):
        def run(self):
            tell(core.url, b"one", {"ce-source": "//h/c", "ce-time": "2026-11-23T12:00:00Z"})
            tell(core.url, b"\x1b")

    with Talk(core.url, CORE, 0):
        result = run("listen", "--json", "--count", 2, *LIMIT)
    assert (result.status, result.err) == (0, "")
    one, two = map(json.loads, result.out.splitlines())
    assert (one["seq"], one["stored"]) == (two["seq"], two["stored"]) == (None, None)
    assert (one["subject"], one["payload"], one["source"]) == (CORE, "one", "//h/c")
    assert one["slot"] == "2026-11-23T12:00:00Z"
    assert one["lateness_seconds"] > 0
    assert (two["payload"], two["source"]) == ("\x1b", None)
    assert 0 <= two["lateness_seconds"] < 901


def test_core_goes_on_after_a_lost_connection_and_warns_of_what_it_may_have_missed(run, core):
    class Talk(Sender):
        def run(self):
            for payload in (b"one", b"two", b"three"):
                tell(core.url, payload)
                restart(core)

    with Talk(core.url, CORE, 0):
        result = run("listen", "--count", 3, *LIMIT)
    assert result.status == 0
    lines = result.out.splitlines()
    assert [line.rpartition(": ")[2] for line in lines] == ["one", "two", "three"]
    assert all(f"{CORE} for " in line and ": received " in line for line in lines)
    assert told(result.err) == (2, "")
    again = [line for line in result.err.splitlines() if "listening again" in line]
    assert all(line.endswith("s; what was published in that time is not shown") for line in again)


def test_core_finds_out_that_the_connection_is_dead(run, core, monkeypatch):
    monkeypatch.setenv("CRYPTO_TRIGGER_GIVE_UP_AFTER", "300ms")
    silence = Freeze(Way.TO_CLIENT, 900)
    with Proxy(core.url) as proxy, proxy.route(silence) as route:
        result = run("listen", *LIMIT, "--server", route.url)
    assert silence.struck
    assert result.status == 69
    assert is_one_clean_line(result.err)


# A cluster.


@pytest.fixture(scope="module")
def cluster():
    with Cluster() as running:
        yield running


def test_new_leaders_and_a_server_that_dies_lose_and_repeat_nothing(run, cluster, monkeypatch):
    stream = f"t{uuid4().hex[:12]}"
    subject = f"{stream}.update"
    monkeypatch.setenv("NATS_URL", cluster.urls)
    monkeypatch.setenv("CRYPTO_TRIGGER_STREAM", stream)
    monkeypatch.setenv("CRYPTO_TRIGGER_SUBJECT", subject)
    monkeypatch.setenv("CRYPTO_TRIGGER_TIMEOUT", "2s")
    until(lambda: run("setup", "--replicas", 3).status == 0, seconds=60)
    _, second, third = cluster.nodes

    def move():
        cluster.lead(stream, second if cluster.leader(stream) is not second else third)

    disturb = {10: move, 30: lambda: cluster.leader(stream).kill()}
    with Sender(cluster.urls, subject, 60, disturb):
        result = run("listen", "--json", "--since", "1h", "--count", 60, "--for", "120s")
    cluster.recover(stream)
    assert seen(result) == held(second.url, stream)
    assert len(held(second.url, stream)) == 60


def test_a_memory_stream_that_lost_its_messages_is_followed_from_its_new_beginning(cluster, monkeypatch):
    cluster.recover()
    stream = f"t{uuid4().hex[:12]}"
    subject = f"{stream}.update"
    add_stream(cluster.nodes[0].url, stream, [subject], storage="memory")
    leader = cluster.leader(stream)
    for name, value in {
        "NATS_URL": cluster.urls,
        "CRYPTO_TRIGGER_STREAM": stream,
        "CRYPTO_TRIGGER_SUBJECT": subject,
    }.items():
        monkeypatch.setenv(name, value)
    for number in range(5):
        put(leader.url, subject, str(number).encode())

    with Listening("--json", "--since", "1h", "--count", "7", "--for", "120s") as listening:
        # What was not printed before the server dies is lost with it.
        found = [json.loads(listening.line()) for _ in range(5)]
        leader.kill()
        cluster.recover(stream)
        for number in (5, 6):
            put(leader.url, subject, str(number).encode())
        found += [json.loads(listening.line()) for _ in range(2)]
        status, err = listening.end()
    losses, rest = told(err)
    # The next leader may be another one again while the stream recovers.
    assert (status, losses >= 1, rest) == (0, True, "")
    assert [each["payload"] for each in found] == ["0", "1", "2", "3", "4", "5", "6"]
    assert held(leader.url, stream) == [(1, "5"), (2, "6")]
