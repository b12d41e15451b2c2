"""One connection to one NATS server, with a time limit for everything.

When nats-py 2.16 connects for the first time, it retries by itself, hides the reason of a failure, may return without a
connection, and hangs if TLS fails. When a connection ends, its requests go on waiting. So every server and attempt gets
a new client without nats-py's own retries, every connect and close has a time limit, and every request fails as soon as
the connection ends.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakValueDictionary

import nats.errors
from nats.aio.client import Client

from crypto_trigger.connection.phases import ConnectionLost, CutShort, Phase, Violation
from crypto_trigger.errors import BadPeer, BrokerError, Denied, Fact

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from nats.aio.msg import Msg
    from nats.aio.subscription import Subscription

    from crypto_trigger.connection.credentials import Access
    from crypto_trigger.deadline.retry import Attempt
    from crypto_trigger.settings.values import Address

T = TypeVar("T")
# Usually nothing is pending and a close takes less than a millisecond. With TLS and a frozen server it would take 30 s
# (asyncio's timeout), and after a failed handshake it would never end.
_CLOSE_SECONDS = 0.25
# How often a request checks whether the connection is closed. nats-py does not call closed_cb if the connection ends
# while data is still to be written.
_POLL_SECONDS = 0.05
# A version is three numbers. More digits than this are not a version, and a long number would take time to read.
_NUMBERS, _DIGITS = 3, 9
_VIOLATION = "permissions violation"
_NO_RESPONDERS = "503"
# The random bytes of a reply subject. Whoever sees one of them must not be able to answer other requests.
_TOKEN_BYTES = 8
_ENDED = (Fact.CONNECTION_LOST, Fact.SYSTEM_ERROR)


class Answers:
    """The answers to one request, in the order in which they come: several streams or services may take its subject.

    nats-py's own `request` drops all but the first.
    """

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Msg] = asyncio.Queue()

    def add(self, answer: Msg) -> None:
        """Take note of an answer."""
        self._queue.put_nowait(answer)

    async def next(self) -> Msg:
        """Return the next answer; it has no time limit. Raises nats-py's NoRespondersError if nobody listens."""
        answer = await self._queue.get()
        if answer.headers and answer.headers.get("Status") == _NO_RESPONDERS:
            raise nats.errors.NoRespondersError
        return answer


