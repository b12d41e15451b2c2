"""Servers that ask for a client certificate: without a good one it is 77, at once and every time."""

import hashlib
import json
import ssl
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from support.certificates import Authority, Pair
from support.processes import Process, is_one_clean_line
from support.streams import add_stream, stored

from crypto_trigger.commands.server import Server

SETTINGS = {
    "CRYPTO_TRIGGER_TIMEOUT": "2s",
    "CRYPTO_TRIGGER_GIVE_UP_AFTER": "4s",
    "CRYPTO_TRIGGER_BACKOFF_BASE": "50ms",
    "CRYPTO_TRIGGER_BACKOFF_MAX": "200ms",
}


class Papers(NamedTuple):
    """Certificates, made once."""

    ca: str
    server: Pair
    client: Pair
    other: Pair


@pytest.fixture(scope="module")
def papers(tmp_path_factory):
    authority = Authority(tmp_path_factory.mktemp("certificates"), "ours")
    return Papers(authority.path, authority.issue("server"), authority.issue("client"), authority.issue("other"))


@contextmanager
def serving(folder, papers, options, accounts=""):
    """A server that requires TLS and verifies its clients."""
    config = folder / "server.conf"
    files = f'cert_file: "{papers.server.cert}", key_file: "{papers.server.key}", ca_file: "{papers.ca}"'
    config.write_text(f"tls {{ {files}, timeout: 5, {options} }}\n{accounts}")
    with Server(arguments=("-c", str(config))) as server:
        yield f"tls://localhost:{server.url.rpartition(':')[2]}"


def known_to_the_server(papers):
    """A context for the tests' own client, whose certificate the server takes."""
    context = ssl.create_default_context(cafile=papers.ca)
    context.load_cert_chain(*papers.client)
    return {"tls": context, "allow_reconnect": False}


def start(url, papers, pair=None, **settings):
    shown = {"NATS_CERT": pair.cert, "NATS_KEY": pair.key} if pair else {}
    return Process("publish", "--json", NATS_URL=url, NATS_CA=papers.ca, **{**SETTINGS, **shown, **settings})


def publish(*arguments, **settings):
    return start(*arguments, **settings).end()


def denied_at_once(ended):
    """77 at the first attempt, in one line that speaks of the certificate."""
    assert (ended.status, json.loads(ended.out)["attempts"]) == (77, 1)
    assert is_one_clean_line(ended.err)
    assert "client certificate" in ended.err
    assert "NATS_CERT" in ended.err
    assert "broken pipe" not in ended.err.lower()
    assert "connection lost" not in ended.err.lower()


@pytest.mark.parametrize(("options", "times"), [("", 20), ("handshake_first: true", 5)], ids=["", "handshake first"])
def test_without_a_client_certificate_it_is_77_at_the_first_attempt_every_time(options, times, place, papers, tmp_path):
    first = {"NATS_TLS_FIRST": "true"} if "first" in options else {}
    with serving(tmp_path, papers, f"verify: true, {options}") as url:
        add_stream(url, place.stream, [place.subject], connect={**known_to_the_server(papers), **handshake(first)})
        ended = [publish(url, papers, **first) for _ in range(times)]
        assert stored(url, place.stream, **known_to_the_server(papers), **handshake(first)) == []
    for each in ended:
        denied_at_once(each)


def handshake(first):
    return {"tls_handshake_first": True} if first else {}


def test_without_a_client_certificate_it_is_77_with_a_short_deadline_too(papers, place, tmp_path):  # noqa: ARG001 - a clean place
    short = {"CRYPTO_TRIGGER_TIMEOUT": "1s", "CRYPTO_TRIGGER_GIVE_UP_AFTER": "2s"}
    with serving(tmp_path, papers, "verify: true") as url:
        for _ in range(20):
            denied_at_once(publish(url, papers, **short))


def pin(pair):
    """A certificate as nats-server pins it: the SHA-256 of its public key."""
    key = x509.load_pem_x509_certificate(Path(pair.cert).read_bytes()).public_key()
    spki = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(spki).hexdigest()


def test_a_server_that_pins_another_certificate_refuses_ours(place, papers, tmp_path):
    with serving(tmp_path, papers, f'verify: true, pinned_certs: ["{pin(papers.client)}"]') as url:
        add_stream(url, place.stream, [place.subject], connect=known_to_the_server(papers))
        runs = [start(url, papers, papers.other) for _ in range(5)]
        refused = [run.end() for run in runs]
        assert stored(url, place.stream, **known_to_the_server(papers)) == []
        taken = publish(url, papers, papers.client)
        assert len(stored(url, place.stream, **known_to_the_server(papers))) == 1
    assert taken.status == 0
    for each in refused:
        # Such a server hangs up without a word once the handshake is done, as one that dies there does.
        assert each.status in {69, 77}
        assert is_one_clean_line(each.err)
        assert "certificate" in each.err
        assert "broken pipe" not in each.err.lower()


def test_a_server_that_knows_no_user_of_our_certificate_s_name_refuses_it(place, papers, tmp_path):
    accounts = 'accounts { A { jetstream: enabled, users: [{ user: "CN=client" }] } }'
    with serving(tmp_path, papers, "verify_and_map: true", accounts) as url:
        add_stream(url, place.stream, [place.subject], connect=known_to_the_server(papers))
        refused = publish(url, papers, papers.other)
        assert stored(url, place.stream, **known_to_the_server(papers)) == []
        taken = publish(url, papers, papers.client)
        assert len(stored(url, place.stream, **known_to_the_server(papers))) == 1
    assert taken.status == 0
    assert (refused.status, json.loads(refused.out)["attempts"]) == (77, 1)
    assert is_one_clean_line(refused.err)
    assert "certificate" in refused.err or "NATS_CERT" in refused.err
