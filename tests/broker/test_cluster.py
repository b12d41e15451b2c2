"""`publish` to a stream of three copies, while its servers die, freeze and lose each other.

Each status is compared with what the stream holds when all servers are back.
"""

import json
import os
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import uuid4

import pytest
from support.claims import Run, lie, per_slot
from support.cluster import Cluster, urls
from support.patience import until
from support.processes import Process, execute
from support.proxy import Way
from support.streams import Message, stored

FIRST, SECOND, *_ = SLOTS = [
    (datetime(2026, 11, 23, 12, tzinfo=UTC) + n * timedelta(minutes=15)).strftime("%Y-%m-%dT%H:%M:%SZ")
    for n in range(8)
]
PATIENT = {"CRYPTO_TRIGGER_TIMEOUT": "1s", "CRYPTO_TRIGGER_BACKOFF_MAX": "500ms"}
# Shorter than an election, which takes 4 s and more: these runs do not see the new leader.
HASTY = {**PATIENT, "CRYPTO_TRIGGER_GIVE_UP_AFTER": "3s"}
# Where the trigger is when its leader dies: the bytes that tell, their way, and whether they still arrive.
IN_FLIGHT = {
    "sent, not arrived": {"pattern": b"HPUB ", "way": Way.TO_SERVER, "deliver": False},
    "just arrived": {"pattern": b"HPUB ", "way": Way.TO_SERVER, "deliver": True},
    "acknowledgement lost": {"pattern": b'"seq":', "way": Way.TO_CLIENT, "deliver": False},
}


class Publisher:
    """A `publish` under way, by a client ID of its own; killed if it is still running when closed."""

    def __init__(self, stream, slot, servers, limits=PATIENT):
        self.slot = slot
        self.client_id = f"c{uuid4().hex[:8]}"
        arguments = ["--json", "--env-file", os.devnull, "--stream", stream, "--subject", f"{stream}.update"]
        settings = {"NATS_URL": servers, "NATS_CLIENT_ID": self.client_id, **limits}
        self._process = Process("publish", *arguments, "--scheduled-at", slot, **settings)
        self.close = self._process.kill

    @property
    def ended(self):
        return self._process.popen.poll() is not None

    def end(self):
        ended = self._process.end()
        return Run(self.client_id, self.slot, ended.status, json.loads(ended.out))


class Story(NamedTuple):
    """What the runs on one stream claimed, and what it holds when all is well again."""

    runs: list[Run]
    messages: list[Message]


@pytest.fixture(scope="module")
def cluster():
    with Cluster() as running:
        yield running


@pytest.fixture
def publish():
    """Starts a publisher, which does not outlive the test."""
    with ExitStack() as publishers:
        yield lambda *args: publishers.enter_context(closing(Publisher(*args)))


def set_up(cluster, leader):
    """Make a stream of three copies with this leader, all servers being well, and return its name."""
    cluster.recover()
    stream = f"t{uuid4().hex[:12]}"
    arguments = ["--env-file", os.devnull, "-s", cluster.urls, "--stream", stream, "--subject", f"{stream}.update"]
    result = execute("setup", "--replicas", 3, *arguments)
    assert result.status == 0, result.err
    cluster.recover(stream)
    cluster.lead(stream, leader)
    return stream


def look(cluster, stream):
    """What the stream holds when all is well again."""
    cluster.recover(stream)
    return stored(cluster.nodes[0].url, stream)


def slots_held(messages, *runs):
    """The slots that have a message, in order. Each has one message, and none contradicts a run."""
    assert [told for run in runs if (told := lie(run, messages))] == []
    assert set(per_slot(messages).values()) <= {1}
    return list(per_slot(messages))


@pytest.fixture(scope="module")
def killed(cluster):
    """Kill the leader of several streams before, while and after a publish to each: one election for all."""
    victim, *others = cluster.nodes
    streams = {name: set_up(cluster, victim) for name in ("acknowledged", *IN_FLIGHT, "burst")}
    runs = {name: [] for name in streams}
    with ExitStack() as stack:

        def start(name, slot, *args):
            return stack.enter_context(closing(Publisher(streams[name], slot, *args)))

        runs["acknowledged"].append(start("acknowledged", FIRST, cluster.urls).end())
        links = {name: stack.enter_context(closing(cluster.link(victim))) for name in IN_FLIGHT}
        flying = {}
        for name, link in links.items():
            trapped = link.trap(**IN_FLIGHT[name])
            flying[name] = start(name, FIRST, urls(link, *others), {**PATIENT, "CRYPTO_TRIGGER_TIMEOUT": "3s"})
            assert trapped.wait(10), f"the publish did not come to: {name}"
        burst = [start("burst", slot, cluster.urls, HASTY) for slot in SLOTS for _ in range(2)]
        until(lambda: any(publisher.ended for publisher in burst), "one of the burst has ended")
        victim.kill()
        for link in links.values():
            link.tear()
            link.speak()
        runs["acknowledged"] += [start("acknowledged", slot, cluster.urls).end() for slot in (FIRST, SECOND)]
        for name, publisher in flying.items():
            runs[name].append(publisher.end())
        runs["burst"] += [publisher.end() for publisher in burst]
    return {name: Story(runs[name], look(cluster, stream)) for name, stream in streams.items()}


