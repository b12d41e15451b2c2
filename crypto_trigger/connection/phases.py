"""How far an attempt had come when it failed, and exceptions for failures that nats-py has none for.

This is not in the table of faults, because that module is loaded only after a failure.
"""

from __future__ import annotations


class Phase:
    """How far an attempt had come when it failed: the same exception means different things in different phases.

    Each is one bit; a row of the table of faults applies in one or several. To define an enumeration of flags takes
    longer than what every run does with them.
    """

    CONNECT = 1
    ASK = 2
    # Register as a client of NATS Streaming.
    JOIN = 4
    PUBLISH = 8
    # The message is sent, and the server is asked whether it has processed it.
    CONFIRM = 16
    # Subscribe, and wait for messages.
    LISTEN = 32
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
