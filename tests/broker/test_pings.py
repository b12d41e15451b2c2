"""Pings: which requests a monitor gets at the end of which run, and what no fault of a monitor changes."""

import json
import os
import re
import signal
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path
from urllib.request import urlopen

import pytest
from support.certificates import EXPIRED, TO_COME, Authority
from support.imports import modules_of
from support.lookups import found_here
from support.monitors import (
    FAILURE,
    SCRIPTS,
    SERVICES,
    SUCCESS,
    TOKEN,
    Answer,
    Healthchecks,
    Monitor,
    endless_headers,
    long_status_line,
    redirecting_to,
    silent,
    slow_drip,
    unused_port,
)
from support.patience import PATIENCE
from support.processes import Process, beginning_with, execute
from support.scripted import Scripted, full_backlog
from support.streams import stored

from crypto_trigger.reporting import ping as pings

NOWHERE = ("--server", "nats://127.0.0.1:1", "--give-up-after", "200ms")
# A run that fails at once, with the time of the default deadline for its ping.
FAILS = ("--every", "banana")
SLOT = ("--scheduled-at", "2026-11-23T12:00:00Z")
URL, FAIL_URL = "CRYPTO_TRIGGER_PING_URL", "CRYPTO_TRIGGER_PING_FAIL_URL"
WARNING = f"crypto-trigger: warning: {URL} could not be pinged: "
# How the warning ends after a success, and after a run with a wrong setting.
PUBLISHED = "; the outcome is still published (status 0)"
REFUSED = "; the outcome is still config (status 78)"
# What everything may take beyond the deadline, and what starting an interpreter may take, in seconds.
BEYOND, START = 1.0, 8.0
MOMENT = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"


@pytest.fixture
def ready(run, place):
    """The test's own place, with its stream set up."""
    assert run("setup").status == 0
    return place


@pytest.fixture
def pinging(monkeypatch):
    """Name a monitor in the environment: a `Monitor`, or a URL."""

    def name(monitor):
        environ = monitor.environ if isinstance(monitor, Monitor) else {URL: monitor}
        for variable, value in environ.items():
            monkeypatch.setenv(variable, value)

    return name


@pytest.fixture
def monitor(pinging):
    """A healthchecks server that takes POST alone, named in the environment."""
    with Monitor() as running:
        pinging(running)
        yield running


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"), "ours")


# What each service is told.


@pytest.mark.parametrize("service", SERVICES)
def test_each_service_is_told_of_a_success_and_of_a_failure(service, ready, run, pinging):
    with Monitor(service()) as monitor:
        pinging(monitor)
        assert run("publish", *SLOT, "-q") == (0, "", "")
        assert run("publish", *SLOT, "-q") == (0, "", "")  # the slot has its trigger: a success, too
        assert run("publish", *SLOT, "-q", *NOWHERE).status == 69
    assert len(stored(ready.url, ready.stream)) == 1
    assert monitor.told == [SUCCESS, SUCCESS, FAILURE]
    assert {asked.method for asked in monitor.asked} == {"POST" if service is Healthchecks else "GET"}


def test_two_urls_are_called_as_they_are(ready, run, monitor, monkeypatch):
    monkeypatch.setenv(URL, f"{monitor.url}/a/?x=1&y=%20#"[:-1])
    monkeypatch.setenv(FAIL_URL, f"{monitor.url}/b?z")
    run("publish", "-q")
    run("publish", "-q", *NOWHERE)
    assert len(stored(ready.url, ready.stream)) == 1
    assert [(asked.method, asked.target, asked.body) for asked in monitor.asked] == [
        ("GET", "/a/?x=1&y=%20", b""),
        ("GET", "/b?z", b""),
    ]


@pytest.mark.parametrize(
    ("url", "success", "failure"),
    [
        (f"/{TOKEN}", f"/{TOKEN}", f"/{TOKEN}/69"),
        ("/key/slug?create=1", "/key/slug?create=1", "/key/slug/69?create=1"),
        ("/slug/", "/slug/", "/slug/69"),
        ("", "/", "/69"),
    ],
)
def test_one_url_gets_the_status_on_its_path_and_nothing_else(url, success, failure, ready, run, monitor, monkeypatch):
    monkeypatch.setenv(URL, monitor.url + url)
    run("publish", *SLOT, "-q")
    run("publish", *SLOT, "-q", *NOWHERE)
    assert len(stored(ready.url, ready.stream)) == 1
    assert [asked.target for asked in monitor.asked] == [success, failure]


