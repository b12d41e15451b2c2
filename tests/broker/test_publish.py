"""`publish` against the real server: what the stream holds, then what is said."""

import asyncio
import socket
import time
from contextlib import contextmanager

import pytest
from nats.aio.client import Client
from support.ports import free_port
from support.streams import add_stream, stored

from crypto_trigger.connection import connection
from crypto_trigger.delivery.stream import Stream


def test_the_stream_holds_one_message_with_the_exact_payload(run, place):
    assert run("setup").status == 0
    result = run("publish")
    (message,) = stored(place.url, place.stream)
    assert message.data == b'{"trigger":"update"}'
    assert result.status == 0
    assert result.out.startswith(f"published {place.subject} for ")
    assert result.err == ""


@pytest.mark.parametrize("broken", ["TRACEPARENT", "TRACESTATE"])
def test_a_broken_trace_context_is_left_out_and_stops_no_command(broken, run, place, monkeypatch):
    trace = {"TRACEPARENT": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "TRACESTATE": "a=1"}
    for name, value in {**trace, broken: f"{trace[broken]}\n"}.items():
        monkeypatch.setenv(name, value)
    assert run("setup").status == 0
    result = run("publish")
    (message,) = stored(place.url, place.stream)
    assert result.status == 0
    assert message.headers.get("traceparent") == (None if broken == "TRACEPARENT" else trace["TRACEPARENT"])
    assert "tracestate" not in message.headers
    assert f"warning: {broken} '" in result.err
    for command in (
        ["publish", "--rehearse"],
        ["check"],
        ["history"],
        ["config"],
        ["listen", "--since", "1h", "--count", "1"],
    ):
        assert run(*command).status == 0, command


def test_a_second_publish_in_the_slot_adds_nothing(run, place):
    run("setup")
    run("publish", "--scheduled-at", "2026-11-23T12:00:00Z")
    result = run("publish", "--scheduled-at", "2026-11-23T12:14:59Z")
    assert len(stored(place.url, place.stream)) == 1
    assert result.status == 0
    assert result.out.startswith("duplicate: ")


@contextmanager
def closing_takes_long(monkeypatch):
    """Connections take a minute to close while the block runs: those of the program, not the test's own."""
    close = Client.close

    async def close_slowly(client):
        try:
            await asyncio.sleep(60)
        finally:
            await close(client)

    with monkeypatch.context() as slow:
        slow.setattr(connection, "_CLOSE_SECONDS", 60)
        slow.setattr(Client, "close", close_slowly)
        yield


def test_a_deadline_that_strikes_while_the_connection_closes_does_not_undo_the_acknowledgement(run, place, monkeypatch):
    add_stream(place.url, place.stream, [place.subject])
    with closing_takes_long(monkeypatch):
        result = run("publish", "--give-up-after", "1s")
    assert len(stored(place.url, place.stream)) == 1
    assert result.status == 0


def test_a_deadline_that_strikes_while_a_failed_connection_closes_is_the_end(run, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as silent, closing_takes_long(monkeypatch):
        began = time.monotonic()
        servers = f"nats://127.0.0.1:{free_port()},nats://127.0.0.1:{silent.getsockname()[1]}"
        result = run("publish", "--server", servers, "--give-up-after", "1s", "--timeout", "30s")
    assert time.monotonic() - began < 10
    assert result.status == 69


def test_a_deadline_that_strikes_while_the_window_is_looked_at_does_not_undo_the_acknowledgement(
    run, place, monkeypatch
):
    add_stream(place.url, place.stream, [place.subject])
    monkeypatch.setattr(Stream, "config", lambda _: asyncio.sleep(60))
    result = run("publish", "--give-up-after", "1s")
    assert len(stored(place.url, place.stream)) == 1
    assert result.status == 0
