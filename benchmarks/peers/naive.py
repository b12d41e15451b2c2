"""The one-shot as one writes it in an afternoon: Typer, rich, dotenv and backoff, all imported at the top."""

import asyncio
import json
import logging
import os
from datetime import UTC, datetime

import backoff
import nats
import typer
from dotenv import load_dotenv
from nats.js.errors import NotFoundError
from rich.console import Console

load_dotenv()
logging.basicConfig(level=logging.INFO)
app = typer.Typer()
console = Console()


@backoff.on_exception(backoff.expo, Exception, max_time=60)
async def send(url: str, subject: str, stream: str, msg_id: str):
    nc = await nats.connect(url, name="worker-server")
    try:
        js = nc.jetstream()
        try:
            await js.stream_info(stream)
        except NotFoundError:
            await js.add_stream(name=stream, subjects=[subject])
        payload = json.dumps({"trigger": "update"}).encode()
        return await js.publish(subject, payload, headers={"Nats-Msg-Id": msg_id})
    finally:
        await nc.drain()


@app.command()
def publish(
    url: str = typer.Option("nats://localhost:4222", envvar="NATS_URL"),
    subject: str = typer.Option("crypto.update", envvar="SUBJECT"),
    stream: str = typer.Option("crypto-stats", envvar="STREAM"),
):
    msg_id = os.environ.get("MSG_ID") or datetime.now(UTC).strftime("%Y-%m-%dT%H:%M")
    ack = asyncio.run(send(url, subject, stream, msg_id))
    console.print(f"[green]published[/green] to {ack.stream}, sequence {ack.seq}")


if __name__ == "__main__":
    app()
