"""Every fault that nats-py is known for: the status, the time, the one line, and what the stream holds."""

import asyncio
import json
import signal
import socket
import threading
from contextlib import contextmanager
from typing import NamedTuple

import pytest
from nats.js.api import StreamSource
from support.processes import Process, beginning_with, execute, is_one_clean_line
from support.scripted import PATIENCE, Relay, Scripted, free_port, full_backlog, info
from support.streams import add_stream, client, put, stored

from crypto_trigger.server import Server

# What a test waits for nothing costs: short where silence is the fault, long where an answer is sure to come.
SHORT = {"CRYPTO_TRIGGER_TIMEOUT": "300ms", "CRYPTO_TRIGGER_GIVE_UP_AFTER": "1s"}
SURE = {"CRYPTO_TRIGGER_TIMEOUT": "5s", "CRYPTO_TRIGGER_GIVE_UP_AFTER": "10s"}
BACKOFF = {"CRYPTO_TRIGGER_BACKOFF_BASE": "100ms", "CRYPTO_TRIGGER_BACKOFF_MAX": "200ms"}
# An interpreter's start, on a machine that others use as well.
START = 1.0
CONTROL = b"-ERR 'bad \x1b[31m\x07 text'\r\n"


def publish(**settings):
    """Run `publish` and check what holds for every fault; returns how it ended and its report."""
    settings = {**SHORT, **BACKOFF, **settings}
    ended = execute("publish", "--json", **settings)
    deadline = {"1s": 1.0, "10s": 10.0}[settings["CRYPTO_TRIGGER_GIVE_UP_AFTER"]]
    assert ended.seconds < deadline + 1 + START
    assert is_one_clean_line(ended.err)
    report = json.loads(ended.out)
    assert report["status"] == ended.status
    return ended, report


class Said(NamedTuple):
    """A fault a scripted server makes, and what the program makes of it."""

    name: str
    script: object
    status: int
    says: str
    attempts: str = "one"


def drip(talk):
    """Greet, but so slowly that it never comes to an end."""
    pause = threading.Event()
    for byte in info() * 100:
        talk.say(bytes([byte]))
        pause.wait(0.1)


def says(*parts):
    """Say this and hang up."""
    return lambda talk: talk.say(b"".join(parts))


def says_and_stays(*parts):
    def script(talk):
        talk.say(b"".join(parts))
        talk.listen()

    return script


def after_connect(data, *, stay=True):
    """Greet, hear CONNECT and PING, and answer with `data` instead of PONG."""

    def script(talk):
        talk.say(info())
        talk.hear(b"PING\r\n")
        talk.say(data)
        if stay:
            talk.listen()

    return script


def after_pong(data, *, stay=True):
    """Shake hands, hear the first question, and answer with `data`."""

    def script(talk):
        talk.welcome()
        talk.asked()
        talk.say(data)
        if stay:
            talk.listen()

    return script


def after_reading(data, *, stay=True):
    """Say that the subject has no message yet, take the trigger, and say `data` in place of the acknowledgement."""

    def script(talk):
        talk.welcome()
        talk.empty_stream()
        talk.asked()
        talk.say(data)
        if stay:
            talk.listen()

    return script


def acknowledges(payload):
    """Say that the subject has no message yet, take the trigger, and answer with this payload."""

    def script(talk):
        talk.welcome()
        talk.empty_stream()
        _, inbox = talk.asked()
        talk.answer(inbox, payload)
        talk.listen()

    return script


def reads(payload):
    """Answer the reading of the last message with this payload."""

    def script(talk):
        talk.welcome()
        _, inbox = talk.asked()
        talk.answer(inbox, payload)
        talk.listen()

    return script


def lame_duck(talk):
    """Take leave: the server says so, and JetStream is gone."""
    talk.welcome()
    talk.say(info(ldm=True))
    for _ in range(3):
        _, inbox = talk.asked()
        talk.no_responders(inbox)
    talk.listen()


LONG = b'INFO {"connect_urls": [' + b", ".join([b'"10.0.0.1:4222"'] * 3000) + b"]}"

