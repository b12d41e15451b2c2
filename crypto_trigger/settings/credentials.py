"""Describe in words which credentials are sent to a server, and what is odd about them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from crypto_trigger.settings.masking import shown
from crypto_trigger.settings.values import is_quoted

if TYPE_CHECKING:
    from crypto_trigger.settings.setting import Source
    from crypto_trigger.settings.table import Settings
    from crypto_trigger.settings.values import Address

NONE = "no credentials"


class _Plain(NamedTuple):
    """Credentials that are sent as they are: in words, and each text by the variable it comes from."""

    words: str
    texts: tuple[tuple[str, str], ...] = ()


def in_force(settings: Settings, address: Address, *, asks_signature: bool | None = None) -> str:
    """Return text like `user 'worker' (from NATS_USER, the environment)`, or `no credentials`. Shows no secret.

    `asks_signature` tells whether the server asks for one; None where that is not known: then both are named, if there
    are credentials of both kinds. A user name is shown only if there is a password, too: without one it is a token.
    """
    kinds = [_signing(settings), _plain(settings, address).words]
    if asks_signature is False:
        kinds.reverse()
    found = list(filter(None, kinds))
    if asks_signature is None and found:
        return " or ".join(found)
    return found[0] if found else _certificate(settings)


def remarks(settings: Settings, address: Address, *, asks_signature: bool) -> str:
    """Return what may be wrong with credentials that a server refused: clauses that begin with `; `, or an empty text.

    Quotes and white space may be part of a secret, and are sent then; but a secret may have got them by mistake.
    """
    signing, plain = _signing(settings), _plain(settings, address)
    if asks_signature and signing:
        return f"; the server asks for a signature, so that {plain.words} was not sent" if plain.words else ""
    clauses = [f"the server asks for no signature, so that {signing} was not sent"] if signing and plain.words else []
    if len(plain.texts) > 1 and settings.token is not None:
        clauses.append(f"the token (from {_of(settings, 'token').place}) is not sent beside a user and a password")
    for name, text in plain.texts:
        if is_quoted(text):
            clauses.append(f"{name} is in quotes, and they were sent, too")
        if text != text.strip():
            clauses.append(f"{name} begins or ends in white space, and it was sent, too")
    return "".join(f"; {clause}" for clause in dict.fromkeys(clauses))


def _signing(settings: Settings) -> str:
    """Return the credentials that sign, in words; an empty text if there are none."""
    if settings.creds is not None:
        source = settings.source("creds")
        return f"the credentials file '{source.shown}' (from {source.place})"
    if settings.nkey is not None:
        source = settings.source("nkey")
        return f"the nkey of '{source.shown}' (from {source.place})"
    return ""


def _plain(settings: Settings, address: Address) -> _Plain:
    """Return the credentials that do not sign. The order is that of the connection: the URL's, the user, the token."""
    url = settings.source("servers")
    if address.user or address.password:
        sent = ((url.setting.variable, address.user), (url.setting.variable, address.password))
        return _Plain(f"user '{shown(address.user)}' (from {url.place})", sent)
    if address.token:
        return _Plain(f"the token (from {url.place})", ((url.setting.variable, address.token),))
    user = settings.source("user")
    if settings.user is not None and settings.password is not None:
        password = _of(settings, "password")
        words = f"user '{shown(settings.user)}' (from {user.place}; password from {password.place})"
        sent = ((user.setting.variable, settings.user), (password.setting.variable, settings.password))
        return _Plain(words, sent)
    if settings.token is not None:
        token = _of(settings, "token")
        return _Plain(f"the token (from {token.place})", ((token.setting.variable, settings.token),))
    if settings.user is not None:
        words = f"the token (from {user.place}: a user without a password is a token)"
        return _Plain(words, ((user.setting.variable, settings.user),))
    return _Plain("")


def _certificate(settings: Settings) -> str:
    if settings.cert is None:
        return NONE
    source = settings.source("cert")
    return f"the client certificate '{source.shown}' (from {source.place})"


def _of(settings: Settings, attribute: str) -> Source:
    """Return where a secret came from: its variable, or the variable that names its file."""
    mounted = settings.source(f"{attribute}_file")
    return mounted if mounted.raw is not None else settings.source(attribute)
