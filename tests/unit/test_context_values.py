"""The values of a context: those that are references, those that a stronger layer replaces, and the order of flags."""

import base64
import json
import re
from pathlib import Path

import pytest
from support.found import HIDDEN, NATSCLI_CONTEXT, SEED, context, creds, problems_of, settings_of, write

from crypto_trigger.settings import contexts
from crypto_trigger.settings.load import SETTINGS
from crypto_trigger.settings.masking import MASK, masked
from crypto_trigger.settings.values import Address

JWT = "eyJ0.jwt.sig"


def embedded(text):
    """As `nats context save --embed` writes it."""
    return "data:;base64," + base64.b64encode(text.encode()).decode()


def of_context(environ=None, **content):
    return settings_of({**(environ or {}), "NATS_CONTEXT": context(**content)})


@pytest.mark.parametrize("key", ["password", "token"])
@pytest.mark.parametrize(
    ("text", "value"),
    [
        (HIDDEN, HIDDEN),
        ("p:a//ss", "p:a//ss"),
        ("http://not-a-reference", "http://not-a-reference"),
        ("env://SECRET", HIDDEN),
        ("ENV://SECRET", HIDDEN),
        ("file://secret", HIDDEN),
        (embedded(HIDDEN + "\n"), HIDDEN),
    ],
)
def test_a_secret_is_taken_as_it_is_or_from_where_it_refers_to(key, text, value):
    write("secret", HIDDEN + "\r\n")
    found = of_context({"SECRET": HIDDEN}, user="u", **{key: text})
    assert getattr(found, key) == value
    assert value not in repr(found)
    assert masked(value) == MASK


@pytest.mark.parametrize(
    "reference",
    ["user.creds", "file://user.creds", "file://~/user.creds", "$FOLDER/user.creds", "env://CREDS", embedded(creds())],
)
def test_credentials_come_from_a_file_or_from_where_they_refer_to(reference, monkeypatch):
    write("user.creds", creds())
    monkeypatch.setenv("FOLDER", ".")
    found = of_context({"CREDS": creds()}, creds=reference)
    assert (found.creds.jwt, found.creds.seed) == (JWT, SEED)
    assert SEED not in repr(found)
    assert SEED not in str(found.sources)


@pytest.mark.parametrize(
    "content",
    [SEED, f"-----BEGIN USER NKEY SEED-----\n{SEED}\n------END USER NKEY SEED------\n"],
    ids=["bare", "framed"],
)
@pytest.mark.parametrize("reference", ["user.nk", "data"])
def test_an_nkey_comes_from_a_file_or_is_embedded(reference, content):
    write("user.nk", content)
    found = of_context(nkey=embedded(content) if reference == "data" else reference)
    assert found.nkey == SEED
    assert SEED not in repr(found)


def test_a_jwt_and_a_seed_are_credentials():
    found = of_context({"JWT": JWT}, user_jwt="env://JWT", user_seed=SEED)
    assert (found.creds.jwt, found.creds.seed) == (JWT, SEED)
    assert masked(SEED) == masked(JWT) == MASK
    assert SEED not in repr(found)


def test_a_jwt_and_a_seed_come_after_the_other_credentials_of_a_context():
    found = of_context(user_jwt=JWT, user_seed=SEED, nkey=write("user.nk", SEED))
    assert (found.creds, found.nkey) == (None, SEED)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"user_jwt": JWT}, "holds user_jwt or user_seed without the other"),
        ({"user_seed": SEED}, "holds user_jwt or user_seed without the other"),
        ({"password": "env://NOT_SET", "user": "u"}, "holds a password in an environment variable that is not set"),
        ({"token": "env://EMPTY"}, "holds a token from env: that is empty"),
        ({"token": "file://missing"}, "holds a token in a file that cannot be read: no such file or directory"),
        ({"token": "data:;base64,!"}, "holds data: that is not text in base64"),
        ({"token": "data:,plain"}, "holds data: that is not text in base64"),
        ({"token": "op://vault/item"}, "holds a token to be fetched from elsewhere, which is not supported here"),
        ({"creds": "op://vault/item"}, "holds a creds to be fetched from elsewhere, which is not supported here"),
        ({"creds": "nsc://op/account/user"}, "holds a creds to be fetched from elsewhere, which is not"),
        ({"nkey": "s3://bucket/key"}, "holds a nkey to be fetched from elsewhere, which is not supported here"),
        ({"ca": "env://CA"}, "holds a ca to be fetched from elsewhere, which is not supported here"),
        ({"nsc": "nsc://op/acc/user"}, "uses nsc, which is not supported here; save the credentials with"),
        ({"socks_proxy": "socks5://h"}, "uses socks_proxy, which is not supported here; connections are direct"),
        ({"jetstream_api_prefix": "x"}, "uses jetstream_api_prefix, which is not supported here; name a domain in"),
        ({"windows_cert_store": "user"}, "uses windows_cert_store, which is not supported here; set NATS_*"),
        ({"invented": 3}, "uses invented, which is not supported here; set NATS_* variables in place of"),
    ],
    ids=lambda value: ", ".join(map(str, value.values())) if isinstance(value, dict) else "",
)
def test_what_is_not_supported_is_one_line_that_names_the_key(content, says):
    (problem,) = problems_of({"NATS_CONTEXT": context(**content), "EMPTY": ""})
    assert problem.startswith(f"NATS_CONTEXT 'context.json' (from the environment) {says}")
    assert SEED not in problem


