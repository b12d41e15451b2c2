"""A real stream with messages of the past: the times at which they were stored are what a test says.

A stream that mirrors another keeps the times of the other's messages. The other may be anywhere (`external`). Here it
is played by a client, which answers the request for a consumer, and by a leaf node, which delivers the messages: a
client must not use the reply subjects that hold the times. Once the messages are stored, the stream is no mirror any
more, and takes its subject like every other stream (nats-server 2.12 and later).
"""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple
from uuid import uuid4

from crypto_trigger.commands.server import Server
from support.clocks import roomy
from support.ports import free_port
from support.streams import client, stored

# A million messages take some minutes.
_LONGEST = 900
PAYLOAD = b'{"trigger":"update"}'


class Past(NamedTuple):
    """A message that was stored at some time; `subject` None stands for that of the triggers."""

    stored_at: datetime
    headers: dict[str, str]
    payload: bytes = PAYLOAD
    subject: str | None = None


def trigger(slot, lateness, source="//worker/worker-server", **headers):
    """The trigger of a slot that begins at `slot`, stored `lateness` (a timedelta) after that."""
    named = slot.strftime("%Y-%m-%dT%H:%M:%SZ")
    return Past(
        slot + lateness, {"Nats-Msg-Id": f"crypto.update:{named}", "ce-time": named, "ce-source": source, **headers}
    )


class Planter(NamedTuple):
    """A server that takes messages of the past."""

    url: str
    leaf_port: int

    def plant(self, stream, subject, messages, **config):
        """Create a stream that holds `messages`, oldest first, and takes the subject."""
        asyncio.run(self._plant(stream, subject, messages, config))

    async def _plant(self, stream, subject, messages, config):
        origin, deliver, api = f"{stream}-origin", f"planted.{stream}", f"planting.{stream}"

        async def answer(request):
            found = {"stream_name": origin, "name": "planted", "config": {"deliver_subject": f"{deliver}.>"}}
            await connection.publish(request.reply, json.dumps(found).encode())

        async def ask(endpoint, body):
            said = json.loads(
                (await connection.request(f"$JS.API.{endpoint}.{stream}", json.dumps(body).encode())).data
            )
            assert "error" not in said, said
            return said

        async def held():
            return (await ask("STREAM.INFO", {}))["state"]["messages"]

        def framed(number, message):
            moment = round(message.stored_at.timestamp() * 10**6) * 1000
            reply = f"$JS.ACK.{origin}.planted.1.{number}.{number}.{moment}.0"
            lines = "".join(f"{name}: {value}\r\n" for name, value in message.headers.items())
            headers = f"NATS/1.0\r\n{lines}\r\n".encode()
            sizes = f"{len(headers)} {len(headers) + len(message.payload)}"
            target = f"{deliver}.{message.subject or subject}"
            return f"HMSG {target} {reply} {sizes}\r\n".encode() + headers + message.payload + b"\r\n"

        async with client(self.url) as connection, self._leaf() as leaf, asyncio.timeout(_LONGEST):
            await connection.subscribe(f"{api}.CONSUMER.CREATE.>", cb=answer)
            await connection.flush()
            options = {"name": stream, "storage": "file", "allow_direct": True, **config}
            transform = {"src": f"{deliver}.>", "dest": ">"}
            mirror = {"name": origin, "external": {"api": api, "deliver": ""}, "subject_transforms": [transform]}
            await ask("STREAM.CREATE", {**options, "mirror": mirror})
            number = 0
            for number, message in enumerate(messages, 1):
                leaf.write(framed(number, message))
                # The stream subscribes a moment after the answer of ours.
                while number == 1 and not await held():
                    leaf.write(framed(number, message))
                if number % 100 == 0:
                    await leaf.drain()
            while await held() < number:
                pass
            await ask("STREAM.UPDATE", {**options, "subjects": [subject]})

    @asynccontextmanager
    async def _leaf(self):
        """A connection as a leaf node."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.leaf_port)
        try:
            assert (await reader.readline()).startswith(b"INFO ")
            writer.write(b'CONNECT {"name":"planter","headers":true}\r\nPING\r\n')
            while (line := await reader.readline()).strip() != b"PONG":
                assert not line.startswith(b"-ERR"), line
                assert line, "the connection ended"
            yield writer
        finally:
            writer.close()


class Field:
    """A stream of the test's own, named by the environment, with slots counted back from the present one."""

    def __init__(self, planter, monkeypatch):
        self.slots = roomy()
        self.every = timedelta(seconds=self.slots.every)
        self.present = datetime.fromtimestamp(self.slots.turn, UTC) - self.every
        self.stream = f"t{uuid4().hex[:12]}"
        self.subject = f"{self.stream}.update"
        self.url = planter.url
        self._planter = planter
        names = {"CRYPTO_TRIGGER_STREAM": self.stream, "CRYPTO_TRIGGER_SUBJECT": self.subject}
        for name, value in {"NATS_URL": planter.url, **names, **self.slots.settings}.items():
            monkeypatch.setenv(name, value)

    def slot(self, back):
        """Return the start of the slot so many slots before the present one."""
        return self.present - back * self.every

    def named(self, back):
        return self.slot(back).strftime("%Y-%m-%dT%H:%M:%SZ")

    def plant(self, messages, **config):
        """Create the stream with these messages, of any order."""
        ordered = sorted(messages, key=lambda message: message.stored_at)
        self._planter.plant(self.stream, self.subject, ordered, **config)
        found = [(message.data, message.headers.get("Nats-Msg-Id")) for message in stored(self.url, self.stream)]
        assert found == [(PAYLOAD, past.headers.get("Nats-Msg-Id")) for past in ordered]

    @property
    def window(self):
        """The options for a window of four slots."""
        return "--since", f"{4 * self.slots.every}s"


@contextmanager
def planting():
    """A server for messages of the past, running while the block does."""
    port = free_port()
    with TemporaryDirectory() as folder:
        path = Path(folder, "server.conf")
        path.write_text(f'leafnodes {{ listen: "127.0.0.1:{port}", compression: off }}\n')
        with Server(arguments=("-c", str(path))) as server:
            yield Planter(server.url, port)
