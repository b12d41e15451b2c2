"""The credentials and certificates of a connection, read and checked before the first attempt.

A dry run checks them here as well. It loads no nats for that, and no ssl unless TLS is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Self

from crypto_trigger.errors import ConfigError

if TYPE_CHECKING:
    from nats.aio.client import RawCredentials

    from crypto_trigger.connection.tls import CountingContext
    from crypto_trigger.settings.load import Settings
    from crypto_trigger.settings.values import Creds


class Access:
    """The credentials and certificates, read from the settings before the first connection."""

    def __init__(
        self,
        *,
        client_id: str,
        timeout: float,
        inbox_prefix: str,
        tls_first: bool,
        wants_tls: bool,
        tls: CountingContext | None,
        has_certificate: bool,
        user: str | None,
        password: str | None,
        token: str | None,
        creds: Creds | None,
        nkey: str | None,
    ) -> None:
        self.client_id: Final = client_id
        self.timeout: Final = timeout
        self.inbox_prefix: Final = inbox_prefix
        self.tls_first: Final = tls_first
        self.wants_tls: Final = wants_tls
        self.tls: Final = tls
        self.has_certificate: Final = has_certificate
        self.user: Final = user
        self.password: Final = password
        self.token: Final = token
        self.creds: Final = creds
        self.nkey: Final = nkey

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Load certificates and keys. Raises ConfigError with one line for each variable that cannot be used."""
        wants_tls = any(server.tls for server in settings.servers)
        tls, problems = _load(settings, wants_tls=wants_tls)
        if problems:
            raise ConfigError(*problems)
        # natscli's rule: a user without a password is a token.
        lone_user = settings.user if settings.password is None else None
        return cls(
            client_id=settings.client_id,
            timeout=settings.timeout.total_seconds(),
            inbox_prefix=settings.inbox_prefix,
            tls_first=settings.tls_first,
            wants_tls=wants_tls,
            tls=tls,
            has_certificate=settings.cert is not None,
            user=settings.user if settings.password is not None else None,
            password=settings.password,
            token=settings.token or lone_user,
            creds=settings.creds,
            nkey=settings.nkey,
        )

    @property
    def signs(self) -> bool:
        """Whether there is a key to sign with: that of the credentials file, or an nkey."""
        return self.creds is not None or self.nkey is not None

    @property
    def user_credentials(self) -> RawCredentials:
        """The content of the credentials file, with the markers and line ends that nats-py expects."""
        from nats.aio.client import RawCredentials

        assert self.creds is not None  # noqa: S101 - callers ask only where there are credentials
        return RawCredentials(
            f"-----BEGIN NATS USER JWT-----\n{self.creds.jwt}\n------END NATS USER JWT------\n"
            f"-----BEGIN USER NKEY SEED-----\n{self.creds.seed}\n------END USER NKEY SEED------\n"
        )


def problems_of(settings: Settings) -> list[str]:
    """Return one line for each certificate, key and seed that cannot be used. Other settings may be wrong: None."""
    return _load(settings, wants_tls=bool(settings.ca or settings.cert))[1]


def _load(settings: Settings, *, wants_tls: bool) -> tuple[CountingContext | None, list[str]]:
    """Return the TLS context, None if no TLS is wanted, and the problems."""
    tls, problems = None, list[str]()
    if wants_tls:
        from crypto_trigger.connection.tls import context_of

        try:
            tls = context_of(settings)
        except ConfigError as error:
            problems += error.problems
    for attribute, seed in (("creds", settings.creds and settings.creds.seed), ("nkey", settings.nkey)):
        if seed and not _is_nkey(seed):
            problems.append(settings.source(attribute).problem("holds a seed that is not a valid nkey"))
    return tls, problems


def _is_nkey(seed: str) -> bool:
    import nkeys

    try:
        nkeys.from_seed(bytearray(seed.encode()))
    except nkeys.NkeysError:
        return False
    return True
