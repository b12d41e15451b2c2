"""Delivery `streaming` with the server on a nats-server that has TLS, accounts, JetStream and permissions."""

import json

import nkeys
import pytest
from support.certificates import Authority
from support.streaming import StreamingServer

from crypto_trigger.commands.server import Server

CHANNEL = "crypto.update"
DISCOVER, PUBLISH, CLOSE = (
    "_STAN.discover.crypto-stats",
    f"_STAN.pub.crypto-stats.{CHANNEL}",
    "_STAN.close.crypto-stats",
)
# What each user may publish to, and subscribe to; the first has all that is needed, and no more.
USERS = {
    "worker": ([DISCOVER, PUBLISH, CLOSE], ["_INBOX.>"]),
    "undiscovering": ([PUBLISH, CLOSE], ["_INBOX.>"]),
    "unpublishing": ([DISCOVER, CLOSE], ["_INBOX.>"]),
    "unleaving": ([DISCOVER, PUBLISH], ["_INBOX.>"]),
    "unhearing": ([DISCOVER, PUBLISH, CLOSE], ["elsewhere"]),
    "prefixed": ([DISCOVER, PUBLISH, CLOSE], ["_INBOX_worker.>"]),
}


@pytest.fixture(scope="module")
def seed():
    return nkeys.encode_seed(bytes(range(32)), nkeys.PREFIX_BYTE_USER)


@pytest.fixture(scope="module")
def guest(tmp_path_factory, seed):
    """The streaming server, its host's URL, and the authority to trust."""
    folder = tmp_path_factory.mktemp("access")
    authority = Authority(folder, "good")
    pair = authority.issue("server")
    public = nkeys.from_seed(bytearray(seed)).public_key.decode()
    users = ["{user: stan, password: pw}", f"{{nkey: {public}}}"]
    for name, (publish, subscribe) in USERS.items():
        permissions = f"publish: {json.dumps(publish)}, subscribe: {json.dumps(subscribe)}, allow_responses: true"
        users.append(f'{{user: {name}, password: "p@ss word", permissions: {{{permissions}}}}}')
    path = folder / "nats.conf"
    path.write_text(
        f'tls {{ cert_file: "{pair.cert}", key_file: "{pair.key}" }}\n'
        f"accounts {{ OLD: {{ jetstream: enabled, users: [{', '.join(users)}] }}\n"
        "OTHER: { jetstream: enabled, users: [{user: other, password: pw}] } }\n"
    )
    with Server(arguments=("-c", str(path))) as host:
        address = host.url.partition("//")[2]
        with StreamingServer(nats_url=f"tls://stan:pw@{address}", trusts=authority.path) as stan:
            yield stan, f"tls://{address}", authority.path


@pytest.fixture
def at(guest, monkeypatch):
    stan, url, authority = guest
    settings = {
        "NATS_URL": url,
        "NATS_CA": authority,
        "CRYPTO_TRIGGER_DELIVERY": "streaming",
        "CRYPTO_TRIGGER_GIVE_UP_AFTER": "2s",
    }
    for variable, value in settings.items():
        monkeypatch.setenv(variable, value)
    before = stan.count(CHANNEL)
    return lambda: stan.count(CHANNEL) - before


def test_an_nkey_over_tls(run, at, monkeypatch, tmp_path, seed):
    path = tmp_path / "worker.nk"
    path.write_bytes(seed)
    monkeypatch.setenv("NATS_NKEY", str(path))
    result = run("publish")
    assert at() == 1
    assert (result.status, result.err) == (0, "")


@pytest.mark.parametrize(
    ("user", "status", "stored", "says"),
    [
        ("worker", 0, 1, ""),
        ("undiscovering", 77, 0, "has no permission to publish to _STAN."),
        ("unpublishing", 77, 0, "has no permission to publish to _STAN."),
        ("unleaving", 0, 1, "has not closed the registration of client worker-server-"),
        ("unhearing", 77, 0, "no permission to receive answers"),
        ("prefixed", 77, 0, "no permission to receive answers"),
    ],
)
def test_what_a_user_may_do(run, at, monkeypatch, user, status, stored, says):
    monkeypatch.setenv("NATS_USER", user)
    monkeypatch.setenv("NATS_PASSWORD", "p@ss word")
    result = run("publish")
    assert at() == stored
    assert result.status == status
    assert says in result.err
    assert bool(says) == bool(result.err)


def test_an_inbox_of_ones_own_is_enough(run, at, monkeypatch):
    monkeypatch.setenv("NATS_USER", "prefixed")
    monkeypatch.setenv("NATS_PASSWORD", "p@ss word")
    monkeypatch.setenv("NATS_INBOX_PREFIX", "_INBOX_worker")
    result = run("publish")
    assert at() == 1
    assert (result.status, result.err) == (0, "")


def test_another_account_sees_no_streaming_server(run, at, monkeypatch):
    monkeypatch.setenv("NATS_USER", "other")
    monkeypatch.setenv("NATS_PASSWORD", "pw")
    result = run("publish")
    assert at() == 0
    assert result.status == 69
    assert "no server of the NATS Streaming cluster crypto-stats answers" in result.err


def test_an_authority_that_is_not_trusted_ends_the_run(run, at, monkeypatch, tmp_path):
    monkeypatch.setenv("NATS_CA", Authority(tmp_path, "other").path)
    monkeypatch.setenv("NATS_USER", "worker")
    monkeypatch.setenv("NATS_PASSWORD", "p@ss word")
    result = run("publish")
    assert at() == 0
    assert result.status == 76
