"""Streams of the same name on both sides of a leaf node or an account's import, which refuse each other's sequences."""

import asyncio
import json

import pytest
from support.clocks import roomy
from support.ports import free_port
from support.processes import execute
from support.streams import client, put, stored

from crypto_trigger.commands.server import Server

SUBJECT = "crypto.update"
PAYLOAD = b'{"trigger":"update"}'
OLD = {"ce-time": "2020-01-01T00:00:00Z"}
SETTINGS = {
    "CRYPTO_TRIGGER_STREAM": "S",
    "CRYPTO_TRIGGER_SUBJECT": SUBJECT,
    "CRYPTO_TRIGGER_TIMEOUT": "2s",
    "CRYPTO_TRIGGER_GIVE_UP_AFTER": "6s",
}
IMPORT = """
accounts {
  B { jetstream: enabled, users: [{ user: b, password: b }], exports: [{ service: "t.update" }] }
  A { jetstream: enabled, users: [{ user: a, password: a }],
      imports: [{ service: { account: B, subject: "t.update" }, to: "crypto.update" }] }
}
"""
ACCOUNTS = """
accounts {
  A { jetstream: enabled, users: [{ user: a, password: a }] }
  SYS { users: [{ user: s, password: s }] }
}
system_account: SYS
"""


async def create(url, subjects, *, update=False, **config):
    body = json.dumps({"name": "S", "subjects": subjects, "duplicate_window": 1800 * 10**9, **config}).encode()
    async with client(url) as connection:
        answer = json.loads(
            (await connection.request(f"$JS.API.STREAM.{'UPDATE' if update else 'CREATE'}.S", body, timeout=5)).data
        )
        assert "error" not in answer, answer


def triggers(url):
    """The slots of the triggers that the stream of this side holds."""
    return [message.headers["ce-time"] for message in stored(url, "S") if message.data == PAYLOAD]


def test_a_message_of_ours_at_the_sequence_of_another_account_s_stream_is_no_trigger(tmp_path):
    """The refusal's sequence is that of the other account's stream; ours holds somebody else's message there."""
    slots = roomy()
    config = tmp_path / "server.conf"
    config.write_text(IMPORT)
    with Server(arguments=("-c", str(config))) as server:
        ours, theirs = (server.url.replace("://", f"://{user}:{user}@") for user in "ab")
        asyncio.run(create(ours, ["orders.>"]))
        asyncio.run(create(theirs, ["t.update"]))
        put(theirs, "t.update", b"", OLD)
        put(ours, "orders.1")
        ended = execute("publish", NATS_URL=ours, **SETTINGS, **slots.settings)
        found = triggers(theirs) + triggers(ours)
    assert (ended.status == 0) == (found == [slots.now()]), ended


REFUSALS = {
    "by its sequence": {},
    "because it is full": {"max_msgs": 1, "discard": "new"},
    "because it takes small messages": {"max_msg_size": 10},
}


@pytest.mark.parametrize("config", REFUSALS.values(), ids=REFUSALS)
@pytest.mark.parametrize("reaches", [True, False], ids=["reaches the domain", "does not reach the domain"])
def test_the_refusal_of_the_other_side_of_a_leaf_node_says_nothing_of_the_domain_s_stream(reaches, config, tmp_path):
    """The leaf's stream has a message of an old slot at 1; at 1 the hub's has one of another subject, stored now."""
    slots = roomy()
    port = free_port()
    denied = "" if reaches else f'deny_exports: ["{SUBJECT}"], deny_imports: ["{SUBJECT}"]'
    hub, leaf = tmp_path / "hub.conf", tmp_path / "leaf.conf"
    hub.write_text(
        f'server_name: hub\njetstream {{ domain: hub }}\nleafnodes {{ listen: "127.0.0.1:{port}" }}\n{ACCOUNTS}'
    )
    leaf.write_text(
        "server_name: leaf\njetstream { domain: leaf }\n"
        f'leafnodes {{ remotes: [{{ url: "nats://a:a@127.0.0.1:{port}", account: A, {denied} }}] }}\n{ACCOUNTS}'
    )
    with Server(arguments=("-c", str(leaf))) as second:
        theirs = second.url.replace("://", "://a:a@")
        asyncio.run(create(theirs, [SUBJECT], **{**config, "max_msg_size": -1}))
        put(theirs, SUBJECT, b"", OLD)
        if "max_msg_size" in config:
            asyncio.run(create(theirs, [SUBJECT], **config, update=True))
        with Server(arguments=("-c", str(hub))) as first:
            ours = first.url.replace("://", "://a:a@")
            asyncio.run(create(ours, [SUBJECT, "orders.>"]))
            put(ours, "orders.1")
            asyncio.run(joined(theirs))
            ended = execute("publish", NATS_URL=theirs, NATS_JS_DOMAIN="hub", **SETTINGS, **slots.settings)
            found = triggers(ours)
    if ended.status == 0:
        assert found == [slots.now()], ended
    if found:
        assert ended.status in {0, 75}, ended


async def joined(url):
    """Wait until the leaf reaches the hub's JetStream."""
    async with client(url) as connection:
        for _ in range(200):
            try:
                await connection.request("$JS.hub.API.STREAM.INFO.S", b"", timeout=1)
            except Exception:  # noqa: BLE001 - no responders yet, or none in time
                await asyncio.sleep(0.05)
            else:
                return
    raise AssertionError("the leaf node connection does not come up")
