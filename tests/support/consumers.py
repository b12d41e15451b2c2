"""Consumers, made and driven as an API server would."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress

from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from support.patience import PATIENCE
from support.streams import client


def add_consumer(url, stream, name, ack_policy="explicit", deliver_policy="all", **config):
    """Create a consumer."""

    async def add():
        async with client(url) as connection:
            made = ConsumerConfig(
                durable_name=name,
                ack_policy=AckPolicy(ack_policy),
                deliver_policy=DeliverPolicy(deliver_policy),
                **config,
            )
            await connection.jetstream().add_consumer(stream, made)

    asyncio.run(add())


def fetch(url, stream, name, number, acks=()):
    """Take so many messages as a pull consumer does, and acknowledge those at these places, in this order."""

    async def take():
        async with client(url) as connection:
            bound = await connection.jetstream().pull_subscribe_bind(consumer=name, stream=stream)
            messages = await bound.fetch(number)
            for place in acks:
                await messages[place].ack_sync()

    asyncio.run(take())


def drain(url, stream, name):
    """Take and acknowledge what comes to a pull consumer, once; how many acknowledgements are awaited then."""

    async def take():
        async with client(url) as connection:
            bound = await connection.jetstream().pull_subscribe_bind(consumer=name, stream=stream)
            with suppress(TimeoutError):
                for message in await bound.fetch(3, timeout=1):
                    await message.ack_sync()

    asyncio.run(take())
    return consumer_info(url, stream, name)["num_ack_pending"]


def take_pushed(url, stream, name, number, acks=()):
    """Take so many messages as a subscriber of a push consumer does, and acknowledge as `fetch` does."""

    async def take():
        async with client(url) as connection:
            config = (await connection.jetstream().consumer_info(stream, name)).config
            subscription = await connection.subscribe(config.deliver_subject)
            messages = [await subscription.next_msg(PATIENCE) for _ in range(number)]
            for place in acks:
                await messages[place].ack_sync()

    asyncio.run(take())


def consumer_info(url, stream, name):
    """What the consumer's leader says of it."""

    async def ask():
        async with client(url) as connection:
            answer = await connection.request(f"$JS.API.CONSUMER.INFO.{stream}.{name}", b"", timeout=PATIENCE)
            return json.loads(answer.data)

    return asyncio.run(ask())
