"""One hardened connection to one NATS server.

nats-py 2.16 retries by itself on first connect, hides the reason, may return unconnected, hangs on a TLS failure, and
leaves a request waiting when its connection ends. So every server and attempt gets a fresh client with nats-py's own
retry disarmed, every connect and close is bounded, and every request is raced against the end of the connection.
"""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

import nats.errors
from nats.aio.client import Client

from crypto_trigger.brokers.failures import ConnectionLost, CutShort, Phase, Violation
from crypto_trigger.errors import BadPeer, BrokerError, Denied, Fact

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from nats.aio.msg import Msg

    from crypto_trigger.brokers.access import Access
    from crypto_trigger.retry import Attempt
    from crypto_trigger.values import Address

T = TypeVar("T")
# Nothing is pending when we close, so that a healthy close takes under a millisecond; on TLS to a frozen server it
# would take asyncio's 30 s, and after a failed handshake for ever.
_CLOSE_SECONDS = 0.25
# How often to see whether the connection is closed, while waiting: nats-py does not call its closed_cb where the end
# comes while something is still to be written.
_LOOK_SECONDS = 0.05
_VIOLATION = "permissions violation"
_ENDED = (Fact.CONNECTION_LOST, Fact.SYSTEM_ERROR)


class Connection:
    """An open connection. `client` is nats-py's; its requests go through `ask`, which knows when to stop waiting.

    `leaving` tells that the server is in lame duck mode: it shuts down, JetStream first.
    """

    def __init__(
        self, server: Address, access: Access, attempt: Attempt, names: Callable[[], Mapping[str, str]]
    ) -> None:
        """Take a function for what the table of faults calls by name, but for the subject (`faults.explain`)."""
        self.server = server
        self.client = Client()
        self._access = access
        self._attempt = attempt
        self._names = names
        self._faults: list[Exception] = []
        self._waiting: set[asyncio.Future[None]] = set()
        self._collected: list[Exception] = []
        self._closed = False
        self._descriptor = -1
        self.leaving = False

    @property
    def patience(self) -> float:
        """A timeout for nats-py's own calls, in seconds, that is always longer than that of `ask`."""
        return self._access.timeout + 1

    @property
    def version(self) -> tuple[int, int, int] | None:
        """The server's major, minor and patch version, or None if what it says is no version."""
        said = self.client.connected_server_version
        try:
            version = said.major, said.minor, said.patch
        except (ValueError, TypeError):
            return None
        # nats-py's word for a server that says nothing.
        return None if version == (0, 0, 0) else version

    async def request(self, subject: str, payload: bytes, phase: Phase) -> Msg:
        """Return the answer to a request. Raises a BrokerError."""
        return await self.ask(self.client.request(subject, payload, timeout=self.patience), subject, phase)

    async def ask(self, request: Coroutine[Any, Any, T], subject: str, phase: Phase) -> T:
        """Return what a coroutine of nats-py returns that waits for an answer on `subject`.

        It may take the timeout that is set, and at most half of what is left of the deadline. Raises a BrokerError with
        what its failure means in `phase`; exceptions of an unforeseen kind pass as they are.
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

    async def _race(self, task: asyncio.Task[T], subject: str) -> T:
        """Return the task's result, or raise the fault that comes before it: a timeout, a violation, the end."""
        loop = asyncio.get_running_loop()
        patience = min(self._access.timeout, self._attempt.share())
        deadline = loop.time() + patience
        seen = len(self._faults)
        news: asyncio.Future[None] = loop.create_future()
        try:
            while True:
                self._waiting.add(news)
                wait = max(0.0, min(_LOOK_SECONDS, deadline - loop.time()))
                racers: set[asyncio.Future[Any]] = {task, news}
                await asyncio.wait(racers, timeout=wait, return_when=asyncio.FIRST_COMPLETED)
                if task.done():
                    break
                for fault in self._faults[seen:]:
                    if not isinstance(fault, Violation) or _concerns(fault, subject):
                        raise fault
                seen = len(self._faults)
                if self._closed or self.client.is_closed:
                    raise self._lost()
                if loop.time() >= deadline:
                    raise TimeoutError if patience == self._access.timeout else CutShort
                if news.done():
                    self._waiting.discard(news)
                    news = loop.create_future()
        finally:
            self._waiting.discard(news)
        if task.cancelled():
            raise self._lost()
        return task.result()

    async def processed(self, subject: str, phase: Phase) -> None:
        """Return once the server has processed all that was sent.

        Raises a BrokerError, also for what the server has refused since the connection was made. nats-py puts a PING
        ahead of what is still waiting to be sent; that of the second call comes behind it. Not by `flush`, which takes
        a read loop that has ended for an answer.
        """
        for _ in range(2):
            await self.ask(self.client.rtt(self.patience), subject, phase)  # type: ignore[arg-type] # any number is one
            # The answer to the PING wins the race against a refusal that came a moment earlier.
            if refusal := self._refusal():
                self._raise_explained(refusal, phase, subject)

    def _refusal(self) -> Exception | None:
        error = self.client.last_error
        if not isinstance(error, nats.errors.Error) or isinstance(error, nats.errors.StaleConnectionError):
            return None
        return Violation(str(error)) if _VIOLATION in str(error).lower() else ConnectionLost(str(error))

    async def open(self, address: str, patience: float) -> None:
        """Connect to `address`, one of the server's, within `patience` seconds. Raises a BrokerError."""
        try:
            async with asyncio.timeout(patience):
                await self.client.connect(**self._options(address))
        except Exception as error:
            cause = self._cause(error)
            if type(cause) is TimeoutError and patience < self._access.timeout:
                cause = CutShort()
            self._raise_explained(cause, Phase.CONNECT)
            raise
        self._descriptor = self._socket_descriptor()
        # nats-py returns as if connected when anything but PONG or -ERR answers its CONNECT (nats.py#975).
        if not self.client.is_connected:
            self._raise_explained(self._lost(), Phase.CONNECT)
        if self._wants_tls:
            self._require_tls()

    @property
    def takes_headers(self) -> bool:
        """Whether the server knows headers, and with them the status "no responders" (NATS 2.2 and later)."""
        return bool(self._greeting.get("headers"))

    async def close(self) -> None:
        """Close in bounded time, whatever state the connection is in."""
        # AssertionError and others: nats-py's close() does not expect a connect that failed early.
        with suppress(Exception):
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self.client.close()
        if self._descriptor >= 0:
            # asyncio's writelines() on a connection that was lost in the same turn of the loop leaves the descriptor
            # registered for writing (cpython#136234). The next connection gets the same number, and the loop would
            # never be told that it is made: the attempt would time out.
            with suppress(RuntimeError):  # a live connection has the number
                asyncio.get_running_loop().remove_writer(self._descriptor)

    def _socket_descriptor(self) -> int:
        """Return the number of the connection's descriptor, -1 if it is closed already."""
        writer = getattr(self.client._transport, "_bare_io_writer", None)  # noqa: SLF001 - nats-py shows it nowhere else
        found: int = writer.get_extra_info("socket").fileno() if writer else -1
        return found

    @property
    def _greeting(self) -> Mapping[str, Any]:
        """The server's INFO."""
        return self.client._server_info  # noqa: SLF001 - nats-py shows it nowhere else

    @property
    def _wants_tls(self) -> bool:
        return self.server.tls or self._access.wants_tls

    def _options(self, address: str) -> dict[str, Any]:
        access, server = self._access, self.server
        options: dict[str, Any] = {
            "servers": [f"nats://{f'[{address}]' if ':' in address else address}:{server.port}"],
            "name": access.client_id,
            "allow_reconnect": False,
            # 0 and below mean for ever (nats.py#645).
            "max_reconnect_attempts": 1,
            "reconnect_time_wait": 0,
            "connect_timeout": access.timeout,
            "error_cb": self._on_error,
            "closed_cb": self._on_closed,
            "lame_duck_mode_cb": self._on_lame_duck,
            "pedantic": True,
            "inbox_prefix": access.inbox_prefix,
            # A one-shot outlives no ping interval; the timeouts are ours.
            "ping_interval": 3600,
        }
        if access.tls and self._wants_tls:
            access.tls.handshakes = 0
            options |= {"tls": access.tls, "tls_hostname": server.host, "tls_handshake_first": access.tls_first}
        else:
            options |= {"tls_hostname": server.host}
        # nats.go's order: what the URL carries is more particular than the options.
        if server.user or server.password:
            options |= self._guarded(user=server.user, password=server.password)
        elif server.token:
            options |= self._guarded(token=server.token)
        elif access.user is not None:
            options |= self._guarded(user=access.user, password=access.password or "")
        elif access.creds is not None:
            # The empty token is sent beside the JWT and means nothing; its guard runs before the JWT is sent.
            options |= {"user_credentials": access.user_credentials, **self._guarded(token="")}
        elif access.nkey is not None:
            options["nkeys_seed_str"] = access.nkey
        elif access.token is not None:
            options |= self._guarded(token=access.token)
        return options

    def _guarded(self, **secrets: str) -> dict[str, Callable[[], str]]:
        """Return each secret as a callable that nats-py asks after the TLS upgrade, and that refuses without one.

        nats-py speaks plaintext to a server that offers no TLS, whatever the URL says, and sends the password.
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
        """Return what the end of a connection means that came between the TLS handshake and the server's PONG.

        With TLS 1.3 the handshake succeeds on our side before the server has looked at the client certificate; its
        alert may then lose the race against the end of the connection. Its greeting says whether it requires one.
        """
        if not (self._access.tls and self._access.tls.handshakes):
            return error
        if self._greeting.get("tls_verify") and not self._access.has_certificate:
            return Denied(
                f"{self.server}: the server requires a client certificate",
                "set NATS_CERT and NATS_KEY",
                Fact.CLIENT_CERTIFICATE_REQUIRED,
            )
        return error.reworded(
            f"{self.server}: the connection ended right after the TLS handshake",
            "does the server refuse the client certificate? Check NATS_CERT",
        )

    async def _on_error(self, error: Exception) -> None:
        self._collected.append(error)
        if _VIOLATION in str(error).lower():
            self._tell(Violation(str(error)))

    async def _on_closed(self) -> None:
        self._closed = True
        self._tell(self._lost())

    async def _on_lame_duck(self) -> None:
        self.leaving = True

    def _tell(self, fault: Exception) -> None:
        """Wake every request that waits: each decides whether the fault concerns it."""
        self._faults.append(fault)
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)

    def _lost(self) -> ConnectionLost:
        last = self.client.last_error or (self._collected[-1] if self._collected else None)
        return ConnectionLost(str(last) if last else "")

    def _cause(self, error: Exception) -> Exception:
        """Return why a connect failed: `NoServersError` hides it, and a lost connection may hide a TLS alert."""
        tls = next((e for e in self._collected if isinstance(e, ssl.SSLError)), None)
        if isinstance(error, (BrokerError, ssl.SSLError)) or not self._collected:
            return error
        if tls:
            return tls
        return self._collected[-1] if isinstance(error, nats.errors.NoServersError) else error

    def _raise_explained(self, error: Exception, phase: Phase, subject: str = "") -> None:
        """Raise what `error` means; return if its kind is unforeseen, so that it goes on as it is."""
        # The table of faults is loaded after a failure only.
        from crypto_trigger.brokers.faults import explain

        explained = explain(error, phase, str(self.server), {**self._names(), "subject": subject})
        if explained is error:
            return
        if phase is Phase.CONNECT and isinstance(explained, BrokerError) and explained.fact in _ENDED:
            explained = self._about_certificate(explained)
        raise explained from error


def _concerns(violation: Exception, subject: str) -> bool:
    """Tell whether a permission violation is about this request: its subject, or the inbox its answer comes to.

    The server writes the subject as Go's %q does, and nats-py lower-cases the text.
    """
    text = str(violation).lower()
    quoted = subject.replace("\\", "\\\\").replace('"', '\\"').lower()
    return "for subscription" in text or f'"{quoted}"' in text
