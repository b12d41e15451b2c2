"""How far an attempt had come when it failed, and exceptions for failures that nats-py has none for.

This is not in the table of faults, because that module is loaded only after a failure.
"""

from __future__ import annotations

from enum import Flag, auto


class Phase(Flag):
    """How far an attempt had come when it failed: the same exception means different things in different phases."""

    CONNECT = auto()
    ASK = auto()
    # Register as a client of NATS Streaming.
    JOIN = auto()
    # Subscribe, and wait for messages.
    LISTEN = auto()
    PUBLISH = auto()
    # The message is sent, and the server is asked whether it has processed it.
    CONFIRM = auto()
    BEFORE = CONNECT | ASK | JOIN | LISTEN
    SENT = PUBLISH | CONFIRM
    ANY = BEFORE | SENT


class ConnectionLost(Exception):
    """The connection ended during a request. The text is the last error from the server, if any."""


class CutShort(TimeoutError):
    """There was no answer in time, but the deadline left less time than the timeout setting."""


class Violation(Exception):
    """The server refused one of our subjects: a permissions violation. The text is the server's."""


class Refusal(Exception):
    """NATS Streaming answered with an error. The text is the server's."""
