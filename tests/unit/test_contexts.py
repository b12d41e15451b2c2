"""Contexts of the nats CLI: found by name, and followed or refused."""

import json
from pathlib import Path

import pytest
from support.found import HIDDEN, NATSCLI_CONTEXT, SEED, context, creds, problems_of, settings_of, write

from crypto_trigger.settings.values import Address


def test_a_context_is_found_by_name_where_the_nats_cli_keeps_it(tmp_path):
    home = str(tmp_path / "config")
    context(f"{home}/nats/context/mine.json", **NATSCLI_CONTEXT)
    found = settings_of({"NATS_CONTEXT": "mine", "XDG_CONFIG_HOME": home})
    assert str(found.servers[0]) == "nats://context:4222"
    context(".config/nats/context/mine.json", **{**NATSCLI_CONTEXT, "url": "nats://home"})
    assert found.source("servers").origin == f"context {home}/nats/context/mine.json"
    assert str(settings_of({"NATS_CONTEXT": "mine"}).servers[0]) == "nats://home:4222"


def test_a_context_gives_every_setting_it_shares_with_us():
    path = context(
        url="tls://c",
        user="u",
        password="p",
        token="t",
        creds=write("creds", creds()),
        nkey="file://" + write("nkey", SEED),
        ca=write("ca", ""),
        cert=write("cert", ""),
        key=write("key", ""),
        tls_first=True,
        inbox_prefix="_IN",
        jetstream_domain="hub",
    )
    found = settings_of({"NATS_CONTEXT": path})
    assert (found.servers, found.user, found.password, found.token) == ((Address("c", tls=True),), "u", "p", "t")
    assert (found.creds.seed, found.nkey, found.tls_first) == (SEED, SEED, True)
    assert (found.inbox_prefix, found.js_domain) == ("_IN", "hub")
    assert [path.name for path in (found.ca, found.cert, found.key)] == ["ca", "cert", "key"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"nsc": "nsc://op/acc/user"}, "uses nsc, which is not supported here"),
        ({"socks_proxy": "socks5://h"}, "uses socks_proxy, which"),
        ({"user_jwt": HIDDEN}, "holds user_jwt or user_seed without the other, which is not supported here"),
        ({"jetstream_api_prefix": "x"}, "uses jetstream_api_prefix, which"),
        ({"password": 1234567}, "holds a password that is not text"),
        ({"password": "op://vault/item"}, "holds a password to be fetched from elsewhere"),
        (["a list"], "not a JSON object"),
        ("{", "not a JSON object"),
        (b"\xff", "not UTF-8"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_a_context_we_cannot_follow_is_refused_by_name(content, says):
    write("context.json", content if isinstance(content, (str, bytes)) else json.dumps(content))
    (problem,) = problems_of({"NATS_CONTEXT": "context.json"})
    assert problem.startswith("NATS_CONTEXT 'context.json' (from the environment) ")
    assert says in problem
    assert HIDDEN not in problem
    assert "1234567" not in problem


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("missing", "cannot be read: no such file or directory (at /"),
        ("missing.json", "cannot be read: no such file or directory (at missing.json)"),
        ("../x", "is no context name"),
        ("a/b", "is no context name"),
    ],
)
def test_a_context_that_is_not_there_is_one_line(name, says):
    (problem,) = problems_of({"NATS_CONTEXT": name})
    assert problem.startswith(f"NATS_CONTEXT '{name}' (from the environment) {says}")


def test_a_bad_value_of_a_context_names_the_context():
    (problem,) = problems_of({"NATS_CONTEXT": str(Path(context(url="http://h")).resolve())})
    assert problem.startswith(f"NATS_URL 'http://h' (from context {Path.cwd()}/context.json) ")
