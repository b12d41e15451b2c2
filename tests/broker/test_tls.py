"""TLS: who is trusted, who is not, and that nothing secret goes out in the clear."""

import ssl
from contextlib import contextmanager
from typing import NamedTuple

import pytest
from support.certificates import EXPIRED, Authority
from support.processes import execute, freeze, is_one_clean_line
from support.scripted import Scripted, info
from support.streams import add_stream, stored

from crypto_trigger.commands.server import Server

SETTINGS = {
    "CRYPTO_TRIGGER_TIMEOUT": "2s",
    "CRYPTO_TRIGGER_GIVE_UP_AFTER": "4s",
    "CRYPTO_TRIGGER_BACKOFF_BASE": "50ms",
    "CRYPTO_TRIGGER_BACKOFF_MAX": "200ms",
}
PASSWORD = "correct-horse-battery"


class Papers(NamedTuple):
    """Every certificate the tests need, made once."""

    ca: str
    other_ca: str
    server: tuple
    expired: tuple
    elsewhere: tuple
    client: tuple
    stranger: tuple
    locked: tuple


@pytest.fixture(scope="module")
def papers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("certificates")
    ours, other = Authority(folder, "ours"), Authority(folder, "other")
    return Papers(
        ours.path,
        other.path,
        ours.issue("server"),
        ours.issue("expired", lasts=EXPIRED),
        ours.issue("elsewhere", ["elsewhere.example", "192.0.2.1"]),
        ours.issue("client"),
        other.issue("stranger"),
        ours.issue("locked", password="sesame"),
    )


@contextmanager
def serving(tmp_path, pair, options=""):
    """A server that requires TLS."""
    config = tmp_path / "server.conf"
    config.write_text(f'tls {{ cert_file: "{pair.cert}", key_file: "{pair.key}", timeout: 5, {options} }}')
    with Server(arguments=("-c", str(config))) as server:
        yield server


def trusting(papers):
    """A context for the tests' own client."""
    context = ssl.create_default_context(cafile=papers.ca)
    context.load_cert_chain(*papers.client)
    return context


def publish(server, scheme="tls", host="localhost", **settings):
    port = server.url.rpartition(":")[2]
    url = f"{scheme}://{host}:{port}"
    return execute("publish", **{**SETTINGS, "NATS_URL": url, **{name: str(v) for name, v in settings.items()}})


def held(server, place, papers, **options):
    url = f"tls://localhost:{server.url.rpartition(':')[2]}"
    found = stored(url, place.stream, tls=trusting(papers), allow_reconnect=False, **options)
    return None if found is None else len(found)


@pytest.fixture
def streamed(place, papers):
    """Gives a running TLS server the place's stream."""

    def add(server, **options):
        url = f"tls://localhost:{server.url.rpartition(':')[2]}"
        add_stream(
            url,
            place.stream,
            [place.subject],
            duplicate_window=1800,
            connect={"tls": trusting(papers), "allow_reconnect": False, **options},
        )

    return add


class Trusted(NamedTuple):
    name: str
    options: str = ""
    settings: tuple = ("NATS_CA",)
    scheme: str = "tls"
    host: str = "localhost"


TRUSTED = [
    Trusted("a private authority"),
    Trusted("nats:// with an authority", scheme="nats"),
    Trusted("an address in the certificate", host="127.0.0.1"),
    Trusted("a client certificate", 'ca_file: "{ca}", verify: true', ("NATS_CA", "NATS_CERT", "NATS_KEY")),
    Trusted("handshake first", "handshake_first: true", ("NATS_CA", "NATS_TLS_FIRST")),
    Trusted("handshake first when asked for", "handshake_first: auto", ("NATS_CA",)),
]


@pytest.mark.parametrize("case", TRUSTED, ids=lambda case: case.name)
def test_a_server_that_can_be_trusted_gets_the_trigger_and_stderr_stays_empty(case, place, papers, tmp_path, streamed):
    known = {
        "NATS_CA": papers.ca,
        "NATS_CERT": papers.client.cert,
        "NATS_KEY": papers.client.key,
        "NATS_TLS_FIRST": "true",
    }
    with serving(tmp_path, papers.server, options=case.options.format(ca=papers.ca)) as server:
        first = {"tls_handshake_first": "first: true" in case.options}
        streamed(server, **first)
        ended = publish(server, case.scheme, case.host, **{name: known[name] for name in case.settings})
        again = publish(server, case.scheme, case.host, **{name: known[name] for name in case.settings})
        assert held(server, place, papers, **first) == 1
    assert (ended.status, ended.err) == (0, "")
    assert ended.out.startswith("published ")
    assert (again.status, again.err) == (0, "")
    assert again.out.startswith("duplicate: ")


