"""Credentials of every kind: those that fit, those that do not, and files that are no credentials."""

import json
import re
from contextlib import contextmanager
from typing import NamedTuple
from urllib.parse import quote

import nkeys
import pytest
from support.operators import Key, Realm
from support.processes import execute, is_one_clean_line
from support.scripted import Scripted
from support.streams import add_stream, stored

from crypto_trigger.commands.server import Server

SETTINGS = {"CRYPTO_TRIGGER_TIMEOUT": "2s", "CRYPTO_TRIGGER_GIVE_UP_AFTER": "4s"}
# Every character that means something in a URL.
PASSWORD = "p@ss:w/rd?#%41 é"
ALL = "admin:admin"


@contextmanager
def serving(tmp_path, config):
    path = tmp_path / "server.conf"
    path.write_text(config, encoding="utf-8")
    with Server(arguments=("-c", str(path))) as server:
        yield server


def publish(url, **settings):
    return execute("publish", **{**SETTINGS, "NATS_URL": url, **settings})


def with_user(url, userinfo):
    return url.replace("://", f"://{userinfo}@")


def users(*entries):
    """An account of these users, one of whom is the tests' own."""
    listed = ", ".join([user("admin", "admin"), *entries])
    return f"accounts {{ A {{ jetstream: enabled, users: [{listed}] }} }}"


def user(name, password):
    return f"{{user: {json.dumps(name)}, password: {json.dumps(password, ensure_ascii=False)}}}"


class Shown(NamedTuple):
    """Credentials shown in some way to a server that knows one user, and the status that earns."""

    name: str
    status: int
    userinfo: str = ""
    settings: dict = {}  # noqa: RUF012 - read only
    file: str = ""


KNOWN = quote("us er", safe=""), quote(PASSWORD, safe="")
SHOWN = [
    Shown("in the URL, percent-encoded", 0, f"{KNOWN[0]}:{KNOWN[1]}"),
    Shown("in variables", 0, settings={"NATS_USER": "us er", "NATS_PASSWORD": PASSWORD}),
    Shown("password in a file", 0, settings={"NATS_USER": "us er", "NATS_PASSWORD_FILE": "FILE"}, file=PASSWORD),
    Shown(
        "file with a line end", 0, settings={"NATS_USER": "us er", "NATS_PASSWORD_FILE": "FILE"}, file=f"{PASSWORD}\r\n"
    ),
    Shown("the URL beats the variables", 0, f"{KNOWN[0]}:{KNOWN[1]}", {"NATS_USER": "x", "NATS_PASSWORD": "y"}),
    Shown("none", 77),
    Shown("wrong password", 77, settings={"NATS_USER": "us er", "NATS_PASSWORD": "wrong"}),
    Shown("wrong password in the URL", 77, "us%20er:wrong"),
    Shown("unknown user", 77, settings={"NATS_USER": "nobody", "NATS_PASSWORD": PASSWORD}),
    Shown("user without a password", 77, settings={"NATS_USER": "us er"}),
    Shown("token", 77, settings={"NATS_TOKEN": PASSWORD}),
    Shown("raw / in the URL", 78, "us er:p/w"),
]


@pytest.mark.parametrize("shown", SHOWN, ids=lambda shown: shown.name)
def test_a_user_and_password_are_accepted_or_refused_at_once(shown, place, tmp_path):
    (tmp_path / "secret").write_text(shown.file)
    settings = {name: value.replace("FILE", str(tmp_path / "secret")) for name, value in shown.settings.items()}
    with serving(tmp_path, users(user("us er", PASSWORD))) as server:
        admin = with_user(server.url, ALL)
        add_stream(admin, place.stream, [place.subject], duplicate_window=1800)
        ended = publish(with_user(server.url, shown.userinfo) if shown.userinfo else server.url, **settings)
        assert len(stored(admin, place.stream)) == (1 if shown.status == 0 else 0)
    judge(ended, shown.status, PASSWORD, "wrong")


def judge(ended, status, *secrets):
    """What holds for all credentials: the status, at once, one line at most, nothing secret in it."""
    assert ended.status == status
    assert ended.err == "" if status == 0 else is_one_clean_line(ended.err)
    if status == 77:
        assert re.search(r"the server refuses .*(\(from |a client without credentials; set NATS_USER)", ended.err)
        # With a second attempt it would have taken 4 s.
        assert ended.seconds < 4
    for secret in secrets:
        assert secret not in ended.out + ended.err


