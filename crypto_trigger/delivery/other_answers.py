"""Answers to a publish that are not the stream's own, as errors of ours. A publish loads this only where one comes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crypto_trigger.connection.faults import clean
from crypto_trigger.connection.phases import Phase
from crypto_trigger.errors import BrokerError, Fact, NoAck, Rejected

if TYPE_CHECKING:
    from crypto_trigger.connection.connection import Connection
    from crypto_trigger.delivery.stream import Ack
    from crypto_trigger.settings.load import Settings


def explain_other(
    ack: Ack, refusal: Exception | None, connection: Connection, settings: Settings, subject: str
) -> BrokerError:
    """Return what an answer means that is not known to be from the stream of the settings. `refusal` is its error.

    The message may be stored all the same.
    """
    stream, domain, server = settings.stream, settings.js_domain, connection.server
    named = ack.stream == stream
    if refusal:
        meaning = connection.explained(refusal, Phase.PUBLISH, subject)
        # The table of faults has a row for every error of nats-py.
        said, code = (meaning.said, meaning.code) if isinstance(meaning, BrokerError) else ("", 0)
        whose = f"stream {clean(ack.stream)}" if isinstance(ack.stream, str) else "a stream that is not named"
        whose = f"a stream {stream}, perhaps not that of JetStream domain {domain}," if named else whose
        return NoAck(
            f"{server}: {whose} refuses the message ({said or code}), and stream {stream} does not acknowledge it",
            f"does another stream take {subject}, too?",
            Fact.NOT_ACKNOWLEDGED,
            said,
            code,
        )
    if domain and named and ack.domain != domain:
        origin = f"from JetStream domain {ack.domain}" if ack.domain else "from no JetStream domain"
        return NoAck(
            f"{server}: the acknowledgement is {origin}, not from {domain}",
            f"a stream {stream} of another domain takes {subject}, too: let only one of them take it",
            Fact.WRONG_ACKNOWLEDGEMENT,
        )
    return NoAck(
        f"{server}: what answers on {subject} is not the stream {stream}",
        "does another service listen on the subject?",
        Fact.WRONG_ACKNOWLEDGEMENT,
    )


def taken_by(other: str, connection: Connection, subject: str) -> Rejected:
    """Return the error for a subject that another stream of the account takes: this stream cannot have stored it."""
    return Rejected(
        f"{connection.server}: another stream takes {subject}: {clean(other)}",
        "name it in CRYPTO_TRIGGER_STREAM, or choose another subject",
        Fact.STREAM_REFUSES,
    )
