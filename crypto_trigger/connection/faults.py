"""The tables of faults: what each exception of nats-py, each text of a server and each error of JetStream means.

`docs/faults.md` shows them to users, and a test checks that the page is equal to them.

The same fact comes in many forms: nats-py raises its base class for a refused password, wraps every reason for a failed
connect in `NoServersError`, and raises a plain `ValueError` or `AttributeError` from its parser.
"""

from __future__ import annotations

import os
import socket
import ssl
from typing import TYPE_CHECKING, NamedTuple

import nats.errors
import nats.js.errors

from crypto_trigger.connection.phases import ConnectionLost, CutShort, Phase, Refusal, Violation
from crypto_trigger.deadline.certificates import (
    AuthorityExpired,
    Expired,
    NotYetValid,
    OtherName,
    SelfSigned,
    UnknownIssuer,
)
from crypto_trigger.errors import (
    BadPeer,
    BrokerError,
    ConfigError,
    Denied,
    Fact,
    NoAck,
    Rejected,
    Unavailable,
    Unusable,
)
from crypto_trigger.settings.masking import escaped, masked

if TYPE_CHECKING:
    from collections.abc import Mapping


class Rule(NamedTuple):
    """One row: the phases, exceptions and texts that it applies to; the error, fact, message and hint that they mean.

    It applies to an exception of one of the classes whose text contains one of `texts`, in upper or lower case; with no
    `texts`, to any text. A row for PUBLISH or CONFIRM says that the message was certainly not stored, unless its error
    is NoAck. Names in braces in `says` and `hint` are replaced (see `faults.explain`). If `says` is empty or ends in a
    colon, the exception's own text follows.
    """

    phase: int
    exceptions: tuple[type[Exception], ...]
    texts: tuple[str, ...]
    error: type[BrokerError]
    fact: str
    says: str
    hint: str = ""


_PORT = "is this the server's client port?"
_CLIENT_CERT = "check NATS_CERT and NATS_KEY"
_INBOX = "allow subscribing to the inbox, or set NATS_INBOX_PREFIX"
_SERVICE = "does another service listen on the subject?"
SEE_LOG = "see the server's log"
# What nats-py's parsers raise if the other side does not speak the NATS protocol.
_NONSENSE = (ValueError, TypeError, AttributeError, LookupError, OverflowError, RecursionError)
_CLIENT = (nats.errors.Error, ConnectionLost)


def _certificate(fault: type[Exception], hint: str) -> Rule:
    says = "the server's certificate does not verify: "
    return Rule(Phase.CONNECT, (fault,), (), BadPeer, Fact.CERTIFICATE_NOT_TRUSTED, says, hint)


