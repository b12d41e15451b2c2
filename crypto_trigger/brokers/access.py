"""Who we are and what we trust: the credentials and certificates a connection is made with."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any, NamedTuple

from nats.aio.client import RawCredentials

from crypto_trigger.errors import ConfigError

if TYPE_CHECKING:
    from crypto_trigger.settings import Settings


class Access(NamedTuple):
    """Who we are and what we trust, read from the settings before the first connection."""

    client_id: str
    timeout: float
    inbox_prefix: str
    tls_first: bool
    wants_tls: bool
    tls: WitnessedContext | None
    has_certificate: bool
    user: str | None
    password: str | None
    token: str | None
    creds: RawCredentials | None
    nkey: str | None

    @classmethod
    def from_settings(cls, settings: Settings) -> Access:
        """Load certificates and keys. Raises ConfigError naming the variable where one does not fit."""
        wants_tls = bool(settings.ca or settings.cert or settings.tls_first)
        tls = None
        if wants_tls or any(server.tls for server in settings.servers):
            tls = _tls_context(settings)
        creds = None
        if settings.creds:
            _check_seed(settings.creds.seed, "creds", settings)
            # Rebuilt from its two parts, so that nats-py sees line ends and markers as it expects them.
            creds = RawCredentials(
                f"-----BEGIN NATS USER JWT-----\n{settings.creds.jwt}\n------END NATS USER JWT------\n"
                f"-----BEGIN USER NKEY SEED-----\n{settings.creds.seed}\n------END USER NKEY SEED------\n"
            )
        if settings.nkey:
            _check_seed(settings.nkey, "nkey", settings)
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
            creds=creds,
            nkey=settings.nkey,
        )


class WitnessedContext(ssl.SSLContext):
    """A TLS context that counts the handshakes begun with it: the public way to see whether nats-py upgraded."""

    handshakes = 0

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:  # noqa: ANN401 - passed on as they are
        """Begin a handshake, as `ssl.SSLContext` does."""
        self.handshakes += 1
        return super().wrap_bio(*args, **kwargs)


def _tls_context(settings: Settings) -> WitnessedContext:
    context = WitnessedContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if settings.ca:
            context.load_verify_locations(settings.ca)
        else:
            context.load_default_certs()
    except OSError:
        raise ConfigError(settings.source("ca").problem("holds no PEM certificate")) from None
    if settings.cert and settings.key:

        def refuse() -> str:
            # Without a callback OpenSSL would ask on the terminal, and wait.
            raise ConfigError(settings.source("key").problem("is encrypted; decrypt it with: openssl pkey"))

        try:
            context.load_cert_chain(settings.cert, settings.key, password=refuse)
        except OSError:
            key = settings.source("key")
            raise ConfigError(
                settings.source("cert").problem(f"and {key.setting.variable} '{key.shown}' are no PEM pair")
            ) from None
    return context


def _check_seed(seed: str, attribute: str, settings: Settings) -> None:
    import nkeys

    try:
        nkeys.from_seed(bytearray(seed.encode()))
    except nkeys.NkeysError:
        raise ConfigError(settings.source(attribute).problem("holds a seed that is no nkey")) from None
