"""Monitors that jobs ping over HTTP: servers that hold to the documented protocols, and what each made of a ping.

healthchecks: https://healthchecks.io/docs/http_api/ (and attaching_logs, signaling_failures)
Uptime Kuma: `server/routers/api-router.js` of version 1, which takes GET alone
Cronitor: https://cronitor.io/docs/telemetry-api
Better Stack: https://betterstack.com/docs/uptime/cron-and-heartbeat-monitor/
Sentry: https://docs.sentry.io/product/crons/getting-started/http
Dead Man's Snitch: https://deadmanssnitch.com/docs
"""

from __future__ import annotations

import json
import re
import socket
import ssl
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

from support.patience import PATIENCE

SUCCESS, FAILURE = "success", "failure"
TOKEN = "5c0ffee5-7a9e-4c1d-9b1e-0123456789ab"


class Asked(NamedTuple):
    """One request, as it came."""

    method: str
    target: str
    headers: dict
    body: bytes

    @property
    def path(self):
        return urlsplit(self.target).path

    @property
    def query(self):
        return {name: values[-1] for name, values in parse_qs(urlsplit(self.target).query).items()}


class Answer(NamedTuple):
    """What the server answers, and what it made of the ping (None: nothing)."""

    status: int
    text: str
    meaning: str | None = None
    headers: tuple = ()


class Healthchecks:
    """`/<uuid>`, then nothing, `/start`, `/fail`, `/log` or an exit status. It keeps the first bytes of a body.

    `started` is true between a start and the end of that run; if it stays so, the check goes down (`Check.ping` in
    `hc/api/models.py`): a success with another run ID is not that end, and one without any is.
    """

    success = f"/{TOKEN}"
    failure = None
    limit = 10_000
    started = False
    _rid = None

    def take(self, asked):
        matched = re.fullmatch(r"/([0-9a-f-]{36})(?:/(start|fail|log|[0-9]+))?", asked.path)
        if not matched:
            return Answer(404, "not found")
        if matched[1] != TOKEN:
            return Answer(200, "OK (not found)")
        if asked.method not in ("HEAD", "GET", "POST"):
            return Answer(405, "method not allowed")
        if "rid" in asked.query:
            try:
                proper = str(UUID(asked.query["rid"])) == asked.query["rid"]
            except ValueError:
                proper = False
            if not proper:
                return Answer(400, "invalid uuid format")
        suffix = matched[2] or "0"
        if suffix.isdecimal() and int(suffix) > 255:
            return Answer(400, "invalid url format")
        rid = asked.query.get("rid")
        if suffix == "start":
            self.started, self._rid = True, rid
        elif suffix != "log" and (rid in (None, self._rid) or suffix != "0"):
            self.started = False
        self.kept = asked.body[: self.limit]
        meaning = {"start": None, "log": None, "0": SUCCESS}.get(suffix, FAILURE)
        return Answer(200, "OK", meaning, (("Ping-Body-Limit", str(self.limit)),))


class UptimeKuma:
    """A push monitor: the query says the status, and the path is the token alone."""

    success = f"/api/push/{TOKEN}?status=up&msg=OK&ping="
    failure = f"/api/push/{TOKEN}?status=down&msg=failed"

    def take(self, asked):
        if asked.method != "GET" or asked.path != f"/api/push/{TOKEN}":
            return Answer(404, json.dumps({"ok": False, "msg": "Monitor not found or not active."}))
        meaning = FAILURE if asked.query.get("status", "up") == "down" else SUCCESS
        return Answer(200, json.dumps({"ok": True}), meaning)


class Cronitor:
    """The telemetry API: the query says the state of a job."""

    success = f"/p/key/{TOKEN}?state=complete"
    failure = f"/p/key/{TOKEN}?state=fail"

    def take(self, asked):
        if asked.path != f"/p/key/{TOKEN}":
            return Answer(404, "")
        meaning = {"complete": SUCCESS, "ok": SUCCESS, "fail": FAILURE}.get(asked.query.get("state"))
        return Answer(200, "OK", meaning)


class BetterStack:
    """A heartbeat: the URL alone, or with `/fail` or an exit status after it."""

    success = f"/api/v1/heartbeat/{TOKEN}"
    failure = f"/api/v1/heartbeat/{TOKEN}/fail"

    def take(self, asked):
        matched = re.fullmatch(rf"/api/v1/heartbeat/{TOKEN}(?:/(fail|[0-9]+))?", asked.path)
        if not matched or asked.method not in ("HEAD", "GET", "POST"):
            return Answer(404, "")
        return Answer(200, "", FAILURE if matched[1] not in (None, "0") else SUCCESS)


class Sentry:
    """A cron check-in: the query says the status."""

    success = f"/api/0/cron/crypto-trigger/{TOKEN}/?status=ok"
    failure = f"/api/0/cron/crypto-trigger/{TOKEN}/?status=error"

    def take(self, asked):
        if asked.path != f"/api/0/cron/crypto-trigger/{TOKEN}/" or asked.method not in ("GET", "POST"):
            return Answer(404, "")
        meanings = {"ok": SUCCESS, "error": FAILURE, "in_progress": None}
        if asked.query.get("status") not in meanings:
            return Answer(400, json.dumps({"detail": "invalid status"}))
        return Answer(202, "", meanings[asked.query["status"]])


