"""Contexts that the real `nats` CLI saves: what they hold is followed, or refused in one line that names it."""

import json
import os
import ssl

import nkeys
import pytest
from support.certificates import Authority
from support.operators import Key, Realm
from support.processes import is_one_clean_line
from support.programs import program
from support.shell import do
from support.streams import add_stream, stored

from crypto_trigger.commands.server import Server

PASSWORD = "p:w//rd-hunter2"
TOKEN = "tok-hunter2"
# What the CLI would take from the environment in place of what is asked for here.
OURS = ("CRYPTO_TRIGGER_", "NATS_")


@pytest.fixture
def save(tmp_path, monkeypatch):
    """Saves a context with the real CLI; returns its content."""
    found = program("nats")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))

    def save(name, *arguments):
        environ = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
        ended = do(found, "context", "save", name, *arguments, env={**environ, "NO_COLOR": "1"})
        assert ended.status == 0, ended.err
        return json.loads((tmp_path / "config" / "nats" / "context" / f"{name}.json").read_text())

    return save


@pytest.fixture
def publish(run, place, monkeypatch):  # noqa: ARG001 - names of the test's own
    """Publishes with a context and nothing else."""
    monkeypatch.delenv("NATS_URL")

    def publish(context, *arguments):
        ended = run("publish", "--context", context, "--give-up-after", "10s", *arguments)
        assert PASSWORD not in ended.out + ended.err
        assert TOKEN not in ended.out + ended.err
        return ended

    return publish


def configured(folder, config):
    path = folder / "server.conf"
    path.write_text(config)
    return Server(arguments=("-c", str(path)))


USERS = """
jetstream {{ domain: hub }}
accounts {{
  A {{ jetstream: enabled, users: [
    {{ user: admin, password: admin }}
    {{ user: worker, password: "{password}", permissions: {{ subscribe: ["_IN.>"] }} }}
    {{ nkey: {nkey} }}
  ] }}
}}
"""


@pytest.fixture(scope="module")
def key():
    return Key(nkeys.PREFIX_BYTE_USER)


@pytest.fixture(scope="module")
def users(key, tmp_path_factory):
    with configured(tmp_path_factory.mktemp("users"), USERS.format(password=PASSWORD, nkey=key.public)) as server:
        yield server


def admin(server):
    return server.url.replace("://", "://admin:admin@")


def test_a_user_with_a_password_an_inbox_prefix_and_a_domain(save, publish, users, place):
    add_stream(admin(users), place.stream, [place.subject], duplicate_window=1800)
    given = ("--user", "worker", "--password", PASSWORD, "--inbox-prefix", "_IN", "--js-domain", "hub")
    shown = ("--description", "the worker", "--colors", "blue", "--js-event-prefix", "E")
    written = save("worker", "-s", f"nats://127.0.0.1:1,{users.url}", *given, *shown)
    ended = publish("worker", "--json")
    assert len(stored(admin(users), place.stream)) == 1
    assert (ended.status, ended.err) == (0, "")
    assert json.loads(ended.out)["server"] == users.url
    # The CLI wrote what this test is about.
    keys = ("description", "color_scheme", "jetstream_event_prefix", "inbox_prefix", "jetstream_domain")
    assert all(written[name] for name in keys)


@pytest.mark.parametrize("options", [(), ("--embed",)], ids=["file", "embedded"])
def test_an_nkey(options, save, publish, users, place, key, tmp_path):
    add_stream(admin(users), place.stream, [place.subject], duplicate_window=1800)
    path = tmp_path / "user.nk"
    path.write_text(key.seed + "\n")
    save("nkey", "-s", users.url, "--nkey", str(path), *options)
    if options:
        path.unlink()
    ended = publish("nkey")
    assert len(stored(admin(users), place.stream)) == 1
    assert (ended.status, ended.err) == (0, "")


def test_the_flags_for_a_user_and_a_server_beat_the_context(save, publish, users, place, monkeypatch):
    add_stream(admin(users), place.stream, [place.subject], duplicate_window=1800)
    save("wrong", "-s", "nats://127.0.0.1:1", "--user", "nobody", "--password", PASSWORD)
    monkeypatch.setenv("NATS_PASSWORD", "admin")
    ended = publish("wrong", "--user", "admin", "-s", users.url.removeprefix("nats://"))
    assert len(stored(admin(users), place.stream)) == 1
    assert (ended.status, ended.err) == (0, "")


