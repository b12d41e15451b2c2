"""Which credentials a server is shown, in words that say where they came from."""

import os
from pathlib import Path

import pytest

from crypto_trigger.settings import load
from crypto_trigger.values import Address

SEED = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY"
CREDS = (
    f"-----BEGIN NATS USER JWT-----\neyJ0.jwt.sig\n------END NATS USER JWT------\n"
    f"-----BEGIN USER NKEY SEED-----\n{SEED}\n------END USER NKEY SEED------\n"
)
HIDDEN = "hunter22"
ENVIRONMENT = "the environment"


@pytest.fixture(autouse=True)
def _files():
    Path("user.creds").write_text(CREDS)
    Path("user.nk").write_text(SEED)
    Path("secret").write_text(HIDDEN)


FORCE = [
    ({}, "no credentials"),
    ({"NATS_URL": f"nats://wrong:{HIDDEN}@h"}, f"user 'wrong' (from NATS_URL, {ENVIRONMENT})"),
    ({"NATS_URL": f"nats://{HIDDEN}@h"}, f"the token (from NATS_URL, {ENVIRONMENT})"),
    (
        {"NATS_USER": "worker", "NATS_PASSWORD": HIDDEN},
        f"user 'worker' (from NATS_USER, {ENVIRONMENT}; password from NATS_PASSWORD, {ENVIRONMENT})",
    ),
    (
        {"NATS_USER": "worker", "NATS_PASSWORD_FILE": "secret"},
        f"user 'worker' (from NATS_USER, {ENVIRONMENT}; password from NATS_PASSWORD_FILE, {ENVIRONMENT})",
    ),
    ({"NATS_USER": HIDDEN}, f"the token (from NATS_USER, {ENVIRONMENT}: a user without a password is a token)"),
    ({"NATS_TOKEN": HIDDEN}, f"the token (from NATS_TOKEN, {ENVIRONMENT})"),
    ({"NATS_TOKEN_FILE": "secret"}, f"the token (from NATS_TOKEN_FILE, {ENVIRONMENT})"),
    ({"NATS_CREDS": "user.creds"}, f"the credentials file 'user.creds' (from NATS_CREDS, {ENVIRONMENT})"),
    ({"NATS_NKEY": "user.nk"}, f"the nkey of 'user.nk' (from NATS_NKEY, {ENVIRONMENT})"),
]


@pytest.mark.parametrize(
    ("environ", "words"), FORCE, ids=lambda value: "+".join(value) if isinstance(value, dict) else None
)
def test_the_credentials_in_force_are_named_with_their_place(environ, words):
    found = load({}, os.devnull, environ)
    said = found.credentials_in_force(found.servers[0])
    assert said == words
    assert HIDDEN not in said


def test_the_first_of_several_credentials_is_in_force():
    everything = {
        "NATS_URL": f"nats://a:{HIDDEN}@one,nats://two",
        "NATS_USER": "b",
        "NATS_PASSWORD": HIDDEN,
        "NATS_CREDS": "user.creds",
        "NATS_NKEY": "user.nk",
        "NATS_TOKEN": HIDDEN,
    }
    begins = ["user 'b' ", "the credentials file ", "the nkey ", "the token (from NATS_TOKEN"]
    found = load({}, os.devnull, everything)
    assert found.credentials_in_force(found.servers[0]).startswith("user 'a' (from NATS_URL")
    for begin, gone in zip(begins, ["NATS_PASSWORD", "NATS_CREDS", "NATS_NKEY", "NATS_TOKEN"], strict=True):
        found = load({}, os.devnull, everything)
        assert found.credentials_in_force(found.servers[1]).startswith(begin)
        del everything[gone]


def test_a_credential_of_the_env_file_is_named_with_its_line():
    Path(".env").write_text(f"# secrets\nNATS_TOKEN={HIDDEN}\n")
    assert load({}, None, {}).credentials_in_force(Address("h")) == "the token (from NATS_TOKEN, .env line 2)"
