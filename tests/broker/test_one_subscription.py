"""A connection that may have one subscription only: the commands that read need no second one."""

import json

import pytest
from support.consumers import add_consumer
from support.patience import until
from support.processes import Process, is_one_clean_line
from support.scripted import Scripted
from support.streams import put

from crypto_trigger.commands.server import Server


@pytest.fixture
def limited(place, tmp_path, monkeypatch):
    """A server that allows each connection one subscription, with a stream and a trigger."""
    config = tmp_path / "server.conf"
    config.write_text("max_subscriptions: 1\n")
    with Server(arguments=("-c", str(config))) as server:
        found = place._replace(url=server.url)
        monkeypatch.setenv("NATS_URL", server.url)
        yield found


def test_every_command_works_with_one_subscription(run, limited):
    for command in ("setup", "publish"):
        assert run(command).status == 0
    add_consumer(limited.url, limited.stream, "api")
    checked = run("check", "--json", "--consumer", "api")
    found = json.loads(checked.out)
    assert (checked.status, found["newest"]["seq"], found["consumers"][0]["unacknowledged"]) == (0, 1, 1)
    history = run("history", "--json")
    assert (history.status, json.loads(history.out)["slots"][-1]["seq"]) == (0, 1)


def test_listen_works_with_one_subscription(run, limited):
    assert run("setup").status == 0
    process = Process("listen", "--json", "--count", "2", "--for", "20s", NATS_URL=limited.url)
    until(lambda: put(limited.url, limited.subject, b"{}") and process.popen.poll() is not None)
    ended = process.end()
    assert (ended.status, ended.err, len(ended.out.splitlines())) == (0, "", 2)


@pytest.mark.parametrize(("command", "status"), [("check", 3), ("history", 69), ("listen", 69)])
def test_where_not_even_one_is_allowed_the_line_names_the_limit(run, place, monkeypatch, command, status):
    def script(talk):
        talk.welcome()
        talk.hear(b"SUB ")
        talk.say(b"-ERR 'maximum subscriptions exceeded'\r\n")
        talk.listen()

    monkeypatch.setenv("CRYPTO_TRIGGER_BACKOFF_BASE", "10ms")
    with Scripted(script) as server:
        answer = run(command, "-s", server.url, "--give-up-after", "300ms")
    assert answer.status == status
    said = answer.out if command == "check" else answer.err
    assert "the server allows this connection no more subscriptions" in said
    assert "raise max_subscriptions of the server, or subs of the user's JWT" in said
    assert is_one_clean_line(said)
    assert place
