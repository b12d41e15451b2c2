"""Streams and accounts that do not take the trigger: the status, the one line, and what the stream holds."""

import asyncio
import socket
import threading
from contextlib import contextmanager
from typing import NamedTuple

import pytest
from nats.js.api import StreamSource
from support.failing import SURE, configured, held, publish, read_until
from support.patience import PATIENCE
from support.processes import execute
from support.streams import add_stream, client, put

from crypto_trigger.commands.server import Server


class Streamed(NamedTuple):
    """A stream, or the lack of one, that a real server answers for; what the program makes of it, what is stored."""

    name: str
    config: dict | None
    status: int
    says: str = ""
    held: int = 0
    before: tuple = ()


STREAMED = [
    Streamed("no stream", None, 78, "there is no stream"),
    Streamed("another subject", {"subjects": ["{}.other"]}, 78, "no stream takes the subject"),
    Streamed("sealed", {"sealed": True}, 65, "is sealed"),
    Streamed(
        "full of messages",
        {"max_msgs": 1, "discard": "new"},
        65,
        "is full, and set to discard new messages",
        before=(b"old",),
    ),
    Streamed(
        "full of bytes",
        {"max_bytes": 200, "discard": "new"},
        65,
        "is full, and set to discard new messages",
        before=(b"old",),
    ),
    Streamed(
        "full of the subject",
        {"max_msgs_per_subject": 1, "discard": "new", "discard_new_per_subject": True},
        65,
        "is full, and set to discard new messages",
        before=(b"old",),
    ),
    Streamed("messages of 10 bytes", {"max_msg_size": 10}, 65, "the message is larger than stream"),
    Streamed("no acknowledgements", {"no_ack": True}, 0, held=1),
]


@pytest.mark.parametrize("fault", STREAMED, ids=lambda fault: fault.name)
def test_a_stream_that_cannot_take_the_trigger_gets_the_status_it_deserves(fault, place):
    if fault.config is not None:
        config = dict(fault.config)
        sealed = config.pop("sealed", False)
        subjects = [subject.format(place.stream) for subject in config.pop("subjects", [place.subject])]
        add_stream(place.url, place.stream, subjects, **config)
        for payload in fault.before:
            # It names a time an hour ago, so it is not the trigger of this slot.
            put(place.url, place.subject, payload, {"ce-time": "2026-01-01T00:00:00Z"})
        if sealed:
            seal(place)
    if fault.status == 0:
        ended = execute("publish", **{**SURE, "CRYPTO_TRIGGER_TIMEOUT": "300ms"})
    else:
        ended, report = publish(**SURE)
        assert report["attempts"] == 1
    assert held(place) == fault.held
    assert ended.status == fault.status
    assert fault.says in ended.err


def seal(place):
    async def change():
        async with client(place.url) as connection:
            js = connection.jetstream()
            config = (await js.stream_info(place.stream)).config
            await js.update_stream(config.evolve(sealed=True))

    asyncio.run(change())


def test_a_mirror_takes_no_trigger(place):
    add_stream(place.url, f"{place.stream}o", [place.subject])
    add_stream(place.url, place.stream, None, mirror=StreamSource(name=f"{place.stream}o"))
    ended, _ = publish(**SURE)
    assert held(place) == 0
    assert ended.status == 65
    assert f"stream {place.stream}o takes {place.subject}, and stream {place.stream} does not" in ended.err


def test_a_subject_of_another_stream_is_refused_in_one_attempt(place):
    add_stream(place.url, place.stream, [f"{place.stream}.mine"])
    add_stream(place.url, f"{place.stream}o", [place.subject])
    ended, _ = publish(**SURE)
    assert held(place) == held(place._replace(stream=f"{place.stream}o")) == 0
    assert ended.status == 65
    assert f"stream {place.stream}o takes {place.subject}, and stream {place.stream} does not" in ended.err
    assert f"set CRYPTO_TRIGGER_STREAM={place.stream}o in place of '{place.stream}' (from the environment)" in ended.err


ACCOUNTS = """
jetstream {}
accounts {
  A { jetstream: { max_store: 700 }, users: [{ user: a, password: a }] }
  B { users: [{ user: b, password: b }] }
  SYS { users: [{ user: s, password: s }] }
}
system_account: SYS
"""


def test_jetstream_that_is_off_is_a_matter_of_configuration():
    with Server(jetstream=False) as server:
        ended, _ = publish(NATS_URL=server.url, **SURE)
    assert ended.status == 78
    assert "JetStream is off; start the server with JetStream: nats-server -js" in ended.err


def test_an_account_without_jetstream_is_a_matter_of_configuration(tmp_path):
    with configured(ACCOUNTS, tmp_path) as server:
        ended, _ = publish(NATS_URL=server.url, NATS_USER="b", NATS_PASSWORD="b", **SURE)
    assert ended.status == 78
    assert "JetStream is off for this account" in ended.err


def test_an_account_whose_storage_is_full_refuses_the_trigger(place, tmp_path):
    with configured(ACCOUNTS, tmp_path) as server:
        url = server.url.replace("://", "://a:a@")
        add_stream(url, place.stream, [f"{place.stream}.>"])
        put(url, f"{place.stream}.big", b"x" * 550)
        ended, _ = publish(NATS_URL=url, **SURE)
        assert held(place._replace(url=url)) == 0
    assert ended.status == 65
    assert "the account's storage is full" in ended.err


@pytest.mark.parametrize("limit", [10, 100], ids=["the payload alone", "payload and headers together"])
def test_a_trigger_larger_than_the_server_takes_is_refused_at_once(limit, place, tmp_path):
    with configured("max_payload: 10000", tmp_path) as server:
        add_stream(server.url, place.stream, [place.subject])
        server.stop()
        (tmp_path / "server.conf").write_text(f"max_payload: {limit}")
        server.start()
        ended, report = publish(NATS_URL=server.url, **SURE)
        server.stop()
        (tmp_path / "server.conf").write_text("max_payload: 10000")
        server.start()
        assert held(place._replace(url=server.url)) == 0
    assert (ended.status, report["attempts"]) == (65, 1)


@contextmanager
def subscriber(url, subject, answer=None):
    """Somebody who listens on the subject, and answers if told to."""
    with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), PATIENCE) as connection:
        connection.sendall(b'CONNECT {"headers":true}\r\nSUB ' + subject.encode() + b" 1\r\nPING\r\n")
        read_until(connection, b"PONG")

        def reply():
            reader = connection.makefile("rb")
            for line in reader:
                if line.startswith(b"HMSG "):
                    inbox = line.split()[3]
                    connection.sendall(b"PUB %b %d\r\n%b\r\n" % (inbox, len(answer), answer))

        thread = threading.Thread(target=reply) if answer else None
        if thread:
            thread.start()
        try:
            yield
        finally:
            connection.shutdown(socket.SHUT_RDWR)
            if thread:
                thread.join()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (None, "no acknowledgement within the timeout"),
        (b"thank you", "the answer is not a PubAck"),
        (b'{"stream":"OTHER","seq":7}', "is not the stream"),
    ],
    ids=["silent", "polite", "forging"],
)
def test_a_listener_in_the_stream_s_place_is_not_taken_for_it(answer, words, place):
    add_stream(place.url, place.stream, [f"{place.stream}.other"])
    with subscriber(place.url, place.subject, answer):
        ended, report = publish()
    assert held(place) == 0
    assert (ended.status, report["attempts"] > 1) == (75, True)
    assert words in ended.err
