"""`publish` against the real server: what the stream holds, then what is said."""

import asyncio

from nats.aio.client import Client
from support.streams import stored

from crypto_trigger.brokers import connection


def test_the_stream_holds_one_message_with_the_exact_payload(run, place):
    assert run("setup").status == 0
    result = run("publish")
    (message,) = stored(place.url, place.stream)
    assert message.data == b'{"trigger":"update"}'
    assert result.status == 0
    assert result.out.startswith(f"published {place.subject} for ")
    assert result.err == ""


def test_a_second_publish_in_the_slot_adds_nothing(run, place):
    run("setup")
    run("publish", "--scheduled-at", "2026-11-23T12:00:00Z")
    result = run("publish", "--scheduled-at", "2026-11-23T12:14:59Z")
    assert len(stored(place.url, place.stream)) == 1
    assert result.status == 0
    assert result.out.startswith("duplicate: ")


def test_a_deadline_that_strikes_while_the_connection_closes_does_not_undo_the_acknowledgement(run, place, monkeypatch):
    run("setup")

    close = Client.close

    async def close_slowly(client):
        try:
            await asyncio.sleep(60)
        finally:
            await close(client)

    monkeypatch.setattr(connection, "_CLOSE_SECONDS", 60)
    monkeypatch.setattr(Client, "close", close_slowly)
    result = run("publish", "--give-up-after", "1s")
    monkeypatch.setattr(Client, "close", close)
    assert len(stored(place.url, place.stream)) == 1
    assert result.status == 0