def test_embedded_credentials_that_are_none_are_refused_and_not_shown():
    (problem,) = problems_of({"NATS_CONTEXT": context(creds=embedded(f"no frame, {SEED}"))})
    assert problem.startswith("NATS_CREDS '***' (from context ")
    assert "has no NATS USER JWT part" in problem
    assert SEED not in problem


def test_a_value_that_a_stronger_layer_replaces_is_not_looked_at():
    path = context(creds="op://vault/item", url="http://h", user_jwt=JWT)
    environ = {"NATS_CONTEXT": path, "NATS_URL": "nats://h", "NATS_CREDS": write("user.creds", creds())}
    assert settings_of(environ).creds.seed == SEED
    (problem,) = problems_of({**environ, "NATS_CREDS": ""}, env_file=write("env", ""))
    assert "creds" in problem


def test_what_only_the_nats_cli_needs_is_ignored():
    write("full.json", json.dumps({"description": "d", "color_scheme": "blue", "jetstream_event_prefix": "E"}))
    assert settings_of({"NATS_CONTEXT": "full.json"}).servers == (Address("localhost"),)


USER = {"NATS_USER": "env", "NATS_PASSWORD": "env-password"}


def in_force(environ, **flags):
    found = settings_of(environ, **flags)
    return found.credentials_in_force(found.servers[0])


@pytest.mark.parametrize(
    "weaker",
    [
        USER,
        {"NATS_USER": "token"},
        {"NATS_TOKEN": "token"},
        {"NATS_NKEY": "user.nk"},
        {"NATS_URL": "nats://u:p@h"},
        {"NATS_URL": "nats://token@h"},
        {"NATS_CREDS": "other.creds"},
    ],
    ids=str,
)
def test_credentials_on_the_command_line_replace_those_of_every_weaker_layer(weaker):
    write("user.nk", SEED)
    write("other.creds", creds(jwt="eyJ0.other.sig"))
    path = write("user.creds", creds())
    assert in_force(weaker) != "no credentials"
    assert in_force(weaker, creds=path) == "the credentials file 'user.creds' (from NATS_CREDS, --creds)"


@pytest.mark.parametrize(
    "weaker",
    [{"NATS_CREDS": "user.creds"}, {"NATS_TOKEN": "token"}, {"NATS_URL": "nats://u:p@h"}, {"NATS_USER": "env"}],
    ids=str,
)
def test_a_user_on_the_command_line_has_the_password_of_the_environment_and_comes_first(weaker):
    write("user.creds", creds())
    said = in_force({"NATS_PASSWORD": "pw", **weaker}, user="flag")
    assert said.startswith("user 'flag' (from NATS_USER, --user; password from NATS_PASSWORD")


def test_credentials_in_a_url_of_the_command_line_stay():
    assert " or user 'u' (from NATS_URL" in in_force({}, servers="nats://u:p@h", creds=write("user.creds", creds()))


@pytest.mark.parametrize("environ", [{}, {"NATS_TOKEN": "token"}, {"NATS_USER": "token"}], ids=str)
def test_a_user_on_the_command_line_without_a_password_is_refused_because_it_is_a_token(environ):
    (problem,) = problems_of(environ, user=HIDDEN)
    assert problem.startswith("NATS_USER '***' (from --user) needs NATS_PASSWORD or NATS_PASSWORD_FILE beside it")
    assert "set NATS_TOKEN" in problem


def test_a_user_on_the_command_line_takes_a_password_from_a_file():
    found = settings_of({"NATS_PASSWORD_FILE": write("password", "pw")}, user="u")
    assert (found.user, found.password) == ("u", "pw")


def test_a_context_of_the_command_line_replaces_that_of_the_environment():
    found = settings_of({"NATS_CONTEXT": context("one.json", url="nats://one")}, nats_context=context(url="nats://two"))
    assert str(found.servers[0]) == "nats://two:4222"


def test_the_page_says_of_every_key_what_becomes_of_it():
    page = (Path(__file__).parents[2] / "docs" / "settings.md").read_text().partition("## A context of the")[2]
    settings, joined, ignored, unsupported = (
        set(re.findall(r"`(\w+)`", line.split("|")[1])) for line in page.splitlines() if line.startswith("| `")
    )
    assert settings == {setting.context_key for setting in SETTINGS if setting.context_key}
    assert joined == contexts.JWT_AND_SEED
    assert ignored == contexts.OTHER_KEYS
    assert unsupported == {*contexts.UNSUPPORTED, "windows_cert_store"}
    # All that the CLI writes, but for its other keys about Windows.
    assert {*NATSCLI_CONTEXT, "name"} == {*settings, *joined, *ignored, *unsupported, "windows_ca_certs_match"}
    referring = page.partition("In `password`")[2].partition("a context may refer")[0]
    assert {"password", *re.findall(r"`(\w+)`", referring)} == contexts.SECRETS | contexts.SECRET_FILES
