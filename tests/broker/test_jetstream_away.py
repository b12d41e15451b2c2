"""Nobody answers for JetStream: it is away, and may come back, or it is off, which only a lone server can say."""

import json
from contextlib import ExitStack, contextmanager

import pytest
from support.answers import jetstream
from support.cluster import Cluster
from support.failing import BACKOFF
from support.patience import until
from support.ports import free_port
from support.processes import Process, execute, is_one_clean_line
from support.proxy import Proxy, Recorded, Way
from support.scripted import Scripted
from support.streams import stored

from crypto_trigger.commands.server import Server

SETTINGS = {
    "CRYPTO_TRIGGER_STREAM": "S",
    "CRYPTO_TRIGGER_SUBJECT": "crypto.update",
    "CRYPTO_TRIGGER_TIMEOUT": "2s",
    **BACKOFF,
}
COMMANDS = {
    "publish": ("publish",),
    "rehearse": ("publish", "--rehearse"),
    "setup": ("setup",),
    "check": ("check",),
    "history": ("history",),
    "listen": ("listen", "--for", "30s"),
}
AWAY = "nobody answers for JetStream"
OFF = "JetStream is off; start the server with JetStream: nats-server -js; or, if it is a leaf node: is its hub away?"


@pytest.fixture(scope="module")
def cluster():
    """Three servers with JetStream, a stream of three copies, and `plain`: one of the cluster without JetStream."""
    with Cluster() as running:
        arguments = ["-n", "plain", "--cluster_name", "crypto", "--cluster", f"nats://127.0.0.1:{free_port()}"]
        with Server(jetstream=False, arguments=[*arguments, "--routes", running.routes]) as plain:
            running.plain = plain
            running.recover()
            set_up = execute("setup", "--replicas", 3, NATS_URL=plain.url, **SETTINGS)
            assert set_up.status == 0, set_up.err
            yield running


@pytest.fixture
def away(cluster):
    """The cluster, without its servers that have JetStream."""
    for node in cluster.nodes:
        node.kill()
    yield cluster
    cluster.recover("S")


@contextmanager
def publishing(url):
    """A `publish` that has been told twice by the server at `url` that nobody answers."""
    said = Recorded(Way.TO_CLIENT)
    with Proxy(url) as proxy, proxy.route(then=said) as route:
        process = Process("publish", "--json", NATS_URL=route.url, **SETTINGS)
        try:
            until(lambda: said.data.count(b" 503") > 1, "the run finds nobody")
            yield process
        finally:
            process.kill()


def test_a_cluster_whose_jetstream_is_away_for_seconds_gets_its_trigger(away):
    with publishing(away.plain.url) as process:
        away.recover("S")
        ended = process.end()
    report = json.loads(ended.out)
    assert (ended.status, report["outcome"]) == (0, "published")
    assert [message.headers["Nats-Msg-Id"] for message in stored(away.plain.url, "S")] == [report["msg_id"]]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_cluster_whose_jetstream_is_away_is_never_said_to_have_it_off(command, away):
    ended = execute(*COMMANDS[command], NATS_URL=away.plain.url, CRYPTO_TRIGGER_GIVE_UP_AFTER="3s", **SETTINGS)
    said = ended.out if command == "check" else ended.err
    assert ended.status == (2 if command == "check" else 69)
    assert AWAY in said
    assert "off" not in said


@pytest.mark.parametrize("command", COMMANDS)
def test_a_lone_server_where_nobody_answers_for_a_quarter_of_the_deadline_has_jetstream_off(command):
    with Server(jetstream=False) as server:
        ended = execute(*COMMANDS[command], NATS_URL=server.url, CRYPTO_TRIGGER_GIVE_UP_AFTER="6s", **SETTINGS)
    assert ended.status == (2 if command == "check" else 78)
    assert OFF in (ended.out if command == "check" else ended.err)
    # Not at the first answer, and long before the deadline.
    assert 1.5 < ended.seconds < 6


def test_jetstream_that_starts_while_a_run_asks_for_it_gets_the_trigger():
    with Server() as server:
        execute("setup", NATS_URL=server.url, **SETTINGS)
        server.stop()
        with ExitStack() as stack:
            with Server(int(server.url.rpartition(":")[2]), jetstream=False) as without:
                process = stack.enter_context(publishing(without.url))
            server.start()
            ended = process.end()
        assert (ended.status, json.loads(ended.out)["outcome"]) == (0, "published")
        assert len(stored(server.url, "S")) == 1


def test_an_account_that_has_only_the_reading_of_jetstream_is_not_said_to_have_it_off():
    def script(talk):
        # Its imports lack STREAM.INFO.
        talk.welcome()
        while True:
            subject, inbox = talk.published()
            if ".STREAM.INFO." in subject:
                talk.no_responders(inbox)
            elif ".STREAM.MSG.GET." in subject:
                error = {"code": 404, "err_code": 10037, "description": "no message found"}
                talk.answer(inbox, {"error": error})
            else:
                talk.answer(inbox, {"stream": "S", "seq": 1})

    with Scripted(script) as server:
        ended = execute("publish", NATS_URL=server.url, CRYPTO_TRIGGER_GIVE_UP_AFTER="2s", **SETTINGS)
    assert (ended.status, ended.err) == (0, "")


def test_after_a_trigger_that_may_be_stored_nobody_s_answer_leaves_it_open():
    connections = []

    def script(talk):
        connections.append(talk)
        if len(connections) == 1:
            jetstream(lambda *_: talk.close())(talk)
        talk.welcome()
        while True:
            talk.no_responders(talk.published()[1])

    with Scripted(script) as server:
        ended = execute("publish", NATS_URL=server.url, CRYPTO_TRIGGER_GIVE_UP_AFTER="2s", **SETTINGS)
    assert ended.status == 75
    assert is_one_clean_line(ended.err)
    assert "JetStream is off" in ended.err
