"""What a stream must be like: one literal statement of it a test, on configurations as the server writes them."""

from datetime import timedelta

import pytest

from crypto_trigger.delivery import configuration

SECOND = 10**9
MINUTE = 60 * SECOND
DAY = 24 * 60 * MINUTE
EVERY = timedelta(minutes=15)
FITS = {
    "name": "S",
    "subjects": ["crypto.update"],
    "retention": "limits",
    "max_msgs": -1,
    "max_bytes": -1,
    "max_age": 7 * DAY,
    "max_msgs_per_subject": -1,
    "max_msg_size": -1,
    "discard": "old",
    "storage": "file",
    "num_replicas": 1,
    "duplicate_window": 30 * MINUTE,
    "allow_direct": True,
    "sealed": False,
}


def fixed(**changes):
    """What `fixed` changes in a stream that fits but for `changes`."""
    config = FITS | changes
    wanted = configuration.fixed(config, "crypto.update", EVERY)
    return {name: value for name, value in wanted.items() if name not in config or config[name] != value}


def noted(**changes):
    return [
        (note.name, note.found, note.created) for note in configuration.notes(FITS | changes, "crypto.update", EVERY)
    ]


def test_a_stream_that_is_created_fits_and_leaves_nothing_to_note():
    config = configuration.new("S", "crypto.update", EVERY)
    assert configuration.fixed(config, "crypto.update", EVERY) == config
    assert configuration.notes(config, "crypto.update", EVERY) == ()
    assert configuration.obstacle(config, EVERY) is None


@pytest.mark.parametrize(
    ("found", "change"),
    [
        ({"subjects": ["orders.>"]}, {"subjects": ["orders.>", "crypto.update"]}),
        ({"subjects": None}, {"subjects": ["crypto.update"]}),
        ({"duplicate_window": 2 * MINUTE}, {"duplicate_window": 30 * MINUTE}),
        ({"duplicate_window": None}, {"duplicate_window": 30 * MINUTE}),
        ({"no_ack": True}, {"no_ack": False}),
        # What is more than enough stays.
        ({"duplicate_window": 40 * MINUTE}, {}),
        ({"subjects": ["crypto.*"]}, {}),
        # The owner's.
        ({"max_age": 0}, {}),
        ({"max_age": 365 * DAY}, {}),
        ({"retention": "workqueue"}, {}),
        ({"storage": "memory"}, {}),
        ({"allow_direct": False}, {}),
        ({"num_replicas": 3}, {}),
        ({"max_msgs": 10, "max_bytes": 1000, "discard": "new"}, {}),
    ],
)
def test_only_what_one_trigger_per_slot_needs_is_changed(found, change):
    assert fixed(**found) == change


def test_replicas_are_changed_if_asked_for():
    wanted = configuration.fixed(FITS, "crypto.update", EVERY, replicas=3)
    assert configuration.differences(FITS, wanted) == (configuration.Difference("num_replicas", "1", "3"),)
    assert configuration.notes(FITS | {"num_replicas": 5}, "crypto.update", EVERY, replicas=3) == ()


@pytest.mark.parametrize(
    ("found", "note"),
    [
        ({"max_age": 0}, ("max_age", "unlimited", "168h")),
        ({"max_age": 60 * MINUTE}, ("max_age", "1h", "168h")),
        ({"retention": "workqueue"}, ("retention", "workqueue", "limits")),
        ({"storage": "memory"}, ("storage", "memory", "file")),
        ({"allow_direct": False}, ("allow_direct", "off", "on")),
        ({"num_replicas": 3}, ("num_replicas", "3", "1")),
        ({"max_msgs": 10}, ("max_msgs", "10", "unlimited")),
        ({"max_msg_size": 100}, ("max_msg_size", "100", "unlimited")),
        ({"discard": "new"}, ("discard", "new", "old")),
        ({"persist_mode": "async"}, ("persist_mode", "async", "default")),
        ({"sources": [{"name": "A"}, {"name": "B"}]}, ("sources", "A, B", "none")),
        (
            {"subject_transform": {"src": "crypto.*", "dest": "x.{{wildcard(1)}}"}},
            ("subject_transform", "crypto.* to x.{{wildcard(1)}}", "none"),
        ),
    ],
)
def test_what_the_owner_has_chosen_otherwise_is_noted(found, note):
    assert noted(**found) == [note]


