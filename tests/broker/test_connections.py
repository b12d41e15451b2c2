"""The way to a server: several in one list, names with several addresses, slow resolvers."""

import json
import socket
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

import pytest
from support.certificates import Authority
from support.ports import free_port
from support.processes import beginning_with, execute, is_one_clean_line
from support.scripted import Scripted, full_backlog
from support.streams import add_stream, stored

from crypto_trigger.commands.server import Server

SETTINGS = {
    "CRYPTO_TRIGGER_TIMEOUT": "300ms",
    "CRYPTO_TRIGGER_GIVE_UP_AFTER": "10s",
    "CRYPTO_TRIGGER_BACKOFF_BASE": "50ms",
    "CRYPTO_TRIGGER_BACKOFF_MAX": "100ms",
}
SHORT = {**SETTINGS, "CRYPTO_TRIGGER_GIVE_UP_AFTER": "1s"}
# An interpreter's start, on a machine that others use as well.
START = 1.0


def publish(**settings):
    ended = execute("publish", "--json", **{**SETTINGS, **settings})
    return ended, json.loads(ended.out)


@contextmanager
def refused(_):
    yield f"nats://127.0.0.1:{free_port()}"


@contextmanager
def black_hole(_):
    with full_backlog() as url:
        yield url


@contextmanager
def silent(_):
    with Scripted(lambda talk: talk.listen()) as server:
        yield server.url


@contextmanager
def refusing(tmp_path):
    path = tmp_path / "refusing.conf"
    path.write_text("authorization { token: other }")
    with Server(arguments=("-c", str(path))) as server:
        yield server.url


@contextmanager
def badly_certified(tmp_path):
    pair = Authority(tmp_path, "unknown").issue("server")
    path = tmp_path / "tls.conf"
    path.write_text(f'tls {{ cert_file: "{pair.cert}", key_file: "{pair.key}" }}')
    with Server(arguments=("-c", str(path))) as server:
        # Not tls://, which would ask TLS of the other servers of the list, too.
        yield server.url.replace("tls://", "nats://")


@contextmanager
def nothing_like_nats(_):
    def script(talk):
        talk.say(b"220 mail.example ESMTP\r\n")
        talk.listen()

    with Scripted(script) as server:
        yield server.url


BAD = [refused, black_hole, silent, refusing, badly_certified, nothing_like_nats]


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.__name__)
def test_a_bad_server_before_the_good_one_costs_no_attempt(bad, place, tmp_path):
    add_stream(place.url, place.stream, [place.subject], duplicate_window=1800)
    with bad(tmp_path) as url:
        ended, report = publish(NATS_URL=f"{url}, {place.url}")
    assert len(stored(place.url, place.stream)) == 1
    assert (ended.status, ended.err) == (0, "")
    assert (report["attempts"], report["server"]) == (1, place.url)


def test_all_the_bad_servers_before_the_good_one_cost_no_attempt_either(place, tmp_path):
    add_stream(place.url, place.stream, [place.subject], duplicate_window=1800)
    with ExitStack() as stack:
        urls = [stack.enter_context(bad(tmp_path)) for bad in BAD]
        ended, report = publish(NATS_URL=",".join([*urls, place.url]))
    assert len(stored(place.url, place.stream)) == 1
    assert (ended.status, ended.err, report["attempts"]) == (0, "", 1)


class Mixed(NamedTuple):
    name: str
    servers: tuple
    status: int
    attempts: str


MIXED = [
    Mixed("one passes, one is final", (refusing, refused), 69, "several"),
    Mixed("final, in two ways", (refusing, badly_certified), 77, "one"),
    Mixed("the same in the other order", (badly_certified, refusing), 76, "one"),
]


@pytest.mark.parametrize("mixed", MIXED, ids=lambda mixed: mixed.name)
def test_a_list_without_a_good_server_is_tried_again_while_one_of_them_may_come_back(mixed, tmp_path):
    with ExitStack() as stack:
        urls = [stack.enter_context(bad(tmp_path)) for bad in mixed.servers]
        ended, report = publish(**{**SHORT, "NATS_URL": ",".join(urls)})
    assert ended.status == mixed.status
    assert (report["attempts"] > 1) == (mixed.attempts == "several")
    assert is_one_clean_line(ended.err)
    # The line speaks of each of them.
    assert all(url.rpartition(":")[2] in ended.err for url in urls)


def test_credentials_in_one_url_go_to_that_server_only(place):
    add_stream(place.url, place.stream, [place.subject], duplicate_window=1800)

    def refuses(talk):
        talk.say(b'INFO {"auth_required": true}\r\n')
        talk.hear(b"PING\r\n")
        talk.say(b"-ERR 'Authorization Violation'\r\n")

    with Scripted(refuses) as other:
        urls = f"{other.url},{place.url.replace('://', '://me:only-for-the-good-one@')}"
        ended, _ = publish(NATS_URL=urls)
    assert len(stored(place.url, place.stream)) == 1
    assert ended.status == 0
    assert b"CONNECT" in other.heard
    assert b"only-for-the-good-one" not in other.heard


