"""The list of servers: connect to the first one that accepts us, with a share of the time for each."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING

from crypto_trigger.connection.addresses import resolve
from crypto_trigger.connection.connection import Connection
from crypto_trigger.connection.credentials import Access
from crypto_trigger.connection.phases import Phase
from crypto_trigger.errors import BrokerError, ConfigError, Fact, Unavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping

    from crypto_trigger.deadline.retry import Attempt
    from crypto_trigger.settings.load import Settings
    from crypto_trigger.settings.values import Address

_CREDENTIALS = ("NATS_USER and NATS_PASSWORD", "NATS_TOKEN", "NATS_CREDS", "NATS_NKEY")
# With host names of 253 characters, the report is then shorter than the 4096 bytes that Kubernetes keeps of it.
_MOST_LISTED = 8


class Servers:
    """The servers in the settings, and the credentials and certificates to connect with."""

    def __init__(self, settings: Settings) -> None:
        """Load certificates and keys. Raises ConfigError if they cannot be used."""
        self.settings = settings
        self.access = Access.from_settings(settings)
        self._silent: dict[str, float] = {}

    @asynccontextmanager
    async def connect(self, attempt: Attempt) -> AsyncIterator[Connection]:
        """Yield a connection to the first server that accepts it. Each attempt begins with the next server of the list.

        Raises a BrokerError: a retryable one if any server failed with a retryable one, else that of the first server.
        """
        _silence_libraries()
        failures: list[BrokerError] = []
        servers = self.settings.servers
        first = (attempt.number - 1) % len(servers)
        for position, server in enumerate(servers[first:] + servers[:first]):
            names = partial(self._names, server)
            servers_left = len(servers) - position
            attempt.where = str(server)
            try:
                addresses = await self._addresses(server, self._limit(attempt, servers_left), names)
            except BrokerError as error:
                failures.append(error)
                continue
            for number, address in enumerate(addresses):
                limit = self._limit(attempt, servers_left + len(addresses) - number - 1)
                connection = Connection(server, self.access, attempt, names, self._silent)
                try:
                    await connection.open(address, limit)
                except BrokerError as error:
                    attempt.failure = error
                    await connection.close()
                    from crypto_trigger.connection.addresses import reread

                    failures.append(await reread(error, str(server), address, server.port, limit))
                    continue
                except BaseException:
                    await connection.close()
                    raise
                try:
                    yield connection
                finally:
                    # The result is known by now: a deadline that passes during the close must not change it.
                    with suppress(asyncio.CancelledError):
                        await connection.close()
                return
        raise _verdict(failures)

    def _limit(self, attempt: Attempt, steps: int) -> float:
        return min(self.access.timeout, attempt.share(steps))

    def _names(self, server: Address, asks_signature: bool) -> Mapping[str, str]:
        """Return the names for the table of faults, except `subject` (see `faults.explain`)."""
        from crypto_trigger.settings.command_line import command_line
        from crypto_trigger.settings.credentials import NONE, in_force, remarks
        from crypto_trigger.settings.setting import Layer

        settings = self.settings
        who = in_force(settings, server, asks_signature=asks_signature)
        clauses = remarks(settings, server, asks_signature=asks_signature)
        known = who != NONE
        running = "is the server running?"
        if settings.source("servers").layer == Layer.DEFAULT:
            running = f"{running} NATS_URL is not set, and this is its default"
        trust = "NATS_CA is not set: set it to a file with"
        if settings.ca:
            trust = settings.source("ca").problem("does not contain")
        return {
            "stream": settings.stream,
            "cluster": settings.cluster_id,
            "who": who if known else "a client without credentials",
            "check": f"check these credentials{clauses}"
            if known
            else f"set {', '.join(_CREDENTIALS[:-1])} or {_CREDENTIALS[-1]}",
            "setup": command_line(settings, "setup"),
            "running": running,
            "trust": trust,
        }

    async def _addresses(self, server: Address, limit: float, names: Callable[[bool], Mapping[str, str]]) -> list[str]:
        """Return the server's addresses. Raises a BrokerError, or ConfigError for an invalid host name."""
        try:
            return await resolve(server.host, server.port, limit)
        except UnicodeError:
            raise ConfigError(f"NATS_URL: '{server}' has no valid host name") from None
        except TimeoutError:
            raise Unavailable(
                f"{server}: the host name was not resolved within the timeout",
                "check the name servers of this host (resolv.conf), or give the server's address",
                Fact.NAME_NOT_FOUND,
            ) from None
        except RuntimeError as error:
            raise Unavailable(
                f"{server}: the host name cannot be looked up: {error}",
                "raise the limit of processes, or give the server's address",
                Fact.NAME_NOT_FOUND,
            ) from error
        except OSError as error:
            from crypto_trigger.connection.faults import explain

            explained = explain(error, Phase.CONNECT, str(server), {**names(False), "subject": ""})
            if explained is error:
                raise
            raise explained from error


def _verdict(failures: list[BrokerError]) -> BrokerError:
    """Return one error for all servers, with every message, and the hints of those that are not retried, if any."""
    chosen = next((failure for failure in failures if failure.retryable), failures[0])
    messages = dict.fromkeys(failure.message for failure in failures)
    if len(messages) == 1:
        return chosen
    final = [failure for failure in failures if not failure.retryable]
    hints = dict.fromkeys(failure.hint for failure in final or failures if failure.hint)
    return chosen.reworded(_listed(messages), _listed(hints))


def _listed(texts: Iterable[str]) -> str:
    """Join the first texts and tell how many there are beyond them."""
    every = list(texts)
    more = [f"and {len(every) - _MOST_LISTED} more"] if len(every) > _MOST_LISTED else []
    return "; ".join(every[:_MOST_LISTED] + more)


def _silence_libraries() -> None:
    """Keep the log lines of nats-py and asyncio off stderr: our errors contain the same information.

    nats-py's read loop logs tracebacks even if there is an `error_cb`, and asyncio logs a warning whenever a TLS
    connection ends (nats.py#574).
    """
    logger = logging.getLogger("nats")
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
    logging.getLogger("asyncio").setLevel(logging.CRITICAL + 1)
