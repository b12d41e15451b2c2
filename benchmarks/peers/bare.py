"""The shortest script that publishes with nats-py and waits for the acknowledgement."""

import asyncio
import os

import nats


async def main():
    nc = await nats.connect(os.environ["NATS_URL"])
    js = nc.jetstream()
    ack = await js.publish(
        os.environ["SUBJECT"], b'{"trigger":"update"}', headers={"Nats-Msg-Id": os.environ["MSG_ID"]}
    )
    print("published, sequence", ack.seq)
    await nc.close()


asyncio.run(main())
