"""Whether the API server has taken the triggers: `check --consumer`, for every kind of consumer, on a real server."""

import asyncio
import json

import pytest
from support.cluster import Cluster
from support.consumers import add_consumer, consumer_info, drain, fetch, take_pushed
from support.old_servers import since
from support.patience import until
from support.plugin_answers import line, see
from support.streams import add_stream, client, put, stored

SLOTS = ("2026-01-01T00:00:00Z", "2026-01-01T00:15:00Z", "2026-01-01T00:30:00Z")
# The triggers are as old as the test: what a consumer is allowed is next to nothing, or the usual.
STRICT = ("--consumer-warn", "0s", "--consumer-critical", "0s")
LENIENT = ("--consumer-warn", "0s")


@pytest.fixture
def three(place):
    """A stream with three triggers of the present slot, among messages of another subject."""
    add_stream(place.url, place.stream, [f"{place.stream}.>"])
    for _ in range(3):
        put(place.url, place.subject, b"{}")
        put(place.url, f"{place.stream}.other", b"{}")
    return place


def check(run, *argv):
    return see(run, "--consumer", "api", *argv)


def waiting(seen):
    """What the JSON says of the consumer: how many are not acknowledged, and its state; the metrics say the same."""
    (found,) = seen.json["consumers"]
    assert found["name"] == "api"
    assert seen.metrics["consumer_unacknowledged_triggers[api]"] == found["unacknowledged"]
    assert seen.data["api_unacknowledged"] == str(found["unacknowledged"])
    oldest = "consumer_oldest_unacknowledged_timestamp_seconds[api]"
    assert ("oldest" in found) == (oldest in seen.metrics) == bool(found["unacknowledged"])
    return found["unacknowledged"], found["state"]


POLICIES = {
    # What is acknowledged after three were taken, and how many triggers are then beyond the floor.
    ("explicit", ()): 3,
    ("explicit", (0,)): 2,
    ("explicit", (0, 1, 2)): 0,
    ("explicit", (2, 0)): 2,  # out of order: the floor decides
    ("explicit", (2, 1, 0)): 0,
    ("all", (0,)): 2,
    ("all", (2,)): 0,
    ("none", ()): 0,
}


@pytest.mark.parametrize("delivery", ["pull", "push"])
@pytest.mark.parametrize(("policy", "acks"), POLICIES, ids=str)
def test_what_is_beyond_the_floor_is_not_acknowledged(run, three, policy, acks, delivery):
    pushed = {"deliver_subject": f"{three.stream}-inbox"} if delivery == "push" else {}
    add_consumer(three.url, three.stream, "api", policy, filter_subject=three.subject, **pushed)
    before = check(run, *STRICT)
    take = take_pushed if pushed else fetch
    take(three.url, three.stream, "api", 3, acks)
    after = check(run, *STRICT)
    assert len(stored(three.url, three.stream)) == 6
    assert (before.status, waiting(before)) == (2, (3, "CRITICAL"))
    left = POLICIES[policy, acks]
    assert waiting(after) == (left, "CRITICAL" if left else "OK")
    assert after.status == (2 if left else 0)
    if left:
        oldest = stored(three.url, three.stream)[2 * (3 - left)].seq
        assert f" is in the stream (sequence {oldest}); consumer api has not acknowledged it for " in after.text
        assert after.text.endswith(f"s, and {left - 1} more")
    else:
        done = "was given" if policy == "none" else "has processed"
        assert f"consumer api {done} every trigger" in after.text


def test_the_age_of_the_oldest_trigger_that_is_not_acknowledged_decides(run, three):
    add_consumer(three.url, three.stream, "api", filter_subject=three.subject)
    for limits, status in (
        ((), 0),
        (("--consumer-warn", "0s"), 1),
        (("--consumer-warn", "0s", "--consumer-critical", "1us"), 2),
        (("--consumer-warn", "2m", "--consumer-critical", "2m"), 0),
    ):
        seen = check(run, *limits)
        assert (seen.status, waiting(seen)) == (status, (3, ("OK", "WARNING", "CRITICAL")[status]))


def test_only_what_comes_after_a_new_consumer_counts(run, three):
    add_consumer(three.url, three.stream, "api", deliver_policy="new")
    assert waiting(check(run, *STRICT)) == (0, "OK")
    put(three.url, three.subject, b"{}")
    assert waiting(check(run, *STRICT)) == (1, "CRITICAL")


