"""Each exit status, reached by `publish --rehearse` on a real server: that of a publish, and nothing is stored."""

import asyncio
import json
import signal
import socket
import threading
from contextlib import contextmanager
from itertools import count
from typing import NamedTuple

import pytest
from support.failing import SHORT, SURE, configured, read_until
from support.old_servers import version
from support.patience import PATIENCE
from support.ports import free_port
from support.processes import Process, execute, is_one_clean_line
from support.proxy import Cut, Proxy, Way
from support.restricted import restricted_to
from support.streams import add_stream, client, put, stored

from crypto_trigger.commands import server as nats_server
from crypto_trigger.commands.server import Server
from crypto_trigger.delivery.stream import Stream

BACKOFF = {"CRYPTO_TRIGGER_BACKOFF_BASE": "50ms", "CRYPTO_TRIGGER_BACKOFF_MAX": "100ms"}
OUTCOMES = {65: "rejected", 69: "unavailable", 70: "bug", 75: "unknown", 76: "protocol", 77: "denied", 78: "config"}


def rehearse(*flags, **settings):
    """Run a rehearsal that must fail; how it ended. It never claims that anything may be stored."""
    ended = execute("publish", "--rehearse", "--json", *flags, **{**SURE, **BACKOFF, **settings})
    report = json.loads(ended.out)
    assert (report["status"], report["outcome"]) == (ended.status, OUTCOMES[ended.status])
    assert report["rehearsal"] is True
    assert "perhaps" not in report["error"]
    assert "may be" not in ended.err
    assert "run it again" not in ended.err
    assert is_one_clean_line(ended.err)
    assert ended.err.endswith("was rehearsed, and nothing was stored\n")
    return ended


def seal(place):
    async def change():
        async with client(place.url) as connection:
            js = connection.jetstream()
            await js.update_stream((await js.stream_info(place.stream)).config.evolve(sealed=True))

    asyncio.run(change())


class Streamed(NamedTuple):
    """A stream, or the lack of one, and what both a rehearsal and a publish end with."""

    name: str
    config: dict | None
    status: int
    says: str


STREAMED = [
    Streamed("no stream", None, 78, "there is no stream"),
    Streamed("another subject", {"subjects": ["{}.other"]}, 78, "no stream takes the subject"),
    Streamed(
        "of another stream", {"subjects": ["{}.other"], "beside": True}, 65, "does not; set CRYPTO_TRIGGER_STREAM="
    ),
    Streamed("sealed", {"sealed": True}, 65, "is sealed"),
]


@pytest.mark.parametrize("fault", STREAMED, ids=lambda fault: fault.name)
def test_a_stream_that_cannot_take_the_trigger_is_found_as_by_a_publish(fault, place):
    config = dict(fault.config or {})
    subjects = [subject.format(place.stream) for subject in config.pop("subjects", [place.subject])]
    sealed, beside = config.pop("sealed", False), config.pop("beside", False)
    if fault.config is not None:
        add_stream(place.url, place.stream, subjects, **config)
    if beside:
        add_stream(place.url, f"{place.stream}o", [place.subject])
    if sealed:
        seal(place)
    rehearsal = rehearse()
    publish = execute("publish", **SURE, **BACKOFF)
    assert (stored(place.url, place.stream) or []) == []
    assert rehearsal.status == publish.status == fault.status
    assert fault.says in rehearsal.err


def test_a_message_larger_than_the_stream_takes_is_65_from_2_15_on(place):
    add_stream(place.url, place.stream, [place.subject], max_msg_size=10)
    rehearsal, publish = (execute("publish", *flags, **SURE) for flags in (("--rehearse",), ()))
    assert stored(place.url, place.stream) == []
    # Older servers look at the condition first.
    first = [int(number) for number in version(nats_server.program()).split(".")[:2]] >= [2, 15]
    assert (rehearsal.status, publish.status) == (65 if first else 0, 65)
    assert "the message is larger than stream" in publish.err


FULL = {
    "of messages": {"max_msgs": 1, "discard": "new"},
    "of bytes": {"max_bytes": 200, "discard": "new"},
    "of the subject": {"max_msgs_per_subject": 1, "discard": "new", "discard_new_per_subject": True},
}


@pytest.mark.parametrize("config", FULL.values(), ids=FULL)
def test_a_full_stream_is_found_by_storing_alone(config, place):
    add_stream(place.url, place.stream, [place.subject], duplicate_window=1800, **config)
    put(place.url, place.subject, b"old", {"ce-time": "2026-01-01T00:00:00Z"})
    rehearsal, publish = (execute("publish", *flags, **SURE) for flags in (("--rehearse",), ()))
    assert len(stored(place.url, place.stream)) == 1
    assert (rehearsal.status, publish.status) == (0, 65)


