"""`setup` notes what copies the stream's messages and may refuse triggers, and what lets them in."""

import asyncio
import json
from datetime import UTC, datetime, timedelta

import pytest
from support.old_servers import find, serving, since
from support.processes import execute
from support.streams import client, put, read

from crypto_trigger.commands.server import Server

WINDOW = 1800 * 10**9


def create(url, name, **config):
    async def ask():
        async with client(url) as connection:
            body = json.dumps({"name": name, "duplicate_window": WINDOW, **config}).encode()
            answer = json.loads((await connection.request(f"$JS.API.STREAM.CREATE.{name}", body)).data)
            assert "error" not in answer, answer

    asyncio.run(ask())


def noted(ended):
    return {note["name"]: note for note in json.loads(ended.out).get("notes", [])}


@pytest.mark.parametrize(
    ("republish", "said"),
    [
        ({"src": "{}", "dest": "copy.x"}, "{} to copy.x"),
        ({"src": "{}.>", "dest": "copy.>"}, None),
        ({"dest": "copy.>"}, "> to copy.>"),
    ],
)
def test_a_republish_of_the_subject_is_a_note_and_no_difference(republish, said, run, place, monkeypatch):
    config = {key: text.format(place.subject) for key, text in republish.items()}
    create(place.url, place.stream, subjects=[place.subject], republish=config)
    ended = run("setup", "--json")
    monkeypatch.setenv("CRYPTO_TRIGGER_GUARD", "msg-id")
    guarded = run("setup", "--json")
    assert (ended.status, guarded.status) == (0, 0)
    found = noted(ended).get("republish")
    assert (found and found["found"]) == (said and said.format(place.subject))
    assert not found or found["effect"].endswith(": CRYPTO_TRIGGER_GUARD=msg-id lets them in")
    assert "republish" not in noted(guarded)


def slots(count):
    begin = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=6)
    return [(begin + timedelta(minutes=15 * number)).strftime("%Y-%m-%dT%H:%M:%SZ") for number in range(count)]


async def settled(url, stream, last):
    """Wait until the copy has all that the stream has; return how many messages it has in the end."""
    for _ in range(60):
        found = len(await read(url, stream))
        if found == last:
            return found
        await asyncio.sleep(0.05)
    return found


COPIES = {
    # The mirror does not have the first message, and so not the last one of the subject either.
    "a mirror": ("mirrored_by", {"mirror": {"name": "S", "opt_start_seq": 2}}, ["2.9", "2.10"]),
    "a sourcing stream": ("source_of", {"subjects": ["own"], "sources": [{"name": "S"}]}, ["2.9"]),
}
OLD = [(name, *rest, release) for name, (*rest, releases) in COPIES.items() for release in releases]


@pytest.mark.parametrize(
    ("note", "config", "release"), [case[1:] for case in OLD], ids=[f"{c[0]} {c[-1]}" for c in OLD]
)
@pytest.mark.parametrize("guard", ["compare-and-set", "msg-id"])
def test_what_refuses_triggers_on_an_old_server_is_noted_and_gets_them_with_msg_id(guard, note, config, release, place):
    with serving(find(release)) as server:
        create(server.url, "S", subjects=[place.subject])
        put(server.url, place.subject, b"", {"ce-time": "2020-01-01T00:00:00Z"})
        create(server.url, "COPY", **config)
        own = "own" in config.get("subjects", ())
        if own:
            asyncio.run(settled(server.url, "COPY", 1))
            put(server.url, "own")
        settings = {"NATS_URL": server.url, "CRYPTO_TRIGGER_STREAM": "S", "CRYPTO_TRIGGER_GUARD": guard}
        setup = execute("setup", "--json", **settings)
        for slot in slots(2):
            assert execute("publish", "--scheduled-at", slot, **settings).status == 0
        before = 2 if own else 0
        copied = asyncio.run(settled(server.url, "COPY", before + 2)) - before
    assert setup.status == 0
    if guard == "msg-id":
        assert copied == 2
        assert note not in noted(setup)
    else:
        assert copied < 2
        assert noted(setup)[note]["found"] == "COPY"
        assert "CRYPTO_TRIGGER_GUARD=msg-id lets them in" in noted(setup)[note]["effect"]


@since("2.11", "mirrors that take every message")
def test_what_takes_every_trigger_on_the_newest_server_is_not_noted(place):
    with Server() as server:
        create(server.url, "S", subjects=[place.subject])
        create(server.url, "COPY", mirror={"name": "S"})
        settings = {"NATS_URL": server.url, "CRYPTO_TRIGGER_STREAM": "S"}
        setup = execute("setup", "--json", **settings)
        for slot in slots(2):
            assert execute("publish", "--scheduled-at", slot, **settings).status == 0
        assert asyncio.run(settled(server.url, "COPY", 2)) == 2
    assert not {"mirrored_by", "source_of"} & set(noted(setup))


def test_without_permission_to_list_the_streams_the_rest_is_noted(place, tmp_path):
    config = tmp_path / "server.conf"
    denied = 'permissions: {publish: {deny: "$JS.API.STREAM.LIST"}}'
    config.write_text(f"authorization: {{users: [{{user: u, password: pw, {denied}}}]}}")
    with serving(find("2.10"), arguments=("-c", str(config))) as server:
        url = server.url.replace("//", "//u:pw@")
        create(url, place.stream, subjects=[place.subject])
        create(url, "COPY", mirror={"name": place.stream})
        setup = execute("setup", "--json", NATS_URL=url, CRYPTO_TRIGGER_TIMEOUT="2s")
    assert setup.status == 0
    assert "mirrored_by" not in noted(setup)
    assert "max_age" in noted(setup)
