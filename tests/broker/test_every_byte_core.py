"""Delivery `core`, cut after byte N for every N and both ways: 0 means a subscriber had it, 65 to 78 that none did."""

from datetime import UTC, datetime, timedelta
from itertools import count

import pytest
from support.proxy import Cut, Proxy, Way
from support.subscribers import Subscriber
from support.sweeps import each_byte, in_parts

from crypto_trigger.connection.connection import Connection

# Fewer bytes than this are no whole exchange: INFO or CONNECT alone would be most of it.
SHORTEST = 400


@pytest.fixture
def trial(run, place, stranger, monkeypatch):
    """Publish through a fault for a slot of its own, and hold the status against what a subscriber received."""
    # What ends a run is the fault, never the time.
    settings = {"DELIVERY": "core", "TIMEOUT": "20s", "BACKOFF_BASE": "1ms", "BACKOFF_MAX": "1ms"}
    for name, value in settings.items():
        monkeypatch.setenv(f"CRYPTO_TRIGGER_{name}", value)
    slots = (datetime(2020, 1, 1, tzinfo=UTC) + timedelta(minutes=15) * n for n in count())
    with Proxy(place.url) as proxy, Subscriber(place.url, place.subject) as subscriber:

        def call(cut, *flags):
            slot = next(slots).strftime("%Y-%m-%dT%H:%M:%SZ")
            with proxy.route(cut, then=stranger) as route:
                result = run("publish", "--server", route.url, "--scheduled-at", slot, *flags)
            heard = [(message.headers["Nats-Msg-Id"], message.data) for message in subscriber.heard()]
            assert set(heard) <= {(f"{place.subject}:{slot}", b'{"trigger":"update"}')}
            assert {0: len(heard) == 1, 75: True, 77: not heard}[result.status], f"{cut}: {result}, heard {heard}"
            return result.status

        yield call


@in_parts
@pytest.mark.parametrize(
    ("reset", "flags"),
    [(False, ()), (True, ()), (False, ("--require-subscriber",))],
    ids=["closed", "reset", "closed, subscriber required"],
)
@pytest.mark.parametrize("way", Way, ids=lambda way: way.value)
def test_a_connection_cut_after_any_byte_never_makes_the_status_lie(trial, way, reset, flags, part):
    sweep = each_byte(lambda after: Cut(way, after, reset=reset), lambda cut: trial(cut, *flags), way, part)
    assert sweep.length > SHORTEST
    # Not sent; sent and not confirmed; confirmed.
    assert set(sweep.statuses) == {77, 75, 0}


def test_a_program_that_claims_without_a_confirmation_is_found_out(trial, monkeypatch):
    async def lying(*_):
        pass

    monkeypatch.setattr(Connection, "processed", lying)
    with pytest.raises(AssertionError, match="Result"):
        each_byte(lambda after: Cut(Way.TO_SERVER, after), trial, Way.TO_SERVER, part=0)
