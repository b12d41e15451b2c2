"""The bare script with a payload of as many bytes as PAYLOAD says."""

import asyncio
import os

import nats


async def main():
    nc = await nats.connect(os.environ["NATS_URL"])
    js = nc.jetstream()
    payload = b"x" * int(os.environ["PAYLOAD"])
    ack = await js.publish(os.environ["SUBJECT"], payload, headers={"Nats-Msg-Id": os.environ["MSG_ID"]})
    print("published, sequence", ack.seq)
    await nc.close()


asyncio.run(main())
