"""Describe in words which credentials are sent to a server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crypto_trigger.masking import shown

if TYPE_CHECKING:
    from crypto_trigger.table import Settings
    from crypto_trigger.values import Address

NONE = "no credentials"


def in_force(settings: Settings, address: Address) -> str:  # noqa: PLR0911 - one for each kind
    """Return text like `user 'worker' (from NATS_USER, the environment)`, or `no credentials`. Shows no secret.

    The order is that of nats.go and of the connection: the server's URL, user and password, credentials file, nkey,
    token. A user name is shown only if there is a password, too: without one it is a token.
    """
    url = settings.source("servers").place
    if address.user or address.password:
        return f"user '{shown(address.user)}' (from {url})"
    if address.token:
        return f"the token (from {url})"
    user = settings.source("user").place
    if settings.user is not None and settings.password is not None:
        return f"user '{shown(settings.user)}' (from {user}; password from {_place(settings, 'password')})"
    if settings.creds is not None:
        source = settings.source("creds")
        return f"the credentials file '{source.shown}' (from {source.place})"
    if settings.nkey is not None:
        source = settings.source("nkey")
        return f"the nkey of '{source.shown}' (from {source.place})"
    if settings.token is not None:
        return f"the token (from {_place(settings, 'token')})"
    if settings.user is not None:
        return f"the token (from {user}: a user without a password is a token)"
    if settings.cert is not None:
        source = settings.source("cert")
        return f"the client certificate '{source.shown}' (from {source.place})"
    return NONE


def _place(settings: Settings, attribute: str) -> str:
    """Return where a secret came from: its variable, or the variable that names its file."""
    mounted = settings.source(f"{attribute}_file")
    return (mounted if mounted.raw is not None else settings.source(attribute)).place