def test_messages_of_other_subjects_do_not_count(run, three):
    """It takes two subjects; what is left is not a trigger."""
    add_consumer(three.url, three.stream, "api", filter_subjects=[f"{three.stream}.other", three.subject])
    fetch(three.url, three.stream, "api", 5, range(5))
    assert consumer_info(three.url, three.stream, "api")["num_pending"] == 1
    seen = check(run, *STRICT)
    assert (seen.status, waiting(seen)) == (0, (0, "OK"))


TWO = pytest.param(["{}.other", "{}.update.x"], marks=since("2.10", "several subjects of a consumer"), id="two")


@pytest.mark.parametrize("subjects", [pytest.param(["{}.other"], id="one"), TWO])
def test_a_consumer_that_does_not_take_the_subject(run, three, subjects):
    taken = [subject.format(three.stream) for subject in subjects]
    config = {"filter_subject": taken[0]} if len(taken) == 1 else {"filter_subjects": taken}
    add_consumer(three.url, three.stream, "api", **config)
    seen = check(run)
    assert (seen.status, seen.text) == (2, f"consumer api does not take the subject {three.subject}")
    assert waiting(seen)[1] == "CRITICAL"


@pytest.mark.parametrize("subject", ["{}.>", "{}.*", ""])
def test_a_consumer_takes_the_subject_by_a_wildcard_or_without_a_filter(run, three, subject):
    named = {"filter_subject": subject.format(three.stream)} if subject else {}
    add_consumer(three.url, three.stream, "api", **named)
    fetch(three.url, three.stream, "api", 6, range(6))
    assert check(run, *STRICT).status == 0


def test_a_consumer_that_does_not_exist(run, three):
    seen = check(run)
    assert (seen.status, seen.text) == (2, f"stream {three.stream} has no consumer api")


@since("2.11", "pauses")
@pytest.mark.parametrize("number", [0, 1, 12])
def test_the_consumers_that_exist_are_named_in_place_of_one_that_does_not(run, three, number):
    names = [f"c{place:02}" for place in range(number)]
    for name in names:
        add_consumer(three.url, three.stream, name)
    seen = check(run)
    end = f"stream {three.stream} has no consumer api"
    if names:
        end += f"; it has {', '.join(names[:10])}" + (" and 2 more" if number > 10 else "")
    assert (seen.status, seen.text) == (2, end)


def test_a_consumer_that_begins_beyond_the_end_of_the_stream(run, three):
    """It would be given nothing, for as long as the stream takes to get there."""
    held = len(stored(three.url, three.stream))
    add_consumer(three.url, three.stream, "api", deliver_policy="by_start_sequence", opt_start_seq=held + 1)
    assert check(run).status == 0
    add_consumer(three.url, three.stream, "late", deliver_policy="by_start_sequence", opt_start_seq=100)
    seen = see(run, "--consumer", "late")
    assert (seen.status, seen.json["consumers"][0]["state"]) == (2, "CRITICAL")
    assert f"consumer late begins after sequence 99, beyond the end of the stream ({held}): " in seen.text


def test_a_trigger_that_was_terminated_is_processed_and_not_acknowledged(run, three):
    add_consumer(three.url, three.stream, "api", filter_subject=three.subject)

    async def terminate():
        async with client(three.url) as connection:
            bound = await connection.jetstream().pull_subscribe_bind(consumer="api", stream=three.stream)
            for message in await bound.fetch(3):
                await message.term()
            await connection.flush()

    asyncio.run(terminate())
    until(lambda: check(run).status == 0)
    text = check(run).text
    assert "consumer api has processed every trigger" in text
    assert "acknowledged" not in text


def test_a_consumer_that_was_given_nothing_yet_is_not_said_to_have_processed_anything(run, three):
    add_consumer(three.url, three.stream, "api", deliver_policy="new")
    held = len(stored(three.url, three.stream))
    assert check(run).text.endswith(f"; consumer api has been given nothing yet: it begins after sequence {held}")


@since("2.11", "pausing a consumer")
def test_a_paused_consumer(run, three):
    add_consumer(three.url, three.stream, "api", deliver_policy="new")

    async def pause():
        async with client(three.url) as connection:
            until = {"pause_until": "2040-01-01T00:00:00Z"}
            await connection.request(f"$JS.API.CONSUMER.PAUSE.{three.stream}.api", json.dumps(until).encode())

    asyncio.run(pause())
    assert consumer_info(three.url, three.stream, "api")["paused"]
    seen = check(run)
    assert seen.status == 2
    assert seen.text.startswith("consumer api is paused for another ")


