"""What a publish to NATS Streaming is given: a channel of its own, and settings that keep a test short."""

from uuid import uuid4

import pytest
from support.streaming_double import StreamingDouble

QUICK = {
    "CRYPTO_TRIGGER_DELIVERY": "streaming",
    "CRYPTO_TRIGGER_BACKOFF_BASE": "20ms",
    "CRYPTO_TRIGGER_BACKOFF_MAX": "200ms",
    "CRYPTO_TRIGGER_GIVE_UP_AFTER": "20s",
}
SHORT = {"CRYPTO_TRIGGER_TIMEOUT": "300ms", "CRYPTO_TRIGGER_GIVE_UP_AFTER": "1s"}


@pytest.fixture
def channel(monkeypatch):
    """A channel of the test's own, and the settings of the old worker but for the address."""
    name = f"t{uuid4().hex[:12]}.update"
    monkeypatch.setenv("CRYPTO_TRIGGER_SUBJECT", name)
    for variable, value in QUICK.items():
        monkeypatch.setenv(variable, value)
    return name


@pytest.fixture
def short(channel, monkeypatch):  # noqa: ARG001 - whose settings it changes
    """Give up soon: for what stays as it is until the deadline."""
    for variable, value in SHORT.items():
        monkeypatch.setenv(variable, value)


@pytest.fixture
def double(channel, monkeypatch):  # noqa: ARG001 - its settings
    with StreamingDouble() as stan:
        monkeypatch.setenv("NATS_URL", stan.url)
        yield stan
