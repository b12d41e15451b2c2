"""Send one HTTP request and read the head of its answer, within a time limit. Nothing here says where it was sent."""

from __future__ import annotations

import os
import re
import ssl
import string
import time
from base64 import b64encode
from contextlib import suppress
from http.client import HTTPS_PORT, HTTPConnection, HTTPException, HTTPResponse
from ipaddress import ip_address, ip_network
from socket import gaierror
from threading import Thread
from typing import IO, TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, unquote, urljoin, urlsplit, urlunsplit
from urllib.request import getproxies, proxy_bypass

from crypto_trigger import __version__
from crypto_trigger.deadline import signals
from crypto_trigger.deadline.certificates import (
    CertificateFault,
    OtherName,
    SelfSigned,
    UnknownIssuer,
    chain_of,
    fault_of,
)
from crypto_trigger.deadline.streams import LEAST
from crypto_trigger.settings.masking import escaped
from crypto_trigger.settings.values import host_of

if TYPE_CHECKING:
    from collections.abc import Mapping

# In bytes: what is read of one answer.
_MOST_READ = 10_000
_MOST_REDIRECTS = 5
# The beginning of a body, in bytes, and how long to wait for it, in seconds.
_LONGEST_BEGINNING, _BEGINNING_SECONDS = 100, 1.0
# How often a wait checks whether a signal came, in seconds.
_POLL_SECONDS = 0.05


class Request(NamedTuple):
    """An HTTP request. The URL is a secret: `repr` does not show it."""

    method: str
    url: str
    body: bytes | None = None

    def __repr__(self) -> str:
        return f"Request({self.method})"


class Answer(NamedTuple):
    """The status of an answer, its headers by their names in lower case, and how its body begins.

    The beginning is what of the body came with the head or soon after it: a line, if the server sends one. It is for
    requests with a body; otherwise it is empty.
    """

    status: int
    headers: dict[str, str]
    begins: str = ""


class WebError(Exception):
    """Why there is no answer, in words that do not contain the URL. `again` tells whether a retry may help."""

    def __init__(self, message: str, *, again: bool) -> None:
        super().__init__(message)
        self.again = again


def ask(request: Request, seconds: float) -> Answer:
    """Send a request, follow its redirects, and return the answer. Raises WebError, also after `seconds`.

    After a signal it ends almost at once. The proxy variables and SSL_CERT_FILE of the environment hold. Only the head
    of an answer is read, no more than 10 kB of it, and after a request with a body the beginning of the answer's.
    """
    exchange = _Exchange(request, seconds)
    try:
        exchange.start()
    except RuntimeError:
        raise WebError("the system has no thread left for it", again=False) from None
    return exchange.wait(seconds)


class _Exchange(Thread):
    """An exchange in its own thread, because neither a name lookup nor a slow answer can be ended from outside."""

    def __init__(self, request: Request, seconds: float) -> None:
        super().__init__(daemon=True)
        self._request = request
        self._seconds = seconds
        self._answer: Answer | None = None
        self._error: Exception | None = None

    def run(self) -> None:
        try:
            self._answer = _follow(self._request, time.monotonic() + self._seconds)
        except Exception as error:  # noqa: BLE001 - any failure ends this thread, and is reported by `wait`
            self._error = error

    def wait(self, seconds: float) -> Answer:
        until = time.monotonic() + seconds
        before = signals.count()
        while self.is_alive():
            left = until - time.monotonic()
            if signals.count() > before:
                self.join(min(left, LEAST))
                if self.is_alive():
                    raise WebError("no answer before a signal came", again=False)
            elif left <= 0:
                raise WebError("no answer in time", again=True)
            else:
                self.join(min(left, _POLL_SECONDS))
        if self._answer is None:
            raise _in_words(self._error)
        return self._answer