class Distrusted(NamedTuple):
    name: str
    status: int
    says: str
    pair: str = "server"
    verify: bool = False
    ca: str = "ca"
    client: str | None = None
    scheme: str = "tls"
    host: str = "localhost"


DISTRUSTED = [
    Distrusted("an unknown authority", 76, "its issuer 'ours authority' is not trusted; nats_ca '", ca="other_ca"),
    Distrusted(
        "the machine's authorities", 76, "its issuer 'ours authority' is not trusted; nats_ca is not set", ca=""
    ),
    Distrusted("nats:// to a server that wants TLS", 76, "certificate does not verify", ca="", scheme="nats"),
    Distrusted("an expired certificate", 76, "certificate does not verify: it expired on ", pair="expired"),
    Distrusted(
        "another host's certificate", 76, "it is for elsewhere.example, 192.0.2.1, not for localhost;", pair="elsewhere"
    ),
    Distrusted(
        "another address's certificate", 76, "192.0.2.1, not for 127.0.0.1;", pair="elsewhere", host="127.0.0.1"
    ),
    Distrusted("no client certificate", 77, "the server requires a client certificate", verify=True),
    Distrusted("a stranger's certificate", 77, "refuses the client certificate", verify=True, client="stranger"),
]


@pytest.mark.parametrize("case", DISTRUSTED, ids=lambda case: case.name)
def test_a_handshake_that_fails_ends_at_once_and_says_why(case, place, papers, tmp_path, streamed):
    options = f'ca_file: "{papers.ca}", verify: true' if case.verify else ""
    settings = {"NATS_USER": "u", "NATS_PASSWORD": PASSWORD}
    if case.ca:
        settings["NATS_CA"] = getattr(papers, case.ca)
    if case.client:
        settings["NATS_CERT"], settings["NATS_KEY"] = getattr(papers, case.client)
    with serving(tmp_path, getattr(papers, case.pair), options=options) as server:
        if case.pair == "server":
            streamed(server)
        ended = publish(server, case.scheme, case.host, **settings)
        if case.pair == "server":
            assert held(server, place, papers) == 0
    assert ended.status == case.status
    assert is_one_clean_line(ended.err)
    assert case.says in ended.err.lower()
    # At once: with a second attempt it would have taken 4 s.
    assert ended.seconds < 4


@pytest.mark.parametrize("scheme", ["tls", "nats"])
def test_a_server_that_wants_tls_first_is_not_waited_for_without(scheme, papers, tmp_path):
    with serving(tmp_path, papers.server, options="handshake_first: true, timeout: 0.2") as server:
        ended = publish(server, scheme, NATS_CA=papers.ca)
    assert ended.status == 69
    assert is_one_clean_line(ended.err)
    assert "if the server wants TLS first, set NATS_TLS_FIRST=true".lower() in ended.err.lower()


def test_tls_first_to_a_server_that_greets_first_is_a_protocol_fault(papers, tmp_path):
    with serving(tmp_path, papers.server) as server:
        ended = publish(server, NATS_CA=papers.ca, NATS_TLS_FIRST="true")
    assert ended.status == 76
    assert is_one_clean_line(ended.err)


CREDENTIALS = {
    "user and password": {"NATS_USER": "u", "NATS_PASSWORD": PASSWORD},
    "token": {"NATS_TOKEN": PASSWORD},
    "user alone": {"NATS_USER": PASSWORD},
    "in the URL": {},
}


