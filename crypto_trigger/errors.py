"""The errors of this program: the exit status of each, and whether it is tried again.

::

    TriggerError
    +-- Usage              2  the command line is wrong
    +-- ConfigError       78  a setting is wrong
    +-- Interrupted  130, 143  a signal came first
    +-- BrokerError
        +-- Rejected      65  the server refuses this message for good
        +-- Unavailable   69  no server, no leader, no stream answering         tried again
        +-- NoAck         75  sent, and nobody acknowledged it                  tried again
        +-- BadPeer       76  the other side is not what it should be
        +-- Denied        77  credentials or permissions refused
        +-- Unusable      78  JetStream is off, or the stream does not exist

The statuses are those of sysexits(3), because nothing else in the process uses 64 to 78: Python uses 1, Typer 2,
monitoring plugins 0 to 3, and the shell 126 and above.
"""

from __future__ import annotations

import os
import signal
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING, ClassVar, Self

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Status(IntEnum):
    """The exit status of the process: the answer to "is the trigger in the stream?"."""

    OK = 0
    USAGE = 2
    REJECTED = os.EX_DATAERR
    UNAVAILABLE = os.EX_UNAVAILABLE
    BUG = os.EX_SOFTWARE
    UNKNOWN = os.EX_TEMPFAIL
    PROTOCOL = os.EX_PROTOCOL
    DENIED = os.EX_NOPERM
    CONFIG = os.EX_CONFIG
    # The shell's convention for a process ended by a signal: 128 + its number.
    INTERRUPTED = 128 + signal.SIGINT
    TERMINATED = 128 + signal.SIGTERM


class Outcome(StrEnum):
    """The result of a run, as one word of the report."""

    PUBLISHED = "published"
    DUPLICATE = "duplicate"
    SUPERSEDED = "superseded"
    REJECTED = "rejected"
    UNAVAILABLE = "unavailable"
    UNKNOWN = "unknown"
    PROTOCOL = "protocol"
    DENIED = "denied"
    CONFIG = "config"
    INTERRUPTED = "interrupted"
    BUG = "bug"
    DRY_RUN = "dry-run"
    REHEARSED = "rehearsed"


class Fact:
    """What happened when the server, or the connection to it, failed; for callers that act on the cause.

    Plain texts, and no enumeration: to define one of forty members takes a hundredth of the run.
    """

    # The connection
    CONNECTION_REFUSED = "connection-refused"
    NAME_NOT_FOUND = "name-not-found"
    NO_ANSWER = "no-answer"
    CONNECTION_LOST = "connection-lost"
    NOT_NATS = "not-nats"
    GREETING_UNREAD = "greeting-unread"
    WRONG_PORT = "wrong-port"
    TLS_REQUIRED = "tls-required"
    TLS_NOT_OFFERED = "tls-not-offered"
    TLS_FAILED = "tls-failed"
    CERTIFICATE_NOT_TRUSTED = "certificate-not-trusted"
    CLIENT_CERTIFICATE_REQUIRED = "client-certificate-required"
    CLIENT_CERTIFICATE_REFUSED = "client-certificate-refused"
    CREDENTIALS_REFUSED = "credentials-refused"
    NO_PERMISSION = "no-permission"
    NO_INBOX = "no-inbox"
    SYSTEM_ERROR = "system-error"
    SERVER_ERROR = "server-error"
    TOO_MANY_SUBSCRIPTIONS = "too-many-subscriptions"
    SERVER_TOO_OLD = "server-too-old"
    NOT_JETSTREAM = "not-jetstream"
    # The message
    MESSAGE_TOO_LARGE = "message-too-large"
    SUBJECT_REFUSED = "subject-refused"
    NO_SUBSCRIBER = "no-subscriber"
    NOT_ACKNOWLEDGED = "not-acknowledged"
    WRONG_ACKNOWLEDGEMENT = "wrong-acknowledgement"
    # JetStream
    JETSTREAM_OFF = "jetstream-off"
    NO_RESPONDERS = "no-responders"
    JETSTREAM_BUSY = "jetstream-busy"
    NO_STREAM = "no-stream"
    NO_CONSUMER = "no-consumer"
    NO_STREAM_ANSWERS = "no-stream-answers"
    STREAM_REFUSES = "stream-refuses"
    STREAM_FORGETS = "stream-forgets"
    WINDOW_TOO_SHORT = "window-too-short"
    SUBJECTS_OVERLAP = "subjects-overlap"
    ACCOUNT_LIMIT = "account-limit"
    STORAGE_FULL = "storage-full"
    OTHER_MESSAGE_FIRST = "other-message-first"
    # NATS Streaming
    NO_CLUSTER = "no-cluster"
    CLIENT_ID_TAKEN = "client-id-taken"
    CLIENT_REFUSED = "client-refused"
    CLIENT_UNKNOWN = "client-unknown"
    CHANNEL_REFUSED = "channel-refused"
    STREAMING_BUSY = "streaming-busy"


