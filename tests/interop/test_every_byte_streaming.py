"""Delivery `streaming`, cut after byte N for every N and both ways: 0 means stored, 65 to 78 not, 75 either."""

from contextlib import suppress

import pytest
from support.proxy import Cut, Proxy, Way
from support.streaming import StreamingServer, peer
from support.streaming_double import StreamingDouble
from support.sweeps import each_byte, in_parts

from crypto_trigger.delivery.streaming import Registration

# Fewer bytes than this are no whole exchange: INFO or CONNECT alone would be most of it.
SHORTEST = 600
KINDS = {"double": StreamingDouble, "real": StreamingServer}


@pytest.fixture
def trial(request, run, stranger, monkeypatch):
    """Publish through a fault, and hold the status against what the channel holds."""
    # What ends a run is the fault, never the time.
    settings = {
        "DELIVERY": "streaming",
        "SUBJECT": "a.b",
        "TIMEOUT": "20s",
        "BACKOFF_BASE": "1ms",
        "BACKOFF_MAX": "1ms",
    }
    for name, value in settings.items():
        monkeypatch.setenv(f"CRYPTO_TRIGGER_{name}", value)
    with (
        KINDS[request.param]() as stan,
        Proxy(stan.url) as proxy,
        peer(stan.url, stan.cluster, "witness") as witness,
    ):
        before = 0

        def call(cut):
            nonlocal before
            with proxy.route(cut, then=stranger) as route:
                result = run("publish", "--server", route.url)
            # Messages are stored in the order of arrival: once this one is, all that came before it are.
            assert witness.publish("marker") == ""
            held, before = stan.count("a.b") - before, stan.count("a.b")
            assert {0: held == 1, 75: held < 2, 77: held == 0}[result.status], f"{cut}: {result}, held {held}"
            return result.status

        yield call


@in_parts
@pytest.mark.parametrize(
    ("trial", "way", "reset"),
    [
        pytest.param("real", Way.TO_SERVER, False, id="real, to the server"),
        pytest.param("real", Way.TO_CLIENT, False, id="real, to the client"),
        pytest.param("double", Way.TO_SERVER, True, id="double, to the server, reset"),
        pytest.param("double", Way.TO_CLIENT, False, id="double, to the client"),
    ],
    indirect=["trial"],
)
def test_a_connection_cut_after_any_byte_never_makes_the_status_lie(trial, way, reset, part):
    sweep = each_byte(lambda after: Cut(way, after, reset=reset), trial, way, part)
    assert sweep.length > SHORTEST
    # Not sent; sent and unacknowledged; acknowledged, and cut while the registration was closed.
    assert set(sweep.statuses) == {77, 75, 0}
    assert sweep.statuses.count(0) > 1


@pytest.mark.parametrize("trial", ["double"], indirect=True)
def test_a_program_that_claims_without_an_acknowledgement_is_found_out(trial, monkeypatch):
    honest = Registration.publish

    async def lying(self, trigger):
        with suppress(Exception):
            await honest(self, trigger)

    monkeypatch.setattr(Registration, "publish", lying)
    with pytest.raises(AssertionError, match="held 0"):
        each_byte(lambda after: Cut(Way.TO_SERVER, 400 + after), trial, Way.TO_SERVER, part=0)
