"""Delivery `core`: what a subscriber receives, what the status claims, and how the server confirms a message."""

import json

import pytest
from support.patience import until
from support.processes import Process
from support.proxy import Fault, Proxy
from support.scripted import Scripted
from support.streams import add_stream, stored
from support.subscribers import Subscriber

from crypto_trigger.commands.server import Server

QUICK = {"CRYPTO_TRIGGER_BACKOFF_BASE": "20ms", "CRYPTO_TRIGGER_BACKOFF_MAX": "50ms"}
SHORT = {"CRYPTO_TRIGGER_TIMEOUT": "300ms", "CRYPTO_TRIGGER_GIVE_UP_AFTER": "1s"}
PAYLOAD = b'{"trigger":"update"}\r\n'
pytestmark = pytest.mark.usefixtures("core")


@pytest.fixture
def core(place, monkeypatch):
    monkeypatch.setenv("CRYPTO_TRIGGER_DELIVERY", "core")
    for name, value in QUICK.items():
        monkeypatch.setenv(name, value)
    return place


@pytest.fixture
def short(monkeypatch):
    for name, value in SHORT.items():
        monkeypatch.setenv(name, value)


def configured(tmp_path, text):
    path = tmp_path / "nats.conf"
    path.write_text(text)
    return Server(arguments=("-c", str(path)), jetstream=False)


def test_a_subscriber_receives_the_exact_payload_once(run, core):
    with Subscriber(core.url, core.subject) as subscriber:
        result = run("publish", "--scheduled-at", "2026-11-23T12:00:00Z")
        (message,) = subscriber.heard()
    assert message.data == b'{"trigger":"update"}'
    assert message.headers["ce-time"] == "2026-11-23T12:00:00Z"
    assert result.status == 0
    assert result.out == f"published {core.subject} for 2026-11-23T12:00:00Z to whoever listens\n"
    assert result.err == ""


def test_the_report_has_no_key_of_a_stream(run):
    report = json.loads(run("publish", "--json").out)
    assert report["outcome"] == "published"
    assert report["delivery"] == "core"
    assert report["attempts"] == 1
    assert not {"stream", "seq", "guard", "cluster", "subscriber", "error"} & report.keys()


def test_nothing_says_that_nobody_listens_unless_it_is_asked_for(run):
    assert run("publish").status == 0


def test_a_required_subscriber_that_never_comes_is_69_after_several_attempts(run, core, monkeypatch):
    # The deadline should come in a wait: an attempt that it cuts short may have been delivered.
    times = {"TIMEOUT": "1s", "BACKOFF_BASE": "1s", "BACKOFF_MAX": "1s", "GIVE_UP_AFTER": "2s"}
    for name, value in times.items():
        monkeypatch.setenv(f"CRYPTO_TRIGGER_{name}", value)
    result = run("publish", "--require-subscriber", "--json")
    report = json.loads(result.out)
    assert result.status == 69
    assert report["attempts"] > 1
    assert f"nobody listens on {core.subject}" in report["error"]["message"]


def test_a_required_subscriber_that_comes_late_is_waited_for(core):
    with Proxy(core.url) as proxy, proxy.route(then=Fault()) as route:
        process = Process("publish", "--json", NATS_URL=route.url, CRYPTO_TRIGGER_REQUIRE_SUBSCRIBER="true")
        until(lambda: route.connections > 2)
        with Subscriber(core.url, core.subject) as subscriber:
            ended = process.end()
            heard = subscriber.heard()
    assert len(heard) == 1
    assert ended.status == 0
    assert json.loads(ended.out)["subscriber"] is True


def test_a_silent_subscriber_satisfies_the_requirement(run, core):
    with Subscriber(core.url, core.subject) as subscriber:
        result = run("publish", "--require-subscriber")
        assert len(subscriber.heard()) == 1
    assert result.status == 0
    assert result.out.endswith(" to a subscriber that listens\n")


def test_a_stream_is_a_subscriber_too(run, core):
    add_stream(core.url, core.stream, [core.subject])
    result = run("publish", "--require-subscriber")
    assert len(stored(core.url, core.stream)) == 1
    assert result.status == 0


def test_a_refused_publish_is_77_and_nobody_receives_it(run, core, tmp_path, monkeypatch):
    permissions = f'permissions: {{publish: {{deny: "{core.subject}"}}}}'
    users = f"{{user: a, password: pw, {permissions}}}, {{user: b, password: pw}}"
    with configured(tmp_path, f"authorization: {{users: [{users}]}}") as server:
        monkeypatch.setenv("NATS_URL", server.url.replace("//", "//a:pw@"))
        with Subscriber(server.url, core.subject, user="b", password="pw") as subscriber:
            result = run("publish")
            assert subscriber.heard() == []
    assert result.status == 77
    assert "no permission to publish" in result.err


