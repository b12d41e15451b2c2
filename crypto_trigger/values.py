"""The text of one setting -> a checked value. Pure but for the few that read the file they name.

Every parser takes the text as it was given and raises `ValueError` with what is wrong and what to write instead;
the message never repeats the text, because the text may be a secret.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from os.path import expanduser, expandvars
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from crypto_trigger.files import read_text

DEFAULT_PORT = 4222
# In microseconds, the finest a timedelta has.
_UNITS = {
    "ns": 0.001,
    "us": 1,
    "µs": 1,  # U+00B5, and below it U+03BC: Go takes both
    "μs": 1,
    "ms": 1_000,
    "s": 1_000_000,
    "m": 60_000_000,
    "h": 3_600_000_000,
}
# Patterns are compiled where they are used: a run without credentials does not pay for theirs.
_DURATION_PART = r"([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)"
_RFC3339 = r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})"
_LONGEST_SUBJECT = 255
_NKEY_SEED = r"SU[A-Z2-7]{56}"
_CREDS_JWT = r"-{3,}BEGIN NATS USER JWT-{3,}\s+(\S+)\s+-{3,}END NATS USER JWT-{3,}"
_CREDS_SEED = r"-{3,}BEGIN USER NKEY SEED-{3,}\s+(\S+)\s+-{3,}END USER NKEY SEED-{3,}"


class Delivery(StrEnum):
    """How a trigger is delivered: which confirmation is asked for, and so what can be promised."""

    JETSTREAM = "jetstream"
    CORE = "core"
    STREAMING = "streaming"


class Server(NamedTuple):
    """One NATS server's address, with the credentials its URL carried. `str()` and `repr()` are the address alone."""

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


class Creds(NamedTuple):
    """The two parts of a NATS credentials file: the user JWT and the seed that signs the server's nonce.

    `repr()` shows neither.
    """

    jwt: str
    seed: str

    def __repr__(self) -> str:
        return "Creds()"


def text(raw: str) -> str:
    """Return any text without control characters.

    Raises ValueError for an empty text or a control character.
    """
    if not raw:
        raise ValueError("is empty")
    if not raw.isprintable():
        raise ValueError("holds a control character")
    return raw


def secret(raw: str) -> str:
    """Return a secret as it is; only an empty one is refused."""
    if not raw:
        raise ValueError("is empty")
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


def duration(raw: str) -> timedelta:
    """Return the length of time written as Go's `time.ParseDuration` reads it: `500ms`, `15m`, `1h30m`.

    Only lengths above zero and up to 8760h (a year) are durations here; finer than a microsecond is lost.
    """
    if not re.fullmatch(f"({_DURATION_PART})+", raw):
        raise ValueError("is not a duration; write it like 500ms, 15m or 1h30m")
    try:
        parts = re.findall(_DURATION_PART, raw)
        total = timedelta(microseconds=sum(float(number) * _UNITS[unit] for number, unit in parts))
    except OverflowError:
        total = timedelta.max
    if not timedelta(0) < total <= timedelta(hours=8760):
        raise ValueError("must be more than 0s and at most 8760h")
    return total


def tolerance(raw: str) -> timedelta:
    """Return a duration as `duration` does, or none at all: `0s`."""
    return timedelta(0) if raw in ("0", "0s") else duration(raw)