# The first row that applies is used.
RULES = (
    # TLS
    _certificate(Expired, "renew it on the server"),
    _certificate(AuthorityExpired, "replace that authority's certificate in NATS_CA, or in the system"),
    _certificate(NotYetValid, "check the clock of this host"),
    _certificate(OtherName, "check NATS_URL, or give the server a certificate for this name"),
    _certificate(SelfSigned, "{trust} this certificate"),
    _certificate(UnknownIssuer, "{trust} that issuer's certificate"),
    _certificate(ssl.SSLCertVerificationError, "check the server's certificate"),
    Rule(
        Phase.BEFORE,
        (ssl.SSLError,),
        ("certificate_required",),
        Denied,
        Fact.CLIENT_CERTIFICATE_REQUIRED,
        "the server requires a client certificate",
        "set NATS_CERT and NATS_KEY",
    ),
    Rule(
        Phase.BEFORE,
        (ssl.SSLError,),
        ("alert_unknown_ca", "alert_bad_certificate", "alert_certificate"),
        Denied,
        Fact.CLIENT_CERTIFICATE_REFUSED,
        "the server refuses the client certificate",
        _CLIENT_CERT,
    ),
    Rule(
        Phase.CONNECT,
        (ssl.SSLError,),
        ("wrong_version_number", "record_layer_failure", "record layer failure"),
        BadPeer,
        Fact.TLS_FAILED,
        "what the server sends is not TLS",
        "check NATS_TLS_FIRST: it is only for servers with handshake_first",
    ),
    Rule(Phase.CONNECT, (ssl.SSLError,), (), BadPeer, Fact.TLS_FAILED, "TLS failed: ", SEE_LOG),
    # Connecting
    Rule(
        Phase.BEFORE,
        _CLIENT,
        # "authorization failed" is nats-py's text for a violation that comes after the handshake.
        ("authorization violation", "authorization failed"),
        Denied,
        Fact.CREDENTIALS_REFUSED,
        "the server refuses {who}",
        "{check}",
    ),
    Rule(
        Phase.BEFORE,
        _CLIENT,
        ("authentication expired",),
        Denied,
        Fact.CREDENTIALS_REFUSED,
        "the server says that its credentials have expired: {who}",
        "{check}",
    ),
    Rule(
        Phase.BEFORE,
        _CLIENT,
        ("authentication revoked",),
        Denied,
        Fact.CREDENTIALS_REFUSED,
        "the server says that its credentials are revoked: {who}",
        "{check}",
    ),
    Rule(
        Phase.CONNECT,
        (nats.errors.Error,),
        ("route port", "leaf node port", "gateway port"),
        BadPeer,
        Fact.WRONG_PORT,
        "this is a port for other servers: ",
        _PORT,
    ),
    Rule(
        Phase.CONNECT,
        (nats.errors.Error,),
        ("tls required",),
        BadPeer,
        Fact.TLS_REQUIRED,
        "the server requires TLS",
        "write tls:// in NATS_URL",
    ),
    # A greeting that was cut off, or none: the two look the same here (`greeting.reread`).
    Rule(
        Phase.CONNECT,
        (nats.errors.Error, ValueError),
        ("json parse error", "empty response", "not enough values to unpack", "chunk"),
        BadPeer,
        Fact.GREETING_UNREAD,
        "it does not greet like a NATS server",
        _PORT,
    ),
    Rule(
        Phase.CONNECT,
        (ConnectionRefusedError,),
        (),
        Unavailable,
        Fact.CONNECTION_REFUSED,
        "connection refused",
        "{running}",
    ),
    Rule(Phase.CONNECT, (socket.gaierror,), (), Unavailable, Fact.NAME_NOT_FOUND, "", "is the host name right?"),
    Rule(
        Phase.CONNECT,
        (TimeoutError,),
        (),
        Unavailable,
        Fact.NO_ANSWER,
        "no answer within the timeout",
        "is the address right, or is the server overloaded? If the server wants TLS first, set NATS_TLS_FIRST=true",
    ),
    # Permissions
    Rule(
        Phase.ANY,
        (Violation,),
        ("permissions violation for publish",),
        Denied,
        Fact.NO_PERMISSION,
        "{who} has no permission to publish to {subject}",
        "grant it on the server",
    ),
    Rule(
        Phase.LISTEN,
        (Violation,),
        ("permissions violation for subscription",),
        Denied,
        Fact.NO_PERMISSION,
        "{who} has no permission to subscribe to {subject}",
        "grant it on the server",
    ),
    Rule(
        Phase.BEFORE,
        (Violation,),
        ("permissions violation for subscription",),
        Denied,
        Fact.NO_INBOX,
        "{who} has no permission to receive answers",
        _INBOX,
    ),
    Rule(
        Phase.SENT,
        (Violation,),
        ("permissions violation for subscription",),
        NoAck,
        Fact.NO_INBOX,
        "{who} has no permission to receive the acknowledgement",
        _INBOX,
    ),
    # Limits of the server
    Rule(
        Phase.ANY,
        (ConnectionLost, nats.errors.MaxPayloadError),
        ("maximum payload",),
        Rejected,
        Fact.MESSAGE_TOO_LARGE,
        "the message is larger than the server takes",
        "raise max_payload on the server, or for this user",
    ),
    Rule(
        Phase.BEFORE,
        _CLIENT,
        ("maximum control line exceeded",),
        Unusable,
        Fact.SUBJECT_REFUSED,
        "a name or a credential is longer than the server takes",
        "shorten it, or raise max_control_line on the server",
    ),
    Rule(
        Phase.SENT,
        (ConnectionLost,),
        ("maximum control line exceeded",),
        Rejected,
        Fact.SUBJECT_REFUSED,
        "the subject is longer than the server takes",
        "shorten it, or raise max_control_line on the server",
    ),
    Rule(
        Phase.SENT,
        (ConnectionLost,),
        ("invalid publish subject",),
        Rejected,
        Fact.SUBJECT_REFUSED,
        "the server refuses the subject {subject}",
        "set CRYPTO_TRIGGER_SUBJECT to another subject",
    ),
    Rule(
        Phase.BEFORE,
        (ConnectionLost,),
        ("maximum subscriptions exceeded",),
        Unavailable,
        Fact.TOO_MANY_SUBSCRIPTIONS,
        "the server allows this connection no more subscriptions",
        "raise max_subscriptions of the server, or subs of the user's JWT",
    ),
    # The end of the connection
    Rule(Phase.BEFORE, (ConnectionLost,), (), Unavailable, Fact.CONNECTION_LOST, "the connection ended: ", SEE_LOG),
    Rule(
        Phase.SENT,
        (ConnectionLost,),
        (),
        NoAck,
        Fact.CONNECTION_LOST,
        "the connection ended before the acknowledgement: ",
    ),
    Rule(
        Phase.PUBLISH,
        (nats.errors.ConnectionClosedError,),
        (),
        Unavailable,
        Fact.CONNECTION_LOST,
        "the connection ended before the message was sent",
        SEE_LOG,
    ),
    Rule(
        Phase.LISTEN,
        (TimeoutError,),
        (),
        Unavailable,
        Fact.NO_ANSWER,
        "no answer within the timeout",
        "is the server overloaded? --timeout gives it longer",
    ),
    # JetStream
    Rule(
        Phase.ASK,
        (nats.errors.NoRespondersError,),
        (),
        Unavailable,
        Fact.NO_RESPONDERS,
        "nobody answers for JetStream",
        "are the servers with JetStream down or starting? Is it a leaf node whose hub is away?",
    ),
    Rule(
        Phase.ASK,
        (TimeoutError,),
        (),
        Unavailable,
        Fact.NO_ANSWER,
        "no answer from JetStream within the timeout",
        "is the stream's leader being elected, or the server overloaded? --timeout gives it longer",
    ),
    Rule(Phase.ASK, _NONSENSE, (), BadPeer, Fact.NOT_JETSTREAM, "the answer is not JetStream's", _SERVICE),
    Rule(
        Phase.PUBLISH,
        (nats.js.errors.NoStreamResponseError,),
        (),
        Unavailable,
        Fact.NO_STREAM_ANSWERS,
        "no stream answers on {subject}",
        "is its leader being elected?",
    ),
    Rule(
        Phase.PUBLISH,
        (nats.errors.NoRespondersError,),
        (),
        Unavailable,
        Fact.NO_STREAM_ANSWERS,
        "nobody takes messages on {subject}",
        "is the NATS Streaming server running?",
    ),
    Rule(Phase.SENT, (TimeoutError,), (), NoAck, Fact.NOT_ACKNOWLEDGED, "no acknowledgement within the timeout"),
    # NATS Streaming
    Rule(
        Phase.JOIN,
        (nats.errors.NoRespondersError,),
        (),
        Unavailable,
        Fact.NO_CLUSTER,
        "no server of the NATS Streaming cluster {cluster} answers",
        "is it running, and is NATS_CLUSTER_ID its cluster?",
    ),
    Rule(
        Phase.JOIN,
        (TimeoutError,),
        (),
        Unavailable,
        Fact.NO_ANSWER,
        "no answer from the NATS Streaming cluster {cluster} within the timeout",
        "is NATS_CLUSTER_ID its cluster, or is the server overloaded?",
    ),
    Rule(
        Phase.JOIN,
        (Refusal,),
        ("clientid already registered",),
        Unavailable,
        Fact.CLIENT_ID_TAKEN,
        "the client ID is taken",
        "another client holds it: stop that one, or set CRYPTO_TRIGGER_CLIENT_ID_EXACT=false",
    ),
    Rule(
        Phase.JOIN,
        (Refusal,),
        ("invalid clientid",),
        Unusable,
        Fact.CLIENT_REFUSED,
        "the server refuses the client ID",
        "NATS_CLIENT_ID may hold letters, digits, - and _",
    ),
    Rule(Phase.JOIN, (Refusal,), (), Rejected, Fact.CLIENT_REFUSED, "NATS Streaming refuses this client: ", SEE_LOG),
    Rule(Phase.JOIN, _NONSENSE, (), BadPeer, Fact.NOT_NATS, "the answer is not NATS Streaming's", _SERVICE),
    Rule(
        Phase.PUBLISH,
        (Refusal,),
        # The server sends this text for a message that it cannot read, and for a client ID that is not registered.
        ("invalid publish request",),
        Rejected,
        Fact.CLIENT_UNKNOWN,
        "NATS Streaming refuses the message: ",
        "does another client use the same client ID? See the server's log",
    ),
    Rule(
        Phase.PUBLISH,
        (Refusal,),
        ("too many channels", "rejecting channel"),
        Rejected,
        Fact.CHANNEL_REFUSED,
        "NATS Streaming refuses the channel: ",
        "set CRYPTO_TRIGGER_SUBJECT to another, or change the server's limits",
    ),
    Rule(
        Phase.PUBLISH,
        (Refusal,),
        ("channel is being deleted", "node is not the leader", "leadership transfer in progress"),
        Unavailable,
        Fact.STREAMING_BUSY,
        "NATS Streaming takes no messages now: ",
        "run it again later",
    ),
    # Any other error may come after the message was stored: an error of the disk, or a leader that lost its role.
    Rule(Phase.PUBLISH, (Refusal,), (), NoAck, Fact.SERVER_ERROR, "NATS Streaming answers: "),
    # All the rest
    Rule(Phase.BEFORE, (OSError,), (), Unavailable, Fact.SYSTEM_ERROR, "", "can this host reach the server?"),
    Rule(Phase.BEFORE, (nats.errors.Error,), (), Unavailable, Fact.SYSTEM_ERROR, "", SEE_LOG),
    Rule(Phase.SENT, (OSError, nats.errors.Error), (), NoAck, Fact.SYSTEM_ERROR, ""),
    Rule(Phase.CONNECT, _NONSENSE, (), BadPeer, Fact.NOT_NATS, "it does not greet like a NATS server", _PORT),
    Rule(Phase.PUBLISH, _NONSENSE, (), NoAck, Fact.WRONG_ACKNOWLEDGEMENT, "the answer is not a PubAck", _SERVICE),
)


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


