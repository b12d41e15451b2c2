"""Streams that copy the subject: by an import of another account, on a leaf node, or as what is published again.

CRYPTO_TRIGGER_GUARD=msg-id brings every trigger into them, once. The default guard keeps most of them away.
"""

import asyncio
import json
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import pytest
from support.old_servers import find, serving
from support.ports import free_port
from support.processes import execute, is_one_clean_line
from support.restricted import restricted_to
from support.streams import add_stream, client, read, stored
from support.subscribers import Subscriber

from crypto_trigger.commands.server import Server

PAYLOAD = b'{"trigger":"update"}'
WINDOW = 1800 * 10**9
ACCOUNTS = """
accounts {
  A { jetstream: enabled, users: [{ user: a, password: a }], exports: [{ stream: "crypto.>" }] }
  B {
    jetstream: enabled, users: [{ user: b, password: b }]
    imports: [{ stream: { account: A, subject: "crypto.>" } }]
  }
  SYS { users: [{ user: s, password: s }] }
}
system_account: SYS
"""
SETTINGS = {
    "NATS_CLUSTER_ID": "S",
    "CRYPTO_TRIGGER_SUBJECT": "crypto.update",
    "CRYPTO_TRIGGER_TIMEOUT": "5s",
    "CRYPTO_TRIGGER_GIVE_UP_AFTER": "15s",
    "CRYPTO_TRIGGER_BACKOFF_BASE": "50ms",
}
CONDITIONS = {"Nats-Expected-Stream", "Nats-Expected-Last-Subject-Sequence"}


class Kind(NamedTuple):
    """How the copies come: what the stream S has beside the subject; what the copying stream takes; its account."""

    more: dict
    takes: str
    account: str = "a"
    leaf: bool = False


KINDS = {
    "an importing account": Kind({}, "crypto.>", "b"),
    "a leaf node": Kind({}, "crypto.>", leaf=True),
    "a republish": Kind({"republish": {"src": "crypto.update", "dest": "copy.update"}}, "copy.>"),
}
SERVERS = pytest.mark.parametrize("release", [None, "2.10"], ids=["newest", "2.10"])


class Sides(NamedTuple):
    """Where the stream S is, where the stream COPY is, and a server that leads to S by way of the leaf node, if any."""

    own: str
    copying: str
    leaf: str | None


@contextmanager
def copying(kind, release, folder):
    """A server with the stream S, and a stream COPY that gets what S gets; the two count in different sequences."""
    with ExitStack() as stack:

        def start(name, config):
            path = folder / f"{name}.conf"
            path.write_text(f"server_name: {name}\njetstream {{ domain: {name} }}\n{config}{ACCOUNTS}")
            arguments = ("-c", str(path))
            served = serving(find(release), arguments=arguments) if release else Server(arguments=arguments)
            return stack.enter_context(served).url

        port = free_port()
        hub = start("hub", f'leafnodes {{ listen: "127.0.0.1:{port}" }}\n')
        remote = f'leafnodes {{ remotes: [{{ url: "nats://a:a@127.0.0.1:{port}", account: A }}] }}\n'
        leaf = start("leaf", remote) if kind.leaf else None
        sides = Sides(user(hub, "a"), user(leaf or hub, kind.account), leaf and user(leaf, "a"))
        asyncio.run(prepare(kind, sides))
        yield sides


def user(url, name):
    return url.replace("://", f"://{name}:{name}@")


async def prepare(kind, sides):
    copy = {"name": "COPY", "subjects": [kind.takes], "duplicate_window": WINDOW}
    own = {"name": "S", "subjects": ["crypto.update"], "duplicate_window": WINDOW, **kind.more}
    async with client(sides.own) as first, client(sides.copying) as second:
        for connection, config in ((second, copy), (first, own)):
            api = f"$JS.API.STREAM.CREATE.{config['name']}"
            answer = json.loads((await connection.request(api, json.dumps(config).encode(), timeout=5)).data)
            assert "error" not in answer, answer
        await second.jetstream().publish(kind.takes.replace(">", "other"), b"")
        if kind.leaf:
            # What is published on the hub reaches the leaf node once their connection is up.
            heard = await second.subscribe("crypto.ready")
            for _ in range(200):
                await first.publish("crypto.ready", b"")
                with suppress(TimeoutError):
                    await heard.next_msg(0.05)
                    return
            raise AssertionError("the leaf node connection does not come up")


