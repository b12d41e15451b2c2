"""JetStream domains: two servers joined by a leaf node, a stream of the same name on both; one of them counts."""

import asyncio
import json
from contextlib import contextmanager
from typing import NamedTuple

import pytest
from support.answers import jetstream
from support.clocks import roomy
from support.ports import free_port
from support.processes import execute, is_one_clean_line
from support.scripted import Scripted
from support.streams import client

from crypto_trigger.commands.server import Server

PAYLOAD = b'{"trigger":"update"}'
SUBJECT = "crypto.update"
SETTINGS = {
    "CRYPTO_TRIGGER_STREAM": "S",
    "CRYPTO_TRIGGER_SUBJECT": SUBJECT,
    "CRYPTO_TRIGGER_TIMEOUT": "1s",
    "CRYPTO_TRIGGER_GIVE_UP_AFTER": "3s",
    "CRYPTO_TRIGGER_BACKOFF_BASE": "50ms",
    "CRYPTO_TRIGGER_BACKOFF_MAX": "200ms",
}
ACCOUNTS = """
accounts {
  A { jetstream: enabled, users: [{ user: a, password: a }] }
  SYS { users: [{ user: s, password: s }] }
}
system_account: SYS
"""


class Sides(NamedTuple):
    """The URLs of the two servers, by their domains."""

    hub: str
    leaf: str


@contextmanager
def joined(folder, remote=""):
    """A hub and a leaf node, each with a domain and a stream S on the subject; `remote` limits what passes."""
    port = free_port()
    hub, leaf = folder / "hub.conf", folder / "leaf.conf"
    hub.write_text(
        f'server_name: hub\njetstream {{ domain: hub }}\nleafnodes {{ listen: "127.0.0.1:{port}" }}\n{ACCOUNTS}'
    )
    leaf.write_text(
        "server_name: leaf\njetstream { domain: leaf }\n"
        f'leafnodes {{ remotes: [{{ url: "nats://a:a@127.0.0.1:{port}", account: A, {remote} }}] }}\n{ACCOUNTS}'
    )
    with Server(arguments=("-c", str(hub))) as first, Server(arguments=("-c", str(leaf))) as second:
        sides = Sides(*(server.url.replace("://", "://a:a@") for server in (first, second)))
        asyncio.run(prepare(sides))
        yield sides


async def prepare(sides):
    config = json.dumps({"name": "S", "subjects": [SUBJECT], "duplicate_window": 1800 * 10**9}).encode()
    async with client(sides.hub) as hub, client(sides.leaf) as leaf:
        for connection in (hub, leaf):
            answer = json.loads((await connection.request("$JS.API.STREAM.CREATE.S", config, timeout=5)).data)
            assert "error" not in answer, answer
        # Each side reaches the other's JetStream when the leaf node connection is up.
        for connection, domain in ((leaf, "hub"), (hub, "leaf")):
            for _ in range(100):
                try:
                    await connection.request(f"$JS.{domain}.API.STREAM.INFO.S", b"", timeout=1)
                    break
                except Exception:  # noqa: BLE001 - no responders yet, or none in time
                    await asyncio.sleep(0.05)
            else:
                raise AssertionError("the leaf node connection does not come up")


def held(url):
    """How many triggers the stream of this side holds."""

    async def count():
        async with client(url) as connection:
            js = connection.jetstream()
            last = (await js.stream_info("S")).state.last_seq
            return sum([(await js.get_msg("S", seq=seq)).data == PAYLOAD for seq in range(1, last + 1)])

    return asyncio.run(count())


@pytest.mark.parametrize("connected", ["hub", "leaf"])
@pytest.mark.parametrize("domain", ["hub", "leaf"])
def test_where_the_subject_reaches_both_sides_0_means_that_the_domain_s_stream_holds_it(domain, connected, tmp_path):
    slots = roomy()
    with joined(tmp_path) as sides:
        url = getattr(sides, connected)
        runs = [execute("publish", NATS_URL=url, NATS_JS_DOMAIN=domain, **SETTINGS, **slots.settings) for _ in range(2)]
        found = held(getattr(sides, domain))
    assert found <= 1
    assert runs[0].status in {0, 75, 78}
    if 0 in {run.status for run in runs}:
        assert found == 1
    if 78 in {run.status for run in runs}:
        # It says that the stream does not hold the trigger.
        assert found == 0
    if connected == domain:
        assert [run.status for run in runs] == [0, 0]


@pytest.mark.parametrize("domain", ["hub", "leaf"])
def test_where_the_subject_does_not_reach_the_domain_the_other_side_s_acknowledgement_is_not_taken_for_it(
    domain, tmp_path
):
    slots = roomy()
    # Seen from the leaf: its clients' subject goes out to the hub, or the hub's comes in.
    remote = f'deny_exports: ["{SUBJECT}"], deny_imports: ["{SUBJECT}"]'
    other = "leaf" if domain == "hub" else "hub"
    with joined(tmp_path, remote) as sides:
        url = getattr(sides, other)
        ended = execute("publish", NATS_URL=url, NATS_JS_DOMAIN=domain, **SETTINGS, **slots.settings)
        found = held(getattr(sides, domain)), held(getattr(sides, other))
    assert found[0] == 0
    assert found[1] <= 1
    assert ended.status in {75, 78}
    assert is_one_clean_line(ended.err)
    assert all(word in ended.err for word in ("domain", domain, other))


def publish_to(ack, **settings):
    """Run `publish` against a server that acknowledges so."""
    slots = roomy()
    with Scripted(jetstream(ack)) as server:
        return execute("publish", "--json", NATS_URL=server.url, **{**SETTINGS, **slots.settings, **settings})


ACKS = {
    "of another domain": ({"stream": "S", "seq": 1, "domain": "leaf"}, 75),
    "of no domain": ({"stream": "S", "seq": 1}, 75),
    "of a domain that is no text": ({"stream": "S", "seq": 1, "domain": ["hub"]}, 75),
    "of another domain, a duplicate": ({"stream": "S", "seq": 1, "domain": "leaf", "duplicate": True}, 75),
    "of the domain": ({"stream": "S", "seq": 1, "domain": "hub"}, 0),
    "of the domain, a duplicate": ({"stream": "S", "seq": 1, "domain": "hub", "duplicate": True}, 0),
}


@pytest.mark.parametrize(("ack", "status"), ACKS.values(), ids=ACKS)
def test_with_a_domain_an_acknowledgement_counts_only_if_it_names_it(ack, status, place):  # noqa: ARG001 - a clean place
    ended = publish_to(ack, NATS_JS_DOMAIN="hub")
    assert ended.status == status
    assert json.loads(ended.out)["status"] == status


NO_ACKS = {
    "true": {"stream": "S", "seq": True},
    "true, a duplicate": {"stream": "S", "seq": True, "duplicate": True},
    "a float": {"stream": "S", "seq": 1.0},
    "false": {"stream": "S", "seq": False},
    "no stream": {"seq": 1},
}


@pytest.mark.parametrize("ack", NO_ACKS.values(), ids=NO_ACKS)
def test_a_sequence_that_is_no_number_is_no_acknowledgement(ack, place):  # noqa: ARG001 - a clean place
    ended = publish_to(ack)
    assert ended.status == 75
    assert is_one_clean_line(ended.err)


def test_without_a_domain_setting_an_acknowledgement_may_name_one(place):  # noqa: ARG001 - a clean place
    assert publish_to({"stream": "S", "seq": 1, "domain": "hub"}).status == 0