_LONGEST_TEXT = 200
_SERVER_FAULT = 500


def explain(error: Exception, phase: int, where: str, names: Mapping[str, str]) -> Exception:
    """Return the error of ours that `error` means in `phase`, or `error` itself if it is not in the table.

    `where` names the server. `names` are the names in braces in the table's texts: `subject`, `stream`, `cluster`,
    `who` (the credentials in force and where they came from), `check` (what to do about them), `running` (whether
    NATS_URL is set), `trust` (that NATS_CA lacks something, without saying what) and `setup` (the command that creates
    the stream).
    """
    if isinstance(error, (BrokerError, ConfigError)):
        return error
    # Another service may answer in place of JetStream. Only JetStream's error codes are numbers.
    if isinstance(error, nats.js.errors.APIError) and _is_jetstreams(error):
        return _explain_api(error, phase, where, names)
    text = str(error)
    for rule in RULES:
        if phase & rule.phase and isinstance(error, rule.exceptions) and _holds_one(text.lower(), rule.texts):
            said = _own_words(error)
            says = rule.says.format_map(names) or said
            if says.endswith(": "):
                says = says + said if text else says.removesuffix(": ")
            explained = rule.error(f"{where}: {says}", rule.hint.format_map(names), rule.fact, said)
            explained.cut_short = isinstance(error, CutShort)
            return explained
    return error