class Connection:
    """An open connection. `client` is nats-py's; what is awaited of it goes through `ask`, which limits the waiting.

    `shutting_down` is true if the server is in lame duck mode: it is shutting down, JetStream first.
    """

    def __init__(
        self,
        server: Address,
        access: Access,
        attempt: Attempt,
        names: Callable[[bool], Mapping[str, str]],
        silent: dict[str, float],
    ) -> None:
        """Take a function that returns the names for the table of faults, except `subject` (see `faults.explain`).

        It is told whether the server asks for a signature. `silent` has, for each server where nobody answers for
        JetStream, since when: a time of the event loop. All connections of a run share it.
        """
        self.server = server
        self.client = Client()
        self._access = access
        self._attempt = attempt
        self._names = names
        self._faults: list[Exception] = []
        self._waiting: set[asyncio.Future[None]] = set()
        self._inbox = ""
        self._subscription: Subscription | None = None
        # By their tokens, for as long as somebody waits for them.
        self._answers: WeakValueDictionary[str, Answers] = WeakValueDictionary()
        self._collected: list[Exception] = []
        self._closed = False
        self._silent = silent
        self._heard = False
        self._descriptor = -1
        self.shutting_down = False

    @property
    def client_timeout(self) -> float:
        """A timeout for nats-py's own calls, in seconds. It is longer than that of `ask`, which always ends first."""
        return self._access.timeout + 1

    @property
    def version(self) -> tuple[int, int, int] | None:
        """The server's major, minor and patch version, or None if it gives no valid version."""
        # nats-py's own `connected_server_version` compiles a long pattern for this, on every run.
        said = self._greeting.get("version")
        numbers = said.partition("-")[0].partition("+")[0].split(".") if isinstance(said, str) else []
        if len(numbers) != _NUMBERS or not all(number.isascii() and number.isdecimal() for number in numbers):
            return None
        major, minor, patch = (int(number[:_DIGITS]) for number in numbers)
        return major, minor, patch

    @property
    def clustered(self) -> bool:
        """Whether the server is in a cluster. Then another one may have JetStream, and be away."""
        return bool(self._greeting.get("cluster"))

    def answered(self) -> None:
        """Note that somebody answers for JetStream."""
        self._heard = True
        self._silent.pop(str(self.server), None)

    def unanswered(self, asked: float) -> float:
        """Note that nobody answers for JetStream. Return for how long, in seconds; `asked` is a time of the loop.

        Somebody who has answered another question on this connection is there.
        """
        if self._heard:
            return 0.0
        since = self._silent.setdefault(str(self.server), asked)
        return asyncio.get_running_loop().time() - since

    @property
    def domain(self) -> str | None:
        """The JetStream domain of the server, if it has one."""
        return self._greeting.get("domain")

    async def send(self, subject: str, payload: bytes, headers: dict[str, str] | None = None) -> Answers:
        """Send a request; to be used in `ask`, and its answers too. They come as long as they are referred to."""
        if not self._inbox:
            self._inbox = f"{self.client.new_inbox()}."
            self._subscription = await self.client.subscribe(f"{self._inbox}*", cb=self._on_answer)
        token = os.urandom(_TOKEN_BYTES).hex()
        answers = self._answers[token] = Answers()
        await self.client.publish(subject, payload, reply=self._inbox + token, headers=headers)
        return answers

    async def end_answers(self) -> None:
        """Give up the subscription for answers, so that another one may take its place; the next request makes it anew.

        A connection may be allowed one subscription only.
        """
        if self._subscription:
            await self._subscription.unsubscribe()
        self._subscription, self._inbox = None, ""

    async def request(self, subject: str, payload: bytes) -> Msg:
        """Send a request and return its first answer; to be used in `ask`, as `send` is."""
        answers = await self.send(subject, payload)
        return await answers.next()

    async def ask(self, request: Coroutine[Any, Any, T], subject: str, phase: int) -> T:
        """Return the result of `request`, a coroutine of nats-py that sends to `subject` and waits for an answer.

        It may take as long as the timeout setting, and at most half of the time left until the deadline. Raises the
        BrokerError that a failure means in `phase`; exceptions that are not in the table of faults, unchanged.
        """
        task = asyncio.ensure_future(request)
        try:
            return await self._race(task, subject)
        except Exception as error:
            self._raise_explained(error, phase, subject)
            raise
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait({task})

    def lost(self) -> ConnectionLost:
        """Return the error of a connection that has ended, with the last thing that the server said of it."""
        last = self.client.last_error or (self._collected[-1] if self._collected else None)
        return ConnectionLost(str(last) if last else "")

    async def _race(self, task: asyncio.Task[T], subject: str) -> T:
        """Return the task's result, or raise what comes first: a timeout, a violation, the end of the connection."""
        loop = asyncio.get_running_loop()
        limit = min(self._access.timeout, self._attempt.share())
        deadline = loop.time() + limit
        seen = len(self._faults)
        news: asyncio.Future[None] = loop.create_future()
        try:
            while True:
                self._waiting.add(news)
                wait = max(0.0, min(_POLL_SECONDS, deadline - loop.time()))
                racers: set[asyncio.Future[Any]] = {task, news}
                await asyncio.wait(racers, timeout=wait, return_when=asyncio.FIRST_COMPLETED)
                if task.done():
                    break
                for fault in self._faults[seen:]:
                    if not isinstance(fault, Violation) or _concerns(fault, subject):
                        raise fault
                seen = len(self._faults)
                if self._closed or self.client.is_closed:
                    raise self.lost()
                if loop.time() >= deadline:
                    raise TimeoutError if limit == self._access.timeout else CutShort
                if news.done():
                    self._waiting.discard(news)
                    news = loop.create_future()
        finally:
            self._waiting.discard(news)
        if task.cancelled():
            raise self.lost()
        return task.result()

    async def processed(self, subject: str, phase: int) -> None:
        """Return once the server has processed everything that was sent.

        Raises a BrokerError, also if the server has refused something since the connection was made. nats-py sends the
        first PING before data that is still waiting to be sent, so a second PING is sent after that data. nats-py's
        `flush` is not used: when its read loop ends, `flush` returns as if the server had answered.
        """
        for _ in range(2):
            await self.ask(self.client.rtt(self.client_timeout), subject, phase)  # type: ignore[arg-type] # any number is one
            # `ask` may return the answer to the PING even if a refusal came a moment earlier.
            if refusal := self._refusal():
                self._raise_explained(refusal, phase, subject)

    def _refusal(self) -> Exception | None:
        error = self.client.last_error
        if not isinstance(error, nats.errors.Error) or isinstance(error, nats.errors.StaleConnectionError):
            return None
        return Violation(str(error)) if _VIOLATION in str(error).lower() else ConnectionLost(str(error))

    async def open(self, address: str, limit: float) -> None:
        """Connect to `address`, one of the server's addresses, in at most `limit` seconds. Raises a BrokerError."""
        try:
            async with asyncio.timeout(limit):
                await _cancellable(self.client.connect(**self._options(address)))
        except Exception as error:
            cause = self._cause(error)
            if type(cause) is TimeoutError and limit < self._access.timeout:
                cause = CutShort()
            self._raise_explained(cause, Phase.CONNECT)
            raise
        self._descriptor = self._socket_descriptor()
        # nats-py returns as if connected when anything but PONG or -ERR answers its CONNECT (nats.py#975).
        if not self.client.is_connected:
            self._raise_explained(self.lost(), Phase.CONNECT)
        if self._wants_tls:
            self._require_tls()

    @property
    def takes_headers(self) -> bool:
        """Whether the server supports headers, and with them the status "no responders" (NATS 2.2 and later)."""
        return bool(self._greeting.get("headers"))

    async def close(self) -> None:
        """Close the connection in limited time, whatever its state. If the time ends first, it is aborted."""
        closed = False
        try:
            # If the connect failed early, nats-py's close() raises AssertionError and others.
            with suppress(Exception):
                async with asyncio.timeout(_CLOSE_SECONDS):
                    await self.client.close()
                    closed = True
        finally:
            if not closed and self._writer:
                self._writer.transport.abort()
            if self._descriptor >= 0:
                # asyncio's writelines() on a connection that was lost in the same turn of the loop leaves the
                # descriptor registered for writing (cpython#136234). The next connection gets the same number, and the
                # loop would never be told that it is made: the attempt would time out.
                with suppress(RuntimeError):  # a live connection has the number
                    asyncio.get_running_loop().remove_writer(self._descriptor)

    @property
    def _writer(self) -> asyncio.StreamWriter | None:
        """nats-py's end of the TCP connection, or None if there was none."""
        transport = self.client._transport  # noqa: SLF001 - nats-py shows it nowhere else
        writer: asyncio.StreamWriter | None = getattr(transport, "_bare_io_writer", None)
        return writer

    def _socket_descriptor(self) -> int:
        """Return the number of the connection's descriptor, -1 if it is closed already."""
        found: int = self._writer.get_extra_info("socket").fileno() if self._writer else -1
        return found

    @property
    def _greeting(self) -> Mapping[str, Any]:
        """The server's INFO message; empty where it is not one."""
        said = self.client._server_info  # noqa: SLF001 - nats-py shows it nowhere else
        return said if isinstance(said, dict) else {}

    @property
    def _asks_signature(self) -> bool:
        """Whether the server asks for a signature by an nkey, a user JWT's too: nats-py then sends no password."""
        return "nonce" in self._greeting

    @property
    def _wants_tls(self) -> bool:
        return self.server.tls or self._access.wants_tls

    def _options(self, address: str) -> dict[str, Any]:
        access, server = self._access, self.server
        options: dict[str, Any] = {
            "servers": [f"nats://{f'[{address}]' if ':' in address else address}:{server.port}"],
            "name": access.client_id,
            "allow_reconnect": False,
            # 0 or less means no limit (nats.py#645).
            "max_reconnect_attempts": 1,
            "reconnect_time_wait": 0,
            "connect_timeout": access.timeout,
            "error_cb": self._on_error,
            "closed_cb": self._on_closed,
            "lame_duck_mode_cb": self._on_lame_duck,
            "pedantic": True,
            "inbox_prefix": access.inbox_prefix,
            # The run ends long before the first ping. Our own timeouts find a server that does not answer.
            "ping_interval": 3600,
        }
        options["tls_hostname"] = server.name
        if access.tls and self._wants_tls:
            access.tls.handshakes = 0
            options |= {"tls": access.tls, "tls_handshake_first": access.tls_first}
        # Where the server asks for a signature, nats-py sends the JWT or nkey, and a token; otherwise the user and
        # password, else the token. As in nats.go, those in the URL take the place of those in the settings.
        if server.user or server.password:
            options |= self._guarded(user=server.user, password=server.password)
        elif server.token:
            options |= self._guarded(token=server.token)
        else:
            if access.user is not None:
                options |= self._guarded(user=access.user, password=access.password or "")
            if access.token is not None:
                options |= self._guarded(token=access.token)
        if access.creds is not None:
            options["user_credentials"] = access.user_credentials
        elif access.nkey is not None:
            options["nkeys_seed_str"] = access.nkey
        if "token" not in options and access.signs:
            # nats-py asks for the token before it sends the JWT, so the guard runs first. An empty token has no effect.
            options |= self._guarded(token="")
        return options

    def _guarded(self, **secrets: str) -> dict[str, Callable[[], str]]:
        """Return each secret as a callable for nats-py, which raises BadPeer if TLS was asked for and is not in use.

        nats-py calls it after the TLS upgrade. If the server offers no TLS, nats-py goes on in plain text, even for a
        tls:// URL, and would send the password.
        """

        def guard(secret: str) -> Callable[[], str]:
            def reveal() -> str:
                if self._wants_tls:
                    self._require_tls()
                return secret

            return reveal

        return {name: guard(secret) for name, secret in secrets.items()}

    def _require_tls(self) -> None:
        if not (self._access.tls and self._access.tls.handshakes):
            raise BadPeer(
                f"{self.server}: the server offers no TLS, which was asked for; nothing secret was sent",
                "switch TLS on at the server, or take it out of the list: one tls:// or TLS setting asks TLS of all",
                Fact.TLS_NOT_OFFERED,
            )

    def _about_certificate(self, error: BrokerError) -> BrokerError:
        """Return the error for a connection that ended after the TLS handshake and before the server's PONG.

        With TLS 1.3 the handshake succeeds on our side before the server has checked the client certificate. The
        server's alert may be lost when the connection ends. Its INFO says whether it requires a client certificate.
        """
        if not (self._access.tls and self._access.tls.handshakes):
            return error
        if self._greeting.get("tls_verify") and not self._access.has_certificate:
            return Denied(
                f"{self.server}: the server requires a client certificate",
                "set NATS_CERT and NATS_KEY",
                Fact.CLIENT_CERTIFICATE_REQUIRED,
            )
        hint = "does the server require a client certificate? Set NATS_CERT and NATS_KEY"
        if self._access.has_certificate:
            hint = "does the server refuse the client certificate? Check NATS_CERT"
        return error.reworded(f"{self.server}: the connection ended right after the TLS handshake", hint)

    async def _on_answer(self, message: Msg) -> None:
        if answers := self._answers.get(message.subject[len(self._inbox) :]):
            answers.add(message)

    async def _on_error(self, error: Exception) -> None:
        self._collected.append(error)
        if _VIOLATION in str(error).lower():
            self._wake(Violation(str(error)))

    async def _on_closed(self) -> None:
        self._closed = True
        self._wake(self.lost())

    async def _on_lame_duck(self) -> None:
        self.shutting_down = True

    def _wake(self, fault: Exception) -> None:
        """Wake every waiting request: each checks whether the fault is about it."""
        self._faults.append(fault)
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)

    def _cause(self, error: Exception) -> Exception:
        """Return why a connect failed. `NoServersError` hides the reason; a lost connection may hide a TLS alert."""
        tls = next((e for e in self._collected if isinstance(e, ssl.SSLError)), None)
        if isinstance(error, (BrokerError, ssl.SSLError)) or not self._collected:
            return error
        if tls:
            return tls
        return self._collected[-1] if isinstance(error, nats.errors.NoServersError) else error

    def explained(self, error: Exception, phase: int, subject: str = "") -> Exception:
        """Return the error of ours that `error` means, or `error` itself if the table of faults does not have it."""
        # The table of faults is loaded after a failure only.
        from crypto_trigger.connection.faults import explain

        if isinstance(error, ssl.SSLCertVerificationError) and self._access.tls:
            from crypto_trigger.deadline.certificates import chain_of, fault_of

            error = fault_of(error, chain_of(self._access.tls.last), self.server.name)
        explained = explain(error, phase, str(self.server), {**self._names(self._asks_signature), "subject": subject})
        if phase == Phase.CONNECT and isinstance(explained, BrokerError) and explained.fact in _ENDED:
            return self._about_certificate(explained)
        return explained

    def _raise_explained(self, error: Exception, phase: int, subject: str = "") -> None:
        """Raise the error of ours that `error` means. Return if the table of faults does not have it."""
        explained = self.explained(error, phase, subject)
        if explained is not error:
            raise explained from error


def _concerns(violation: Exception, subject: str) -> bool:
    """Tell whether a permission violation is about this request: about its subject, or the inbox for its answer.

    The server quotes the subject as Go's %q does, and nats-py converts the text to lower case.
    """
    text = str(violation).lower()
    quoted = subject.replace("\\", "\\\\").replace('"', '\\"').lower()
    return "for subscription" in text or f'"{quoted}"' in text


async def _cancellable(connecting: Coroutine[Any, Any, None]) -> None:
    """Await nats-py's `connect`. Before Python 3.12 it may ignore a cancellation, so it is cancelled until it ends.

    nats-py uses `asyncio.wait_for`, which loses a cancellation that comes as its future is done (cpython#86296).
    """
    if sys.version_info >= (3, 12):
        await connecting
        return
    task = asyncio.ensure_future(connecting)
    try:
        await asyncio.wait({task})
    except asyncio.CancelledError:
        while not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=_POLL_SECONDS)
        if not task.cancelled():
            task.exception()  # otherwise asyncio logs that nobody looked at it
        raise
    task.result()