@pytest.mark.parametrize("how", CREDENTIALS)
@pytest.mark.parametrize("asked", ["by the URL", "by NATS_CA", "by NATS_CERT"])
def test_no_secret_goes_to_a_server_that_offers_no_tls_where_it_was_asked_for(how, asked, papers):
    def plaintext(talk):
        talk.welcome(auth_required=True, nonce="nonce", tls_available=True)
        talk.listen()

    settings = dict(CREDENTIALS[how])
    if asked == "by NATS_CA":
        settings["NATS_CA"] = papers.ca
    if asked == "by NATS_CERT":
        settings["NATS_CERT"], settings["NATS_KEY"] = papers.client
    with Scripted(plaintext) as server:
        userinfo = f"u:{PASSWORD}@" if how == "in the URL" else ""
        url = f"{'tls' if asked == 'by the URL' else 'nats'}://{userinfo}127.0.0.1:{server.port}"
        ended = execute("publish", **{**SETTINGS, **settings, "NATS_URL": url})
        server.talk()
    assert PASSWORD.encode() not in server.heard
    assert ended.status == 76
    assert is_one_clean_line(ended.err)
    assert "offers no TLS, which was asked for; nothing secret was sent" in ended.err
    assert PASSWORD not in ended.err + ended.out


def test_tls_to_a_plaintext_server_without_credentials_sends_no_trigger(place):
    add_stream(place.url, place.stream, [place.subject])
    ended = execute("publish", **{**SETTINGS, "NATS_URL": place.url.replace("nats://", "tls://")})
    assert stored(place.url, place.stream) == []
    assert ended.status == 76
    assert is_one_clean_line(ended.err)


def test_a_server_that_takes_both_is_not_spoken_to_in_the_clear(place, papers, tmp_path):
    config = tmp_path / "server.conf"
    config.write_text(
        f'tls {{ cert_file: "{papers.server.cert}", key_file: "{papers.server.key}" }}\nallow_non_tls: true'
    )
    with Server(arguments=("-c", str(config))) as server:
        add_stream(server.url, place.stream, [place.subject])
        ended = publish(server, NATS_CA=papers.ca)
        assert stored(server.url, place.stream) == []
    assert ended.status == 76
    assert is_one_clean_line(ended.err)


@pytest.mark.parametrize(
    ("answer", "status"),
    [(b"", 69), (b"garbage that is no TLS\r\n", 76), (None, 69)],
    ids=["silence", "garbage", "a hang-up"],
)
def test_a_handshake_that_goes_nowhere_ends_in_time(answer, status, papers):
    def script(talk):
        talk.say(info(tls_required=True))
        talk.receive()
        if answer is None:
            return
        talk.say(answer)
        talk.listen()

    with Scripted(script) as server:
        settings = {"CRYPTO_TRIGGER_TIMEOUT": "300ms", "CRYPTO_TRIGGER_GIVE_UP_AFTER": "1s", "NATS_CA": papers.ca}
        ended = execute("publish", **{**SETTINGS, **settings, "NATS_URL": server.url})
    assert ended.status == status
    assert is_one_clean_line(ended.err)
    # The deadline, the second after it, and the start of an interpreter on a busy machine.
    assert ended.seconds < 4


def test_a_frozen_tls_server_does_not_hold_up_the_end(papers, tmp_path):
    with serving(tmp_path, papers.server) as server:
        freeze(server.process)
        ended = publish(server, NATS_CA=papers.ca, CRYPTO_TRIGGER_TIMEOUT="300ms", CRYPTO_TRIGGER_GIVE_UP_AFTER="1s")
    assert ended.status == 69
    assert ended.seconds < 3


def test_an_encrypted_key_is_named_and_never_asked_for(papers):
    cert, key = papers.locked
    ended = execute("publish", NATS_URL="tls://localhost:1", NATS_CA=papers.ca, NATS_CERT=cert, NATS_KEY=key)
    assert ended.status == 78
    assert is_one_clean_line(ended.err)
    assert "NATS_KEY" in ended.err
    assert "is encrypted; decrypt it with: openssl pkey" in ended.err


@pytest.mark.parametrize("what", ["NATS_CA", "NATS_CERT", "NATS_KEY"])
def test_a_file_that_holds_no_pem_is_named_before_the_network(what, papers, tmp_path):
    wrong = tmp_path / "wrong.pem"
    wrong.write_text("not a certificate")
    settings = {"NATS_CA": papers.ca, "NATS_CERT": papers.client.cert, "NATS_KEY": papers.client.key}
    ended = execute("publish", **{**settings, "NATS_URL": "tls://localhost:1", what: str(wrong)})
    assert ended.status == 78
    assert is_one_clean_line(ended.err)
    assert what in ended.err
