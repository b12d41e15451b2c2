"""Parse the text of one setting, or of the file it names, into a checked value. Pure, except for expanding paths.

Every parser takes the text as it was given and raises `ValueError` with what is wrong and what to write instead. The
message never repeats the text, because it may be a secret.
"""

from __future__ import annotations

import os
import re
from enum import StrEnum
from os.path import expanduser, expandvars
from typing import Final, Literal, NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit

DEFAULT_PORT = 4222
_WANTED = "must be nats://host:port or tls://host:port, several of them separated by commas"
# In bytes. nats-server accepts stream names of up to 255 bytes (JSMaxNameLen). With the same limit for other names, a
# protocol line with several names stays below the 4096 bytes that a server accepts.
_LONGEST_NAME = 255
_LONGEST_TEXT = 4096
# The lengths of one part of a host name and of the whole name (RFC 1035, 2.3.4).
_LONGEST_LABEL = 63
_LONGEST_HOST = 253
_NKEY_SEED = r"SU[A-Z2-7]{56}"
_MARKER = r"-{3,}.*-{3,}"
_JWT = r"eyJ[A-Za-z0-9_-]*\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+"
# Version ff and ids of zeros are invalid. Version 00 ends with the flags; later versions may have more fields.
_TRACEPARENT = r"(?!ff|00.{54})[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-[!-~]*)?"
_TRACESTATE_MEMBER = r"[a-z0-9][a-z0-9_*/@-]{0,255}=[ -+\--<>-~]{0,255}[!-+\--<>-~]"
_MOST_MEMBERS = 32
# How stderr is written. Plain texts, because an enumeration takes longer to define.
LogFormat = Literal["text", "json"]
Guard = Literal["compare-and-set", "msg-id"]


# Sizes of a stream, in bytes. The server counts them in 64 bits with a sign. The least one holds about 100 triggers.
_UNITS_OF_BYTES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_LEAST_BYTES, _MOST_BYTES = 1 << 16, (1 << 63) - 1
_TOO_MANY_DIGITS = 20


class Delivery(StrEnum):
    """How a trigger is delivered. It decides which confirmation is awaited, and so what can be promised."""

    JETSTREAM = "jetstream"
    CORE = "core"
    STREAMING = "streaming"


class Address(NamedTuple):
    """One NATS server's address, with the credentials its URL held. `str()` and `repr()` are the address alone."""

    host: str
    port: int = DEFAULT_PORT
    tls: bool = False
    user: str = ""
    password: str = ""
    token: str = ""

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'tls' if self.tls else 'nats'}://{host}:{self.port}"

    def __repr__(self) -> str:
        return str(self)

    @property
    def name(self) -> str:
        """The host without the dot at its end: the name in its certificate and in SNI (RFC 6066, section 3)."""
        return self.host.removesuffix(".")

    @property
    def anonymous(self) -> Address:
        """The same address without credentials."""
        return self._replace(user="", password="", token="")


class Creds:
    """The two parts of a NATS credentials file: the user JWT and the seed that signs the server's nonce."""

    def __init__(self, jwt: str, seed: str) -> None:
        self.jwt: Final = jwt
        self.seed: Final = seed


def text(raw: str) -> str:
    """Return any text of up to 4096 bytes without control characters.

    Raises ValueError for an empty text, for a longer one, for a control character and for bytes that are not UTF-8.
    """
    if not raw:
        raise ValueError("is empty")
    if not raw.isprintable():
        undecoded = any("\ud800" <= letter <= "\udfff" for letter in raw)
        raise ValueError("holds bytes that are not UTF-8" if undecoded else "holds a control character")
    return bounded(raw, _LONGEST_TEXT)


def label(raw: str) -> str:
    """Return a text as `text` does, of up to 255 bytes."""
    return bounded(text(raw), _LONGEST_NAME)


def bounded(raw: str, most: int) -> str:
    """Return a text of up to `most` bytes. Raises ValueError for a longer one."""
    if len(raw.encode(errors="surrogateescape")) > most:
        raise ValueError(f"is longer than {most} bytes")
    return raw


def secret(raw: str) -> str:
    """Return a secret without the line ends after it, which `echo` adds. Raises ValueError for an empty one."""
    found = raw.rstrip("\r\n")
    if not found:
        raise ValueError("is empty")
    return found


def is_quoted(raw: str) -> bool:
    """Tell whether a text is in matching quotes. The env files of docker and kubectl keep them as part of the value."""
    return len(raw) > 1 and raw[0] in "\"'`" and raw[0] == raw[-1]


def check_quotes(raw: str) -> None:
    """Raise ValueError for a text in matching quotes."""
    if is_quoted(raw):
        raise ValueError(
            "is in quotes, which are part of it: leave them out (docker's and kubectl's env files keep them)"
        )


def traceparent(raw: str) -> str:
    """Return a `traceparent` of W3C Trace Context (3.2), of version 00 or a later one."""
    if len(raw) > _LONGEST_TEXT or not re.fullmatch(_TRACEPARENT, raw):
        raise ValueError("is not a traceparent of W3C Trace Context")
    return raw


