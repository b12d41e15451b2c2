"""A stream that does not exist: the line names the one that takes the subject, and the setting that is wrong."""

import json

import pytest
from support.processes import execute
from support.streams import add_stream, stored

from crypto_trigger.commands.server import Server

SHORT = {"CRYPTO_TRIGGER_TIMEOUT": "2s", "CRYPTO_TRIGGER_GIVE_UP_AFTER": "4s"}
COMMANDS = {
    "publish": ("publish",),
    "rehearse": ("publish", "--rehearse"),
    "check": ("check",),
    "check --consumer": ("check", "--consumer", "api"),
    "history": ("history",),
    "listen": ("listen", "--for", "2s"),
    "listen --since": ("listen", "--for", "2s", "--since", "1h"),
}
EVERY_COMMAND = pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)


def said(ended):
    """What a command says went wrong: check says it on stdout, as a plugin does, and is CRITICAL."""
    assert ended.status in {78, 2}
    return ended.out + ended.err


@EVERY_COMMAND
def test_the_stream_that_takes_the_subject_is_named_with_the_setting_that_names_another(words, place, monkeypatch):
    add_stream(place.url, place.stream, [f"{place.stream}.>"])
    monkeypatch.delenv("CRYPTO_TRIGGER_STREAM")
    typo = place.stream[:-1]
    text = said(execute(*words, NATS_CLUSTER_ID=typo, **SHORT))
    assert stored(place.url, place.stream) == []
    assert f"there is no stream {typo}" in text
    assert (
        f"stream {place.stream} takes {place.subject}: set NATS_CLUSTER_ID={place.stream} in place of '{typo}' (from "
        in text
    )
    assert "the environment)" in text
    assert "setup" not in text


@pytest.mark.parametrize(
    ("flags", "settings", "setting"),
    [
        (("--stream", "typo"), {}, "give --stream {} in place of 'typo'"),
        (
            (),
            {"CRYPTO_TRIGGER_STREAM": "typo"},
            "set CRYPTO_TRIGGER_STREAM={} in place of 'typo' (from the environment)",
        ),
        ((), {}, "set NATS_CLUSTER_ID={} in place of 'crypto-stats' (from the default)"),
    ],
    ids=["flag", "environment", "default"],
)
def test_the_setting_is_the_one_that_the_name_came_from(flags, settings, setting, place, monkeypatch):
    monkeypatch.delenv("CRYPTO_TRIGGER_STREAM")
    with Server() as server:
        add_stream(server.url, place.stream, [place.subject])
        ended = execute("publish", *flags, NATS_URL=server.url, **settings, **SHORT)
        assert stored(server.url, place.stream) == []
    assert setting.format(place.stream) in said(ended)


@EVERY_COMMAND
def test_where_no_stream_takes_the_subject_the_line_says_how_to_create_one(words, place):
    text = said(execute(*words, **SHORT))
    assert stored(place.url, place.stream) is None
    assert f"there is no stream {place.stream}; create it with: crypto-trigger setup" in text


@EVERY_COMMAND
def test_without_permission_to_look_for_it_the_line_says_how_to_create_one(words, place, tmp_path):
    config = tmp_path / "server.conf"
    denied = 'permissions: {publish: {deny: "$JS.API.STREAM.NAMES"}}'
    config.write_text(
        f"authorization: {{users: [{{user: u, password: pw, {denied}}}, {{user: admin, password: admin}}]}}"
    )
    with Server(arguments=("-c", str(config))) as server:
        add_stream(server.url.replace("//", "//admin:admin@"), "OWNER", [place.subject])
        text = said(execute(*words, NATS_URL=server.url.replace("//", "//u:pw@"), **SHORT))
    assert f"there is no stream {place.stream}; create it with: crypto-trigger setup" in text
    assert "OWNER" not in text


def test_a_failed_publish_names_it_in_its_report_too(place):
    add_stream(place.url, place.stream, [place.subject])
    ended = execute("publish", "--json", "--stream", "typo", **SHORT)
    hint = json.loads(ended.out)["error"]["hint"]
    assert hint == f"stream {place.stream} takes {place.subject}: give --stream {place.stream} in place of 'typo'"