TOKEN = "s3cr3t-t0ken"
TOKENS = [
    Shown("NATS_TOKEN", 0, settings={"NATS_TOKEN": TOKEN}),
    Shown("NATS_TOKEN_FILE", 0, settings={"NATS_TOKEN_FILE": "FILE"}, file=TOKEN + "\n"),
    Shown("NATS_USER alone", 0, settings={"NATS_USER": TOKEN}),
    Shown("user of the URL alone", 0, TOKEN),
    Shown("another token", 77, settings={"NATS_TOKEN": "another-token"}),
    Shown("user and password", 77, settings={"NATS_USER": TOKEN, "NATS_PASSWORD": TOKEN}),
]


@pytest.mark.parametrize("shown", TOKENS, ids=lambda shown: shown.name)
def test_a_token_is_accepted_or_refused_at_once(shown, place, tmp_path):
    (tmp_path / "secret").write_text(shown.file)
    settings = {name: value.replace("FILE", str(tmp_path / "secret")) for name, value in shown.settings.items()}
    with serving(tmp_path, f"authorization {{ token: {json.dumps(TOKEN)} }}") as server:
        admin = with_user(server.url, TOKEN)
        add_stream(admin, place.stream, [place.subject], duplicate_window=1800)
        ended = publish(with_user(server.url, shown.userinfo) if shown.userinfo else server.url, **settings)
        assert len(stored(admin, place.stream)) == (1 if shown.status == 0 else 0)
    judge(ended, shown.status, TOKEN, "another-token")


NKEY_FILES = {
    "seed": "{seed}\n",
    "CRLF": "{seed}\r\n",
    # nk -gen user -pubout
    "seed and public key": "{seed}\n{public}\n",
    "comments": "# the worker\n\n{seed}\n",
    "in a frame": "-----BEGIN SEED-----\n{seed}\n-----END-----\n",
}


@pytest.mark.parametrize("form", NKEY_FILES)
@pytest.mark.parametrize("known", [True, False], ids=["known", "unknown"])
def test_an_nkey_is_accepted_if_the_server_knows_it(known, form, place, tmp_path):
    key = Key(nkeys.PREFIX_BYTE_USER)
    entry = f"{{nkey: {(key if known else Key(nkeys.PREFIX_BYTE_USER)).public}}}"
    path = tmp_path / "user.nk"
    path.write_text(NKEY_FILES[form].format(seed=key.seed, public=key.public), newline="")
    with serving(tmp_path, users(entry)) as server:
        add_stream(with_user(server.url, ALL), place.stream, [place.subject], duplicate_window=1800)
        ended = publish(server.url, NATS_NKEY=str(path))
        assert len(stored(with_user(server.url, ALL), place.stream)) == (1 if known else 0)
    judge(ended, 0 if known else 77, key.seed)


@pytest.fixture(scope="module")
def realm():
    return Realm()


@pytest.fixture(scope="module")
def realm_server(realm, tmp_path_factory):
    with serving(tmp_path_factory.mktemp("realm"), realm.config()) as server:
        yield server


CREDS = {
    "as nsc writes it": (0, lambda realm: realm.creds()),
    "CRLF": (0, lambda realm: realm.creds().replace("\n", "\r\n")),
    "other words in its markers": (0, lambda realm: realm.creds().replace("NATS USER JWT", "X").replace("NKEY", "Y")),
    "a comment before it": (0, lambda realm: "# SUPER: the worker's\n\n" + realm.creds()),
    "no line end at its end": (0, lambda realm: realm.creds().rstrip("\n")),
    "expired": (77, lambda realm: realm.creds(exp=1700000001)),
    "signed by a stranger": (77, lambda realm: realm.creds(signer=Key(nkeys.PREFIX_BYTE_ACCOUNT))),
    "another user's seed": (77, lambda realm: realm.creds(seed=Key(nkeys.PREFIX_BYTE_USER).seed)),
    "no markers": (78, lambda realm: realm.creds().replace("-----", "")),
    "the seed alone": (78, lambda realm: realm.creds().partition("IMPORTANT")[2]),
    "the token alone": (78, lambda realm: realm.creds().partition("****")[0]),
    "cut short after a marker": (78, lambda _: "-----BEGIN NATS USER JWT-----\n"),
    "a seed that is none": (78, lambda realm: realm.creds(seed="SU" + "1" * 56)),
    "an account's seed": (78, lambda realm: realm.creds(seed=Key(nkeys.PREFIX_BYTE_ACCOUNT).seed)),
    "empty": (78, lambda _: ""),
    "no text": (78, lambda _: "\udcff\udcfe"),
}


