"""A duration is written as it is read."""

from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from crypto_trigger.slots import times


@settings(max_examples=50)
@given(st.timedeltas(timedelta(microseconds=1), timedelta(days=365)))
def test_a_duration_is_written_as_it_is_read(length):
    assert times.duration(times.format_duration(length)) == length
