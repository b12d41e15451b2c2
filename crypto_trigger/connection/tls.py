"""The TLS context of a connection: the trusted certificate authorities and the client certificate."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

from crypto_trigger.errors import ConfigError

if TYPE_CHECKING:
    from crypto_trigger.settings.load import Settings


class CountingContext(ssl.SSLContext):
    """A TLS context that counts its handshakes: the only public way to see whether nats-py has upgraded to TLS.

    `last` is the last of them.
    """

    handshakes = 0
    last: ssl.SSLObject | None = None

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:  # noqa: ANN401 - passed on as they are
        """Begin a handshake, as `ssl.SSLContext` does."""
        self.handshakes += 1
        self.last = super().wrap_bio(*args, **kwargs)
        return self.last


def context_of(settings: Settings) -> CountingContext:
    """Load the certificates. Raises ConfigError with one line for each variable that cannot be used."""
    context = CountingContext(ssl.PROTOCOL_TLS_CLIENT)
    # Every certificate in the file is trusted, an intermediate or the server's own too, as in Go.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    problems = []
    try:
        if settings.ca:
            context.load_verify_locations(settings.ca)
        else:
            context.load_default_certs()
    except OSError:
        problems.append(settings.source("ca").problem("holds no PEM certificate"))
    if settings.cert and settings.key and (problem := _load_pair(context, settings)):
        problems.append(problem)
    if problems:
        raise ConfigError(*problems)
    return context


def _load_pair(context: ssl.SSLContext, settings: Settings) -> str:
    """Load the client certificate and its key. Return what is wrong with them, or an empty text."""
    cert, key = settings.source("cert"), settings.source("key")
    encrypted = False

    def passphrase() -> str:
        # Without a callback, OpenSSL would ask on the terminal and wait.
        nonlocal encrypted
        encrypted = True
        return ""

    try:
        context.load_cert_chain(str(settings.cert), str(settings.key), password=passphrase)
    except OSError as error:
        if encrypted:
            return key.problem("is encrypted; decrypt it with: openssl pkey")
        other = f"{key.setting.variable} '{key.shown}'"
        if getattr(error, "reason", "") == "KEY_VALUES_MISMATCH":
            return cert.problem(f"and {other} do not belong together: the key is another certificate's")
        return cert.problem(f"and {other} are not a certificate and its key in PEM format")
    return ""