def test_without_an_inbox_a_required_subscriber_cannot_be_found_and_nothing_is_sent(run, core, tmp_path, monkeypatch):
    users = '{user: a, password: pw, permissions: {subscribe: {deny: "_INBOX.>"}}}, {user: b, password: pw}'
    with configured(tmp_path, f"authorization: {{users: [{users}]}}") as server:
        monkeypatch.setenv("NATS_URL", server.url.replace("//", "//a:pw@"))
        with Subscriber(server.url, core.subject, user="b", password="pw") as subscriber:
            result = run("publish", "--require-subscriber")
            assert subscriber.heard() == []
    assert result.status == 77


def test_a_server_without_headers_gets_none(run, core, tmp_path, monkeypatch):
    with configured(tmp_path, "no_header_support: true") as server:
        monkeypatch.setenv("NATS_URL", server.url)
        with Subscriber(server.url, core.subject) as subscriber:
            result = run("publish")
            (message,) = subscriber.heard()
    assert message == (core.subject, b'{"trigger":"update"}', {})
    assert result.status == 0


def test_a_server_without_headers_cannot_tell_who_listens(run, core, tmp_path, monkeypatch):
    with configured(tmp_path, "no_header_support: true") as server:
        monkeypatch.setenv("NATS_URL", server.url)
        with Subscriber(server.url, core.subject) as subscriber:
            result = run("publish", "--require-subscriber")
            assert subscriber.heard() == []
    assert result.status == 78


def taken(talk):
    """Take the message and the first PING, in whatever order they come."""
    talk.welcome()
    talk.hear(PAYLOAD)
    if talk.heard.count(b"PING\r\n") == 1:
        talk.hear(b"PING\r\n")


def sent(talk):
    """Take the message and answer the first PING, which nats-py may send ahead of it; return the subject."""
    taken(talk)
    talk.say(b"PONG\r\n")
    talk.hear(b"PING\r\n")
    return talk.heard.partition(b"HPUB ")[2].split()[0].decode()


def no_second_pong(talk):
    sent(talk)
    talk.listen()


def gone_after_the_message(talk):
    sent(talk)


def deaf(talk):
    """Say what ends nats-py's read loop, though the connection lives; `flush` then returns without an answer."""
    taken(talk)
    talk.say(b"PONG\r\nINFO {bad\r\n")
    talk.listen()


def refused_in_one_breath(talk):
    """Refuse the message and answer the PING in one segment."""
    subject = sent(talk)
    talk.say(f"-ERR 'Permissions Violation for Publish to \"{subject}\"'\r\nPONG\r\n".encode())
    talk.listen()


def ended_with_the_first_answer(talk):
    taken(talk)
    talk.say(b"-ERR 'Maximum Payload Violation'\r\nPONG\r\n")
    talk.listen()


def ended_in_one_breath(talk):
    sent(talk)
    talk.say(b"-ERR 'Maximum Payload Violation'\r\nPONG\r\n")
    talk.listen()


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize(
    ("script", "status"),
    [
        (no_second_pong, 75),
        (gone_after_the_message, 75),
        (deaf, 75),
        (refused_in_one_breath, 77),
        (ended_in_one_breath, 65),
        (ended_with_the_first_answer, 65),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_one_answer_is_no_confirmation(run, monkeypatch, script, status):
    with Scripted(script) as server:
        monkeypatch.setenv("NATS_URL", server.url)
        result = run("publish")
    assert PAYLOAD in server.heard
    assert result.status == status


@pytest.mark.parametrize("delivery", ["core", "streaming"])
def test_setup_needs_jetstream(run, place, delivery):
    result = run("setup", "--delivery", delivery)
    assert stored(place.url, place.stream) is None
    assert result.status == 78
    assert result.err == (
        f"crypto-trigger: CRYPTO_TRIGGER_DELIVERY '{delivery}' (from --delivery) has nothing to set up: "
        "setup needs JetStream, CRYPTO_TRIGGER_DELIVERY=jetstream\n"
    )


@pytest.mark.parametrize("delivery", ["jetstream", "streaming"])
def test_only_core_has_subscribers_to_require(run, delivery):
    result = run("publish", "--require-subscriber", "--delivery", delivery)
    assert result.status == 78
    assert "CRYPTO_TRIGGER_REQUIRE_SUBSCRIBER 'true' (from --require-subscriber)" in result.err
    assert result.err.count("\n") == 1