def test_an_ipv6_address_reaches_the_server(place):
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError as error:
        pytest.skip(f"no IPv6 on the loopback: {error}")
    with Server(arguments=("-a", "::1")) as server:
        port = server.url.rpartition(":")[2]
        add_stream(f"nats://[::1]:{port}", place.stream, [place.subject], duplicate_window=1800)
        ended, report = publish(NATS_URL=f"nats://[::1]:{port}")
        assert len(stored(f"nats://[::1]:{port}", place.stream)) == 1
    assert (ended.status, ended.err, report["server"]) == (0, "", f"nats://[::1]:{port}")


def resolver(folder, body):
    """Replace the resolver of a child process; returns the setting that does it."""
    return beginning_with(
        folder,
        "import socket, threading\n"
        "def getaddrinfo(host, port, *rest, **more):\n"
        "    found = lambda *addresses: [(2, 1, 6, '', (address, port)) for address in addresses]\n"
        f"    {body}\n"
        "original, socket.getaddrinfo = socket.getaddrinfo, getaddrinfo\n",
    )


BY_NAME = "if not host.endswith('.test'): return original(host, port, *rest, **more)"


@pytest.mark.parametrize(
    "addresses", [("127.0.0.2", "127.0.0.1"), ("127.0.0.1", "127.0.0.2"), ("127.0.0.3", "127.0.0.2", "127.0.0.1")]
)
def test_every_address_of_a_name_gets_its_try(addresses, place, tmp_path):
    add_stream(place.url, place.stream, [place.subject], duplicate_window=1800)
    several = resolver(tmp_path, f"{BY_NAME}\n    return found{addresses}")
    url = place.url.replace("127.0.0.1", "several.test")
    ended, report = publish(NATS_URL=url, **several)
    assert len(stored(place.url, place.stream)) == 1
    assert (ended.status, ended.err, report["attempts"], report["server"]) == (0, "", 1, url)


UNRESOLVED = {
    "unknown": ("raise socket.gaierror(-2, 'Name or service not known')", 69, "name or service not known"),
    "try again": ("raise socket.gaierror(-3, 'Temporary failure in name resolution')", 69, "temporary failure"),
    "no network": ("raise OSError(101, 'Network is unreachable')", 69, "network is unreachable"),
    "takes for ever": ("threading.Event().wait()", 69, "the host name was not resolved within the timeout"),
}


@pytest.mark.parametrize(("body", "status", "says"), UNRESOLVED.values(), ids=UNRESOLVED)
def test_a_name_that_is_not_resolved_does_not_outlive_the_deadline(body, status, says, tmp_path):
    ended, report = publish(**{**SHORT, "NATS_URL": "nats://name.test:4222", **resolver(tmp_path, body)})
    assert ended.status == status
    assert is_one_clean_line(ended.err)
    assert says in ended.err
    assert report["attempts"] > 1
    assert ended.seconds < 1 + 1 + START


def test_a_name_that_is_not_resolved_does_not_keep_from_the_good_server(place, tmp_path):
    add_stream(place.url, place.stream, [place.subject], duplicate_window=1800)
    slow = resolver(tmp_path, f"{BY_NAME}\n    threading.Event().wait()")
    ended, report = publish(NATS_URL=f"nats://slow.test:4222,{place.url}", **slow)
    assert len(stored(place.url, place.stream)) == 1
    assert (ended.status, ended.err, report["attempts"]) == (0, "", 1)


@pytest.mark.parametrize("host", ["a" * 64, "a..b"], ids=["long label", "empty label"])
def test_a_name_that_cannot_be_one_ends_at_once_and_is_named(host):
    ended = execute("publish", NATS_URL=f"nats://{host}:4222")
    assert ended.status == 78
    assert is_one_clean_line(ended.err)
    assert f"NATS_URL 'nats://{host}:4222' (from the environment) has a host name that cannot be resolved" in ended.err


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """A server with a JetStream domain."""
    path = tmp_path_factory.mktemp("hub") / "hub.conf"
    path.write_text("jetstream { domain: hub }")
    with Server(arguments=("-c", str(path))) as server:
        yield server


@pytest.mark.parametrize(("domain", "status"), [("hub", 0), ("other", 69)])
def test_a_jetstream_domain_answers_to_its_name_only(domain, status, hub, place):
    add_stream(hub.url, place.stream, [place.subject], duplicate_window=1800)
    ended, _ = publish(**{**SHORT, "CRYPTO_TRIGGER_GIVE_UP_AFTER": "3s"}, NATS_URL=hub.url, NATS_JS_DOMAIN=domain)
    assert len(stored(hub.url, place.stream)) == (1 if status == 0 else 0)
    assert ended.status == status
    assert status == 0 or "JetStream domain other does not answer" in ended.err


def test_a_server_s_list_of_its_cluster_is_not_followed(place):
    """A server names others in its greeting, which may be addresses that nobody can reach."""
    add_stream(place.url, place.stream, [place.subject], duplicate_window=1800)

    def names_others(talk):
        talk.welcome(connect_urls=["192.0.2.1:4222", "192.0.2.2:4222"])
        talk.close()

    with Scripted(names_others) as server:
        ended, report = publish(NATS_URL=f"{server.url},{place.url}")
    assert (ended.status, report["server"]) == (0, place.url)
    assert ended.seconds < 5