def _holds_one(text: str, parts: tuple[str, ...]) -> bool:
    return not parts or any(part in text for part in parts)


def _explain_api(error: nats.js.errors.APIError, phase: int, where: str, names: Mapping[str, str]) -> BrokerError:
    """Return the error for an error answer of JetStream. It checks before it stores, so the message was not stored.

    A server error (5xx) that is not in the table is different: it may come after the message was stored.
    """
    description, code = str(getattr(error, "description", None) or ""), error.err_code or 0
    said = clean(description)
    rule = next(
        (rule for rule in API_RULES if rule.err_code == code and description in (rule.texts or (description,))), None
    )
    if rule:
        says, hint, kind, fact = rule.says.format_map(names), rule.hint.format_map(names), rule.error, rule.fact
        if says.endswith(": "):
            says = says + said if said else says.removesuffix(": ")
        says = f"{where}: {says}"
    else:
        says, hint, kind, fact = f"{where}: JetStream answers {code}: {said}", SEE_LOG, NoAck, Fact.SERVER_ERROR
        if error.code is not None and error.code < _SERVER_FAULT:
            kind, fact = Rejected, Fact.STREAM_REFUSES
    if kind is NoAck and phase != Phase.PUBLISH:
        kind = Unavailable
    return kind(says, hint, fact, said, code)


def _is_jetstreams(error: nats.js.errors.APIError) -> bool:
    # Some subclasses of nats-py's APIError do not set these two.
    codes = (getattr(error, "err_code", None), getattr(error, "code", None))
    return all(type(code) is int and code > 0 for code in codes)


def _own_words(error: Exception) -> str:
    """Return an exception's own text, without what nats-py and OpenSSL add to it."""
    if isinstance(error, nats.js.errors.APIError):
        # Its text is its `repr`. Some subclasses do not set these two.
        code, description = getattr(error, "err_code", None), getattr(error, "description", None)
        said = f"an error that JetStream does not have, err_code {code}"
        return clean(f"{said}: {description}" if description else said)
    if isinstance(error, ssl.SSLCertVerificationError):
        return clean(getattr(error, "verify_message", str(error)))
    if isinstance(error, ssl.SSLError):
        # OpenSSL's errors have a reason, Python's own have not.
        return clean((getattr(error, "reason", None) or str(error)).replace("_", " ").lower())
    if isinstance(error, socket.gaierror) and error.strerror:
        return clean(error.strerror.lower())
    if isinstance(error, OSError) and error.errno:
        # asyncio writes "Connect call failed" into strerror, whatever the reason is.
        return os.strerror(error.errno).lower()
    return clean(str(error).removeprefix("nats: ").strip("'")) or type(error).__name__


def clean(text: str) -> str:
    """Return a server's text for use in one line: control characters escaped, cut after 200 characters."""
    # A secret must not be cut: its beginning would be shown.
    cut = text if len(text) <= _LONGEST_TEXT else masked(text)[:_LONGEST_TEXT] + "..."
    return escaped(cut)
