"""Servers that say the wrong thing, by script: the status, the time, the one line, and how often it is tried."""

import json
import threading
from typing import NamedTuple

import pytest
from support.failing import SURE, publish
from support.processes import execute
from support.scripted import Scripted, info

CONTROL = b"-ERR 'bad \x1b[31m\x07 text'\r\n"


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
    """Enter lame duck mode: the server says so, and JetStream no longer answers."""
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
        "answer with a strange error", reads({"error": {"code": "x", "err_code": [1]}}), 69, "err_code [1]", "several"
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
    Said("a strange error", acknowledges({"error": {"code": "x", "err_code": [1]}}), 75, "err_code [1]", "several"),
    Said(
        "unknown refusal",
        acknowledges({"error": {"code": 400, "err_code": 9}, "stream": "S"}),
        65,
        "JetStream answers 9",
    ),
    Said(
        "unknown fault when sent",
        acknowledges({"error": {"code": 500, "err_code": 9}, "stream": "S"}),
        75,
        "answers 9",
        "several",
    ),
    Said(
        "same id in flight",
        acknowledges({"error": {"code": 409, "err_code": 10158}, "stream": "S"}),
        75,
        "this moment",
        "several",
    ),
    Said("a refusal by nobody", acknowledges({"error": {"code": 400, "err_code": 9}}), 75, "not named", "several"),
]


@pytest.mark.parametrize("fault", SAID, ids=lambda fault: fault.name)
def test_a_server_that_misbehaves_gets_the_status_it_deserves(fault):
    with Scripted(fault.script) as server:
        # Where one attempt is enough, no time is waited for.
        times = SURE if fault.attempts == "one" else {}
        ended, report = publish(NATS_URL=server.url, CRYPTO_TRIGGER_STREAM="S", **times)
    assert ended.status == fault.status
    assert fault.says.lower() in ended.err.lower()
    assert (report["attempts"] > 1) == (fault.attempts == "several")


def last_message(**fields):
    """Answer the reading of the last message with one of these fields."""
    message = {"subject": "crypto.update", "seq": 1, "data": "eA==", "time": "2026-11-23T12:00:00Z", **fields}
    return reads({"type": "io.nats.jetstream.api.v1.stream_msg_get_response", "message": message})


@pytest.mark.parametrize(
    "fields",
    [
        *({"seq": seq} for seq in (True, "5", -5, 0, [1], 1e400)),
        *({"time": time} for time in ("9999-12-31T23:59:59Z", "0001-01-01T00:00:00+14:00", "yesterday", 5, None)),
    ],
    ids=str,
)
def test_a_reading_that_is_none_is_not_taken_for_a_trigger(fields):
    with Scripted(last_message(**fields)) as server:
        ended, report = publish(NATS_URL=server.url)
    assert (ended.status, report["attempts"]) == (76, 1)
    assert b"PUB crypto.update" not in server.heard


@pytest.mark.parametrize(
    "time",
    ["9999-12-31T23:59:59Z", "1969-12-31T23:59:59Z", "0001-01-01T00:00:00Z", "2026-11-25T23:00:00", 20261125, [], None],
    ids=str,
)
def test_a_time_of_the_server_that_is_none_leaves_the_slot_to_the_host(time):
    def script(talk):
        talk.welcome()
        for _ in range(2):
            subject, inbox = talk.published()
            if ".STREAM.INFO." in subject:
                talk.answer(inbox, {"config": {}, "ts": time})
            else:
                error = {"code": 404, "err_code": 10037, "description": "no message found"}
                talk.answer(inbox, {"error": error})
        _, inbox = talk.asked()
        talk.answer(inbox, {"stream": "crypto-stats", "seq": 7})
        talk.listen()

    with Scripted(script) as server:
        ended = execute("publish", "-v", "--json", NATS_URL=server.url, **SURE)
    assert (ended.status, json.loads(ended.out)["seq"]) == (0, 7)
    assert "the clock of this host decides the slot" in ended.err
