"""The table of JetStream's errors: what each `err_code` of an answer means.

`docs/faults.md` shows it to users, and a test checks that the page is equal to it.
"""

from __future__ import annotations

from typing import NamedTuple

from crypto_trigger.errors import BrokerError, Fact, NoAck, Rejected, Unavailable, Unusable


class ApiRule(NamedTuple):
    """One row: the `err_code` of a JetStream answer (nats-server, `server/errors.json`) and the error it means.

    With `texts`, it applies to these descriptions alone. If `says` ends in a colon, the server's own words follow.
    NoAck is for a publish: anything else that gets this answer is Unavailable.
    """

    err_code: int
    error: type[BrokerError]
    fact: str
    says: str
    hint: str = ""
    texts: tuple[str, ...] = ()


_ELECTION = "is a leader being elected, or a server of the cluster down? See: nats server report jetstream"
_OFFLINE = "is a server of the stream's cluster down, or too old for the stream? See: nats stream info {stream}"
BUSY = "another publisher keeps the subject busy: run it again later"

API_RULES = (
    ApiRule(
        10002, Rejected, Fact.STORAGE_FULL, "the account's storage is full", "raise its limits, or remove messages"
    ),
    ApiRule(10008, Unavailable, Fact.JETSTREAM_BUSY, "JetStream has no leader now", _ELECTION),
    ApiRule(
        10014,
        Unusable,
        Fact.NO_CONSUMER,
        "there is no such consumer of stream {stream}",
        "see its consumers with: nats consumer ls {stream}",
    ),
    ApiRule(
        # Until 2.11, the leader of a stream may answer so while its replicas store the message.
        10023,
        NoAck,
        Fact.JETSTREAM_BUSY,
        "the server is out of resources",
        "make room, or raise its limits; see: nats server report jetstream",
    ),
    ApiRule(
        10035,
        Unusable,
        Fact.JETSTREAM_OFF,
        "the server does not know the account",
        "are the credentials of an account of this server?",
    ),
    ApiRule(10039, Unusable, Fact.JETSTREAM_OFF, "JetStream is off for this account", "enable it for the account"),
    ApiRule(10047, Rejected, Fact.STORAGE_FULL, "the server's storage is full", "make room, or raise its limits"),
    ApiRule(
        10054,
        Rejected,
        Fact.MESSAGE_TOO_LARGE,
        "the message is larger than stream {stream} takes",
        "raise its max_msg_size",
    ),
    ApiRule(10059, Unusable, Fact.NO_STREAM, "there is no stream {stream}", "create it with: {setup}"),
    ApiRule(
        10060,
        Rejected,
        Fact.STREAM_REFUSES,
        "another stream takes {subject}",
        "name it in CRYPTO_TRIGGER_STREAM, or choose another subject",
    ),
    ApiRule(10065, Unusable, Fact.SUBJECTS_OVERLAP, "another stream takes {subject}", "choose another subject"),
    ApiRule(10071, Unavailable, Fact.OTHER_MESSAGE_FIRST, "other messages kept coming first on {subject}", BUSY),
    ApiRule(
        10076, Unusable, Fact.JETSTREAM_OFF, "JetStream is off", "start the server with JetStream: nats-server -js"
    ),
    ApiRule(
        10077,
        Rejected,
        Fact.STORAGE_FULL,
        "stream {stream} is full, and set to discard new messages",
        "raise its limits, or let it discard old messages",
        # nats-server's `ErrMaxMsgs`, `ErrMaxBytes` and `ErrMaxMsgsPerSubject` (`server/store.go`).
        ("maximum messages exceeded", "maximum bytes exceeded", "maximum messages per subject exceeded"),
    ),
    # Whatever else keeps the leader from storing: its disk is full, for example. The replicas may have stored it.
    ApiRule(
        10077,
        NoAck,
        Fact.SERVER_ERROR,
        "the server could not store the message in stream {stream}: ",
        "see its log, and the disk that it stores to",
    ),
    ApiRule(
        10109,
        Rejected,
        Fact.STREAM_REFUSES,
        "stream {stream} is sealed: it takes no more messages",
        "choose another stream with CRYPTO_TRIGGER_STREAM, and create it with: crypto-trigger setup",
    ),
    ApiRule(10118, Unavailable, Fact.JETSTREAM_BUSY, "stream {stream} is offline", _OFFLINE),
    ApiRule(10158, NoAck, Fact.OTHER_MESSAGE_FIRST, "the same trigger is being stored at this moment"),
    ApiRule(
        10163,
        Unavailable,
        Fact.JETSTREAM_BUSY,
        "stream {stream} is catching up",
        "its leader is restoring it: run it again later",
    ),
    ApiRule(10164, Unavailable, Fact.OTHER_MESSAGE_FIRST, "other messages kept coming first on {subject}", BUSY),
    ApiRule(10167, Unavailable, Fact.JETSTREAM_BUSY, "stream {stream} has too many requests", "run it again later"),
    ApiRule(10194, Unavailable, Fact.JETSTREAM_BUSY, "stream {stream} is offline", _OFFLINE),
)
