"""A hub whose stream takes the subject, and a leaf node whose other stream does, too; no JetStream domain is set."""

import asyncio
import json
from contextlib import ExitStack, contextmanager, suppress
from typing import NamedTuple

import pytest
from support.cluster import Cluster
from support.patience import until
from support.ports import free_port
from support.processes import Process, execute
from support.proxy import Proxy, Recorded, Way
from support.streams import add_stream, client, stored

from crypto_trigger.commands.server import Server

SUBJECT = "crypto.update"
SETTINGS = {"CRYPTO_TRIGGER_STREAM": "S", "CRYPTO_TRIGGER_SUBJECT": SUBJECT, "CRYPTO_TRIGGER_BACKOFF_MAX": "500ms"}
FIRST, SECOND, THIRD = "2026-11-23T12:00:00Z", "2026-11-23T12:15:00Z", "2026-11-23T12:30:00Z"
REFUSED = b'"stream":"audit"'


class Hub(NamedTuple):
    """A hub of three servers with stream S, led by `leader`; `audit` is the stream of its leaf node."""

    cluster: Cluster
    leaf: Server

    @property
    def leader(self):
        return self.cluster.nodes[0]

    @contextmanager
    def stalled(self):
        """The stream cannot store anything while the block runs: it has its leader alone."""
        followers = self.cluster.nodes[1:]
        for node in followers:
            node.freeze()
        try:
            yield
        finally:
            for node in followers:
                node.thaw()

    def slots(self):
        """The slots of the messages that S holds."""
        return [message.headers["ce-time"] for message in stored(self.leader.url, "S")]


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """The hub and the leaf node, when what is published at the hub reaches both streams."""
    folder, port = tmp_path_factory.mktemp("leaf"), free_port()
    config, remote = folder / "hub.conf", folder / "leaf.conf"
    config.write_text(f'leafnodes {{ listen: "127.0.0.1:{port}" }}')
    remote.write_text(f'leafnodes {{ remotes: [{{ url: "nats://127.0.0.1:{port}" }}] }}')

    def further(name):
        return ["-c", str(config)] if name == "n1" else []

    with Cluster(3, further) as cluster, Server(arguments=("-n", "leaf", "-c", str(remote))) as leaf:
        cluster.recover()
        add_stream(leaf.url, "audit", [SUBJECT])
        set_up = execute("setup", "--replicas", 3, NATS_URL=cluster.urls, **SETTINGS)
        assert set_up.status == 0, set_up.err
        cluster.recover("S")
        cluster.lead("S", cluster.nodes[0])
        until(lambda: asyncio.run(both_answer(cluster.nodes[0].url)), "both streams take the subject")
        yield Hub(cluster, leaf)


async def both_answer(url):
    """Tell whether both streams answer a message that each of them must refuse."""
    async with client(url) as connection:
        inbox = connection.new_inbox()
        subscription = await connection.subscribe(inbox)
        await connection.publish(SUBJECT, b"", reply=inbox, headers={"Nats-Expected-Last-Sequence": "99999"})
        with suppress(TimeoutError):
            answers = [json.loads((await subscription.next_msg(timeout=1)).data) for _ in range(2)]
            return {answer["stream"] for answer in answers} == {"S", "audit"}
    return False


@contextmanager
def refused(hub, slot, **settings):
    """A `publish` that has heard the refusal of `audit`, while S has not answered."""
    # Another publisher's message: the next one is not the first that `audit` gets of the subject.
    put_in_audit(hub)
    said = Recorded(Way.TO_CLIENT)
    with Proxy(hub.leader.url) as proxy, proxy.route(then=said) as route:
        process = Process("publish", "--json", "--scheduled-at", slot, NATS_URL=route.url, **SETTINGS, **settings)
        try:
            until(lambda: REFUSED in said.data, "the leaf node's stream refuses")
            yield process
        finally:
            process.kill()


def put_in_audit(hub):
    """Let `audit` hold a message of the subject that S does not hold."""

    async def publish():
        async with client(hub.leaf.url) as connection:
            answers = await connection.subscribe(inbox := connection.new_inbox())
            await connection.publish(SUBJECT, b"", reply=inbox, headers={"Nats-Expected-Stream": "audit"})
            # S refuses the message, and its answer may be the first.
            while "seq" not in json.loads((await answers.next_msg(timeout=10)).data):
                pass

    asyncio.run(publish())


def test_the_refusal_of_a_leaf_node_s_stream_is_not_the_hub_s(hub):
    before = hub.slots()
    with ExitStack() as stack:
        with hub.stalled():
            process = stack.enter_context(refused(hub, FIRST, CRYPTO_TRIGGER_TIMEOUT="15s"))
        ended = process.end()
    assert hub.slots() == [*before, FIRST]
    assert (ended.status, json.loads(ended.out)["outcome"], json.loads(ended.out)["attempts"]) == (0, "published", 1)
    assert ended.err == ""


def test_a_trigger_that_arrives_when_the_refused_run_has_ended_was_not_said_to_be_missing(hub):
    before = hub.slots()
    limits = {"CRYPTO_TRIGGER_TIMEOUT": "500ms", "CRYPTO_TRIGGER_GIVE_UP_AFTER": "2s"}
    with hub.stalled(), refused(hub, SECOND, **limits) as process:
        ended = process.end()
    report = json.loads(ended.out)
    until(lambda: hub.slots() == [*before, SECOND], "the trigger is stored after all")
    assert (ended.status, report["outcome"]) == (75, "unknown")
    assert "stream audit refuses the message" in ended.err
    again = execute("publish", "--json", "--scheduled-at", SECOND, NATS_URL=hub.leader.url, **SETTINGS)
    assert (again.status, json.loads(again.out)["outcome"]) == (0, "duplicate")


def test_the_refusal_of_a_leaf_node_s_stream_rehearses_nothing(hub):
    limits = {"CRYPTO_TRIGGER_TIMEOUT": "500ms", "CRYPTO_TRIGGER_GIVE_UP_AFTER": "2s"}
    rehearsed = execute("publish", "--rehearse", "--scheduled-at", THIRD, NATS_URL=hub.leader.url, **SETTINGS)
    assert (rehearsed.status, "would be published in stream S" in rehearsed.out) == (0, True)
    # What the leaf node's stream says is all that comes where the hub's stream does not take the subject.
    moved(hub, "crypto.other")
    try:
        ended = execute(
            "publish", "--rehearse", "--scheduled-at", THIRD, NATS_URL=hub.leader.url, **{**SETTINGS, **limits}
        )
    finally:
        moved(hub, SUBJECT)
    assert ended.status in {75, 78}
    assert THIRD not in hub.slots()


def moved(hub, subject):
    """Let stream S take this subject alone."""

    async def change():
        async with client(hub.leader.url) as connection:
            js = connection.jetstream()
            await js.update_stream((await js.stream_info("S")).config.evolve(subjects=[subject]))

    asyncio.run(change())
