"""One hardened connection to one NATS server, the first of the list that takes it.

nats-py 2.16 retries by itself on first connect, hides the reason, may return unconnected, hangs on a TLS failure, and
leaves a request waiting when its connection dies. So every server and attempt gets a fresh client with nats-py's own
retry disarmed, every connect and close is bounded, and every request is raced against the end of the connection.
"""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

import nats.errors
from nats.aio.client import Client

from crypto_trigger.brokers.faults import ConnectionLost, Phase, Violation, explain
from crypto_trigger.brokers.resolver import resolve
from crypto_trigger.errors import BadPeer, BrokerError, ConfigError, Unavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from crypto_trigger.brokers.access import Access
    from crypto_trigger.settings import Settings
    from crypto_trigger.values import Address as Server

T = TypeVar("T")
# Nothing is pending when we close, so that a healthy close takes under a millisecond; on TLS to a frozen server it
# would take asyncio's 30 s, and after a failed handshake for ever.
_CLOSE_SECONDS = 0.25
# How often to see whether the connection is closed, while waiting: nats-py keeps silent about it (its closed_cb is not
# called) where the end comes while something is still to be written.
_LOOK_SECONDS = 0.05
# nats-py's limit, and far above what servers send.
_LONGEST_GREETING = 32768


class Connection:
    """An open connection. `client` is nats-py's; its requests go through `ask`, which knows when to stop waiting.

    `leaving` tells that the server is in lame duck mode: it takes its leave, JetStream first.
    """

    def __init__(self, server: Server, access: Access) -> None:
        self.server = server
        self.client = Client()
        self._access = access
        self._fault: asyncio.Future[Exception] | None = None
        self._collected: list[Exception] = []
        self._closed = False
        self.leaving = False

    async def ask(self, request: Coroutine[Any, Any, T], subject: str, phase: Phase) -> T:
        """Return the answer to a request on `subject`, or raise what its failure means in `phase`.

        Raises a BrokerError; exceptions of an unforeseen kind pass as they are.
        """
        task = asyncio.ensure_future(request)
        self._fault = asyncio.get_running_loop().create_future()
        if self._closed:
            self._fault.set_result(self._lost())
        try:
            return await self._race(task, subject)
        except Exception as error:
            _raise_explained(error, phase, self.server)
            raise
        finally:
            self._fault = None
            if not task.done():
                task.cancel()
                await asyncio.wait({task})

    async def _race(self, task: asyncio.Task[T], subject: str) -> T:
        """Return the task's result, or raise the fault that comes before it: a timeout, a violation, the end."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._access.timeout
        while not task.done():
            fault = self._fault or loop.create_future()
            racers: set[asyncio.Future[Any]] = {task, fault}
            wait = max(0.0, min(_LOOK_SECONDS, deadline - loop.time()))
            done, _ = await asyncio.wait(racers, timeout=wait, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                if self.client.is_closed:
                    raise self._lost()
                if loop.time() >= deadline:
                    raise TimeoutError
                continue
            if task in done:
                break
            if not isinstance(fault.result(), Violation) or _concerns(fault.result(), subject):
                raise fault.result()
            self._fault = loop.create_future()
        if task.cancelled():
            raise self._lost()
        return task.result()

    async def open(self, address: str) -> None:
        """Connect to `address`, one of the server's. Raises a BrokerError."""
        try:
            async with asyncio.timeout(self._access.timeout):
                await self.client.connect(**self._options(address))
        except Exception as error:
            _raise_explained(self._cause(error), Phase.CONNECT, self.server)
            raise
        # nats-py returns as if connected when anything but PONG or -ERR answers its CONNECT (nats.py#975).
        if not self.client.is_connected:
            _raise_explained(self._lost(), Phase.ASK, self.server)
        if self._wants_tls:
            self._require_tls()

    def complaint(self, phase: Phase) -> Exception | None:
        """Return what the server has complained of since the connection was made, as `phase` has it; None if nothing.

        To be asked after a request that says nothing of what was sent before it: its answer wins the race against a
        complaint that came a moment earlier. The end of the connection is none.
        """
        error = self.client.last_error
        if not isinstance(error, nats.errors.Error) or isinstance(error, nats.errors.StaleConnectionError):
            return None
        kind = Violation if "permissions violation" in str(error).lower() else ConnectionLost
        return explain(kind(str(error)), phase, str(self.server))

    @property
    def takes_headers(self) -> bool:
        """Whether the server knows headers, and with them the status "no responders" (NATS 2.2 and later)."""
        return bool(self.client._server_info.get("headers"))  # noqa: SLF001 - nats-py shows it nowhere else

    async def close(self) -> None:
        """Close in bounded time, whatever state the connection is in."""
        # AssertionError and others: nats-py's close() does not expect a connect that failed early.
        with suppress(Exception):
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self.client.close()

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
            # The empty token is sent beside the JWT and means nothing; asking for it keeps the JWT where it is.
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
                "switch TLS on at the server, or write nats:// without NATS_CA and NATS_CERT",
            )

    async def _on_error(self, error: Exception) -> None:
        self._collected.append(error)
        if "permissions violation" in str(error).lower():
            self._set_fault(Violation(str(error)))

    async def _on_closed(self) -> None:
        self._closed = True
        self._set_fault(self._lost())

    async def _on_lame_duck(self) -> None:
        self.leaving = True

    def _set_fault(self, fault: Exception) -> None:
        if self._fault and not self._fault.done():
            self._fault.set_result(fault)

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


