"""How far an attempt had come when it failed, and the failures that nats-py has no exception for.

Apart from the table of faults, which is loaded after a failure only.
"""

from __future__ import annotations

from enum import Flag, auto


class Phase(Flag):
    """How far an attempt has come when it fails: the same exception means different things."""

    CONNECT = auto()
    ASK = auto()
    # NATS Streaming is asked to register us as its client.
    JOIN = auto()
    PUBLISH = auto()
    # The message has left, and the server is asked whether it has processed it.
    CONFIRM = auto()
    BEFORE = CONNECT | ASK | JOIN
    SENT = PUBLISH | CONFIRM
    ANY = BEFORE | SENT


class ConnectionLost(Exception):
    """The connection ended during a request; the text is what the server said before, if anything."""


class CutShort(TimeoutError):
    """No answer came in the time there was, which the deadline made shorter than the timeout that is set."""


class Violation(Exception):
    """The server refused a subject of ours: the text is the server's."""


class Refusal(Exception):
    """NATS Streaming answered with an error: the text is the server's."""