def _follow(request: Request, until: float) -> Answer:
    """Return the answer at the end of the redirects. The method and the body stay the same, but for status 303."""
    url, method, body = request.url, request.method, request.body
    for _ in range(_MOST_REDIRECTS + 1):
        answer = _exchange(method, url, body, until)
        location = answer.headers.get("location")
        if answer.status not in (301, 302, 303, 307, 308) or not location:
            return answer
        # Sent as a browser does it: characters that a URL cannot hold are percent-encoded.
        target = urljoin(url, quote(location, safe=string.punctuation, encoding="iso-8859-1"))
        if not target.lower().startswith(("http://", "https://")):
            raise WebError("it redirects to an address that is not http or https", again=False)
        if url.lower().startswith("https:") and not target.lower().startswith("https:"):
            raise WebError("it redirects from https to http", again=False)
        if answer.status == 303:  # noqa: PLR2004 - See Other (RFC 9110, 15.4.4)
            method, body = "GET", None
        url = target
    raise WebError("it redirects too often", again=False)


def _exchange(method: str, url: str, body: bytes | None, until: float) -> Answer:
    """Send one request and return the head of its answer. Raises what the standard library raises."""
    parts = urlsplit(url)
    headers = {"User-Agent": f"crypto-trigger/{__version__}", "Accept": "*/*", "Connection": "close"}
    if body is not None:
        headers["Content-Type"] = "application/json"
    if parts.username is not None:
        headers["Authorization"] = _basic(parts.username, parts.password)
    # Half of the time, so that a host with an address that does not answer is tried at its next address.
    connection, through_proxy = _connection(url, headers, (until - time.monotonic()) / 2)
    try:
        connection.connect()
        connection.sock.settimeout(max(0.001, until - time.monotonic()))
        target = urlunsplit(("", "", parts.path or "/", parts.query, ""))
        if through_proxy:  # which gets the whole URL (RFC 9112, 3.2.2)
            target = f"http://{parts.netloc.rpartition('@')[2]}{target}"
        connection.request(method, target, body, headers)
        # The response closes the connection, but goes on reading from its socket.
        socket = connection.sock
        with connection.getresponse() as response:
            found = {name.lower(): value for name, value in response.headers.items()}
            socket.settimeout(min(_BEGINNING_SECONDS, max(0.001, (until - time.monotonic()) / 2)))
            return Answer(response.status, found, "" if body is None else _beginning(response))
    finally:
        connection.close()


def _beginning(response: HTTPResponse) -> str:
    """Return what of the body came with the head, or comes next. One read, so that a slow server holds up nothing."""
    if response.length == 0:  # a server that does not close the connection would be waited for
        return ""
    with suppress(OSError, ValueError):
        return bytes(response.fp.peek(1)[:_LONGEST_BEGINNING]).decode("iso-8859-1")
    return ""


def _connection(url: str, headers: dict[str, str], seconds: float) -> tuple[HTTPConnection, bool]:
    """Return a connection, not yet open, and whether it leads to a proxy that gets the whole URL."""
    parts = urlsplit(url)
    host, port = host_of(parts), parts.port
    seconds = max(0.001, seconds)
    proxies = getproxies()
    if parts.scheme not in proxies or _needs_none(parts.netloc.rpartition("@")[2], host, proxies):
        return _open(parts.scheme == "https", host, port, seconds), False
    proxy = _proxy(proxies[parts.scheme])
    credentials = {"Proxy-Authorization": _basic(proxy.user, proxy.password)} if proxy.user is not None else {}
    if parts.scheme == "http":
        headers |= credentials
        return _open(False, proxy.host, proxy.port, seconds), True
    connection = _open(True, proxy.host, proxy.port, seconds)
    connection.set_tunnel(host, port, credentials)
    return connection, False


def _needs_none(netloc: str, host: str, proxies: Mapping[str, str]) -> bool:
    """Tell whether NO_PROXY names a host: by a name, or an address by a range (`10.0.0.0/8`), as in curl and Go."""
    if proxy_bypass(netloc):
        return True
    try:
        address = ip_address(host)
    except ValueError:
        return False
    for entry in proxies.get("no", "").split(","):
        with suppress(ValueError):
            if address in ip_network(entry.strip().strip("[]"), strict=False):
                return True
    return False


