"""A list of servers of which one has TLS: no other one gets the password in the clear."""

from contextlib import contextmanager

import pytest
from support.certificates import Authority
from support.processes import execute, is_one_clean_line
from support.scripted import Scripted
from support.streams import add_stream, stored

from crypto_trigger.commands.server import Server

SETTINGS = {"CRYPTO_TRIGGER_TIMEOUT": "2s", "CRYPTO_TRIGGER_GIVE_UP_AFTER": "4s"}
PASSWORD = "correct-horse-battery"


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("certificates"), "ours")


@contextmanager
def distrusted(authority, tmp_path):
    """A TLS server whose certificate the machine does not trust. Yields its port."""
    pair = authority.issue("server")
    config = tmp_path / "server.conf"
    config.write_text(f'tls {{ cert_file: "{pair.cert}", key_file: "{pair.key}" }}')
    with Server(arguments=("-c", str(config))) as server:
        yield server.url.rpartition(":")[2]


def plaintext(talk):
    talk.welcome(auth_required=True, nonce="nonce", tls_available=True)
    talk.listen()


CREDENTIALS = {
    "user and password": {"NATS_USER": "u", "NATS_PASSWORD": PASSWORD},
    "token": {"NATS_TOKEN": PASSWORD},
    "in the URL": {},
}


@pytest.mark.parametrize("how", CREDENTIALS)
@pytest.mark.parametrize("first", ["tls", "plaintext"])
def test_the_password_is_not_sent_to_the_plaintext_server_of_a_list_with_tls(how, first, authority, tmp_path):
    with distrusted(authority, tmp_path) as port, Scripted(plaintext) as server:
        userinfo = f"u:{PASSWORD}@" if how == "in the URL" else ""
        urls = [f"tls://localhost:{port}", f"nats://{userinfo}127.0.0.1:{server.port}"]
        urls = urls if first == "tls" else urls[::-1]
        ended = execute("publish", **SETTINGS, **CREDENTIALS[how], NATS_URL=",".join(urls))
        server.talk()
    assert PASSWORD.encode() not in server.heard
    assert ended.status == 76
    assert is_one_clean_line(ended.err)
    assert f"tls://127.0.0.1:{server.port}: the server offers no TLS, which was asked for" in ended.err
    assert PASSWORD not in ended.err + ended.out


@pytest.mark.parametrize("form", ["localhost:{port}", "127.0.0.1:{port}", "127.0.0.1:1,localhost:{port}"])
def test_an_address_without_a_scheme_is_reached_in_the_clear(form, place):
    add_stream(place.url, place.stream, [place.subject], duplicate_window=1800)
    ended = execute("publish", **SETTINGS, NATS_URL=form.format(port=place.url.rpartition(":")[2]))
    assert len(stored(place.url, place.stream)) == 1
    assert (ended.status, ended.err) == (0, "")
