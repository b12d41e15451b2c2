"""Limits on the size of messages, and refused subjects: a final refusal is not tried again."""

import json
import time

import pytest
from support.answers import jetstream
from support.operators import Realm
from support.processes import execute, is_one_clean_line
from support.scripted import Scripted
from support.streams import add_stream, stored

from crypto_trigger.commands.server import Server

SURE = {"CRYPTO_TRIGGER_TIMEOUT": "5s", "CRYPTO_TRIGGER_GIVE_UP_AFTER": "10s"}
STREAM = {"duplicate_window": 1800}


def refused_for_good(ended, status):
    """What holds for all of them: one attempt, no waiting, one line."""
    report = json.loads(ended.out)
    assert (ended.status, report["status"]) == (status, status)
    assert report["attempts"] == 1
    assert is_one_clean_line(ended.err)
    assert ended.seconds < 4


# MSG.GET's question is of some 40 bytes, the trigger of 20 and its headers of some 300.
@pytest.mark.parametrize("limit", [8, 16, 30, 64, 200])
def test_a_server_that_takes_only_small_messages_refuses_the_trigger_at_once(limit, place, tmp_path):
    config = tmp_path / "server.conf"
    config.write_text("max_payload: 10000")
    with Server(arguments=("-c", str(config))) as server:
        add_stream(server.url, place.stream, [place.subject], **STREAM)
        server.stop()
        config.write_text(f"max_payload: {limit}")
        server.start()
        ended = execute("publish", "--json", NATS_URL=server.url, **SURE)
        server.stop()
        config.write_text("max_payload: 10000")
        server.start()
        assert stored(server.url, place.stream) == []
    refused_for_good(ended, 65)
    assert "larger than" in ended.err


# A user's or an account's limit is told in a second INFO, after CONNECT, if at all.
@pytest.mark.parametrize("limit", [16, 64, 200])
@pytest.mark.parametrize("whose", ["user", "account"])
def test_a_limit_of_the_user_or_the_account_refuses_the_trigger_at_once(whose, limit, place, tmp_path):
    realm = Realm()
    config, admin, user = tmp_path / "server.conf", tmp_path / "admin.creds", tmp_path / "user.creds"
    config.write_text(realm.config())
    admin.write_text(realm.creds())
    user.write_text(realm.creds(payload=limit if whose == "user" else -1))
    with Server(arguments=("-c", str(config))) as server:
        add_stream(server.url, place.stream, [place.subject], connect={"user_credentials": str(admin)}, **STREAM)
        if whose == "account":
            server.stop()
            realm.payload = limit
            config.write_text(realm.config())
            server.start()
        ended = execute("publish", "--json", NATS_URL=server.url, NATS_CREDS=user, **SURE)
        if whose == "account":
            server.stop()
            realm.payload = -1
            config.write_text(realm.config())
            server.start()
        assert stored(server.url, place.stream, user_credentials=str(admin)) == []
    refused_for_good(ended, 65)
    assert "larger than" in ended.err


@pytest.mark.parametrize("when", ["asking", "publishing"])
def test_a_server_that_says_the_message_is_too_large_is_believed_at_once(when, place):  # noqa: ARG001 - a clean place
    def complains(talk, _inbox=""):
        talk.say(b"-ERR 'Maximum Payload Violation'\r\n")
        talk.close()

    def asked(talk):
        talk.welcome()
        talk.asked()
        complains(talk)

    with Scripted(asked if when == "asking" else jetstream(complains)) as server:
        ended = execute("publish", "--json", NATS_URL=server.url, CRYPTO_TRIGGER_STREAM="S", **SURE)
    refused_for_good(ended, 65)
    assert "larger than" in ended.err


PERMISSIONS = """
accounts {
  A { jetstream: enabled, users: [
    { user: all, password: all }
    { user: some, password: pw, permissions: { publish: ["$JS.API.>"], subscribe: ["_INBOX.>"] } }
  ] }
}
"""
# The server writes the subject of a violation with Go's %q.
SUBJECTS = [
    'cry"pto.update',
    "cry\\pto.update",
    "'crypto'.update",
    "crýpto.update",
    "crypto\u200b.update",
    "plain.update",
]


@pytest.mark.parametrize("subject", SUBJECTS)
@pytest.mark.parametrize("delivery", ["jetstream", "core"])
def test_a_refused_subject_is_recognised_however_the_server_quotes_it(delivery, subject, place, tmp_path):
    config = tmp_path / "server.conf"
    config.write_text(PERMISSIONS)
    with Server(arguments=("-c", str(config))) as server:
        admin = server.url.replace("://", "://all:all@")
        add_stream(admin, place.stream, [subject], **STREAM)
        url = server.url.replace("://", "://some:pw@")
        since = time.monotonic()
        ended = execute("publish", "--delivery", delivery, NATS_URL=url, **{**SURE, "CRYPTO_TRIGGER_SUBJECT": subject})
        assert stored(admin, place.stream) == []
    if ended.status == 78:
        # A subject that our own rules refuse never comes to the server.
        assert "CRYPTO_TRIGGER_SUBJECT" in ended.err
        assert not subject.isprintable()
        return
    assert ended.status == 77
    assert is_one_clean_line(ended.err)
    assert "no permission to publish" in ended.err
    assert time.monotonic() - since < 5


def test_a_credential_longer_than_the_server_s_control_line_is_refused_at_once(place):
    """The server counts CONNECT as a control line (4 KiB unless it is configured otherwise)."""
    ended = execute("publish", "--json", NATS_URL=place.url, NATS_TOKEN="x" * 6000, **SURE)
    assert (ended.status, json.loads(ended.out)["attempts"]) == (78, 1)
    assert is_one_clean_line(ended.err)
    assert "max_control_line" in ended.err
    assert "xxx" not in ended.err