@pytest.mark.parametrize("rid", ["", "?rid=0c6e9d1e-5a4e-4b7a-8f0b-1d2c3b4a5968"], ids=["no id", "an id"])
@pytest.mark.parametrize("options", [(), NOWHERE], ids=["success", "failure"])
def test_a_run_ends_what_a_wrapper_has_started(options, rid, ready, run, monitor):
    """A success with another run ID would leave the check started, and it would go down."""
    with urlopen(f"{monitor.url}/{TOKEN}/start{rid}") as answer:
        assert answer.status == 200
    assert monitor.service.started
    run("publish", "-q", *options)
    assert len(stored(ready.url, ready.stream)) == (options == ())
    assert (monitor.told, monitor.service.started) == ([FAILURE if options else SUCCESS], False)


def test_a_check_that_does_not_exist_is_a_warning(run, pinging):
    with Monitor() as monitor:
        pinging(f"{monitor.url}/{'0' * 8}{TOKEN[8:]}")
        result = run("publish", *FAILS)
    assert (len(monitor.asked), monitor.told) == (1, [])
    assert result.err.splitlines()[1:] == [f"{WARNING}the monitor answers OK (not found){REFUSED}"]


@pytest.mark.parametrize("chunked", [False, True], ids=["whole", "in chunks"])
def test_a_ping_that_is_dropped_is_a_warning(chunked, run, pinging):
    def drops(talk):
        talk.hear(b"\r\n\r\n")
        talk.say(b"HTTP/1.1 200 OK\r\n")
        text = b"OK (rate limited)"
        if chunked:
            talk.say(b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(text), text))
        else:
            talk.say(b"Content-Length: %d\r\n\r\n%s" % (len(text), text))

    with Scripted(drops) as server:
        pinging(f"http://127.0.0.1:{server.port}/{TOKEN}")
        result = run("publish", *FAILS)
        assert len(server.talks) == 1
    assert result.err.splitlines()[1:] == [f"{WARNING}the monitor answers OK (rate limited){REFUSED}"]


def test_a_monitor_that_is_called_as_it_is_may_say_what_it_likes(run, pinging, monkeypatch):
    with Monitor(answers=[Answer(200, "OK (not found)")]) as monitor:
        pinging(f"{monitor.url}/up")
        monkeypatch.setenv(FAIL_URL, f"{monitor.url}/down")
        assert "warning" not in run("publish", *FAILS).err
    assert len(monitor.asked) == 1