SAID = [
    # Not a greeting.
    Said("silent after the connection", lambda talk: talk.listen(), 69, "no answer within the timeout", "several"),
    Said("one byte at a time", drip, 69, "no answer within the timeout", "several"),
    Said("a banner without a line end", says_and_stays(b"SSH-2.0-OpenSSH_9.6"), 69, "no answer", "several"),
    Said("an SSH banner", says_and_stays(b"SSH-2.0-OpenSSH_9.6\r\n"), 76, "it does not greet like a NATS server"),
    Said(
        "an HTTP server's answer", says(b"HTTP/1.1 400 Bad Request\r\n\r\n"), 76, "it does not greet like a NATS server"
    ),
    Said("hangs up at once", lambda talk: talk.close(), 69, "closed before a greeting", "several"),
    Said("resets at once", lambda talk: talk.reset(), 69, "nats://", "several"),
    Said("INFO that is no JSON", says_and_stays(b"INFO {bad json}\r\n"), 76, "it does not greet like a NATS server"),
    Said("INFO that is a list", says_and_stays(b"INFO [1,2]\r\n"), 76, "it does not greet like a NATS server"),
    Said("INFO that is a number", says_and_stays(b"INFO 7\r\n"), 76, "it does not greet like a NATS server"),
    Said("INFO alone", says_and_stays(b"INFO\r\n"), 76, "it does not greet like a NATS server"),
    Said("INFO nested too deep", says_and_stays(b"INFO " + b"[" * 30000 + b"\r\n"), 76, "it does not greet like"),
    Said("INFO longer than 32 KiB", says_and_stays(LONG, b"\r\n"), 76, "it does not greet like a NATS server"),
    Said("INFO without end", says_and_stays(LONG), 76, "it does not greet like a NATS server"),
    Said("INFO with wrong types", says_and_stays(info(connect_urls=5)), 76, "it does not greet like a NATS server"),
    # A greeting, and no more.
    Said("hangs up after INFO", says(info()), 69, "connection", "several"),
    Said("hangs up after CONNECT", after_connect(b"", stay=False), 69, "the connection ended", "several"),
    Said("silent after CONNECT", after_connect(b""), 69, "no answer within the timeout", "several"),
    Said("INFO instead of PONG", after_connect(info()), 69, "the connection ended", "several"),
    Said("-ERR with an unknown text", after_connect(b"-ERR 'Strange Things'\r\n"), 69, "strange things", "several"),
    Said("-ERR with control characters", after_connect(CONTROL), 69, "bad \\x1b[31m\\x07 text", "several"),
    Said("-ERR with a megabyte", after_connect(b"-ERR '" + b"x" * 30000 + b"'\r\n"), 69, "xxx...", "several"),
    Said("-ERR with no text", after_connect(b"-ERR\r\n"), 69, "in the middle of the handshake", "several"),
    Said("-ERR that is no UTF-8", after_connect(b"-ERR '\xff\xfe'\r\n"), 76, "it does not greet like a NATS server"),
    Said("too many connections", after_connect(b"-ERR 'maximum connections exceeded'\r\n"), 69, "maximum", "several"),
    Said("authentication timeout", after_connect(b"-ERR 'Authentication Timeout'\r\n"), 69, "timeout", "several"),
    Said("refused credentials", after_connect(b"-ERR 'Authorization Violation'\r\n"), 77, "refuses a client"),
    Said("expired credentials", after_connect(b"-ERR 'User Authentication Expired'\r\n"), 77, "have expired"),
    Said("revoked credentials", after_connect(b"-ERR 'User Authentication Revoked'\r\n"), 77, "are revoked"),
    Said("expired account", after_connect(b"-ERR 'Account Authentication Expired'\r\n"), 77, "have expired"),
    Said("gateway port", after_connect(b"-ERR 'attempted to connect to gateway port'\r\n"), 76, "gateway port"),
    Said("TLS required", after_connect(b"-ERR 'secure connection - TLS required'\r\n"), 76, "requires TLS"),
    # Welcomed, and the trigger not sent yet.
    Said("hangs up when asked", after_pong(b"", stay=False), 69, "the connection ended", "several"),
    Said("silent when asked", after_pong(b""), 69, "no answer from JetStream within the timeout", "several"),
    Said("unknown words when asked", after_pong(b"WAT\r\n"), 69, "protocol error", "several"),
    Said("-ERR with no text when asked", after_pong(b"-ERR \r\n"), 69, "no answer from JetStream", "several"),
    Said("bad INFO when asked", after_pong(b"INFO {bad}\r\n"), 69, "no answer from JetStream", "several"),
    Said("control characters when asked", after_pong(CONTROL), 69, "\\x1b[31m\\x07 text", "several"),
    Said("credentials refused when asked", after_pong(b"-ERR 'Authorization Violation'\r\n"), 77, "credentials"),
    Said("credentials expired when asked", after_pong(b"-ERR 'User Authentication Expired'\r\n"), 77, "expired"),
    Said("stale connection when asked", after_pong(b"-ERR 'Stale Connection'\r\n"), 69, "stale", "several"),
    Said("answer that is no JSON", reads(b"hello"), 76, "the answer is not JetStream's"),
    Said("answer that is a list", reads([1]), 76, "the answer is not JetStream's"),
    Said("answer nested too deep", reads(b"[" * 100000), 76, "the answer is not JetStream's"),
    Said("answer with no message", reads({}), 76, "the answer is not JetStream's"),
    Said("answer with an empty message", reads({"message": {}}), 76, "the answer is not JetStream's"),
    Said("answer with half an error", reads({"error": {}}), 76, "the answer is not JetStream's"),
    Said(
        "answer with a strange error", reads({"error": {"code": "x", "err_code": [1]}}), 69, "err_code=[1]", "several"
    ),
    Said("no leader", reads({"error": {"code": 503, "err_code": 10008}}), 69, "JetStream has no leader", "several"),
    Said("off for the account", reads({"error": {"code": 503, "err_code": 10039}}), 78, "off for this account"),
    Said("unknown error", reads({"error": {"code": 400, "err_code": 9, "description": "a\x1bb"}}), 65, "9: a\\x1bb"),
    Said("unknown fault of the server", reads({"error": {"code": 500, "err_code": 9}}), 69, "answers 9", "several"),
    Said("lame duck", lame_duck, 69, "shutting down (lame duck mode)", "several"),
    # Sent.
    Said("hangs up when sent", after_reading(b"", stay=False), 75, "before the acknowledgement", "several"),
    Said("silent when sent", after_reading(b""), 75, "no acknowledgement within the timeout", "several"),
    Said("unknown words when sent", after_reading(b"WAT\r\n"), 75, "before the acknowledgement", "several"),
    Said("-ERR with no text when sent", after_reading(b"-ERR \r\n"), 75, "no acknowledgement", "several"),
    Said("control characters when sent", after_reading(CONTROL), 75, "\\x1b[31m\\x07 text", "several"),
    Said("credentials expired when sent", after_reading(b"-ERR 'User Authentication Expired'\r\n"), 75, "", "several"),
    Said("too large", after_reading(b"-ERR 'Maximum Payload Violation'\r\n"), 65, "larger than the server takes"),
    Said("control line", after_reading(b"-ERR 'Maximum Control Line Exceeded'\r\n"), 65, "longer than the server"),
    Said("refused subject", after_reading(b"-ERR 'Invalid Publish Subject'\r\n"), 65, "refuses the subject"),
    Said("acknowledgement that is no JSON", acknowledges(b"+ACK"), 75, "not a PubAck", "several"),
    Said("acknowledgement that is a list", acknowledges([]), 75, "not a PubAck", "several"),
    Said("acknowledgement that is a text", acknowledges('"error"'), 75, "not a PubAck", "several"),
    Said("acknowledgement nested too deep", acknowledges(b"[" * 100000), 75, "not a PubAck", "several"),
    Said("acknowledgement with nothing in it", acknowledges({}), 75, "not a PubAck", "several"),
    Said("acknowledgement of no sequence", acknowledges({"stream": "S", "seq": 0}), 75, "is not the stream", "several"),
    Said("acknowledgement of a strange sequence", acknowledges({"stream": "S", "seq": "1"}), 75, "not the", "several"),
    Said("acknowledgement of another stream", acknowledges({"stream": "T", "seq": 1}), 75, "not the stream", "several"),
    Said("half an error", acknowledges({"error": {}}), 75, "not a PubAck", "several"),
    Said("a strange error", acknowledges({"error": {"code": "x", "err_code": [1]}}), 75, "err_code=[1]", "several"),
    Said("unknown refusal", acknowledges({"error": {"code": 400, "err_code": 9}}), 65, "JetStream answers 9"),
    Said("unknown fault when sent", acknowledges({"error": {"code": 500, "err_code": 9}}), 75, "answers 9", "several"),
    Said("same id in flight", acknowledges({"error": {"code": 409, "err_code": 10158}}), 75, "this moment", "several"),
]


