"""Settings found in a test: where they come from, and the files that hold them."""

import json
from pathlib import Path

import pytest

from crypto_trigger.errors import ConfigError
from crypto_trigger.settings.load import load

SEED = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY"
HIDDEN = "hunter2"
# As natscli writes a context with nothing but a server in it.
NATSCLI_CONTEXT = {
    "description": "",
    "url": "nats://context:4222",
    "socks_proxy": "",
    "token": "",
    "user": "",
    "password": "",
    "creds": "",
    "nkey": "",
    "cert": "",
    "key": "",
    "ca": "",
    "nsc": "",
    "jetstream_domain": "",
    "jetstream_api_prefix": "",
    "jetstream_event_prefix": "",
    "inbox_prefix": "",
    "user_jwt": "",
    "user_seed": "",
    "color_scheme": "",
    "tls_first": False,
    "windows_cert_store": "",
    "windows_ca_certs_match": None,
}


def settings_of(environ=None, *, env_file=None, **flags):
    return load(flags, env_file, environ or {})


def problems_of(environ=None, *, env_file=None, **flags):
    with pytest.raises(ConfigError) as caught:
        load(flags, env_file, environ or {})
    return caught.value.problems


def write(name, content):
    path = Path.cwd() / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return name


def context(name="context.json", **content):
    return write(name, json.dumps(content))


def creds(jwt="eyJ0.jwt.sig", seed=SEED, end="\n"):
    parts = (
        "NATS USER JWT",
        jwt,
        "------END NATS USER JWT------",
        "USER NKEY SEED",
        seed,
        "------END USER NKEY SEED------",
    )
    lines = [f"-----BEGIN {parts[0]}-----", *parts[1:3], "", f"-----BEGIN {parts[3]}-----", *parts[4:]]
    return end.join(lines) + end