class Snitch:
    """A check-in at the URL; `?s=` gives an exit status."""

    success = f"/{TOKEN}"
    failure = f"/{TOKEN}?s=1"

    def take(self, asked):
        if asked.path != f"/{TOKEN}":
            return Answer(404, "")
        return Answer(202, "Got it, thanks!\n", SUCCESS if asked.query.get("s", "0") == "0" else FAILURE)


SERVICES = (Healthchecks, UptimeKuma, Cronitor, BetterStack, Sentry, Snitch)


class Monitor:
    """A service on a free port of 127.0.0.1. `asked` holds the requests, `told` what the service made of them.
    `names` holds the names that clients of TLS asked for (SNI).

    `answers` are answers given before those of the service, one for each request. With a certificate it speaks TLS.
    """

    def __init__(self, service=None, certificate=None, answers=()):
        self.service = service or Healthchecks()
        self.asked, self.told, self.names = [], [], []
        self._answers = list(answers)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            context.sni_callback = lambda _, name, __: self.names.append(name)
            # The handshake is made in the thread of the connection.
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self._server.daemon_threads = False
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self.port = self._server.server_address[1]
        self.url = f"{'https' if certificate else 'http'}://127.0.0.1:{self.port}"

    @property
    def environ(self):
        """The settings for this monitor, as its documentation has them."""
        found = {"CRYPTO_TRIGGER_PING_URL": self.url + self.service.success}
        if self.service.failure:
            found["CRYPTO_TRIGGER_PING_FAIL_URL"] = self.url + self.service.failure
        return found

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._thread.join(PATIENCE)
        self._server.server_close()

    def take(self, asked):
        self.asked.append(asked)
        answer = self._answers.pop(0) if self._answers else self.service.take(asked)
        if answer.meaning:
            self.told.append(answer.meaning)
        return answer


def _handler(monitor):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = PATIENCE

        def _any(self):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            answer = monitor.take(Asked(self.command, self.path, dict(self.headers), body))
            text = answer.text.encode()
            with suppress(ConnectionError):
                self.send_response(answer.status)
                for name, value in (*answer.headers, ("Content-Length", str(len(text)))):
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(b"" if self.command == "HEAD" else text)

        do_GET = do_POST = do_HEAD = do_PUT = _any  # noqa: N815 - http.server's names

        def handle(self):
            # A client that does not trust the certificate hangs up in the handshake.
            with suppress(OSError):
                super().handle()

        def log_message(self, *_):
            pass

    return Handler


# Servers that break the protocol. Each is a script for `support.scripted.Scripted`, or a context with a URL.


def _head(talk, status="200 OK", *headers):
    talk.hear(b"\r\n\r\n")
    talk.say("\r\n".join([f"HTTP/1.1 {status}", *headers, "", ""]).encode())


def endless_body(talk):
    """A failure whose body never ends: the status line decides."""
    _head(talk, "500 Internal Server Error", "Content-Type: text/plain")
    while True:
        talk.say(b"x" * 4096)


def endless_headers(talk):
    talk.hear(b"\r\n\r\n")
    talk.say(b"HTTP/1.1 200 OK\r\n")
    while True:
        talk.say(b"X-More: " + b"x" * 1000 + b"\r\n")


def endless_interim(talk):
    """100 Continue for ever, which http.client alone would read for ever."""
    talk.hear(b"\r\n\r\n")
    while True:
        talk.say(b"HTTP/1.1 100 Continue\r\n\r\n")


def slow_drip(talk):
    """A byte now and then, so that no wait for one byte ever ends in a timeout."""
    talk.hear(b"\r\n\r\n")
    pause = threading.Event()
    for byte in b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100_000:
        talk.say(bytes([byte]))
        pause.wait(0.02)


def silent(talk):
    talk.listen()


def hangs_up(talk):
    talk.hear(b"\r\n\r\n")


def resets(talk):
    talk.hear(b"\r\n\r\n")
    talk.reset()


def no_http(talk):
    talk.hear(b"\r\n")
    talk.say(b"220 mail.example.com ESMTP\r\n" + b"\0" * 100)


def long_status_line(talk):
    talk.hear(b"\r\n\r\n")
    talk.say(b"HTTP/1.1 200 " + b"O" * 1_000_000 + b"K\r\n\r\n")


def redirects_to_itself(talk):
    _head(talk, "302 Found", "Location: /again", "Content-Length: 0")


def redirects_without_end(talk):
    """A redirect whose body never ends."""
    _head(talk, "302 Found", "Location: /again")
    while True:
        talk.say(b"x" * 4096)


def redirects_elsewhere(talk):
    _head(talk, "302 Found", "Location: file:///etc/passwd", "Content-Length: 0")


def server_error(talk):
    _head(talk, "500 Internal Server Error", "Content-Length: 0")


SCRIPTS = (
    endless_body,
    endless_headers,
    endless_interim,
    slow_drip,
    silent,
    hangs_up,
    resets,
    no_http,
    long_status_line,
    redirects_to_itself,
    redirects_without_end,
    redirects_elsewhere,
    server_error,
)


def redirecting_to(url):
    """Answers that redirect every request to a URL."""
    return [Answer(302, "", None, (("Location", url),)) for _ in range(10)]


def unused_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]