def test_what_was_acknowledged_survives_its_leader_and_the_next_slot_gets_its_trigger(killed):
    runs, messages = killed["acknowledged"]
    assert slots_held(messages, *runs) == [FIRST, SECOND]
    assert [run.report["outcome"] for run in runs] == ["published", "duplicate", "published"]


@pytest.mark.parametrize("moment", IN_FLIGHT)
def test_a_leader_killed_with_the_trigger_in_flight_costs_time_and_no_trigger(moment, killed):
    (run,), messages = killed[moment]
    assert slots_held(messages, run) == [FIRST]
    assert run.status == 0
    assert run.report["attempts"] > 1
    assert (
        run.report["outcome"]
        in {
            "sent, not arrived": {"published"},
            "just arrived": {"published", "duplicate"},
            "acknowledgement lost": {"duplicate"},
        }[moment]
    )


def test_no_run_lies_in_a_burst_that_the_leader_dies_under(killed):
    runs, messages = killed["burst"]
    slots_held(messages, *runs)
    assert {run.status for run in runs} > {0}


def test_a_frozen_server_at_the_head_of_the_list_costs_one_timeout(cluster, publish):
    frozen, *others = cluster.nodes
    stream = set_up(cluster, others[0])
    frozen.freeze()
    run = publish(stream, FIRST, urls(frozen, *others)).end()
    assert slots_held(look(cluster, stream), run) == [FIRST]
    assert (run.status, run.report["attempts"]) == (0, 1)


def test_a_trigger_that_thaws_with_its_old_leader_is_not_stored_beside_the_one_sent_since(cluster, publish):
    frozen, *others = cluster.nodes
    stream = set_up(cluster, frozen)
    with closing(cluster.link(frozen)) as link:
        trapped = link.trap(b"HPUB ", Way.TO_SERVER, deliver=False)
        publisher = publish(stream, FIRST, urls(link, *others))
        assert trapped.wait(10)
        frozen.freeze()
        # The trigger goes on, into the socket of a process that does not read.
        link.speak()
        run = publisher.end()
        messages = look(cluster, stream)
    assert slots_held(messages, run) == [FIRST]
    assert (run.status, run.report["outcome"]) == (0, "published")


def test_in_a_partition_the_small_side_promises_nothing_and_the_large_side_stores_the_trigger(cluster, publish):
    alone, *others = cluster.nodes
    # The leader of one stream is cut off, and a follower of the other.
    streams = {75: set_up(cluster, alone), 69: set_up(cluster, others[0])}
    alone.isolate()
    small = {status: publish(stream, FIRST, alone.url, HASTY) for status, stream in streams.items()}
    large = {status: publish(stream, FIRST, urls(alone, *others)) for status, stream in streams.items()}
    runs = {status: [small[status].end(), large[status].end()] for status in streams}
    for status, stream in streams.items():
        assert slots_held(look(cluster, stream), *runs[status]) == [FIRST]
        again = publish(stream, FIRST, alone.url).end()
        assert slots_held(look(cluster, stream), *runs[status], again) == [FIRST]
        assert [run.status for run in runs[status]] == [status, 0]
        assert again.report["outcome"] == "duplicate"


def test_without_a_quorum_nothing_is_promised_and_with_it_again_the_slot_gets_one_trigger(cluster, publish):
    left, *others = cluster.nodes
    # The leader of one stream is left, and a follower of the other.
    streams = {75: set_up(cluster, left), 69: set_up(cluster, others[0])}
    for node in others:
        node.kill()
    publishers = {status: publish(stream, FIRST, cluster.urls, HASTY) for status, stream in streams.items()}
    runs = {status: publisher.end() for status, publisher in publishers.items()}
    for status, stream in streams.items():
        slots_held(look(cluster, stream), runs[status])
        again = publish(stream, FIRST, cluster.urls).end()
        assert slots_held(look(cluster, stream), runs[status], again) == [FIRST]
        assert (runs[status].status, again.status) == (status, 0)