@pytest.mark.parametrize(("status", "content"), CREDS.values(), ids=CREDS)
def test_credentials_files_are_accepted_or_named(status, content, place, realm, realm_server, tmp_path):
    admin = tmp_path / "admin.creds"
    admin.write_text(realm.creds())
    connect = {"user_credentials": str(admin), "allow_reconnect": False}
    add_stream(realm_server.url, place.stream, [place.subject], duplicate_window=1800, connect=connect)
    path = tmp_path / "user.creds"
    path.write_text(content(realm), errors="surrogateescape")
    ended = publish(realm_server.url, NATS_CREDS=str(path))
    assert len(stored(realm_server.url, place.stream, **connect)) == (1 if status == 0 else 0)
    assert ended.status == status
    assert ended.err == "" if status == 0 else is_one_clean_line(ended.err)
    assert ended.seconds < 4
    if status == 78:
        assert "NATS_CREDS '" in ended.err


USER = {"NATS_USER": "worker", "NATS_PASSWORD": "right"}
OLD_USER = {"NATS_USER": "worker", "NATS_PASSWORD": "old"}
# A server of each kind; what it is given in the URL and in variables, with something old besides.
MIXED = [
    ("JWT", "worker:old", {"NATS_CREDS": "right.creds"}),
    ("JWT", "old", {"NATS_CREDS": "right.creds", "NATS_NKEY": "old.nk"}),
    ("JWT", "", {"NATS_CREDS": "right.creds", **OLD_USER, "NATS_TOKEN": "old"}),
    ("nkey", "worker:old", {"NATS_NKEY": "right.nk"}),
    ("nkey", "old", {"NATS_NKEY": "right.nk"}),
    ("nkey", "", {"NATS_NKEY": "right.nk", **OLD_USER, "NATS_TOKEN": "old"}),
    ("user", "worker:right", {"NATS_CREDS": "old.creds", "NATS_TOKEN": "old"}),
    ("user", "", {**USER, "NATS_CREDS": "old.creds", "NATS_TOKEN": "old"}),
    ("user", "", {**USER, "NATS_NKEY": "old.nk"}),
    ("token", "right", {"NATS_CREDS": "old.creds", **OLD_USER}),
    ("token", "", {"NATS_TOKEN": "right", "NATS_CREDS": "old.creds"}),
    ("token", "", {"NATS_TOKEN": "right", "NATS_NKEY": "old.nk"}),
]


@pytest.mark.parametrize(("kind", "userinfo", "settings"), MIXED)
def test_credentials_that_the_server_does_not_ask_for_do_no_harm(kind, userinfo, settings, realm, tmp_path):
    key = Key(nkeys.PREFIX_BYTE_USER)
    files = {"right.creds": realm.creds(), "right.nk": key.seed}
    files |= {"old.creds": Realm().creds(), "old.nk": Key(nkeys.PREFIX_BYTE_USER).seed}
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    config = {
        "JWT": realm.config(),
        "nkey": f"accounts {{ A {{ jetstream: enabled, users: [{{nkey: {key.public}}}] }} }}",
        "user": users(user("worker", "right")),
        "token": "authorization { token: right }",
    }[kind]
    given = {name: str(tmp_path / value) if value in files else value for name, value in settings.items()}
    with serving(tmp_path, config) as server:
        given |= {**SETTINGS, "NATS_URL": with_user(server.url, userinfo) if userinfo else server.url}
        for command in ("setup", "publish"):
            ended = execute(command, **given)
            assert (ended.status, ended.err) == (0, "")
        history = execute("history", "--json", "--since", "1h", **given)
    assert [slot["seq"] for slot in json.loads(history.out)["slots"] if slot["seq"]] == [1]


ODD = {
    "quotes": ('"right"', "NATS_PASSWORD is in quotes, and they were sent, too"),
    "blank": ("right ", "NATS_PASSWORD begins or ends in white space, and it was sent, too"),
}


