"""The percentiles of a history are by nearest rank."""

from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from crypto_trigger.monitoring.history import Lateness


@settings(max_examples=60)
@given(st.lists(st.integers(-5, 900), min_size=1, max_size=300))
def test_half_of_the_triggers_are_not_later_than_the_median_and_one_in_a_hundred_than_p99(seconds):
    found = Lateness.of(timedelta(seconds=n) for n in seconds)
    for value, share in ((found.p50, 0.5), (found.p99, 0.99), (found.most, 1)):
        late = value.total_seconds()
        assert late in seconds
        assert sum(n <= late for n in seconds) >= share * len(seconds)
        assert sum(n < late for n in seconds) < share * len(seconds)