class TriggerError(Exception):
    """A foreseeable failure, with a message for the operator and a hint what to do next.

    `message` says what happened and where; `hint` says what to do about it (may be empty). Neither ends in a full stop.
    `attempts` is the number of attempts that were made, 0 if there was none. `perhaps` is true if the action may have
    been done in spite of the failure.
    """

    status: ClassVar[Status]
    outcome: ClassVar[Outcome]
    attempts: int = 0
    perhaps: bool = False

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    @property
    def exit_status(self) -> int:
        """The exit status of a process that ends with this failure."""
        return self.status

    @property
    def kind(self) -> str:
        """The class's name as the report writes it: `no-ack`, `bad-peer`."""
        name = type(self).__name__.removesuffix("Error")
        return "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("-")


class Usage(TriggerError):
    """The command line is wrong."""

    status = Status.USAGE
    outcome = Outcome.CONFIG


class ConfigError(TriggerError):
    """One or more settings are wrong; each problem is one line naming the variable, its value and its origin.

    `known` holds the values that could be read, because they may say where to report the failure, and the `sources` of
    all.
    """

    status = Status.CONFIG
    outcome = Outcome.CONFIG

    def __init__(self, *problems: str, known: Mapping[str, object] | None = None) -> None:
        super().__init__("\n".join(problems))
        self.problems: Sequence[str] = problems
        self.known: Mapping[str, object] = known or {}


class Interrupted(TriggerError):
    """A signal ended the run before the server acknowledged the action."""

    status = Status.INTERRUPTED
    outcome = Outcome.INTERRUPTED

    def __init__(self, signum: int, message: str, hint: str = "", *, perhaps: bool = False) -> None:
        super().__init__(message, hint)
        self.signum = signum
        self.perhaps = perhaps

    @property
    def exit_status(self) -> int:
        """128 + the signal's number: 130 for SIGINT, 143 for SIGTERM."""
        return 128 + self.signum


class BrokerError(TriggerError):
    """The server, or the connection to it, failed. `retryable` says whether another attempt may succeed.

    `fact` is what happened, for callers that act on it; `said` is the text of the server or of the library, if any;
    `code` is the `err_code` of a JetStream answer, or 0. `cut_short` tells that the deadline left it less time than the
    timeout: an error that came before may say more.
    """

    cut_short: bool = False

    retryable: ClassVar[bool] = False

    def __init__(self, message: str, hint: str = "", fact: str | None = None, said: str = "", code: int = 0) -> None:
        super().__init__(message, hint)
        self.fact = fact
        self.said = said
        self.code = code

    def reworded(self, message: str, hint: str) -> Self:
        """Return an error of the same kind and fact, in other words."""
        return type(self)(message, hint, self.fact, self.said, self.code)


class Unavailable(BrokerError):
    """Nobody who could store the trigger answers: no server, no leader, no stream. Nothing was stored."""

    status = Status.UNAVAILABLE
    outcome = Outcome.UNAVAILABLE
    retryable = True


class NoAck(BrokerError):
    """The request was sent and not acknowledged: it may have been done."""

    status = Status.UNKNOWN
    outcome = Outcome.UNKNOWN
    retryable = True
    perhaps = True


class Rejected(BrokerError):
    """The server refuses this message for good: too large, a sealed stream, or the subject of another stream."""

    status = Status.REJECTED
    outcome = Outcome.REJECTED


class BadPeer(BrokerError):
    """The other side is not what it should be: not NATS, no TLS, or a certificate that does not verify."""

    status = Status.PROTOCOL
    outcome = Outcome.PROTOCOL


class Denied(BrokerError):
    """The credentials are refused, or they do not permit what is asked."""

    status = Status.DENIED
    outcome = Outcome.DENIED


class Unusable(BrokerError):
    """The server works but cannot hold the trigger as configured: JetStream is off, or there is no such stream."""

    status = Status.CONFIG
    outcome = Outcome.CONFIG