def test_a_stream_that_acknowledges_nothing_is_75_and_the_line_says_what_to_do(place):
    add_stream(place.url, place.stream, [place.subject], no_ack=True)
    rehearsal = rehearse(**SHORT)
    assert stored(place.url, place.stream) == []
    assert rehearsal.status == 75
    assert f"acknowledges nothing (no_ack); change that with: crypto-trigger setup --update; {place.subject}" in (
        rehearsal.err
    )


ACCOUNTS = """
jetstream {}
accounts { A { jetstream: enabled, users: [{ user: a, password: a }] }, B { users: [{ user: b, password: b }] } }
"""


@pytest.mark.parametrize("off", ["for the account", "on the server"])
def test_jetstream_that_is_off_is_78(off, tmp_path):
    server = Server(jetstream=False) if off == "on the server" else configured(ACCOUNTS, tmp_path)
    with server as running:
        rehearsal = rehearse(NATS_URL=running.url.replace("://", "://b:b@" if off == "for the account" else "://"))
    assert rehearsal.status == 78
    assert "JetStream is off" in rehearsal.err


@pytest.mark.parametrize("limit", [10, 100], ids=["the payload alone", "payload and headers together"])
def test_a_message_larger_than_the_server_takes_is_65(limit, place, tmp_path):
    with configured("max_payload: 10000", tmp_path) as server:
        add_stream(server.url, place.stream, [place.subject], duplicate_window=1800)
        server.stop()
        (tmp_path / "server.conf").write_text(f"max_payload: {limit}")
        server.start()
        rehearsal = rehearse(NATS_URL=server.url)
    assert rehearsal.status == 65
    assert "larger than the server takes" in rehearsal.err


@pytest.mark.parametrize("delivery", ["jetstream", "core", "streaming"])
def test_no_server_is_69(delivery, place):
    url = f"nats://127.0.0.1:{free_port()}"
    rehearsal = rehearse("--delivery", delivery, NATS_URL=url, **SHORT)
    assert rehearsal.status == 69
    assert f"{url}: connection refused" in rehearsal.err
    assert f"{place.subject} for " in rehearsal.err


def test_no_nats_streaming_cluster_is_69(server):
    rehearsal = rehearse("--delivery", "streaming", NATS_URL=server.url, **SHORT)
    assert rehearsal.status == 69
    assert "no server of the NATS Streaming cluster crypto-stats answers" in rehearsal.err


@pytest.mark.parametrize("delivery", ["jetstream", "core", "streaming"])
def test_no_tls_where_tls_is_asked_for_is_76(delivery, place):
    rehearsal = rehearse("--delivery", delivery, NATS_URL=place.url.replace("nats://", "tls://"))
    assert rehearsal.status == 76
    assert "the server offers no TLS" in rehearsal.err


@pytest.mark.parametrize("delivery", ["jetstream", "core", "streaming"])
def test_refused_credentials_are_77(delivery, tmp_path):
    with configured(ACCOUNTS, tmp_path) as server:
        rehearsal = rehearse("--delivery", delivery, NATS_URL=server.url, NATS_USER="a", NATS_PASSWORD="wrong-password")
    assert rehearsal.status == 77
    assert "the server refuses user 'a'" in rehearsal.err
    assert "wrong-password" not in rehearsal.err


@pytest.mark.parametrize("trigger", [False, True], ids=["no trigger yet", "the slot has its trigger"])
def test_no_permission_to_publish_is_77_also_if_the_slot_has_its_trigger(trigger, place):
    slot = ("--scheduled-at", "2026-11-23T12:00:00Z")
    api = [f"$JS.API.STREAM.{endpoint}.{place.stream}" for endpoint in ("INFO", "MSG.GET")]
    with restricted_to(*api) as (admin, some):
        add_stream(admin, place.stream, [place.subject], duplicate_window=1800)
        if trigger:
            assert execute("publish", *slot, NATS_URL=admin).status == 0
        rehearsal = rehearse(*slot, NATS_URL=some)
        publish = execute("publish", *slot, NATS_URL=some, **SURE)
        assert len(stored(admin, place.stream)) == trigger
    # A publish has nothing to do if the slot has its trigger.
    assert (rehearsal.status, publish.status) == (77, 0 if trigger else 77)
    assert f"user 'some' (from NATS_URL, the environment) has no permission to publish to {place.subject}" in (
        rehearsal.err
    )


@contextmanager
def in_the_stream_s_place(url, subject, answer=None):
    """Somebody who listens on the subject of a stream that does not take it, and answers if told to."""
    with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), PATIENCE) as connection:
        connection.sendall(b'CONNECT {"headers":true}\r\nSUB ' + subject.encode() + b" 1\r\nPING\r\n")
        read_until(connection, b"PONG")

        def reply():
            for line in connection.makefile("rb"):
                if line.startswith(b"HMSG ") and answer:
                    connection.sendall(b"PUB %b %d\r\n%b\r\n" % (line.split()[3], len(answer), answer))

        thread = threading.Thread(target=reply)
        thread.start()
        try:
            yield
        finally:
            connection.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (None, "no acknowledgement within the timeout"),
        (b"thank you", "the answer is not a PubAck"),
        (b'{"stream":"OTHER","seq":7}', "is not the stream"),
    ],
    ids=["silent", "polite", "forging"],
)
def test_no_answer_of_the_stream_is_75(answer, says, place):
    add_stream(place.url, place.stream, [f"{place.stream}.other"])
    with in_the_stream_s_place(place.url, place.subject, answer):
        rehearsal = rehearse(**SHORT)
    assert stored(place.url, place.stream) == []
    assert rehearsal.status == 75
    assert says in rehearsal.err


