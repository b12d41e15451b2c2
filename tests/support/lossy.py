"""Faults of a connection that lose what the server confirms, on every connection they are given to."""

from __future__ import annotations

import asyncio
import time

from support.proxy import Fault, Severed, Way, is_ack, messages


class LosesAcks(Fault):
    """Every acknowledgement of the stream's is lost; the connection stays up."""

    async def filter(self, way, chunks, over):  # noqa: ARG002 - as the faults have it
        if way is Way.TO_SERVER:
            async for chunk in chunks:
                yield chunk
            return
        async for message in messages(chunks):
            if is_ack(message):
                self.struck = True
            else:
                yield message


class LosesPongs(Fault):
    """Every PONG but the first, that of the handshake, is lost."""

    async def filter(self, way, chunks, over):  # noqa: ARG002 - as the faults have it
        if way is Way.TO_SERVER:
            async for chunk in chunks:
                yield chunk
            return
        pongs = 0
        async for message in messages(chunks):
            if message.startswith(b"PONG"):
                pongs += 1
                if pongs > 1:
                    self.struck = True
                    continue
            yield message


class HangsUpAt(Fault):
    """The first acknowledgement is lost, and the connection ends at `moment` (seconds since the epoch)."""

    def __init__(self, moment):
        self.moment = moment

    async def filter(self, way, chunks, over):  # noqa: ARG002 - as the faults have it
        async for message in messages(chunks):
            if way is Way.TO_CLIENT and is_ack(message):
                self.struck = True
                await asyncio.sleep(max(0.0, self.moment - time.time()))
                raise Severed
            yield message