@asynccontextmanager
async def connect(settings: Settings, access: Access, turn: int = 0) -> AsyncIterator[Connection]:
    """Yield a connection to the first server that takes it, beginning the list at `turn`.

    Raises a BrokerError: one worth retrying if that holds for any of the servers, else the first one's.
    """
    silence_libraries()
    failures: list[BrokerError] = []
    count = len(settings.servers)
    for server in (settings.servers[(turn + i) % count] for i in range(count)):
        try:
            addresses = await _addresses(server, access)
        except BrokerError as error:
            failures.append(error)
            continue
        for address in addresses:
            connection = Connection(server, access)
            try:
                await connection.open(address)
            except BrokerError as error:
                await connection.close()
                failures.append(await _look_closer(error, server, address, access))
                continue
            except BaseException:
                await connection.close()
                raise
            try:
                yield connection
            finally:
                # Not even the end of our time is passed on here: what became of the message is known by now, and this
                # must not change it.
                with suppress(asyncio.CancelledError):
                    await connection.close()
            return
    raise _verdict(failures)


def silence_libraries() -> None:
    """Keep nats-py's and asyncio's own log lines off stderr: what they tell is in our errors.

    nats-py's read loop logs tracebacks whatever `error_cb` is, and asyncio warns of every TLS end (nats.py#574).
    """
    logger = logging.getLogger("nats")
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
    logging.getLogger("asyncio").setLevel(logging.CRITICAL + 1)


def _raise_explained(error: Exception, phase: Phase, server: Server) -> None:
    """Raise what `error` means; return if its kind is unforeseen, so that it goes on as it is."""
    explained = explain(error, phase, str(server))
    if explained is not error:
        raise explained from error


def _verdict(failures: list[BrokerError]) -> BrokerError:
    chosen = next((failure for failure in failures if failure.retryable), failures[0])
    messages = dict.fromkeys(failure.message for failure in failures)
    if len(messages) == 1:
        return chosen
    return type(chosen)("; ".join(messages), chosen.hint)


def _concerns(violation: Exception, subject: str) -> bool:
    """Tell whether a permission violation is about this request: its subject, or the inbox its answer comes to.

    nats-py lower-cases the server's text.
    """
    text = str(violation).lower()
    return "for subscription" in text or f'"{subject.lower()}"' in text


async def _addresses(server: Server, access: Access) -> list[str]:
    """Return the server's addresses. Raises a BrokerError, or ConfigError for what cannot be a name."""
    try:
        return await resolve(server.host, server.port, access.timeout)
    except UnicodeError:
        raise ConfigError(f"NATS_URL: '{server}' has no valid host name") from None
    except TimeoutError:
        raise Unavailable(f"{server}: the host name was not resolved within the timeout") from None
    except OSError as error:
        _raise_explained(error, Phase.CONNECT, server)
        raise


async def _look_closer(error: BrokerError, server: Server, address: str, access: Access) -> BrokerError:
    """Tell a greeting that was cut off, which passes, from one that is not NATS: nats-py calls both the same."""
    cause = error.__cause__
    unread = isinstance(cause, nats.errors.Error) and any(
        text in str(cause) for text in ("empty response", "json parse error")
    )
    # Its own kind, no other: what nats-py lets out for a line that ends too early.
    if not unread and type(cause) is not ValueError:
        return error
    seen = b""
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(access.timeout):
            reader, writer = await asyncio.open_connection(address, server.port)
            try:
                while b"\n" not in seen and len(seen) < _LONGEST_GREETING and (more := await reader.read(4096)):
                    seen += more
            finally:
                writer.close()
    line, whole, _ = seen.partition(b"\n")
    ended = whole or len(seen) >= _LONGEST_GREETING
    if not b"INFO ".startswith(line[:5]) or (ended and not _is_object(line[5:])):
        return BadPeer(f"{server}: it greets unlike a NATS server", "is this the server's client port?")
    if line:
        return Unavailable(f"{server}: the connection was closed in the middle of the handshake")
    return Unavailable(
        f"{server}: the connection was closed before a greeting",
        "if the server wants TLS first, set NATS_TLS_FIRST=true",
    )


def _is_object(text: bytes) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False
