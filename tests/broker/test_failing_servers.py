"""Real servers that fail, or that are not for clients: the status, the one line, and what the stream holds."""

import signal

import pytest
from support.failing import BACKOFF, SHORT, SURE, configured, greeted, held, publish, read_until
from support.ports import free_port
from support.processes import Process, beginning_with, execute, freeze, is_one_clean_line
from support.proxy import holding
from support.scripted import full_backlog
from support.streams import add_stream

from crypto_trigger.commands.server import Server


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
        freeze(server.process)
        ended, _ = publish(NATS_URL=server.url)
        server.process.send_signal(signal.SIGCONT)
        assert held(place._replace(url=server.url)) == 0
    assert ended.status == 69
    assert "is the server overloaded?" in ended.err


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


def test_a_server_killed_without_its_answer_seen_leaves_a_doubt_that_the_next_run_ends(place):
    with Server() as server:
        add_stream(server.url, place.stream, [place.subject])
        with holding(server.url, b"HPUB " + place.subject.encode()) as hold:
            process = Process("publish", "--json", NATS_URL=hold.url, **{**SHORT, **BACKOFF})
            hold.wait_for(b'{"trigger":"update"}')
            server.stop(signal.SIGKILL)
            # The server may have answered already. The answer must not arrive.
            hold.lose()
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
        "import nats.aio.client\n"
        "def publish(*_, **__): raise ZeroDivisionError\n"
        "nats.aio.client.Client.publish = publish\n",
    )
    ended = execute("publish", **bug, **SURE)
    assert held(place) == 0
    assert ended.status == 70
    assert "ZeroDivisionError" in ended.err
    assert "this is a bug in crypto-trigger" in ended.err
