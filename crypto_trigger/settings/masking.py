"""Make a text safe to print: mask secrets and escape control characters.

The secrets of the process are known here, and only here: whoever reads one passes it to `keep`, and whoever prints a
text passes it to `masked`. A process has one run, so they are global to it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MASK = "***"
# In characters. To mask shorter texts would hide ordinary words. Code that shows the value of a setting masks these.
_SHORTEST_SECRET = 6
# In characters. A shorter text is no key, and a part of a web address that is shorter, or has no digit, may be a word.
_SHORTEST_KEY, _SHORTEST_PART = 48, 8
# How many colons before a password may be part of a scheme or of a user name that are wrong.
_MOST_COLONS = 4
_LONGEST_SHOWN = 80
_LONGEST_PATH = 1024
# Patterns are compiled where they are used, because a successful run needs none of them.
_ADDRESS = r"\s*(?:[A-Za-z]{1,5}://)?(?:\[[0-9A-Fa-f:.]*(?:%[\w.-]+)?\]|[\w.${}-]+)?(?::[0-9]{1,5})?/?\s*"
_SCHEME_AND_HOST = r"\s*(?:[A-Za-z]{1,5}://)?(?:\[[0-9A-Fa-f:.]*(?:%[\w.-]+)?\]|[\w.${}-]+)?:?"
_NKEY_SEED = r"(?i:S[A-Z][A-Z2-7]{56})"
# A body of a PEM key alone begins with a DER sequence; in base64 or, for a short key, in base64url. Another line of
# such a body has 64 characters.
_PEM_BODY = r"(?<![A-Za-z0-9+/])M[A-P][A-Za-z0-9+/\s]{38}|MC4CAQAwBQYDK2V|\A\s*[A-Za-z0-9+/]{63}[A-Za-z0-9+/=]\s*\Z"
# A PEM key, an nkey seed, a part of a PEM key, or a JWT.
_KEYS = rf"-----|PRIVATE KEY|{_NKEY_SEED}|{_PEM_BODY}|eyJ[A-Za-z0-9_-]{{8}}"


_kept: tuple[str, ...] = ()


def keep(texts: Iterable[str]) -> None:
    """Keep these texts out of all output from now on, in each form in which they may turn up there."""
    global _kept  # noqa: PLW0603 - as the secrets are
    forms = {form for text in texts for form in _forms(text) if len(form) >= _SHORTEST_SECRET}
    if not forms.issubset(_kept):
        # The longest first, because one may be part of another.
        _kept = tuple(sorted(forms.union(_kept), key=lambda form: (-len(form), form)))


def masked(text: str) -> str:
    """Return a text with `***` in place of each secret that is known so far."""
    for secret in _kept:
        text = text.replace(secret, MASK)
    return text


def _forms(text: str) -> Iterator[str]:
    """Yield a secret, its lines, and both as they are written percent-encoded, decoded and escaped."""
    from urllib.parse import quote, unquote

    decoded = unquote(text)
    for part in {text, decoded, *text.splitlines(), *decoded.splitlines()}:
        for form in (part, part.strip(), quote(part, "", errors="surrogateescape")):
            yield from (form, escaped(form), repr(form)[1:-1])
            yield form.encode("ascii", "backslashreplace").decode()


def secrets_in(text: str, *, is_secret: bool = False, is_address: bool = False) -> Iterator[str]:
    """Yield what is secret in the text of a setting, right or wrong: a key, or the credentials of an address.

    The whole text is, with `is_secret`. With `is_address`, the text is meant to be a list of addresses; any text with
    `://` or `:` before an `@` is taken for one.
    """
    if is_secret:
        yield text
        yield text.strip("\"'`")
        yield from _web_secrets(text)
    if len(text) >= _SHORTEST_KEY and mask_keys(text) == MASK:
        yield text
    before, at, _ = text.rpartition("@")
    if at and (is_address or ":" in before):
        for part in (before, *(part.rpartition("@")[0] for part in text.split(","))):
            yield from _after_colons(re.sub("^.*?://", "", part, flags=re.DOTALL))
    elif is_address:
        # The host and its `@` may have been forgotten.
        for part in text.split(","):
            if not re.fullmatch(_ADDRESS, part):
                start = re.match(_SCHEME_AND_HOST, part)
                rest = part[start.end() if start else 0 :]
                yield rest
                yield from _after_colons(rest)


def _after_colons(text: str) -> Iterator[str]:
    """Yield what may be the password of `user:password`: what follows each colon. Without one, the text is a token."""
    rest = text.split(":", _MOST_COLONS)
    yield from (":".join(rest[start:]) for start in range(1 if len(rest) > 1 else 0, len(rest)))


def secrets_of_word(word: str) -> Iterator[str]:
    """Yield what is secret in a word of the command line, which may be an option with its value: `-sURL`, `--x=URL`."""
    yield from secrets_in(word)
    if word.startswith("-"):
        yield from secrets_in(word[2:])
        yield from secrets_in(word.partition("=")[2])


def secrets_of_file(content: str) -> Iterator[str]:
    """Yield what is secret in a file of credentials or with a secret, right or wrong: it, or each of its words."""
    yield content
    for line in content.splitlines():
        # A frame, and the remarks around it, have blanks.
        if len(line.split()) == 1:
            yield line.strip()


def _web_secrets(text: str) -> Iterator[str]:
    """Yield the parts of a web address that are secrets by themselves: its password, its path, its query."""
    from urllib.parse import urlsplit

    try:
        url = urlsplit(text)
    except ValueError:
        return
    yield from filter(None, (url.path, url.query, url.password))
    for part in re.split("[/&=]", f"{url.path}&{url.query}"):
        if len(part) >= _SHORTEST_PART and re.search("[0-9]", part):
            yield part


def escaped(text: str) -> str:
    r"""Return a text with each character that is not printable written as a Python escape: `\\n`, `\\x1b`."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def shown(text: str, most: int = _LONGEST_SHOWN) -> str:
    """Return the first `most` characters of a text for use in a message: secrets masked, control characters escaped."""
    safe = mask_keys(masked(text))
    return escaped(safe if len(safe) <= most else safe[:most] + "...")


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