def body_never_comes(talk):
    talk.hear(b"\r\n\r\n")
    talk.say(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
    talk.listen()


def body_drips(talk):
    talk.hear(b"\r\n\r\n")
    talk.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    pause = threading.Event()
    for _ in range(100_000):
        talk.say(b"0")
        pause.wait(0.02)


@pytest.mark.parametrize("script", [body_never_comes, body_drips])
def test_a_body_that_does_not_come_holds_nothing_up(script, run, pinging):
    with Scripted(script) as server:
        pinging(f"http://127.0.0.1:{server.port}/{TOKEN}")
        begun = time.monotonic()
        assert "warning" not in run("publish", *FAILS).err
        assert time.monotonic() - begun < 3


@pytest.mark.parametrize("head", [b"200 OK\r\nContent-Length: 0", b"204 No Content"])
def test_an_answer_without_a_body_is_not_waited_for(head, run, pinging):
    waited, left = [], threading.Event()

    def stays_open(talk):
        talk.hear(b"\r\n\r\n")
        talk.say(b"HTTP/1.1 %s\r\n\r\n" % head)
        said = time.monotonic()
        talk.listen()
        waited.append(time.monotonic() - said)
        left.set()

    with Scripted(stays_open) as server:
        pinging(f"http://127.0.0.1:{server.port}/{TOKEN}")
        assert "warning" not in run("publish", *FAILS).err
        assert left.wait(PATIENCE)
    assert waited[0] < 0.9


@pytest.mark.usefixtures("ready")
@pytest.mark.parametrize("options", [(), NOWHERE, ("--every", "banana")], ids=lambda options: " ".join(options[:2]))
def test_the_body_is_the_report(options, run, monitor):
    result = run("publish", "--json", *options, "--report-file", "report.json")
    (asked,) = monitor.asked
    assert json.loads(asked.body) == json.loads(result.out) == json.loads(Path("report.json").read_text())
    assert asked.headers["Content-Type"] == "application/json"
    assert asked.headers["User-Agent"].startswith("crypto-trigger/")


@pytest.mark.parametrize(
    ("argv", "status"),
    [(("--every", "banana"), 78), (("--no-such-option",), 2), (("--subject", "no-stream"), 78)],
    ids=["setting", "usage", "no-stream"],
)
def test_a_run_that_fails_before_it_connects_or_at_once_tells_too(argv, status, ready, run, monitor):
    assert run("publish", *argv).status == status
    assert stored(ready.url, ready.stream) == []
    assert [asked.path for asked in monitor.asked] == [f"/{TOKEN}/{status}"]
    assert json.loads(monitor.asked[0].body)["status"] == status


@pytest.mark.parametrize(("options", "variable"), [((), URL), (NOWHERE, FAIL_URL)], ids=["success", "failure"])
def test_a_warning_names_the_url_that_could_not_be_called(options, variable, ready, run, monkeypatch):
    monkeypatch.setenv(URL, "http://127.0.0.1:1/up")
    monkeypatch.setenv(FAIL_URL, "http://127.0.0.1:1/down")
    *_, warning = run("publish", "-q", *options).err.splitlines()
    assert len(stored(ready.url, ready.stream)) == (variable == URL)
    assert warning.startswith(f"crypto-trigger: warning: {variable} could not be pinged: ")


@pytest.mark.parametrize("broken", [URL, FAIL_URL])
def test_the_url_that_is_right_is_called_though_the_other_is_wrong(broken, run, monitor, monkeypatch):
    """But a status is not added to the path of a URL that is meant to be called as it is."""
    monkeypatch.setenv(FAIL_URL, f"{monitor.url}/down")
    monkeypatch.setenv(broken, "ftp://monitor")
    assert run("publish").status == 78
    assert [asked.target for asked in monitor.asked] == (["/down"] if broken == URL else [])


@pytest.mark.usefixtures("ready")
@pytest.mark.parametrize(
    "argv",
    [
        ("publish", "--dry-run"),
        ("publish", "--dry-run", "--every", "banana"),
        ("publish", "--dry-run", "--no-such-option"),
        ("publish", "--help"),
        ("setup",),
        ("setup", *NOWHERE),
        ("config",),
        ("config", "--no-such-option"),
        (),
    ],
    ids=" ".join,
)
def test_what_is_no_publish_pings_nobody(argv, run, monitor):
    run(*argv)
    assert monitor.asked == []


def test_the_url_may_come_from_the_env_file(ready, run, monitor, monkeypatch):
    monkeypatch.delenv(URL)
    Path(".env").write_text(f"{URL}={monitor.url}/{TOKEN}\n")
    assert run("publish", "-q").status == 0
    assert run("publish", "--no-such-option").status == 2
    assert len(stored(ready.url, ready.stream)) == 1
    assert monitor.told == [SUCCESS, FAILURE]


def test_user_and_password_in_the_url_are_sent_as_such(run, monitor, monkeypatch):
    monkeypatch.setenv(URL, monitor.url.replace("//", "//me:p%40ss@") + f"/{TOKEN}")
    run("publish", *FAILS)
    (asked,) = monitor.asked
    assert asked.headers["Authorization"] == "Basic bWU6cEBzcw=="
    assert "p%40ss" not in str(asked)


# How much, how often, how long.


def test_a_long_report_is_cut_to_what_healthchecks_keeps(run, monitor):
    Path("many.env").write_text("".join(f"line {number}\n" for number in range(200)))
    result = run("publish", "--json", "--env-file", "many.env")
    assert len(result.out) > 10_000
    assert monitor.asked[0].body == result.out.encode()[:10_000]
    assert monitor.service.kept == monitor.asked[0].body


def test_the_second_attempt_holds_to_the_limit_that_the_server_tells(run, pinging):
    first = Answer(503, "", None, (("Ping-Body-Limit", "101"),))
    with Monitor(answers=[first]) as monitor:
        pinging(monitor)
        result = run("publish", "--json", "--every", "ü" * 30)
    whole, cut = (asked.body for asked in monitor.asked)
    assert whole == result.out.rstrip("\n").encode()
    assert 98 <= len(cut) <= 101
    assert whole.startswith(cut)
    assert cut.decode()


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_server_in_trouble_is_asked_once_more(status, run, pinging):
    with Monitor(answers=[Answer(status, "")]) as monitor:
        pinging(monitor)
        result = run("publish", *FAILS)
    assert monitor.told == [FAILURE]
    assert len(monitor.asked) == 2
    assert "warning" not in result.err


@pytest.mark.parametrize("status", [400, 401, 404, 409, 413, 304])
def test_a_refusal_is_final_and_one_warning(status, run, pinging):
    with Monitor(answers=[Answer(status, "")]) as monitor:
        pinging(monitor)
        result = run("publish", *FAILS)
    assert len(monitor.asked) == 1
    assert result.err.splitlines()[1:] == [f"{WARNING}HTTP status {status}{REFUSED}"]


def test_verbose_says_that_the_monitor_was_pinged(run, monitor):
    result = run("publish", "-v", *FAILS)
    assert monitor.told == [FAILURE]
    assert re.fullmatch(rf"crypto-trigger: \S+Z {URL} was pinged: HTTP status 200", result.err.splitlines()[-1])


def test_a_run_without_a_monitor_loads_nothing_for_pings(ready):
    status, modules = modules_of("publish")
    assert (status, len(stored(ready.url, ready.stream))) == (0, 1)
    assert "http" not in modules


def test_the_answer_is_printed_before_the_ping(ready):
    with Scripted(silent) as server:
        process = Process("publish", **{URL: f"http://127.0.0.1:{server.port}/x"}, CRYPTO_TRIGGER_GIVE_UP_AFTER="30s")
        line = process.popen.stdout.readline()
        server.talk().wait_for(b"\r\n\r\n")
        process.signal(signal.SIGTERM)  # which ends the wait for the monitor, and changes no status
        ended = process.end()
    assert len(stored(ready.url, ready.stream)) == 1
    assert line.startswith("published ")
    assert (ended.status, ended.err) == (0, f"{WARNING}no answer before a signal came{PUBLISHED}\n")
    assert ended.seconds < 2 * BEYOND


def test_a_run_that_failed_still_has_time_to_tell(run, monitor):
    """A server that never answers takes the whole deadline, but for a tenth, which is kept for the ping."""
    with Scripted(lambda talk: talk.listen()) as server:
        result = run("publish", "-q", "--server", server.url, "--give-up-after", "4s")
    assert (result.status, monitor.told) == (69, [FAILURE])
    assert 3000 < json.loads(monitor.asked[0].body)["elapsed_ms"] < 3800
    assert "warning" not in result.err


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT], ids=lambda signum: signum.name)
def test_an_interrupted_run_tells(signum):
    with Scripted(lambda talk: talk.listen()) as server, Monitor() as monitor:
        process = Process("publish", NATS_URL=server.url, CRYPTO_TRIGGER_GIVE_UP_AFTER="30s", **monitor.environ)
        server.talk()
        process.signal(signum)
        ended = process.end()
    assert ended.status == 128 + signum
    assert [asked.path for asked in monitor.asked] == [f"/{TOKEN}/{128 + signum}"]
    assert ended.seconds < 2 * BEYOND


