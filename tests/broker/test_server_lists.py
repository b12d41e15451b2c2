"""Lists of servers: one that never answers does not keep a run from the good one; a failure names what each did."""

import json

import pytest
from support.ports import free_port
from support.processes import execute, is_one_clean_line
from support.scripted import Scripted, full_backlog, info
from support.streams import add_stream, stored

from crypto_trigger.commands.server import Server

DEADLINE = 4.0
# A timeout as long as this must not be spent on one server.
PATIENT = {"CRYPTO_TRIGGER_TIMEOUT": "30s", "CRYPTO_TRIGGER_GIVE_UP_AFTER": f"{DEADLINE:g}s"}
SHORT = {
    "CRYPTO_TRIGGER_TIMEOUT": "500ms",
    "CRYPTO_TRIGGER_GIVE_UP_AFTER": "2s",
    "CRYPTO_TRIGGER_BACKOFF_BASE": "50ms",
    "CRYPTO_TRIGGER_BACKOFF_MAX": "200ms",
}
# An interpreter's start, on a machine that others use as well.
START = 1.0


def silent(talk):
    """Take the connection and say nothing."""
    talk.listen()


def greets_only(talk):
    """Greet, and never answer."""
    talk.say(info())
    talk.listen()


def welcomes_only(talk):
    """Shake hands, and answer no question."""
    talk.welcome()
    talk.listen()


@pytest.fixture(params=["drops packets", "says nothing", "greets only", "shakes hands only"])
def black_hole(request):
    """The URL of a server that accepts a connection and then stops at some point."""
    if request.param == "drops packets":
        with full_backlog() as url:
            yield url
        return
    script = {"says nothing": silent, "greets only": greets_only, "shakes hands only": welcomes_only}[request.param]
    with Scripted(script) as server:
        yield server.url


def test_a_black_hole_first_in_the_list_leaves_the_second_server_its_time(black_hole, place):
    add_stream(place.url, place.stream, [place.subject], duplicate_window=1800)
    ended = execute("publish", "--json", NATS_URL=f"{black_hole},{place.url}", **PATIENT)
    assert len(stored(place.url, place.stream)) == 1
    assert (ended.status, ended.err) == (0, "")
    assert json.loads(ended.out)["server"].startswith(place.url)
    assert ended.seconds < DEADLINE + START


def test_two_black_holes_leave_the_third_server_its_time(place):
    add_stream(place.url, place.stream, [place.subject], duplicate_window=1800)
    with full_backlog() as first, Scripted(silent) as second:
        ended = execute("publish", NATS_URL=f"{first},{second.url},{place.url}", **PATIENT)
    assert len(stored(place.url, place.stream)) == 1
    assert (ended.status, ended.err) == (0, "")


def test_a_black_hole_alone_is_named_and_ends_with_the_deadline(black_hole):
    ended = execute("publish", "--json", NATS_URL=black_hole, **PATIENT)
    assert ended.status == 69
    assert is_one_clean_line(ended.err)
    assert black_hole in ended.err
    assert ended.seconds < DEADLINE + 1 + START


def test_black_holes_alone_are_all_named_and_end_with_the_deadline():
    with full_backlog() as first, Scripted(silent) as second:
        ended = execute("publish", NATS_URL=f"{first},{second.url}", **PATIENT)
    assert ended.status == 69
    assert is_one_clean_line(ended.err)
    assert first in ended.err
    assert second.url in ended.err
    assert ended.seconds < DEADLINE + 1 + START


ACCOUNTS = "accounts { A { jetstream: enabled, users: [{ user: a, password: a }] } }"


@pytest.mark.parametrize("first", ["refuses the credentials", "refuses the connection"])
def test_a_server_that_refuses_the_credentials_is_named_beside_one_that_is_not_there(first, tmp_path):
    config = tmp_path / "server.conf"
    config.write_text(ACCOUNTS)
    absent = f"nats://127.0.0.1:{free_port()}"
    with Server(arguments=("-c", str(config))) as server:
        servers = [server.url, absent] if first == "refuses the credentials" else [absent, server.url]
        ended = execute("publish", "--json", NATS_URL=",".join(servers), NATS_USER="wrong", NATS_PASSWORD="x", **SHORT)
    report = json.loads(ended.out)
    assert ended.status in {69, 77}
    assert is_one_clean_line(ended.err)
    assert f"{absent}: connection refused" in ended.err
    assert server.url in ended.err
    assert "refuses" in ended.err
    assert "wrong" in ended.err
    assert "is the server running?" not in report["error"].get("hint", "")


def test_a_good_server_is_used_though_the_one_before_it_refuses_the_credentials(place, tmp_path):
    add_stream(place.url, place.stream, [place.subject], duplicate_window=1800)
    config = tmp_path / "server.conf"
    config.write_text(ACCOUNTS)
    with Server(arguments=("-c", str(config))) as server:
        ended = execute("publish", NATS_URL=f"{server.url},{place.url}", **SHORT)
    assert len(stored(place.url, place.stream)) == 1
    assert (ended.status, ended.err) == (0, "")
