"""A schedule of the server's own, as the recipe of docs/scheduling.md makes it with the nats CLI."""

from __future__ import annotations

import asyncio
import json

from support.streams import client, put

PAYLOAD = b'{"trigger":"update"}'
STREAM = {"allow_msg_schedules": True, "allow_msg_ttl": True, "allow_direct": True}


def headers(schedule, target):
    """What the nats CLI sends for `--schedule-cron` with the recipe's other options."""
    return {"Nats-Schedule": schedule, "Nats-Schedule-Target": target, "Nats-Rollup": "sub", "Nats-TTL": "never"}


def create(url, stream, subjects, **config):
    """Create a stream that takes schedules; `config` is in JetStream's own words, durations in nanoseconds."""
    body = {"name": stream, "subjects": subjects, **STREAM, **config}
    said = ask(url, f"STREAM.CREATE.{stream}", body)
    assert said["config"]["allow_msg_schedules"], said


def start(url, subject, schedule, target, *, forever=True):
    """Store the schedule, in the place of one that is there; not `forever`: without `Nats-TTL`."""
    sent = headers(schedule, target)
    if not forever:
        del sent["Nats-TTL"]
    put(url, subject, PAYLOAD, sent)


def ask(url, endpoint, body=None):
    """Ask JetStream; its answer."""

    async def request():
        async with client(url) as connection:
            answer = await connection.request(f"$JS.API.{endpoint}", json.dumps(body or {}).encode(), timeout=5)
            return json.loads(answer.data)

    return asyncio.run(request())
