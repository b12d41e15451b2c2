"""The connection ends after byte N, for every N of a publish in both ways: the status is true each time."""

import pytest
from support.proxy import Cut, Fault, Proxy, Tamper, Way, is_ack
from support.sweeps import each_byte, in_parts
from support.truth import publish_through, slots_of

from crypto_trigger.delivery.stream import Stream
from crypto_trigger.errors import BrokerError, Unavailable

# Fewer bytes than this are no whole exchange: INFO or CONNECT alone would be most of it.
SHORTEST = 500


@pytest.fixture(scope="module")
def proxy(server):
    with Proxy(server.url) as running:
        yield running


@pytest.fixture
def slots(proxy, place, monkeypatch):
    # What ends a run is the fault, never the time.
    monkeypatch.setenv("CRYPTO_TRIGGER_TIMEOUT", "20s")
    monkeypatch.setenv("CRYPTO_TRIGGER_BACKOFF_BASE", "1ms")
    monkeypatch.setenv("CRYPTO_TRIGGER_BACKOFF_MAX", "1ms")
    with slots_of(proxy, place) as found:
        yield found


@in_parts
@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
@pytest.mark.parametrize("way", Way, ids=lambda way: way.value)
def test_a_connection_cut_after_any_byte_never_makes_the_status_lie(run, proxy, slots, stranger, way, reset, part):
    def trial(cut):
        outcome = publish_through(run, proxy, slots, cut, then=stranger)
        assert outcome.connections == 1 or cut.struck
        return outcome.result.status

    sweep = each_byte(lambda after: Cut(way, after, reset=reset), trial, way, part)
    assert sweep.length > SHORTEST
    # Not sent; sent and unacknowledged; acknowledged: the exchange was cut in all its parts.
    assert set(sweep.statuses) == {77, 75, 0}


@in_parts
@pytest.mark.parametrize("way", Way, ids=lambda way: way.value)
def test_a_connection_cut_after_any_byte_is_made_anew_and_the_slot_has_one_trigger(run, proxy, slots, way, part):
    def trial(cut):
        outcome = publish_through(run, proxy, slots, cut, then=Fault())
        assert outcome.result.status == 0, f"{cut}: {outcome}"
        assert (outcome.connections > 1) == cut.struck
        return outcome.result.status

    assert each_byte(lambda after: Cut(way, after), trial, way, part).length > SHORTEST


def claims():
    return 1, False


def denies():
    raise Unavailable("nobody was there")


@pytest.mark.parametrize(
    ("lie", "fault", "said"),
    [
        # In the middle of the trigger; and its acknowledgement.
        (claims, Cut(Way.TO_SERVER, 500), "status 0, and the slot holds no trigger"),
        (denies, Tamper(Way.TO_CLIENT, "drop", fits=is_ack), "status 77, and the slot holds a trigger"),
    ],
    ids=["claims", "denies"],
)
def test_a_program_that_lies_is_found_out(run, proxy, slots, stranger, monkeypatch, lie, fault, said):
    honest = Stream.publish

    async def lying(self, trigger, headers, *, known):
        try:
            return await honest(self, trigger, headers, known=known)
        except BrokerError:
            return lie()

    monkeypatch.setattr(Stream, "publish", lying)
    with pytest.raises(AssertionError, match=said):
        publish_through(run, proxy, slots, fault, then=stranger, timeout="300ms")
