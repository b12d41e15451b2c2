"""Subjects that the stream transforms or the account maps to another: guarded under that name, or refused by name."""

import asyncio
import json
from datetime import UTC, datetime, timedelta

import pytest
from support.processes import execute, is_one_clean_line
from support.streams import client, read

from crypto_trigger.commands.server import Server

PAYLOAD = b'{"trigger":"update"}'
SETTINGS = {
    "CRYPTO_TRIGGER_STREAM": "S",
    "CRYPTO_TRIGGER_SUBJECT": "crypto.update",
    "CRYPTO_TRIGGER_TIMEOUT": "5s",
    "CRYPTO_TRIGGER_GIVE_UP_AFTER": "10s",
}
MAPPED = """
accounts {
  A { jetstream: enabled, users: [{ user: a, password: a }], mappings = { "crypto.update": "other.name" } }
}
"""
# The server's configuration, the stream's, and the name under which it stores what is published on the subject.
MAPPINGS = {
    "a transform of the subject": (
        "",
        {"subjects": ["crypto.update"], "subject_transform": {"src": "crypto.update", "dest": "other.name"}},
        "other.name",
    ),
    "a transform of everything": (
        "",
        {"subjects": ["crypto.>"], "subject_transform": {"src": ">", "dest": "moved.>"}},
        "moved.crypto.update",
    ),
    "a mapping of the account": (MAPPED, {"subjects": ["other.name"]}, "other.name"),
    "a mapping within the stream": (MAPPED, {"subjects": ["crypto.update", "other.name"]}, "other.name"),
}


@pytest.fixture(params=MAPPINGS.values(), ids=MAPPINGS)
def mapped(request, tmp_path, place):  # noqa: ARG001 - a clean place
    """The URL of a server whose stream S stores the subject under another name, and that name."""
    server_config, config, name = request.param
    path = tmp_path / "server.conf"
    path.write_text(server_config)
    with Server(arguments=("-c", str(path))) as server:
        url = server.url.replace("://", "://a:a@") if server_config else server.url
        asyncio.run(create(url, config))
        yield url, name


async def create(url, config):
    body = json.dumps({"name": "S", "duplicate_window": 10**8, **config}).encode()
    async with client(url) as connection:
        answer = json.loads((await connection.request("$JS.API.STREAM.CREATE.S", body, timeout=5)).data)
        assert "error" not in answer, answer


async def held(url, name):
    """The slots of the triggers under the name, and how many messages there are beside them."""
    found = await read(url, "S")
    triggers = [message for message in found if (message.subject, message.data) == (name, PAYLOAD)]
    return [message.headers["ce-time"] for message in triggers], len(found) - len(triggers)


def test_a_mapped_subject_has_one_trigger_per_slot_or_is_refused_by_the_mapping_s_name(mapped):
    url, name = mapped
    now = datetime.now(UTC)
    slots = [(now - timedelta(hours=hours)).strftime("%Y-%m-%dT%H:00:00Z") for hours in (3, 2)]
    stored = []
    for slot in (slots[0], slots[0], slots[1], slots[1]):
        ended = execute("publish", "--json", "--scheduled-at", slot, NATS_URL=url, **SETTINGS)
        before, stored = stored, asyncio.run(held(url, name))[0]
        assert ended.status in {0, 78}, ended
        # "Other messages kept coming first" took until the deadline.
        assert ended.seconds < 8
        assert stored.count(slot) <= 1
        if ended.status == 0:
            assert slot in stored
        else:
            assert stored == before
            assert is_one_clean_line(ended.err)
            assert name in ended.err
    assert asyncio.run(held(url, name))[1] == 0


def test_a_mapped_subject_is_not_doubled_after_the_duplicate_window(mapped):
    """The guard is not the msg id alone."""
    url, name = mapped
    slot = (datetime.now(UTC) - timedelta(hours=2)).strftime("%Y-%m-%dT%H:00:00Z")
    first = execute("publish", "--scheduled-at", slot, NATS_URL=url, **SETTINGS)
    before = asyncio.run(held(url, name))[0]
    # The window of 100 ms has passed by now: the start of a process takes longer.
    second = execute("publish", "--scheduled-at", slot, NATS_URL=url, **SETTINGS)
    assert asyncio.run(held(url, name))[0] == before
    assert first.status in {0, 78}
    assert len(before) == (1 if first.status == 0 else 0)
    assert second.status in {0, 78}


def test_the_present_slot_of_a_mapped_subject_has_one_trigger(mapped):
    url, name = mapped
    runs = [execute("publish", "--every", "24h", NATS_URL=url, **SETTINGS) for _ in range(3)]
    stored = asyncio.run(held(url, name))[0]
    assert len(stored) <= 1
    assert {run.status for run in runs} <= {0, 78}
    if 0 in {run.status for run in runs}:
        assert len(stored) == 1