@pytest.mark.parametrize("fault", SAID, ids=lambda fault: fault.name)
def test_a_server_that_misbehaves_gets_the_status_it_deserves(fault):
    with Scripted(fault.script) as server:
        ended, report = publish(NATS_URL=server.url, CRYPTO_TRIGGER_STREAM="S")
    assert ended.status == fault.status
    assert fault.says.lower() in ended.err.lower()
    assert (report["attempts"] > 1) == (fault.attempts == "several")


def held(place):
    """How many triggers the stream holds."""
    messages = stored(place.url, place.stream)
    return 0 if messages is None else sum(message.data == b'{"trigger":"update"}' for message in messages)


@contextmanager
def configured(config, tmp_path, **options):
    """A real server with a configuration of its own."""
    path = tmp_path / "server.conf"
    path.write_text(config)
    with Server(arguments=("-c", str(path)), **options) as server:
        yield server


@contextmanager
def greeted(server, options):
    """A client of the server that says no more than its greeting."""
    with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])), PATIENCE) as client:
        client.sendall(b"CONNECT " + json.dumps(options).encode() + b"\r\nPING\r\n")
        read_until(client, b"PONG")
        yield client


def read_until(client, wanted):
    heard = b""
    while wanted not in heard:
        data = client.recv(4096)
        assert data, f"the server hung up after {heard!r}"
        heard += data