def test_what_does_not_concern_the_triggers_is_not_noted():
    assert noted(description="x", metadata={"a": "b"}, subject_transform={"src": "orders.>", "dest": "o.>"}) == []


def test_a_note_says_what_a_choice_means_for_the_triggers():
    (note,) = configuration.notes(FITS | {"retention": "workqueue"}, "crypto.update", EVERY)
    assert note.effect == "once a trigger is consumed, only the duplicate window protects its slot"


@pytest.mark.parametrize(
    ("found", "says"),
    [
        ({"mirror": {"name": "A"}}, "is a mirror of A"),
        ({"sealed": True}, "is sealed"),
        ({"allow_msg_counter": True}, "holds counters"),
        ({"max_age": 10 * MINUTE, "duplicate_window": 2 * MINUTE}, "max_age of 10m does not allow"),
    ],
)
def test_what_no_update_can_mend_is_an_obstacle(found, says):
    assert says in configuration.obstacle(FITS | found, EVERY).problem


@pytest.mark.parametrize("found", [{"max_age": 0}, {"max_age": 30 * MINUTE}, {"sources": [{"name": "A"}]}])
def test_what_leaves_room_for_the_window_is_no_obstacle(found):
    assert configuration.obstacle(FITS | found, EVERY) is None


def test_of_many_subjects_the_first_and_the_added_one_are_told():
    config = FITS | {"subjects": [f"s{n}" for n in range(100)]}
    (difference,) = configuration.differences(config, configuration.fixed(config, "crypto.update", EVERY))
    assert difference.found == "s0, s1, s2, s3, (95 more), s99"
    assert difference.wanted == "s0, s1, s2, s3, (96 more), crypto.update"


@pytest.mark.parametrize(
    ("pattern", "subject", "taken"),
    [
        ("a.b", "a.b", True),
        ("a.b", "a.c", False),
        ("a.b", "a", False),
        ("a", "a.b", False),
        ("a.*", "a.b", True),
        ("a.*", "a", False),
        ("a.*", "a.b.c", False),
        ("*", "a", True),
        ("*.b", "a.b", True),
        (">", "a.b.c", True),
        ("a.>", "a.b", True),
        ("a.>", "a.b.c", True),
        ("a.>", "a", False),
        ("a.b*", "a.bc", False),
        ("a.*.>", "a.b", False),
    ],
)
def test_a_pattern_takes_a_subject_as_nats_has_it(pattern, subject, taken):
    assert configuration.takes([pattern], subject) is taken


def test_one_pattern_that_takes_the_subject_is_enough_and_none_is_not():
    assert configuration.takes(["x", "a.*"], "a.b")
    assert not configuration.takes([], "a.b")


ACCOUNT = {"limits": {"max_streams": -1, "max_storage": -1, "storage_max_stream_bytes": -1}}


@pytest.mark.parametrize(
    ("account", "says"),
    [
        ({}, None),
        (ACCOUNT, None),
        ({"tiers": {"R1": ACCOUNT}}, None),
        ({"tiers": {"R3": ACCOUNT}}, "no limits for 1 replicas, only for R3"),
        ({"tiers": {"R1": {"limits": {"max_bytes_required": True}}}}, "max_bytes"),
        ({"limits": {"max_streams": 2}, "streams": 1}, None),
        ({"limits": {"max_streams": 2}, "streams": 2}, "may have, 2"),
    ],
)
def test_an_account_s_limits_are_those_of_the_replicas_where_it_has_such(account, says):
    found = configuration.over_limit(account, configuration.new("S", "crypto.update", EVERY))
    assert found is None if says is None else says in found[1]


def test_a_stream_of_the_same_name_in_another_account_is_not_this_one():
    elsewhere = {"name": "A", "external": {"api": "$JS.other.API"}}
    others = [{"name": "M", "mirror": elsewhere}, {"name": "N", "sources": [elsewhere]}, {"name": "O"}]
    assert configuration.copied_by({"name": "A"}, others, (2, 9)) == ()
