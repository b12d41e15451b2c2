"""Faults of all kinds, one after the other in one run: the status is true whatever came before."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import examples  # noqa: F401 - how they draw
from support.proxy import Cut, Fault, Freeze, HangUp, Proxy, Tamper, Way, is_ack
from support.truth import publish_through, slots_of

WAYS = st.sampled_from(Way)
# A little more than the exchange has, either way.
BYTES = st.integers(0, 750) | st.integers(750, 1650)


FAULTS = st.one_of(
    st.builds(HangUp),
    st.builds(Fault),
    st.builds(Cut, WAYS, BYTES, reset=st.booleans()),
    st.builds(Freeze, WAYS, BYTES),
    st.builds(Tamper, st.just(Way.TO_CLIENT), st.just("drop"), fits=st.just(is_ack)),
    st.builds(Tamper, WAYS, st.sampled_from(["drop", "double", "late"]), st.integers(0, 4), late=st.just(0.2)),
)


@pytest.fixture(scope="module")
def proxy(server):
    with Proxy(server.url) as running:
        yield running


def test_no_schedule_of_faults_makes_the_status_lie(run, proxy, stranger, place, monkeypatch):
    monkeypatch.setenv("CRYPTO_TRIGGER_BACKOFF_BASE", "5ms")
    monkeypatch.setenv("CRYPTO_TRIGGER_BACKOFF_MAX", "20ms")

    # The slot is a fresh one in each example; what else the fixtures hold is the way to the server.
    @settings(derandomize=True, max_examples=80)
    @given(
        schedule=st.lists(FAULTS, min_size=1, max_size=5), then=st.sampled_from(["refused", "goes on", "ends there"])
    )
    def holds(schedule, then):
        after = {"refused": None, "goes on": Fault(), "ends there": stranger}[then]
        publish_through(run, proxy, slots, *schedule, then=after, timeout="100ms", give_up_after="700ms")

    with slots_of(proxy, place) as slots:
        holds()
