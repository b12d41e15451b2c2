"""The bare script with the two lines about the garbage collector that crypto-trigger has, too."""

import gc

gc.disable()

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
gc.freeze()
