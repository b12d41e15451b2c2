"""What may be shown of a text that may hold a secret, or what a terminal would obey."""

from __future__ import annotations

import re

MASK = "***"
_LONGEST_SHOWN = 80
_LONGEST_PATH = 1024
# Patterns are compiled where they are used: a clean run shows nothing and pays for none.
_ADDRESS = r"\s*(?:[A-Za-z]{1,5}://)?(?:\[[0-9A-Fa-f:.%]*\]|[\w.${}-]+)?(?::[0-9]{1,5})?/?\s*"
_SCHEME_AND_HOST = r"\s*(?:[A-Za-z]{1,5}://)?(?:\[[0-9A-Fa-f:.%]*\]|[\w.${}-]+)?:?"
_NKEY_SEED = r"S[A-Z][A-Z2-7]{56}"
# A key in PEM's frame; its body alone, whose first bytes say "sequence" (DER); and a JWT.
_KEYS = rf"-----|PRIVATE KEY|{_NKEY_SEED}|(?<![A-Za-z0-9+/])M[A-P][A-Za-z0-9+/\s]{{38}}|eyJ[A-Za-z0-9_-]{{8}}"


def escaped(text: str) -> str:
    r"""Return a text with everything that is not printable written as Python escapes it: `\\n`, `\\x1b`."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def shown(text: str, most: int = _LONGEST_SHOWN) -> str:
    """Return the first `most` characters of a text as a message may quote it: keys masked, the rest escaped."""
    masked = mask_keys(text)
    return escaped(masked if len(masked) <= most else masked[:most] + "...")


def shown_path(path: str) -> str:
    """Return a path as a message may quote it: to its end, unless somebody gave something else."""
    return shown(path, _LONGEST_PATH)


def mask_keys(text: str) -> str:
    """Return `***` for a text that holds a private key, a seed or a JWT, which some give where a file is wanted."""
    return MASK if re.search(_KEYS, text) else text


def mask_url(raw: str) -> str:
    """Return a list of URLs, well-formed or not, without anything that may be a credential.

    A password may hold any character, and the `@` behind it may be missing. So nothing before the last `@` is shown but
    the first scheme, and behind it nothing from the first part on that is no plain address.
    """
    credentials, at, addresses = raw.rpartition("@")
    scheme = re.match(r"[A-Za-z]{1,5}://", credentials)
    before = f"{scheme[0] if scheme else ''}{MASK}"
    parts: list[str] = []
    for part in addresses.split(","):
        if not re.fullmatch(_ADDRESS, part):
            if at and not parts:
                return before  # what seems to be a host is the rest of a password
            start = re.match(_SCHEME_AND_HOST, part)
            return f"{before}@" * bool(at) + ",".join([*parts, f"{start[0] if start else ''}{MASK}"])
        parts.append(part)
    return f"{before}@" * bool(at) + ",".join(parts)