def test_a_refused_connection_is_unavailable():
    ended, report = publish(NATS_URL=f"nats://127.0.0.1:{free_port()}")
    assert (ended.status, report["attempts"] > 1) == (69, True)
    assert "connection refused" in ended.err


def test_a_server_that_drops_every_packet_is_unavailable():
    with full_backlog() as url:
        ended, report = publish(NATS_URL=url)
    assert (ended.status, report["attempts"] > 1) == (69, True)
    assert "no answer within the timeout" in ended.err


def test_a_frozen_server_is_unavailable_and_stores_nothing(place):
    with Server() as server:
        add_stream(server.url, place.stream, [place.subject])
        server.process.send_signal(signal.SIGSTOP)
        ended, _ = publish(NATS_URL=server.url)
        server.process.send_signal(signal.SIGCONT)
        assert held(place._replace(url=server.url)) == 0
    assert ended.status == 69


def test_a_server_in_lame_duck_mode_takes_no_new_connection():
    with Server() as server, greeted(server, {"protocol": 1}) as client:
        server.process.send_signal(signal.SIGUSR2)
        read_until(client, b'"ldm":true')
        ended, _ = publish(NATS_URL=server.url)
    assert ended.status == 69
    assert "connection refused" in ended.err


@pytest.mark.parametrize(
    ("port", "status", "words"),
    [
        ("cluster", 76, "this is a port for other servers"),
        ("leafnodes", 76, "this is a port for other servers"),
        ("gateway", 76, "this is a port for other servers"),
        ("http", 69, "no answer within the timeout"),
        ("websocket", 69, "no answer within the timeout"),
    ],
)
def test_a_port_for_something_else_is_named_where_the_server_tells(port, status, words, tmp_path):
    number = free_port()
    blocks = {
        "cluster": f"cluster {{ name: C, listen: 127.0.0.1:{number} }}",
        "leafnodes": f"leafnodes {{ listen: 127.0.0.1:{number} }}",
        "gateway": f"gateway {{ name: G, listen: 127.0.0.1:{number} }}",
        "http": f"http: 127.0.0.1:{number}",
        "websocket": f"websocket {{ listen: 127.0.0.1:{number}, no_tls: true }}",
    }
    with configured(blocks[port], tmp_path, jetstream=False):
        ended, _ = publish(NATS_URL=f"nats://127.0.0.1:{number}")
    assert ended.status == status
    assert words in ended.err


def test_a_server_full_of_connections_is_tried_again(tmp_path):
    with configured("max_connections: 1", tmp_path) as server:
        with greeted(server, {}):
            ended, report = publish(NATS_URL=server.url)
        assert (ended.status, report["attempts"] > 1) == (69, True)


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
            # An hour ago by its own account, so that it is nobody's trigger of this slot.
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
    assert (ended.status, "another stream takes" in ended.err) == (65, True)


def test_a_subject_of_another_stream_is_refused_for_good(place):
    add_stream(place.url, place.stream, [f"{place.stream}.mine"])
    add_stream(place.url, f"{place.stream}o", [place.subject])
    ended, _ = publish(**SURE)
    assert held(place) == held(place._replace(stream=f"{place.stream}o")) == 0
    assert (ended.status, "another stream takes" in ended.err) == (65, True)


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
def test_a_trigger_larger_than_the_server_takes_is_refused_for_good(limit, place, tmp_path):
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


def test_a_server_killed_without_its_answer_seen_leaves_a_doubt_that_the_next_run_ends(place):
    with Server() as server:
        add_stream(server.url, place.stream, [place.subject])
        with Relay(server.url, b"HPUB " + place.subject.encode()) as relay:
            process = Process("publish", "--json", NATS_URL=relay.url, **{**SHORT, **BACKOFF})
            relay.talk().wait_for(b'{"trigger":"update"}')
            server.stop(signal.SIGKILL)
            # It may have answered already; nobody is to see it.
            relay.lose()
            ended = process.end()
        assert ended.status == 75
        assert is_one_clean_line(ended.err)
        assert "before the acknowledgement" in ended.err
        server.start()
        again = execute("publish", NATS_URL=server.url, **SURE)
        assert held(place._replace(url=server.url)) == 1
    assert again.status == 0


def test_a_bug_ends_with_a_traceback_and_never_with_0(place, tmp_path):
    add_stream(place.url, place.stream, [place.subject])
    bug = beginning_with(
        tmp_path,
        "import nats.js.client\n"
        "def publish(*_, **__): raise ZeroDivisionError\n"
        "nats.js.client.JetStreamContext.publish = publish\n",
    )
    ended = execute("publish", **bug, **SURE)
    assert held(place) == 0
    assert ended.status == 70
    assert "ZeroDivisionError" in ended.err
    assert "this is a bug in crypto-trigger" in ended.err