def slots(count=3):
    begin = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=6)
    return [(begin + timedelta(minutes=15 * number)).strftime("%Y-%m-%dT%H:%M:%SZ") for number in range(count)]


def triggers(url, stream):
    found = asyncio.run(read(url, stream))
    return [message.headers["ce-time"] for message in found if message.data == PAYLOAD]


async def arrived(url, count):
    """Wait until the copying stream has so many triggers: a copy may come after the acknowledgement."""
    for _ in range(200):
        found = await read(url, "COPY")
        if sum(message.data == PAYLOAD for message in found) >= count:
            return
        await asyncio.sleep(0.05)


def publish(url, *flags, **settings):
    return execute("publish", "--json", *flags, NATS_URL=url, **SETTINGS, **settings)


@SERVERS
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_with_the_guard_msg_id_every_copy_arrives_once(kind, release, tmp_path):
    wanted = slots()
    with copying(kind, release, tmp_path) as sides:
        rehearsed = publish(sides.own, "--rehearse", CRYPTO_TRIGGER_GUARD="msg-id")
        assert triggers(sides.own, "S") == triggers(sides.copying, "COPY") == []
        runs = [
            publish(sides.own, "--scheduled-at", slot, CRYPTO_TRIGGER_GUARD="msg-id") for slot in wanted for _ in "12"
        ]
        asyncio.run(arrived(sides.copying, len(wanted)))
        assert triggers(sides.own, "S") == wanted
        assert triggers(sides.copying, "COPY") == wanted
    assert rehearsed.status == 0
    reports = [json.loads(run.out) for run in runs]
    assert [report["outcome"] for report in reports] == ["published", "duplicate"] * 3
    assert {report["guard"] for report in reports} == {"msg-id"}
    assert {run.status for run in runs} == {0}


@SERVERS
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_the_default_guard_keeps_copies_out_of_a_stream_that_counts_otherwise(kind, release, tmp_path):
    """As the page of guarantees says: its first trigger is stored, and the next one is not."""
    wanted = slots(2)
    with copying(kind, release, tmp_path) as sides:
        runs = [publish(sides.own, "--scheduled-at", slot) for slot in wanted]
        assert triggers(sides.own, "S") == wanted
        asyncio.run(arrived(sides.copying, 1))
        assert triggers(sides.copying, "COPY") == wanted[:1]
    assert [run.status for run in runs] == [0, 0]


def test_a_run_on_the_leaf_node_stores_in_the_hub_and_in_the_leaf_s_own_stream(tmp_path):
    wanted = slots()
    with copying(KINDS["a leaf node"], None, tmp_path) as sides:
        settings = {"CRYPTO_TRIGGER_GUARD": "msg-id", "NATS_JS_DOMAIN": "hub"}
        runs = [publish(sides.leaf, "--scheduled-at", slot, **settings) for slot in wanted for _ in "12"]
        asyncio.run(arrived(sides.copying, len(wanted)))
        assert triggers(sides.own, "S") == triggers(sides.copying, "COPY") == wanted
    assert {run.status for run in runs} == {0}


def sent(place, url, *flags, **settings):
    """The conditions that a publish sends, seen by a plain subscriber."""
    with Subscriber(place.url, place.subject) as subscriber:
        ended = execute("publish", *flags, NATS_URL=url, **settings)
        (message,) = subscriber.heard()
    assert ended.status == 0
    return CONDITIONS & set(message.headers)


