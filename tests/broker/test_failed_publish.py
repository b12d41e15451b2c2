"""The end of every failed publish: subject, slot, and whether the trigger is stored."""

import json

import pytest
from support.processes import execute, is_one_clean_line
from support.scripted import Scripted
from support.streams import add_stream, stored

from crypto_trigger.commands.server import Server

SLOT = ("--scheduled-at", "2026-11-23T22:00:00Z")
NOWHERE = ("--server", "nats://127.0.0.1:1", "--give-up-after", "300ms")


@pytest.mark.parametrize(
    ("options", "subject", "end"),
    [
        ((), "crypto.update", "crypto.update for 2026-11-23T22:00:00Z was not stored"),
        (("--subject", "a.b"), "a.b", "a.b for 2026-11-23T22:00:00Z was not stored"),
        (("--delivery", "core"), "crypto.update", "crypto.update for 2026-11-23T22:00:00Z was not delivered"),
        (("--delivery", "streaming"), "crypto.update", "crypto.update for 2026-11-23T22:00:00Z was not stored"),
    ],
    ids=["jetstream", "subject", "core", "streaming"],
)
def test_no_server_leaves_the_slot_without_this_trigger(options, subject, end, run):
    result = run("publish", *SLOT, *NOWHERE, *options, "--json")
    assert result.status == 69
    assert is_one_clean_line(result.err)
    assert result.err.endswith(f"; {end}\n")
    report = json.loads(result.out)
    assert (report["subject"], report["scheduled_at"]) == (subject, "2026-11-23T22:00:00Z")
    assert "2026-11-23" not in report["error"]["message"]


def test_no_stream_is_not_stored(run, place):
    result = run("publish", *SLOT)
    assert result.status == 78
    assert result.err.endswith(f"; {place.subject} for 2026-11-23T22:00:00Z was not stored\n")


def test_a_refused_message_is_not_stored(run, place):
    add_stream(place.url, place.stream, [place.subject], max_msg_size=10, duplicate_window=1800)
    result = run("publish", *SLOT)
    assert stored(place.url, place.stream) == []
    assert result.status == 65
    assert result.err.endswith(f"; {place.subject} for 2026-11-23T22:00:00Z was not stored\n")


def test_refused_credentials_store_nothing(run):
    with Server(arguments=["--user", "worker", "--pass", "right"]) as server:
        result = run("publish", *SLOT, "--server", server.url)
    assert result.status == 77
    assert result.err.endswith("; crypto.update for 2026-11-23T22:00:00Z was not stored\n")


def test_what_was_sent_and_not_acknowledged_may_be_stored():
    def script(talk):
        talk.welcome()
        talk.empty_stream()
        talk.hear(b'{"trigger":"update"}')
        talk.listen()

    with Scripted(script) as server:
        ended = execute("publish", *SLOT, NATS_URL=server.url, CRYPTO_TRIGGER_GIVE_UP_AFTER="1s")
    assert ended.status == 75
    assert ended.err.endswith("; crypto.update for 2026-11-23T22:00:00Z may be stored\n")


@pytest.mark.parametrize("command", [("setup", *NOWHERE), ("publish", "--every", "banana")], ids=lambda argv: argv[0])
def test_a_run_without_a_slot_says_nothing_of_one(command, run):
    result = run(*command)
    assert result.status in {69, 78}
    assert "stored" not in result.err
