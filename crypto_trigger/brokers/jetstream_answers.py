"""The answers of JetStream to a publish and to a read, decoded as nats-py does it, but without its JetStream classes.

nats-py defines dozens of classes when its part for JetStream is loaded: a fifth of the instructions of a publish.
Where modules are loaded when they are first used (CPython 3.15), only a failure loads that part.
"""

# No `from __future__ import annotations` here: defining a NamedTuple would then load more.

import json
from binascii import a2b_base64
from datetime import UTC, datetime
from email.parser import BytesParser
from typing import Any, NamedTuple

# The `code` and the `err_code` of the answer if there is no such message (nats-server, `server/errors.json`).
_NO_MESSAGE = (404, 10037)
# What comes before the headers of a message.
_START = b"NATS/1.0\r\n"


class Message(NamedTuple):
    """A message that a stream holds. Only of `time` it is known that it is one; the rest is as the server says."""

    subject: Any
    seq: Any
    time: datetime
    headers: dict[str, Any] | None


class Ack(NamedTuple):
    """An answer to a publish, as it came: which stream gives it, and its acknowledgement or its error."""

    stream: Any
    seq: Any
    domain: Any
    duplicate: Any
    error: Any


def message_of(data: bytes) -> Message | None:
    """Return the message in an answer to STREAM.MSG.GET, or None if the answer is that there is no such message.

    Raises nats-py's APIError for the other errors, and ValueError, LookupError and others for nonsense.
    """
    content = json.loads(data)
    if "error" in content:
        error = content["error"]
        # Not left to the table of faults, which is loaded after a failure: a subject without a message is none.
        if (error["code"], error.get("err_code")) == _NO_MESSAGE:
            return None
        raise api_error(error)
    message = content["message"]
    headers = None
    if encoded := message.get("hdrs"):
        headers = dict(BytesParser().parsebytes(a2b_base64(encoded)[len(_START) :]).items()) or None
    time = datetime.fromisoformat(message["time"]).astimezone(UTC)
    return Message(message.get("subject"), message.get("seq"), time, headers)


def ack_of(data: bytes) -> Ack:
    """Return an answer to a publish. Raises ValueError, LookupError and others for nonsense.

    A refusal names its stream beside the error (nats-server 2.9 to 2.15, `JSPubAckResponse`).
    """
    content = json.loads(data)
    if "error" in content:
        return Ack(content.get("stream"), None, None, None, content["error"])
    return Ack(content["stream"], content["seq"], content.get("domain"), content.get("duplicate"), None)


def api_error(error: dict[str, Any]) -> Exception:
    """Return nats-py's APIError for the error of an answer. Raises LookupError and others for nonsense."""
    from nats.js.errors import APIError

    return APIError(error["code"], error.get("description"), error.get("err_code"))