@pytest.mark.parametrize("subjects", ["{subject}", "{stream}.>"])
@pytest.mark.parametrize(
    ("settings", "conditions"),
    [({}, {"Nats-Expected-Last-Subject-Sequence"}), ({"CRYPTO_TRIGGER_GUARD": "msg-id"}, set())],
    ids=["compare-and-set", "msg-id"],
)
def test_where_the_stream_is_known_to_take_the_subject_its_name_is_not_sent(settings, conditions, subjects, place):
    add_stream(place.url, place.stream, [subjects.format(**place._asdict())], duplicate_window=1800)
    assert sent(place, place.url, **settings) == conditions
    assert sent(place, place.url, "--rehearse", **settings) == {"Nats-Expected-Last-Subject-Sequence"}


@pytest.mark.parametrize("guard", ["compare-and-set", "msg-id"])
def test_without_permission_to_ask_for_its_subjects_the_stream_s_name_is_sent(guard, place):
    with restricted_to(place.subject, f"$JS.API.STREAM.MSG.GET.{place.stream}") as (admin, some):
        add_stream(admin, place.stream, [place.subject])
        found = sent(place._replace(url=admin), some, CRYPTO_TRIGGER_GUARD=guard)
    assert found == (CONDITIONS if guard == "compare-and-set" else {"Nats-Expected-Stream"})


@pytest.mark.parametrize("asks", [True, False], ids=["may ask for its subjects", "may not"])
@pytest.mark.parametrize("guard", ["compare-and-set", "msg-id"])
def test_a_wrong_name_of_the_stream_puts_nothing_into_another_s(guard, asks, place):
    apis = [f"$JS.API.STREAM.MSG.GET.{place.stream}", *([f"$JS.API.STREAM.INFO.{place.stream}"] if asks else [])]
    with restricted_to(place.subject, *apis) as (admin, some):
        add_stream(admin, place.stream, [f"{place.stream}.mine"], duplicate_window=1800)
        add_stream(admin, f"{place.stream}o", [place.subject], duplicate_window=1800)
        ended = execute("publish", "--give-up-after", "2s", NATS_URL=some, CRYPTO_TRIGGER_GUARD=guard)
        assert stored(admin, place.stream) == stored(admin, f"{place.stream}o") == []
    assert ended.status in {65, 75}
    assert is_one_clean_line(ended.err)


@pytest.mark.parametrize("flags", [(), ("--rehearse",)], ids=["publish", "rehearse"])
def test_the_guard_msg_id_needs_a_duplicate_window_of_two_slots(flags, run, place, monkeypatch):
    add_stream(place.url, place.stream, [place.subject], duplicate_window=1799)
    monkeypatch.setenv("CRYPTO_TRIGGER_GUARD", "msg-id")
    ended = run("publish", *flags)
    assert stored(place.url, place.stream) == []
    assert ended.status == 78
    assert "CRYPTO_TRIGGER_GUARD=msg-id needs one of two slots (30m)" in ended.err
    assert "make it two slots long with: crypto-trigger setup --update" in ended.err
    assert is_one_clean_line(ended.err)
    # With --force nothing guards the slot.
    assert run("publish", "--force").status == 0
    assert run("setup", "--update").status == 0
    assert run("publish", *flags).status == 0


def test_where_the_duplicate_window_cannot_be_known_the_guard_msg_id_is_not_refused(place):
    with restricted_to(place.subject) as (admin, some):
        add_stream(admin, place.stream, [place.subject])
        ended = execute("publish", NATS_URL=some, CRYPTO_TRIGGER_GUARD="msg-id")
        assert len(stored(admin, place.stream)) == 1
    assert (ended.status, ended.err) == (0, "")


def test_another_guard_than_the_two_is_refused(run, place):
    ended = run("publish", "--guard", "none")
    assert stored(place.url, place.stream) is None
    assert ended.status == 78
    assert "CRYPTO_TRIGGER_GUARD 'none' (from --guard) must be compare-and-set or msg-id" in ended.err
