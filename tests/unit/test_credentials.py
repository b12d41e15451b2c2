"""Which credentials a server is shown, in words that say where they came from."""

import os
from pathlib import Path

import pytest

from crypto_trigger.settings.credentials import in_force, remarks
from crypto_trigger.settings.load import load
from crypto_trigger.settings.values import Address

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
    found = load({}, os.devnull, everything)
    sent = {asks: in_force(found, found.servers[0], asks_signature=asks) for asks in (True, False, None)}
    assert sent[True].startswith("the credentials file ")
    assert sent[False].startswith("user 'a' (from NATS_URL")
    assert sent[None] == f"{sent[True]} or {sent[False]}"
    orders = {
        True: [("NATS_CREDS", "the credentials file "), ("NATS_NKEY", "the nkey "), ("NATS_PASSWORD", "user 'b' ")],
        False: [
            ("NATS_PASSWORD", "user 'b' "),
            ("NATS_TOKEN", "the token (from NATS_TOKEN, "),
            ("NATS_USER", "the token "),
        ],
    }
    for asks, order in orders.items():
        left = dict(everything)
        for gone, begin in order:
            found = load({}, os.devnull, left)
            assert in_force(found, found.servers[1], asks_signature=asks).startswith(begin)
            del left[gone]
    found = load({}, os.devnull, {"NATS_CREDS": "user.creds"})
    assert in_force(found, found.servers[0], asks_signature=False).startswith("the credentials file ")


CREDS_FILE = f"user.creds' (from NATS_CREDS, {ENVIRONMENT})"
REMARKS = {
    "none": ({"NATS_USER": "u", "NATS_PASSWORD": HIDDEN}, ""),
    "quotes": (
        {"NATS_USER": "u", "NATS_PASSWORD": f'"{HIDDEN}"'},
        "; NATS_PASSWORD is in quotes, and they were sent, too",
    ),
    "blanks": (
        {"NATS_USER": "u ", "NATS_PASSWORD": f"\t{HIDDEN}"},
        "".join(f"; NATS_{name} begins or ends in white space, and it was sent, too" for name in ("USER", "PASSWORD")),
    ),
    "line end": ({"NATS_TOKEN": f"{HIDDEN}\n"}, ""),
    "lone user": ({"NATS_USER": f"'{HIDDEN}'"}, "; NATS_USER is in quotes, and they were sent, too"),
    "file": ({"NATS_TOKEN_FILE": "quoted"}, "; NATS_TOKEN_FILE is in quotes, and they were sent, too"),
    "URL": ({"NATS_URL": f"nats://u:%22{HIDDEN}%22@h"}, "; NATS_URL is in quotes, and they were sent, too"),
    "token of the URL": (
        {"NATS_URL": f"nats://{HIDDEN}%20@h"},
        "; NATS_URL begins or ends in white space, and it was sent, too",
    ),
    "token too": (
        {"NATS_USER": "u", "NATS_PASSWORD": HIDDEN, "NATS_TOKEN": "t"},
        f"; the token (from NATS_TOKEN, {ENVIRONMENT}) is not sent beside a user and a password",
    ),
    "creds too": (
        {"NATS_TOKEN": HIDDEN, "NATS_CREDS": "user.creds"},
        f"; the server asks for no signature, so that the credentials file '{CREDS_FILE} was not sent",
    ),
    "creds alone": ({"NATS_CREDS": "user.creds"}, ""),
}


@pytest.mark.parametrize(("environ", "said"), REMARKS.values(), ids=REMARKS)
def test_a_refusal_says_what_is_odd_about_what_was_sent(environ, said):
    Path("quoted").write_text(f"'{HIDDEN}'\n")
    found = load({}, os.devnull, environ)
    assert remarks(found, found.servers[0], asks_signature=False) == said


def test_a_refused_signature_says_that_the_password_was_not_sent():
    found = load({}, os.devnull, {"NATS_URL": f"nats://u:'{HIDDEN}'@h", "NATS_NKEY": "user.nk"})
    said = f"; the server asks for a signature, so that user 'u' (from NATS_URL, {ENVIRONMENT}) was not sent"
    assert remarks(found, found.servers[0], asks_signature=True) == said


def test_a_credential_of_the_env_file_is_named_with_its_line():
    Path(".env").write_text(f"# secrets\nNATS_TOKEN={HIDDEN}\n")
    assert load({}, None, {}).credentials_in_force(Address("h")) == "the token (from NATS_TOKEN, .env line 2)"
