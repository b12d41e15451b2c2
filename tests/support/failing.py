"""A publish that must fail: what is true whatever the fault is, and servers for it."""

from __future__ import annotations

import json
import socket
from contextlib import contextmanager

from crypto_trigger.commands.server import Server
from support.patience import PATIENCE
from support.processes import execute, is_one_clean_line
from support.streams import stored

# Time limits: short where the server does not answer, long where an answer is sure to come.
SHORT = {"CRYPTO_TRIGGER_TIMEOUT": "300ms", "CRYPTO_TRIGGER_GIVE_UP_AFTER": "1s"}
SURE = {"CRYPTO_TRIGGER_TIMEOUT": "5s", "CRYPTO_TRIGGER_GIVE_UP_AFTER": "10s"}
BACKOFF = {"CRYPTO_TRIGGER_BACKOFF_BASE": "100ms", "CRYPTO_TRIGGER_BACKOFF_MAX": "200ms"}
# An interpreter's start, on a machine that others use as well.
START = 2.0


def publish(**settings):
    """Run `publish` and check what holds for every fault; returns how it ended and its report."""
    settings = {**SHORT, **BACKOFF, **settings}
    ended = execute("publish", "--json", **settings)
    deadline = {"1s": 1.0, "10s": 10.0}[settings["CRYPTO_TRIGGER_GIVE_UP_AFTER"]]
    assert ended.seconds < deadline + 1 + START
    assert is_one_clean_line(ended.err)
    report = json.loads(ended.out)
    assert report["status"] == ended.status
    return ended, report


def held(place):
    """How many triggers the stream holds."""
    messages = stored(place.url, place.stream)
    return 0 if messages is None else sum(message.data == b'{"trigger":"update"}' for message in messages)


@contextmanager
def configured(config, tmp_path, **options):
    """A real server with a configuration of its own."""
    path = tmp_path / "server.conf"
    path.write_text(config)
    with Server(arguments=("-c", str(path)), **options) as server:
        yield server


@contextmanager
def greeted(server, options):
    """A client of the server that says no more than its greeting."""
    with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])), PATIENCE) as client:
        client.sendall(b"CONNECT " + json.dumps(options).encode() + b"\r\nPING\r\n")
        read_until(client, b"PONG")
        yield client


def read_until(client, wanted):
    heard = b""
    while wanted not in heard:
        data = client.recv(4096)
        assert data, f"the server hung up after {heard!r}"
        heard += data