def test_an_interrupted_run_takes_no_more_time_to_tell_than_was_kept():
    with Scripted(lambda talk: talk.listen()) as server, Scripted(silent) as monitor:
        url = f"http://127.0.0.1:{monitor.port}/x"
        process = Process("publish", NATS_URL=server.url, CRYPTO_TRIGGER_GIVE_UP_AFTER="10s", **{URL: url})
        server.talk()
        process.signal(signal.SIGTERM)
        ended = process.end()
    assert ended.status == 143
    assert ended.err.splitlines()[1:] == [
        f"{WARNING}no answer in time (2 attempts); the outcome is still interrupted (status 143)"
    ]
    assert 1 <= ended.seconds < 1 + 3 * BEYOND


def test_a_second_signal_ends_the_wait_for_the_monitor():
    with Scripted(lambda talk: talk.listen()) as server, Scripted(silent) as monitor:
        url = f"http://127.0.0.1:{monitor.port}/x"
        process = Process("publish", NATS_URL=server.url, CRYPTO_TRIGGER_GIVE_UP_AFTER="60s", **{URL: url})
        server.talk()
        process.signal(signal.SIGTERM)
        monitor.talk().wait_for(b"\r\n\r\n")
        process.signal(signal.SIGTERM)
        ended = process.end()
    assert ended.status == 143
    assert ended.seconds < 4  # of the five that are kept


# Redirects.


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_followed_with_the_same_request(status, run, pinging):
    with Monitor(answers=[Answer(status, "", None, (("Location", f"/{TOKEN}/1"),))]) as monitor:
        pinging(monitor)
        run("publish", *FAILS)
    first, second = monitor.asked
    assert monitor.told == [FAILURE]
    assert (second.method, second.path, second.body) == ("POST", f"/{TOKEN}/1", first.body)