def test_a_token(save, publish, place, tmp_path):
    with configured(tmp_path, f"jetstream {{}}\nauthorization {{ token: {json.dumps(TOKEN)} }}") as server:
        url = server.url.replace("://", f"://{TOKEN}@")
        add_stream(url, place.stream, [place.subject], duplicate_window=1800)
        # The CLI saves a user without a password as a token.
        assert save("token", "-s", server.url, "--user", TOKEN)["token"] == TOKEN
        ended = publish("token")
        assert len(stored(url, place.stream)) == 1
    assert (ended.status, ended.err) == (0, "")


@pytest.fixture(scope="module")
def realm():
    return Realm()


@pytest.fixture(scope="module")
def realm_server(realm, tmp_path_factory):
    with configured(tmp_path_factory.mktemp("realm"), "jetstream {}\n" + realm.config()) as server:
        yield server


@pytest.mark.parametrize("kind", ["creds", "creds embedded", "jwt and seed", "flag"])
def test_credentials_of_an_operator(kind, save, publish, realm, realm_server, place, tmp_path):
    path, other = tmp_path / "user.creds", tmp_path / "other.creds"
    path.write_text(realm.creds())
    other.write_text(realm.creds(exp=1700000001))
    connect = {"user_credentials": str(path), "allow_reconnect": False}
    add_stream(realm_server.url, place.stream, [place.subject], duplicate_window=1800, connect=connect)
    lines = path.read_text().splitlines()
    arguments = {
        "creds": ("--creds", str(path)),
        "creds embedded": ("--creds", str(path), "--embed"),
        "jwt and seed": ("--jwt", lines[1], "--seed", next(line for line in lines if line.startswith("SU"))),
        "flag": ("--creds", str(other)),
    }
    save("user", "-s", realm_server.url, *arguments[kind])
    ended = publish("user", *(("--creds", str(path)) if kind == "flag" else ()))
    assert len(stored(realm_server.url, place.stream, **connect)) == 1
    assert (ended.status, ended.err) == (0, "")


@pytest.mark.parametrize("first", [False, True], ids=["TLS after the greeting", "TLS first"])
def test_certificates(first, save, publish, place, tmp_path):
    authority = Authority(tmp_path, "ours")
    pair, client = authority.issue("server"), authority.issue("client")
    files = f'cert_file: "{pair.cert}", key_file: "{pair.key}", ca_file: "{authority.path}", verify: true'
    handshake = "handshake_first: true" if first else ""
    with configured(tmp_path, f"jetstream {{}}\ntls {{ {files}, timeout: 5, {handshake} }}") as server:
        known = ssl.create_default_context(cafile=authority.path)
        known.load_cert_chain(client.cert, client.key)
        connect = {"tls": known, "allow_reconnect": False, "tls_handshake_first": first}
        url = f"tls://localhost:{server.url.rpartition(':')[2]}"
        add_stream(url, place.stream, [place.subject], duplicate_window=1800, connect=connect)
        certificates = ("--tlscert", client.cert, "--tlskey", client.key, "--tlsca", authority.path)
        save("tls", "-s", url.replace("tls://", "nats://"), *certificates, *(("--tlsfirst",) if first else ()))
        ended = publish("tls")
        assert len(stored(url, place.stream, **connect)) == 1
    assert (ended.status, ended.err) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--socks-proxy", "socks5://127.0.0.1:1"), "uses socks_proxy, which is not supported here"),
        (("--js-api-prefix", "other.API"), "uses jetstream_api_prefix, which is not supported here"),
        (("--creds", "op://vault/item/field"), "holds a creds to be fetched from elsewhere"),
        (("--creds", "nsc://operator/account/user"), "holds a creds to be fetched from elsewhere"),
        (("--jwt", "eyJ0.jwt.sig"), "holds user_jwt or user_seed without the other"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_what_is_not_supported_is_one_line_before_the_network(arguments, says, save, publish, place):
    save("strange", "-s", "nats://127.0.0.1:1", *arguments)
    ended = publish("strange")
    assert stored(place.url, place.stream) is None
    assert ended.status == 78
    assert is_one_clean_line(ended.err)
    assert f"NATS_CONTEXT 'strange' (from --context) {says}" in ended.err
