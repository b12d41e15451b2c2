"""To fix a configuration changes what one trigger per slot needs, and nothing else."""

from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from crypto_trigger.delivery import configuration

SECOND = 10**9
MINUTE = 60 * SECOND
EVERY = timedelta(minutes=15)


@settings(max_examples=40)
@given(
    st.dictionaries(
        st.sampled_from(["max_age", "retention", "storage", "discard", "max_msgs", "mirror_direct", "new_in_3_0"]),
        st.one_of(st.integers(), st.text(), st.booleans()),
    ),
    st.lists(st.sampled_from(["orders.>", "a", "crypto.*", "crypto.update"]), unique=True),
    st.integers(0, 10**16),
)
def test_a_fixed_configuration_differs_in_nothing_else_and_needs_nothing_more(rest, subjects, window):
    config = {"name": "S", **rest, "subjects": subjects, "duplicate_window": window}
    wanted = configuration.fixed(config, "crypto.update", EVERY)
    assert {name for name in wanted if wanted[name] != config.get(name)} <= {"subjects", "duplicate_window", "no_ack"}
    assert wanted["subjects"][: len(subjects)] == subjects
    assert wanted["duplicate_window"] >= max(window, 30 * MINUTE)
    assert configuration.differences(wanted, configuration.fixed(wanted, "crypto.update", EVERY)) == ()