@pytest.mark.parametrize(("password", "says"), ODD.values(), ids=ODD)
@pytest.mark.parametrize("right", ["right", None])
def test_an_odd_password_is_sent_as_it_is_and_mentioned_where_it_is_refused(password, says, right, place, tmp_path):
    with serving(tmp_path, users(user("worker", right or password))) as server:
        add_stream(with_user(server.url, ALL), place.stream, [place.subject], duplicate_window=1800)
        ended = publish(server.url, NATS_USER="worker", NATS_PASSWORD=password)
        assert len(stored(with_user(server.url, ALL), place.stream)) == (0 if right else 1)
    assert ended.status == (77 if right else 0)
    assert (says in ended.err) == bool(right)


def test_a_user_and_a_token_with_a_line_end_are_accepted(place, tmp_path):
    with serving(tmp_path, users(user("worker", "right"))) as server:
        add_stream(with_user(server.url, ALL), place.stream, [place.subject], duplicate_window=1800)
        ended = publish(server.url, NATS_USER="worker\n", NATS_PASSWORD="right\r\n")
        assert len(stored(with_user(server.url, ALL), place.stream)) == 1
    assert (ended.status, ended.err) == (0, "")


def test_a_jwt_longer_than_the_server_takes_ends_at_the_first_attempt(realm, realm_server, tmp_path):
    path = tmp_path / "user.creds"
    path.write_text(realm.creds(note="u" * 5000))
    ended = publish(realm_server.url, NATS_CREDS=str(path), CRYPTO_TRIGGER_GIVE_UP_AFTER="60s")
    assert ended.status == 78
    assert is_one_clean_line(ended.err)
    assert "a credential is longer than the server takes" in ended.err
    assert "attempts" not in ended.err


@pytest.mark.parametrize("variable", ["NATS_CREDS", "NATS_NKEY", "NATS_PASSWORD_FILE", "NATS_TOKEN_FILE", "NATS_CA"])
@pytest.mark.parametrize("kind", ["missing", "a directory", "empty"])
def test_a_file_that_cannot_be_used_is_named_before_the_network(variable, kind, tmp_path):
    path = tmp_path / "file"
    if kind == "a directory":
        path.mkdir()
    if kind == "empty":
        path.write_text("")
    with Scripted(lambda talk: talk.listen()) as server:
        ended = publish(server.url, **{variable: str(path)})
        assert server.talks == []
    assert ended.status == 78
    assert is_one_clean_line(ended.err)
    assert variable in ended.err


def test_a_user_jwt_goes_to_no_server_that_offers_no_tls_where_it_was_asked_for(realm, tmp_path):
    def plaintext(talk):
        talk.welcome(auth_required=True, nonce="nonce")
        talk.listen()

    content = realm.creds()
    path = tmp_path / "user.creds"
    path.write_text(content)
    with Scripted(plaintext) as server:
        ended = publish(server.url.replace("nats://", "tls://"), NATS_CREDS=str(path))
        server.talk()
    token = content.splitlines()[1]
    assert token.encode() not in server.heard
    assert ended.status == 76
    assert is_one_clean_line(ended.err)


@pytest.mark.parametrize(
    ("permissions", "says"),
    [
        ('publish: ["$JS.API.>"], subscribe: ["_INBOX.>"]', " has no permission to publish to "),
        ('subscribe: ["nothing"]', "no permission to receive answers"),
    ],
    ids=["publish", "inbox"],
)
def test_a_permission_that_is_missing_ends_at_once_and_stores_nothing(permissions, says, place, tmp_path):
    entry = f"{{user: u, password: u, permissions: {{ {permissions} }} }}"
    with serving(tmp_path, users(entry)) as server:
        admin = with_user(server.url, ALL)
        add_stream(admin, place.stream, [place.subject])
        ended = publish(with_user(server.url, "u:u"))
        assert stored(admin, place.stream) == []
    assert ended.status == 77
    assert is_one_clean_line(ended.err)
    assert says in ended.err
    assert ended.seconds < 4


def test_an_inbox_prefix_of_its_own_satisfies_restricted_permissions(place, tmp_path):
    entry = '{user: u, password: u, permissions: { subscribe: ["_INBOX_u.>"] } }'
    with serving(tmp_path, users(entry)) as server:
        admin = with_user(server.url, ALL)
        add_stream(admin, place.stream, [place.subject], duplicate_window=1800)
        ended = publish(with_user(server.url, "u:u"), NATS_INBOX_PREFIX="_INBOX_u")
        assert len(stored(admin, place.stream)) == 1
    assert (ended.status, ended.err) == (0, "")