def _open(encrypted: bool, host: str, port: int | None, seconds: float) -> HTTPConnection:
    connection = (_Encrypted if encrypted else HTTPConnection)(host, port, timeout=seconds)
    connection.response_class = _Head
    return connection


class _Encrypted(HTTPConnection):
    """An HTTPS connection. The certificate is for the host without the dot at its end (RFC 6066, section 3).

    Certificates are verified as those of NATS servers are, by the authorities of the system or of SSL_CERT_FILE.
    """

    default_port = HTTPS_PORT

    def connect(self) -> None:
        super().connect()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_default_certs()
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        host = (self._tunnel_host or self.host).removesuffix(".")  # type: ignore[attr-defined]
        encrypted = context.wrap_socket(self.sock, server_hostname=host, do_handshake_on_connect=False)
        self.sock = encrypted
        try:
            encrypted.do_handshake()
        except ssl.SSLCertVerificationError as error:
            raise fault_of(error, chain_of(encrypted)) from error


class _Proxy(NamedTuple):
    host: str
    port: int
    user: str | None
    password: str | None


def _proxy(raw: str) -> _Proxy:
    try:
        parts = urlsplit(raw if "://" in raw else f"http://{raw}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or parts.scheme != "http":
        raise WebError("the proxy in the environment is not http://host:port", again=False)
    return _Proxy(host, port or 80, parts.username, parts.password)


def _basic(user: str, password: str | None) -> str:
    return "Basic " + b64encode(f"{unquote(user)}:{unquote(password or '')}".encode()).decode()


class _Head(HTTPResponse):
    """An answer of which at most 10 kB are read: http.client alone would read headers and interim answers for ever."""

    def __init__(self, *args: Any, **more: Any) -> None:  # noqa: ANN401 - those of HTTPResponse
        super().__init__(*args, **more)
        self.fp = _Limited(self.fp)  # type: ignore[assignment]


class _Limited:
    """A file that ends after 10 kB."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._left = _MOST_READ

    def readline(self, limit: int = -1) -> bytes:
        line = self._file.readline(min(self._left, limit if limit >= 0 else self._left))
        self._left -= len(line)
        return line

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - an attribute of any type
        return getattr(self._file, name)


def _certificate_fault(error: CertificateFault | ssl.SSLCertVerificationError) -> str:
    match error:
        case ssl.SSLCertVerificationError():
            return error.verify_message
        case OtherName():  # its text has the names
            return "it is for another host"
        case SelfSigned() | UnknownIssuer():
            is_set = os.environ.get("SSL_CERT_FILE")
            known = "SSL_CERT_FILE does not contain it" if is_set else "set SSL_CERT_FILE to a file that contains it"
            return f"{escaped(str(error))}; {known}"
        case _:
            return escaped(str(error))


def _in_words(error: Exception | None) -> WebError:
    """Return what went wrong, without the address: the texts of some exceptions contain it."""
    again = True
    match error:
        case WebError():
            return error
        case TimeoutError():
            said = "no answer in time"
        case gaierror():
            said = f"its host cannot be found: {(error.strerror or 'unknown error').lower()}"
        case CertificateFault() | ssl.SSLCertVerificationError():
            said, again = f"its certificate does not verify: {_certificate_fault(error)}", False
        case ssl.SSLError():
            said = "the TLS handshake failed"
        case OSError():
            if refused := re.match(r"Tunnel connection failed: ([0-9]{3})\b", str(error)):
                said, again = f"the proxy answers with HTTP status {refused[1]}", refused[1].startswith("5")
            else:
                # An error without a number is one of http.client's own.
                said = error.strerror.lower() if error.errno and error.strerror else "it hung up without an answer"
        case HTTPException():
            said, again = "its answer is not HTTP", False
        case _:
            said, again = f"the request could not be made ({type(error).__name__})", False
    return WebError(said, again=again)