def test_a_redelivery_that_is_going_on(run, three):
    add_consumer(three.url, three.stream, "api", filter_subject=three.subject, ack_wait=0.05)
    fetch(three.url, three.stream, "api", 3)
    until(lambda: fetch(three.url, three.stream, "api", 1) or redelivered(three), "redelivered")
    assert waiting(check(run, *STRICT)) == (3, "CRITICAL")
    until(lambda: drain(three.url, three.stream, "api") == 0, "acknowledged")
    assert waiting(check(run, *STRICT)) == (0, "OK")


def redelivered(place):
    return consumer_info(place.url, place.stream, "api")["num_redelivered"]


@since("2.14", "an acknowledgement floor that passes what was given up")
def test_a_trigger_that_the_consumer_was_given_up_on(run, three):
    """Nothing is pending and no acknowledgement is awaited, and yet nobody has taken the trigger."""
    add_consumer(three.url, three.stream, "api", filter_subject=three.subject, ack_wait=0.5, max_deliver=1)
    fetch(three.url, three.stream, "api", 3, (0, 1))

    def over():
        found = consumer_info(three.url, three.stream, "api")
        return found["num_ack_pending"] == found["num_pending"] == 0

    until(over, "given up")
    seen = check(run, *STRICT)
    assert (seen.status, waiting(seen)) == (2, (1, "CRITICAL"))
    assert seen.text.endswith("s, and it is delivered no more (max_deliver)")
    # The floor goes on with the next acknowledgement.
    put(three.url, three.subject, b"{}")
    fetch(three.url, three.stream, "api", 1, (0,))
    assert waiting(check(run, *STRICT)) == (0, "OK")


def test_several_consumers_are_told_apart(run, three):
    add_consumer(three.url, three.stream, "api", filter_subject=three.subject)
    add_consumer(three.url, three.stream, "other", deliver_policy="new")
    seen = see(run, "--consumer", "api", "--consumer", "other", "--consumer", "api", *STRICT)
    assert seen.status == 2
    assert [(found["name"], found["state"]) for found in seen.json["consumers"]] == [
        ("api", "CRITICAL"),
        ("other", "OK"),
    ]
    assert seen.metrics["consumer_unacknowledged_triggers[api]"] == 3
    assert seen.metrics["consumer_unacknowledged_triggers[other]"] == 0


def test_missed_slots_and_a_consumer_are_told_together(run, place):
    add_stream(place.url, place.stream, [place.subject])
    put(place.url, place.subject, b"", {"ce-time": "2026-01-01T00:00:00Z"})
    seen = check(run)
    assert seen.status == 2
    assert seen.text.startswith("missed ")
    assert f"; stream {place.stream} has no consumer api" in seen.text
    assert len(seen.json["critical"]) == 2


@since("2.11", "a preferred leader")
def test_a_consumer_whose_leader_is_lost(run, place, monkeypatch):
    """Its one copy is on a server that is frozen, the stream's three are not."""
    monkeypatch.setenv("CRYPTO_TRIGGER_TIMEOUT", "300ms")
    with Cluster() as cluster:
        cluster.recover()
        first = cluster.nodes[0]
        until(lambda: made(first.url, place), "a leader")
        cluster.lead(place.stream, first)
        add_consumer(first.url, place.stream, "api", num_replicas=1, deliver_policy="new")
        home = consumer_info(first.url, place.stream, "api")["cluster"]["leader"]
        lost = next(node for node in cluster.nodes if node.name == home)
        other = next(node for node in cluster.nodes if node is not lost)
        cluster.lead(place.stream, other)
        put(other.url, place.subject, b"{}")
        asked = ("check", "-s", other.url, "--consumer", "api", "--consumer-warn", "0s", "--give-up-after", "2s")
        before = run(*asked)
        lost.freeze()
        during = run(*asked)
        without = run(*asked[:3])
        cluster.recover(place.stream)
        after = run(*asked)
    assert (before.status, line(before.out).status) == (1, "WARNING")
    assert during.status == 2
    assert "no answer from JetStream" in line(during.out).text
    assert without.status == 0
    assert after.status == 1


def made(url, place):
    try:
        add_stream(url, place.stream, [place.subject], num_replicas=3, connect={"connect_timeout": 1})
    except Exception:  # noqa: BLE001 - the cluster has no leader yet
        return False
    return True
