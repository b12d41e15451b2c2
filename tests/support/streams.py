"""What a stream holds, seen with a client of the tests' own."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import NamedTuple

import nats
from nats.js.errors import NotFoundError


class Message(NamedTuple):
    seq: int
    subject: str
    data: bytes
    headers: dict[str, str]


@asynccontextmanager
async def client(url, **options):
    """A bare nats-py client, closed at the end."""
    connection = await nats.connect(url, **options)
    try:
        yield connection
    finally:
        await connection.close()


async def read(url, stream, **options):
    """Every message in the stream, in order; None if there is no such stream."""
    async with client(url, **options) as connection:
        js = connection.jetstream()
        try:
            state = (await js.stream_info(stream)).state
        except NotFoundError:
            return None
        found = []
        # An empty stream begins at 1, or at 0 after its leader has changed.
        for seq in range(max(1, state.first_seq), state.last_seq + 1):
            try:
                message = await js.get_msg(stream, seq=seq)
            except NotFoundError:
                continue
            found.append(Message(message.seq, message.subject, message.data, message.headers or {}))
        return found


def stored(url, stream, **options):
    """Every message in the stream, in order; None if there is no such stream."""
    return asyncio.run(read(url, stream, **options))


def add_stream(url, stream, subjects, connect=None, **config):
    """Create a stream as somebody else would; `connect` holds options for the connection."""

    async def add():
        async with client(url, **(connect or {})) as connection:
            await connection.jetstream().add_stream(name=stream, subjects=subjects, **config)

    asyncio.run(add())


def put(url, subject, payload=b"", headers=None):
    """Publish a message as somebody else would, and wait until it is stored."""

    async def publish():
        async with client(url) as connection:
            return await connection.jetstream().publish(subject, payload, headers=headers)

    return asyncio.run(publish())
