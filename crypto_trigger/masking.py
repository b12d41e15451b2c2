"""Make a text safe to print: mask secrets and escape control characters."""

from __future__ import annotations

import re

MASK = "***"
_LONGEST_SHOWN = 80
_LONGEST_PATH = 1024
# Patterns are compiled where they are used, because a successful run needs none of them.
_ADDRESS = r"\s*(?:[A-Za-z]{1,5}://)?(?:\[[0-9A-Fa-f:.%]*\]|[\w.${}-]+)?(?::[0-9]{1,5})?/?\s*"
_SCHEME_AND_HOST = r"\s*(?:[A-Za-z]{1,5}://)?(?:\[[0-9A-Fa-f:.%]*\]|[\w.${}-]+)?:?"
_NKEY_SEED = r"(?i:S[A-Z][A-Z2-7]{56})"
# A body of a PEM key alone begins with a DER sequence; in base64 or, for a short key, in base64url. Another line of
# such a body has 64 characters.
_PEM_BODY = r"(?<![A-Za-z0-9+/])M[A-P][A-Za-z0-9+/\s]{38}|MC4CAQAwBQYDK2V|\A\s*[A-Za-z0-9+/]{63}[A-Za-z0-9+/=]\s*\Z"
# A PEM key, an nkey seed, a part of a PEM key, or a JWT.
_KEYS = rf"-----|PRIVATE KEY|{_NKEY_SEED}|{_PEM_BODY}|eyJ[A-Za-z0-9_-]{{8}}"


def escaped(text: str) -> str:
    r"""Return a text with each character that is not printable written as a Python escape: `\\n`, `\\x1b`."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def shown(text: str, most: int = _LONGEST_SHOWN) -> str:
    """Return the first `most` characters of a text for use in a message: keys masked, control characters escaped."""
    masked = mask_keys(text)
    return escaped(masked if len(masked) <= most else masked[:most] + "...")


def shown_path(path: str) -> str:
    """Return a path for use in a message: in full, up to 1024 characters."""
    return shown(path, _LONGEST_PATH)


def mask_keys(text: str) -> str:
    """Return `***` for a text with a private key, a seed or a JWT: some users set one where a path is expected."""
    return MASK if re.search(_KEYS, text) else text


def mask_url(raw: str) -> str:
    """Return a list of URLs, well-formed or not, without anything that may be a credential.

    A password may contain any character, and the `@` after it may be missing. So only the first scheme is shown of the
    text before the last `@`. The text after it is shown up to the first part that is not a plain address.
    """
    credentials, at, addresses = raw.rpartition("@")
    scheme = re.match(r"[A-Za-z]{1,5}://", credentials)
    before = f"{scheme[0] if scheme else ''}{MASK}"
    parts: list[str] = []
    for part in addresses.split(","):
        if not re.fullmatch(_ADDRESS, part):
            if at and not parts:
                return before  # what looks like a host is the rest of a password
            start = re.match(_SCHEME_AND_HOST, part)
            return f"{before}@" * bool(at) + ",".join([*parts, f"{start[0] if start else ''}{MASK}"])
        parts.append(part)
    return f"{before}@" * bool(at) + ",".join(parts)