def test_a_server_that_says_it_has_stored_a_rehearsal_is_believed_and_not_asked_again(place):
    add_stream(place.url, place.stream, [f"{place.stream}.other"])
    answer = json.dumps({"stream": place.stream, "seq": 7}).encode()
    with in_the_stream_s_place(place.url, place.subject, answer):
        ended = execute("publish", "--rehearse", "--json", **SURE)
    report = json.loads(ended.out)
    assert stored(place.url, place.stream) == []
    assert (ended.status, report["attempts"], report["error"]["perhaps"]) == (75, 1, True)
    assert f"stream {place.stream} has stored a rehearsal, on a condition that cannot hold" in ended.err
    assert ended.err.endswith("may be stored\n")


def test_a_bug_is_70(run, place, monkeypatch):
    run("setup")

    async def broken(*_, **__):
        raise RuntimeError("broken")

    monkeypatch.setattr(Stream, "publish", broken)
    ended = run("publish", "--rehearse")
    assert stored(place.url, place.stream) == []
    assert ended.status == 70
    assert "Traceback" in ended.err


@pytest.mark.parametrize("where", ["before a connection", "while the answer is awaited"])
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM], ids=lambda signum: signum.name)
def test_a_signal_ends_it_as_it_ends_a_publish_and_nothing_is_stored(signum, where, place):
    add_stream(place.url, place.stream, [f"{place.stream}.other"])
    long = {"CRYPTO_TRIGGER_TIMEOUT": "20s", "CRYPTO_TRIGGER_GIVE_UP_AFTER": "50s"}
    waits = {"CRYPTO_TRIGGER_BACKOFF_BASE": "20s", "CRYPTO_TRIGGER_BACKOFF_MAX": "20s"}
    heard = threading.Event()
    if where == "before a connection":
        process = Process(
            "publish", "--rehearse", "-v", NATS_URL=f"nats://127.0.0.1:{free_port()}", **{**long, **waits}
        )
        assert "attempt 1 failed" in process.popen.stderr.readline()
        process.signal(signum)
        ended = process.end()
    else:
        with listening(place, heard):
            process = Process("publish", "--rehearse", NATS_URL=place.url, **long)
            assert heard.wait(PATIENCE)
            process.signal(signum)
            ended = process.end()
    assert stored(place.url, place.stream) == []
    assert ended.status == 128 + signum
    assert ended.seconds < 4
    line = ended.err.splitlines()[-1]
    assert f"interrupted by {signum.name}" in line
    assert line.endswith("was rehearsed, and nothing was stored")


@contextmanager
def listening(place, heard):
    """A subscriber in the stream's place that never answers; `heard` is set when the message is there."""
    with socket.create_connection(("127.0.0.1", int(place.url.rpartition(":")[2])), PATIENCE) as connection:
        connection.sendall(b'CONNECT {"headers":true}\r\nSUB ' + place.subject.encode() + b" 1\r\nPING\r\n")
        read_until(connection, b"PONG")

        def read():
            read_until(connection, b"HMSG ")
            heard.set()

        thread = threading.Thread(target=read)
        thread.start()
        try:
            yield
        finally:
            thread.join()


@pytest.fixture(scope="module")
def proxy(server):
    with Proxy(server.url) as running:
        yield running


@pytest.mark.parametrize("way", Way, ids=lambda way: way.value)
def test_a_connection_cut_anywhere_stores_nothing_and_claims_nothing(run, proxy, stranger, place, monkeypatch, way):
    run("setup")
    for name in ("BASE", "MAX"):
        monkeypatch.setenv(f"CRYPTO_TRIGGER_BACKOFF_{name}", "1ms")
    statuses = []
    # A publish is cut after every byte elsewhere.
    for after in count(0, 61):
        with proxy.route(cut := Cut(way, after), then=stranger) as route:
            ended = run("publish", "--rehearse", "--server", route.url, "--timeout", "20s", "--json")
        statuses.append(ended.status)
        assert "perhaps" not in json.loads(ended.out).get("error", {}), f"{cut}: {ended}"
        if not cut.struck:
            break
    assert stored(place.url, place.stream) == []
    # Not sent; sent and not answered; answered.
    assert set(statuses) == {77, 75, 0}
    assert len(statuses) > 10