def test_a_redirect_to_see_another_page_is_followed_by_get(run, pinging):
    with Monitor(answers=[Answer(303, "", None, (("Location", f"/{TOKEN}/1 \xe9"),))]) as monitor:
        pinging(monitor)
        run("publish", *FAILS)
    assert [(asked.method, asked.target) for asked in monitor.asked][1:] == [("GET", f"/{TOKEN}/1%20%E9")]


def test_a_redirect_from_https_to_http_is_not_followed(run, authority, pinging, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", authority.path)
    with Monitor() as plain, Monitor(certificate=authority.issue("r"), answers=redirecting_to(plain.url)) as monitor:
        pinging(monitor)
        result = run("publish", *FAILS)
    assert (len(monitor.asked), plain.asked) == (1, [])
    assert result.err.splitlines()[1:] == [f"{WARNING}it redirects from https to http{REFUSED}"]


def test_a_redirect_from_http_to_https_is_followed(run, authority, pinging, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", authority.path)
    with Monitor(certificate=authority.issue("s")) as safe, Monitor(answers=redirecting_to(f"{safe.url}/x")) as monitor:
        pinging(monitor)
        run("publish", *FAILS)
    assert [asked.method for asked in safe.asked] == ["POST"]


# TLS.


def test_the_authorities_of_the_system_are_trusted(run, authority, pinging, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", authority.path)
    with Monitor(certificate=authority.issue("monitor")) as monitor:
        pinging(monitor)
        assert "warning" not in run("publish", *FAILS).err
    assert monitor.told == [FAILURE]


@pytest.mark.parametrize(
    ("certificate", "trusted", "says"),
    [
        ({}, False, r"its issuer 'ours authority' is not trusted; SSL_CERT_FILE does not contain it"),
        ({}, None, r"its issuer 'ours authority' is not trusted; set SSL_CERT_FILE to a file that contains it"),
        ({"self_signed": True}, False, r"it is self-signed, and not trusted; SSL_CERT_FILE does not contain it"),
        ({"lasts": EXPIRED}, True, rf"it expired on {MOMENT}"),
        ({"lasts": TO_COME}, True, rf"it is valid from {MOMENT}"),
        ({"hosts": ("monitor.example",)}, True, r"it is for another host"),
    ],
    ids=["unknown issuer", "no file", "self-signed", "expired", "to come", "other host"],
)
def test_a_certificate_that_does_not_verify_is_one_warning(
    certificate, trusted, says, run, authority, pinging, monkeypatch
):
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    if trusted is not None:
        monkeypatch.setenv("SSL_CERT_FILE", authority.path if trusted else "/dev/null")
    with Monitor(certificate=authority.issue("bad", **certificate)) as monitor:
        pinging(monitor)
        result = run("publish", *FAILS)
    assert monitor.asked == []
    (warning,) = result.err.splitlines()[1:]
    said = warning.removeprefix(f"{WARNING}its certificate does not verify: ").removesuffix(REFUSED)
    assert re.fullmatch(says, said)


@pytest.mark.parametrize("trusted", ["the authority above", "the one that signed it", "the server's own"])
def test_any_certificate_of_ssl_cert_file_is_an_authority(trusted, run, tmp_path, pinging, monkeypatch):
    root = Authority(tmp_path, "root")
    middle = Authority(tmp_path, "middle", root)
    own = middle.issue("monitor", with_authority=True)
    paths = {"the authority above": root.path, "the one that signed it": middle.path, "the server's own": own.cert}
    monkeypatch.setenv("SSL_CERT_FILE", paths[trusted])
    with Monitor(certificate=own) as monitor:
        pinging(monitor)
        assert "warning" not in run("publish", *FAILS).err
    assert monitor.told == [FAILURE]


def test_the_dot_at_the_end_of_a_host_is_not_in_its_certificate(run, authority, pinging, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", authority.path)
    asked = found_here(monkeypatch, "monitor.example.")
    with Monitor(certificate=authority.issue("dotted", hosts=("monitor.example",))) as monitor:
        pinging(f"https://monitor.example.:{monitor.port}/{TOKEN}")
        assert "warning" not in run("publish", *FAILS).err
    assert monitor.told == [FAILURE]
    assert (asked, monitor.names) == (["monitor.example."], ["monitor.example"])


def test_tls_to_a_server_without_it_is_one_warning(run, monitor, monkeypatch):
    monkeypatch.setenv(URL, monitor.url.replace("http:", "https:"))
    result = run("publish", *FAILS)
    assert monitor.asked == []
    assert result.err.splitlines()[1:] == [f"{WARNING}the TLS handshake failed (2 attempts){REFUSED}"]


# Proxies.


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy"])
def test_a_proxy_of_the_environment_gets_the_whole_url(variable, run, pinging, monkeypatch):
    with Monitor() as proxy:
        monkeypatch.setenv(variable, proxy.url.replace("//", "//me:secret@"))
        pinging(f"http://monitor.invalid:81/{TOKEN}")
        run("publish", *FAILS)
    (asked,) = proxy.asked
    assert asked.target == f"http://monitor.invalid:81/{TOKEN}/78"
    assert asked.headers["Proxy-Authorization"] == "Basic bWU6c2VjcmV0"
    assert proxy.told == [FAILURE]


def test_a_host_that_needs_no_proxy_is_asked_itself(run, monitor, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{unused_port()}")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    run("publish", *FAILS)
    assert monitor.told == [FAILURE]


@pytest.mark.parametrize(
    ("ranges", "direct"),
    [
        ("127.0.0.0/8", True),
        ("10.0.0.0/8, 127.0.0.1/8 ,example.com", True),
        ("fd00::/8,127.0.0.1", True),
        ("10.0.0.0/8,128.0.0.0/1,127.0.0.0/33,nonsense/8,", False),
    ],
)
def test_a_host_in_a_range_that_needs_no_proxy_is_asked_itself(ranges, direct, run, monitor, monkeypatch):
    with Monitor() as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("NO_PROXY", ranges)
        run("publish", *FAILS)
    assert (monitor.told, proxy.told) == (([FAILURE], []) if direct else ([], [FAILURE]))


def tunnel_to(port):
    """A proxy that connects its client to a port of this host, whatever host the client asks for."""

    def script(talk):
        talk.hear(b"\r\n\r\n")
        with socket.create_connection(("127.0.0.1", port)) as there:
            talk.say(b"HTTP/1.1 200 Connection established\r\n\r\n")
            already = len(talk.heard)

            def back():
                with suppress(OSError):  # the client hangs up
                    while data := there.recv(65536):
                        talk.say(data)

            thread = threading.Thread(target=back, daemon=True)
            thread.start()
            while True:
                talk.receive()
                there.sendall(talk.heard[already:])
                already = len(talk.heard)

    return script


def test_a_proxy_tunnels_https(run, authority, pinging, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", authority.path)
    certificate = authority.issue("tunnelled", hosts=("monitor.invalid",))
    with Monitor(certificate=certificate) as monitor, Scripted(tunnel_to(monitor.port)) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
        pinging(f"https://monitor.invalid/{TOKEN}")
        result = run("publish", *FAILS)
    assert proxy.heard.startswith(b"CONNECT monitor.invalid:443 HTTP/1.")
    assert TOKEN.encode() not in proxy.heard
    assert monitor.told == [FAILURE]
    assert "warning" not in result.err


def refuses(talk):
    talk.hear(b"\r\n\r\n")
    talk.say(b"HTTP/1.1 407 monitor.invalid needs a password\r\n\r\n")


def test_a_proxy_that_refuses_is_one_warning(run, pinging, monkeypatch):
    with Scripted(refuses) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"127.0.0.1:{proxy.port}")
        pinging(f"https://monitor.invalid/{TOKEN}")
        result = run("publish", *FAILS)
    assert result.err.splitlines()[1:] == [f"{WARNING}the proxy answers with HTTP status 407{REFUSED}"]


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:1", "http://", "127.0.0.1:port"])
def test_a_proxy_that_is_none_is_one_warning(proxy, run, pinging, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    pinging(f"https://monitor.invalid/{TOKEN}")
    result = run("publish", *FAILS)
    assert result.err.splitlines()[1:] == [f"{WARNING}the proxy in the environment is not http://host:port{REFUSED}"]


# Faults. The status is that of the run, the warning one line, the URL nowhere, and the end in time.


@pytest.fixture
def harmless(run, pinging):
    """Run with a deadline of one second and this URL; what holds whatever the monitor does. Returns what was said."""

    def call(url, *argv, status=78):
        pinging(url)
        began = time.monotonic()
        result = run("publish", *argv, "--give-up-after", "1s")
        assert time.monotonic() - began < 1 + BEYOND
        assert result.status == status
        *reason, warning = result.err.splitlines()
        assert len(reason) == (status != 0)
        assert warning.startswith(WARNING)
        assert "topsecret" not in result.out + result.err
        assert "monitor" not in result.err
        said, _, outcome = warning.removeprefix(WARNING).rpartition("; ")
        assert re.fullmatch(rf"the outcome is still [a-z]+ \(status {status}\)", outcome)
        return said

    return call


BREAKING = [script for script in SCRIPTS if script not in (endless_headers, long_status_line)]


@pytest.mark.parametrize("script", BREAKING)
@pytest.mark.parametrize(("argv", "status"), [((), 0), (FAILS, 78)], ids=["published", "failed"])
def test_a_monitor_that_breaks_the_protocol_changes_nothing(script, argv, status, ready, harmless):
    with Scripted(script) as server:
        harmless(f"http://127.0.0.1:{server.port}/topsecret", *argv, status=status)
        assert server.talks
    assert len(stored(ready.url, ready.stream)) == (status == 0)


def test_a_silent_monitor_does_not_hold_a_run_that_failed_at_its_deadline(harmless):
    with Scripted(silent) as server:
        said = harmless(f"http://127.0.0.1:{server.port}/topsecret", "--server", "nats://127.0.0.1:1", status=69)
    assert said == "no answer in time (2 attempts)"


@pytest.mark.parametrize("script", [endless_headers, long_status_line])
def test_the_status_line_decides(script, run, pinging):
    with Scripted(script) as server:
        pinging(f"http://127.0.0.1:{server.port}/topsecret")
        assert "warning" not in run("publish", *FAILS).err


def test_a_port_that_refuses_changes_nothing(harmless):
    said = harmless(f"http://127.0.0.1:{unused_port()}/topsecret", *FAILS)
    assert said == "connection refused (2 attempts)"


def test_a_black_hole_changes_nothing(harmless):
    with full_backlog() as hole:
        assert harmless(hole.replace("nats:", "http:") + "/topsecret", *FAILS) == "no answer in time (2 attempts)"


def lookups(monkeypatch, answer):
    """Let the lookup of one name be what a function does, and each other as it is."""
    real = socket.getaddrinfo

    def lookup(host, *args, **more):
        return answer() if host == "monitor.example" else real(host, *args, **more)

    monkeypatch.setattr(socket, "getaddrinfo", lookup)


def test_a_name_that_is_not_found_changes_nothing(harmless, monkeypatch):
    def fail():
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    lookups(monkeypatch, fail)
    said = harmless("http://monitor.example/topsecret", *FAILS)
    assert said == "its host cannot be found: name or service not known (2 attempts)"


def test_a_lookup_that_hangs_changes_nothing(harmless, monkeypatch):
    hang = threading.Event()

    def fail():
        hang.wait(60)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    lookups(monkeypatch, fail)
    try:
        assert harmless("http://monitor.example/topsecret", *FAILS) == "no answer in time (2 attempts)"
    finally:
        hang.set()


def test_the_first_address_that_does_not_answer_is_not_the_last(run, monitor, monkeypatch):
    with full_backlog() as hole:
        ports = [int(hole.rpartition(":")[2]), monitor.port]
        lookups(monkeypatch, lambda: [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", p)) for p in ports])
        monkeypatch.setenv(URL, f"http://monitor.example/{TOKEN}")
        result = run("publish", *FAILS, "--give-up-after", "4s")
    assert monitor.told == [FAILURE]
    assert "warning" not in result.err


def test_an_interpreter_exits_though_a_monitor_drips(ready):
    """As a process: what still waits in a thread does not hold the exit."""
    with Scripted(slow_drip) as server:
        began = time.monotonic()
        ended = execute(
            "publish", "-q", CRYPTO_TRIGGER_GIVE_UP_AFTER="1s", **{URL: f"http://127.0.0.1:{server.port}/topsecret"}
        )
        seconds = time.monotonic() - began
    assert len(stored(ready.url, ready.stream)) == 1
    assert (ended.status, ended.out, ended.err) == (0, "", f"{WARNING}no answer in time (2 attempts){PUBLISHED}\n")
    assert seconds < START + 1 + BEYOND


NO_THREADS = """
import threading
def start(self):
    raise RuntimeError("can't start new thread")
threading.Thread.start = start
"""


def test_no_thread_for_the_ping_is_one_warning(ready, tmp_path):
    ended = execute("publish", "-q", **beginning_with(tmp_path, NO_THREADS), **{URL: "http://127.0.0.1:1/topsecret"})
    assert len(stored(ready.url, ready.stream)) == 1
    assert (ended.status, ended.err) == (0, f"{WARNING}the system has no thread left for it{PUBLISHED}\n")


def test_a_bug_in_a_ping_is_one_warning(ready, run, monitor, monkeypatch):
    def send(*_):
        raise ZeroDivisionError(f"{monitor.url}/{TOKEN}")

    monkeypatch.setattr(pings, "send", send)
    result = run("publish")
    assert len(stored(ready.url, ready.stream)) == 1
    assert result.status == 0
    assert result.err == (
        "crypto-trigger: warning: the result could not be passed on: a bug in crypto-trigger (ZeroDivisionError)"
        f"{PUBLISHED}\n"
    )


# The URLs are secrets.

WRONG = {
    "ftp://monitor/topsecret": "must be a URL that begins with http:// or https://",
    "topsecret": "must be a URL that begins with http:// or https://",
    "http:topsecret": "has no valid host and port",
    "https:///topsecret": "has no valid host and port",
    "https://monitor:port/topsecret": "has no valid host and port",
    "https://monitor:0/topsecret": "has no valid host and port",
    "https://[::1/topsecret": "has no valid host and port",
    "https://mon itor/topsecret": "percent-encode it",
    "https://monitor/topsecret\n": "percent-encode it",
    "https://monitor/topsecretä": "percent-encode it",
    "https://monitor/topsecret#x": "write it as %23",
    "https://monitor/${topsecret}": "variables are not expanded here",
    f"https://{'topsecret' * 10}/": "has a host name that cannot be resolved",
    f"https://h/{'topsecret' * 1000}": "is longer than 8192 bytes",
}


@pytest.mark.parametrize(("url", "says"), WRONG.items(), ids=range(len(WRONG)))
@pytest.mark.parametrize("variable", [URL, FAIL_URL])
def test_a_url_that_is_wrong_is_found_before_the_network_and_not_shown(variable, url, says, run, monitor, monkeypatch):
    monkeypatch.setenv(variable, url)
    result = run("publish", "--dry-run", "--json", "-v")
    assert result.status == 78
    assert f"{variable} '***' (from the environment) " in result.err
    assert says in result.err
    assert "topsecret" not in result.out + result.err
    assert monitor.asked == []


@pytest.mark.parametrize("argv", [("publish", "--dry-run"), ("config",)])
def test_a_url_for_failures_alone_is_refused(argv, run, monkeypatch):
    monkeypatch.setenv(FAIL_URL, "https://monitor/topsecret")
    result = run(*argv)
    assert (result.status, result.out) == (78, "")
    end = "; nothing was published" if argv[0] == "publish" else ""
    assert result.err == f"crypto-trigger: {FAIL_URL} '***' (from the environment) needs {URL} beside it{end}\n"


@pytest.mark.parametrize("form", ["text", "json"])
def test_no_url_is_in_any_output(form, run, monitor, monkeypatch, ready):
    """Not even where the run prints the same text: here the path of the URL is also the name of the subject."""
    monkeypatch.setenv("CRYPTO_TRIGGER_LOG_FORMAT", form)
    monkeypatch.setenv(URL, f"{monitor.url}/topsecret-path")
    monkeypatch.setenv(FAIL_URL, f"{monitor.url}/down?topsecret=1")
    said = ""
    for argv in [("publish",), ("publish", *NOWHERE), ("publish", "--every", "x"), ("publish", "--subject", "no")]:
        for options in [("-v",), ("-v", "--json"), ("--dry-run", "--json")]:
            result = run(*argv, *options, "--report-file", "report.json")
            said += result.out + result.err + Path("report.json").read_text()
    for options in [(), ("--json",), ("-v",)]:
        result = run("config", *options)
        assert "***" in result.out
        said += result.out + result.err
    assert len(stored(ready.url, ready.stream)) == 1
    assert len(monitor.asked) > 4
    assert "topsecret" not in said
    assert str(monitor.port) not in said


@pytest.mark.parametrize("variable", [URL, FAIL_URL])
def test_no_flag_takes_a_url(variable, run):
    flag = "--" + variable.removeprefix("CRYPTO_TRIGGER_").replace("_", "-").lower()
    assert run("publish", flag, "http://h").status == 2
    assert os.environ.get(variable) is None