def tracestate(raw: str) -> str:
    """Return a `tracestate` of W3C Trace Context (3.3): up to 32 members `key=value`, joined by commas."""
    members = [member for member in (part.strip(" \t") for part in raw.split(",")) if member]
    valid = all(re.fullmatch(_TRACESTATE_MEMBER, member) for member in members)
    if len(raw) > _LONGEST_TEXT or not (valid and 0 < len(members) <= _MOST_MEMBERS):
        raise ValueError("is not a tracestate of W3C Trace Context")
    return raw


def boolean(raw: str) -> bool:
    """Return `true`/`1`/`yes`/`on` as True and `false`/`0`/`no`/`off` as False, in any case."""
    known = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
    try:
        return known[raw.lower()]
    except KeyError:
        raise ValueError("must be true or false") from None


def delivery(raw: str) -> Delivery:
    """Return the delivery of that name."""
    try:
        return Delivery(raw)
    except ValueError:
        raise ValueError(f"must be {', '.join(Delivery)}") from None


def log_format(raw: str) -> LogFormat:
    """Return `text` or `json`."""
    if raw == "text":
        return "text"
    if raw == "json":
        return "json"
    raise ValueError("must be text or json")


def guard(raw: str) -> Guard:
    """Return `compare-and-set` or `msg-id`."""
    if raw == "compare-and-set":
        return "compare-and-set"
    if raw == "msg-id":
        return "msg-id"
    raise ValueError("must be compare-and-set or msg-id")


def size(raw: str) -> int:
    """Return a size in bytes, from 64KiB to 8EiB, written as the nats CLI reads it: `16MiB`, `16MB`, `16M`, `16777216`.

    K, M, G and T are powers of 1024, with or without `B` or `iB`, in any case.
    """
    number = raw.rstrip("BKMGTIbkmgti")
    unit = raw[len(number) :].upper().removesuffix("B").removesuffix("I")
    if not (number.isascii() and number.isdecimal()) or unit not in _UNITS_OF_BYTES:
        raise ValueError("must be a number of bytes, such as 16MiB or 16777216")
    # More digits are too many for Python to read, or too large.
    length = int(number) * _UNITS_OF_BYTES[unit] if len(number) < _TOO_MANY_DIGITS else _MOST_BYTES + 1
    if not _LEAST_BYTES <= length <= _MOST_BYTES:
        raise ValueError(f"must be from {format_size(_LEAST_BYTES)} to {format_size(_MOST_BYTES + 1)}")
    return length