def format_duration(length: timedelta) -> str:
    """Return `length` in the notation `duration` reads, shortest form: `15m`, `1h30m`, `250ms`."""
    microseconds = round(length / timedelta(microseconds=1))
    parts = []
    for unit, size in (("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000), ("ms", 1_000), ("us", 1)):
        count, microseconds = divmod(microseconds, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def slot_length(raw: str) -> timedelta:
    """Return a slot's length: a duration of whole seconds, because a slot's start is written in whole seconds."""
    length = duration(raw)
    if length % timedelta(seconds=1):
        raise ValueError("must be a whole number of seconds")
    return length


def instant(raw: str) -> datetime:
    """Return a moment written as RFC 3339 has it, in UTC: `2026-11-23T17:45:00Z`, `2026-11-23T18:45:00+01:00`."""
    if not re.fullmatch(_RFC3339, raw):
        raise ValueError("is not an RFC 3339 time; write it like 2026-11-23T17:45:00Z")
    try:
        return datetime.fromisoformat(raw.upper().replace(" ", "T")).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError("is no moment of the calendar") from None


def rfc3339(moment: datetime) -> str:
    """Return a moment in UTC as RFC 3339 writes it, to the second: `2026-11-23T17:45:00Z`."""
    return moment.astimezone(UTC).replace(microsecond=0, tzinfo=None).isoformat() + "Z"


def subject(raw: str) -> str:
    """Return a literal NATS subject: tokens joined by dots, no wildcards, no blanks, no leading `$`."""
    if not raw.isprintable() or " " in raw:
        raise ValueError("holds a blank or a control character, which a NATS subject cannot")
    tokens = raw.split(".")
    if not all(tokens):
        raise ValueError("has an empty part; a NATS subject is names joined by dots, like crypto.update")
    if {"*", ">"} & set(tokens):
        raise ValueError("is a wildcard; a message is published to one literal subject, like crypto.update")
    if raw.startswith("$"):
        raise ValueError("starts with $, which belongs to the server")
    if len(raw.encode()) > _LONGEST_SUBJECT:
        raise ValueError(f"is longer than {_LONGEST_SUBJECT} bytes")
    return raw


def name(raw: str) -> str:
    r"""Return a name that can be one part of a subject and of a path: a stream, a domain, a cluster.

    The characters NATS refuses in a stream's name are refused: `> * . / \` and white space.
    """
    text(raw)
    if bad := sorted(set(raw) & set(">*./\\ ")):
        raise ValueError(f"holds {' '.join(map(repr, bad))}, which a NATS name cannot")
    return raw


def check_client_id(raw: str) -> None:
    """Raise ValueError where NATS Streaming would refuse a client ID."""
    if not re.fullmatch("[a-zA-Z0-9_-]+", raw):
        raise ValueError("may hold only letters, digits, - and _ with NATS Streaming")


def check_channel(raw: str) -> None:
    """Raise ValueError where a literal NATS subject cannot be a channel of NATS Streaming."""
    if "/" in raw:
        raise ValueError("holds '/', which a channel of NATS Streaming cannot")


def servers(raw: str) -> tuple[Server, ...]:
    """Return the servers of a comma-separated list of `nats://` and `tls://` URLs, in its order."""
    return tuple(_server(part.strip()) for part in raw.split(","))


def _server(raw: str) -> Server:
    wanted = "must be nats://host:port or tls://host:port, several of them separated by commas"
    try:
        url = urlsplit(raw)
        port = url.port
    except ValueError:
        raise ValueError(f"has no valid host and port; it {wanted}") from None
    if url.scheme in ("ws", "wss"):
        raise ValueError(f"is a WebSocket address, which is not supported; it {wanted}")
    if url.scheme not in ("nats", "tls"):
        raise ValueError(wanted)
    host = url.hostname
    if not host or port == 0 or not host.isprintable() or " " in host:
        raise ValueError(f"has no valid host and port; it {wanted}")
    if url.path not in ("", "/") or url.query or url.fragment:
        raise ValueError("goes on after the port; write / ? # in a password as %2F %3F %23")
    # nats.go decodes percent-escapes here, nats-py sends them as they stand.
    user, password = unquote(url.username or ""), unquote(url.password or "")
    tls = url.scheme == "tls"
    if url.password is None:
        return Server(host, port or DEFAULT_PORT, tls, token=user)
    return Server(host, port or DEFAULT_PORT, tls, user=user, password=password)


def mask_url(raw: str) -> str:
    """Return a list of URLs, well-formed or not, without anything that may be a credential."""
    if "@" not in raw:
        # `nats://user:password`, the host forgotten: what stands where a port belongs and is none.
        return re.sub(r"(://(?:\[[^]]*\]|[^:/,[]*)):(?![0-9]*/?(?:,|$))[^,]*", r"\1:***", raw)
    # The scheme of a first URL that has one: what comes before a later "://" may hold a password.
    scheme = re.match(r"[a-z]{1,5}://", raw)
    return f"{scheme[0] if scheme else ''}***@{raw.rpartition('@')[2]}"


def mask_seed(raw: str) -> str:
    """Return a text without nkey seeds: some give the seed where its file is to be named."""
    return re.sub(_NKEY_SEED, "***", raw)


def expand(raw: str) -> str:
    """Return a path with `~` and `$VARIABLES` expanded, as natscli does."""
    return expandvars(expanduser(raw))  # noqa: PTH111 - Path.expanduser raises where there is no home


def readable_file(raw: str) -> Path:
    """Return the path of a file that exists and can be read, more than once: no pipe."""
    path = Path(expand(raw))
    try:
        if path.is_dir():
            raise ValueError("is a directory, not a file")
        if path.is_fifo():
            raise ValueError("is a pipe; it is read more than once, so that it must be a file")
        with path.open("rb"):
            pass
    except OSError as error:
        raise ValueError(f"cannot be read: {(error.strerror or 'unknown error').lower()}") from None
    return path


def secret_file(raw: str) -> str:
    """Return the secret a file holds, without the line end that editors and `kubectl` leave behind it."""
    content = read_text(expand(raw)).rstrip("\r\n")
    if not content:
        raise ValueError("names an empty file")
    return content


def nkey_file(raw: str) -> str:
    """Return the user seed that an nkey file holds: 58 characters that begin with `SU`."""
    seed = read_text(expand(raw)).strip()
    if not re.fullmatch(_NKEY_SEED, seed):
        raise ValueError("names a file that holds no user nkey seed (58 characters, SU...)")
    return seed


def creds_file(raw: str) -> Creds:
    """Return the JWT and the seed of a credentials file as `nsc` writes it; line ends may be CRLF.

    Read here and not by nats-py, which loops for ever on a file without the JWT's marker (nats.py#1020).
    """
    content = read_text(expand(raw))
    jwt, seed = re.search(_CREDS_JWT, content), re.search(_CREDS_SEED, content)
    if not jwt:
        raise ValueError("names a file without its NATS USER JWT part; make it with: nsc generate creds")
    if not seed or not re.fullmatch(_NKEY_SEED, seed[1]):
        raise ValueError("names a file without its USER NKEY SEED part; make it with: nsc generate creds")
    return Creds(jwt[1], seed[1])