def format_size(length: int) -> str:
    """Return a number of bytes as people write it: `16MiB`; a plain number if it is no multiple of a unit."""
    for power, unit in ((60, "EiB"), (40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")):
        if length > 0 and length % (1 << power) == 0:
            return f"{length >> power}{unit}"
    return str(length)


def subject(raw: str) -> str:
    """Return a literal NATS subject: tokens joined by dots, no wildcards, no blanks, no leading `$`."""
    if not raw.isprintable() or " " in raw:
        raise ValueError(
            "holds a blank, a control character or bytes that are not UTF-8, which are not allowed in a NATS subject"
        )
    tokens = raw.split(".")
    if not all(tokens):
        raise ValueError("has an empty part; a NATS subject is names joined by dots, like crypto.update")
    if {"*", ">"} & set(tokens):
        raise ValueError("is a wildcard; a message is published to one literal subject, like crypto.update")
    if raw.startswith("$"):
        raise ValueError("starts with $, which belongs to the server")
    return bounded(raw, _LONGEST_NAME)


def name(raw: str) -> str:
    r"""Return a name of up to 255 bytes that can be one part of a subject and of a path: a stream, a domain, a cluster.

    The characters NATS refuses in a stream's name are refused: `> * . / \` and white space.
    """
    label(raw)
    if bad := sorted(set(raw) & set(">*./\\ ")):
        raise ValueError(f"holds {' '.join(map(repr, bad))}, which is not allowed in a NATS name")
    return raw


def check_client_id(raw: str) -> None:
    """Raise ValueError where NATS Streaming would refuse a client ID."""
    if not re.fullmatch("[a-zA-Z0-9_-]+", raw):
        raise ValueError("may hold only letters, digits, - and _ with NATS Streaming")


def check_channel(raw: str) -> None:
    """Raise ValueError where a literal NATS subject cannot be a channel of NATS Streaming."""
    if "/" in raw:
        raise ValueError("holds '/', which is not allowed in a channel of NATS Streaming")


def servers(raw: str) -> tuple[Address, ...]:
    """Return the servers of a comma-separated list of `nats://` and `tls://` URLs, in its order.

    A server without a scheme is `nats://`: `localhost:4222`, `[::1]:4222`, `h`. As in the nats CLI, empty parts of the
    list are skipped. Raises ValueError if there are no others.
    """
    parts = [part.strip() for part in raw.split(",")]
    if not any(parts):
        raise ValueError(f"names no server; it {_WANTED}")
    return tuple(_server(part) for part in parts if part)


def _server(raw: str) -> Address:
    if not raw.isprintable():  # urlsplit removes some of them
        raise ValueError(f"holds a control character or bytes that are not UTF-8; it {_WANTED}")
    if "$" in raw.rpartition("@")[2]:
        raise ValueError("holds a $ in a host or port: variables are not expanded here, so write the host itself")
    try:
        url = urlsplit(raw if "://" in raw else f"nats://{raw}")
        port = url.port
    except ValueError:
        raise ValueError(f"has no valid host and port; it {_WANTED}") from None
    if url.scheme in ("ws", "wss"):
        raise ValueError(f"is a WebSocket address, which is not supported; it {_WANTED}")
    if url.scheme not in ("nats", "tls"):
        raise ValueError(_WANTED)
    host = host_of(url)
    if not host or port == 0 or not is_host(host):
        raise ValueError(f"has no valid host and port; it {_WANTED}")
    check_labels(host)
    if url.path not in ("", "/") or url.query or url.fragment:
        raise ValueError("has more text after the port; write / ? # in a password as %2F %3F %23")
    # nats.go decodes percent-escapes here; nats-py sends them undecoded.
    user, password = unquote(url.username or ""), unquote(url.password or "")
    tls = url.scheme == "tls"
    if url.password is None:
        return Address(host, port or DEFAULT_PORT, tls, token=user)
    return Address(host, port or DEFAULT_PORT, tls, user=user, password=password)


def host_of(url: SplitResult) -> str:
    """Return the host of a URL, an empty text if it has none. In an IPv6 address `%25` is a zone's `%` (RFC 6874)."""
    host = url.hostname or ""
    address, percent, zone = host.partition("%25")
    return f"{address}%{zone}" if percent and ":" in address else host


def is_host(host: str) -> bool:
    """Tell whether a text can be a host name, an IPv4 address or an IPv6 address (which may have a zone: `%eth0`)."""
    return (":" in host and host[-1] != "%") or all(letter.isalnum() or letter in "-._" for letter in host)


def check_labels(host: str) -> None:
    """Raise ValueError for a host name that no resolver accepts: one of its parts, or the whole name, is too long."""
    if ":" in host:
        return
    try:
        name = host if host.isascii() else host.encode("idna").decode()
    except UnicodeError:
        raise ValueError("has a host name that cannot be resolved: a part of it is empty or too long") from None
    labels = name.removesuffix(".").split(".")
    if len(name) > _LONGEST_HOST or not all(0 < len(label) <= _LONGEST_LABEL for label in labels):
        raise ValueError(
            f"has a host name that cannot be resolved: each part of it has 1 to {_LONGEST_LABEL} characters, "
            f"and all of it at most {_LONGEST_HOST}"
        )


def path(raw: str) -> str:
    """Return a path with `~` and `$VARIABLES` expanded, as natscli does, in the form that `open` takes.

    Where the locale is not UTF-8, that form holds surrogates for what is not ASCII.
    """
    if not raw:
        raise ValueError("is empty")
    if "\0" in raw:
        raise ValueError("holds a NUL, which is not allowed in a path")
    local = raw if raw.isascii() else os.fsdecode(raw.encode("utf-8", "surrogateescape"))
    return expandvars(expanduser(local))  # noqa: PTH111 - Path.expanduser raises where there is no home


def mounted_secret(content: str) -> str:
    """Return the secret in a file, without the line end that editors and `kubectl` add to it."""
    found = content.rstrip("\r\n")
    if not found:
        raise ValueError("names an empty file")
    return found


def nkey_seed(content: str) -> str:
    """Return the user seed that an nkey file holds: its first line of 58 characters that begin with `SU`.

    As Go's `nkeys` does, this takes a seed in a frame or alone, with the public key after it and with comments.
    """
    seed = next((line for line in _lines(content) if re.fullmatch(_NKEY_SEED, line)), None)
    if seed is None:
        raise ValueError("holds no user nkey seed (58 characters, SU...)")
    return seed


def creds(content: str) -> Creds:
    """Return the JWT and the seed of a credentials file: the first JWT after a marker, and the seed of `nkey_seed`.

    As Go's `nkeys` does, this takes any words in the markers, and any line ends. The file is not read by nats-py, which
    loops for ever on one without the JWT's marker (nats.py#1020).
    """
    from itertools import pairwise

    lines = _lines(content)
    marked = (line for marker, line in pairwise(lines) if re.fullmatch(_MARKER, marker))
    jwt = next((line for line in marked if re.fullmatch(_JWT, line)), None)
    if jwt is None:
        raise ValueError("has no NATS USER JWT part; make the file with: nsc generate creds")
    try:
        return Creds(jwt, nkey_seed(content))
    except ValueError:
        raise ValueError("has no USER NKEY SEED part; make the file with: nsc generate creds") from None


def _lines(content: str) -> list[str]:
    """Return the lines that are not blank, without the blanks around them."""
    return [line for line in map(str.strip, content.splitlines()) if line]
