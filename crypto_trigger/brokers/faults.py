"""What nats-py raises and what servers say -> our errors: the one table, first match wins.

The same fact arrives in many forms: nats-py raises its base class for a refused password, wraps every reason for a
failed connect in `NoServersError`, and lets raw `ValueError` and `AttributeError` out of its parser. `docs/faults.md`
shows these tables to users, and a test holds the two equal.
"""

from __future__ import annotations

import json
import os
import socket
import ssl
from enum import Flag, auto
from typing import NamedTuple

import nats.errors
import nats.js.errors

from crypto_trigger.errors import BadPeer, BrokerError, ConfigError, Denied, NoAck, Rejected, Unavailable, Unusable

SETUP = "create it with: crypto-trigger setup"
# NATS Streaming's one text for a message it cannot read and for a client it does not know, or no longer.
UNKNOWN_CLIENT = "invalid publish request"
_LONGEST_TEXT = 200


class Phase(Flag):
    """How far an attempt has come when it fails: the same exception means different things."""

    CONNECT = auto()
    ASK = auto()
    # NATS Streaming is asked to register us as its client.
    JOIN = auto()
    PUBLISH = auto()
    # The message has left, and the server is asked for a sign that it has come to it.
    CONFIRM = auto()
    BEFORE = CONNECT | ASK | JOIN
    SENT = PUBLISH | CONFIRM
    ANY = BEFORE | SENT


class Rule(NamedTuple):
    """One row: an exception, a part of its text, and the phases it counts in; the error it means, said how.

    A row that counts while publishing or after states that the message was certainly not stored, unless it means NoAck.
    `says` empty repeats the exception's own text.
    """

    phase: Phase
    exception: type[Exception]
    text: str
    error: type[BrokerError]
    says: str
    hint: str = ""


class ApiRule(NamedTuple):
    """One row: the `err_code` of a JetStream answer (nats-server, `server/errors.json`) and the error it means."""

    err_code: int
    error: type[BrokerError]
    says: str
    hint: str = ""


class ConnectionLost(Exception):
    """The connection ended under a request; the text is what the server said before, if anything."""


class Violation(Exception):
    """The server refused a subject of ours: the text is the server's."""


class Refusal(Exception):
    """NATS Streaming answered with an error: the text is the server's."""


_CREDENTIALS = "check NATS_USER, NATS_PASSWORD, NATS_TOKEN, NATS_CREDS, NATS_NKEY and the URL"
_PORT = "is this the server's client port?"
_TLS = "check NATS_CA and the server's certificate"
_CLIENT_CERT = "check NATS_CERT and NATS_KEY"

RULES = (
    Rule(Phase.CONNECT, ssl.SSLCertVerificationError, "", BadPeer, "the server's certificate does not verify: ", _TLS),
    Rule(
        Phase.BEFORE,
        ssl.SSLError,
        "certificate_required",
        Denied,
        "the server wants a client certificate",
        _CLIENT_CERT,
    ),
    Rule(
        Phase.BEFORE,
        ssl.SSLError,
        "alert_unknown_ca",
        Denied,
        "the server refuses the client certificate",
        _CLIENT_CERT,
    ),
    Rule(
        Phase.BEFORE,
        ssl.SSLError,
        "alert_bad_certificate",
        Denied,
        "the server refuses the client certificate",
        _CLIENT_CERT,
    ),
    Rule(
        Phase.BEFORE,
        ssl.SSLError,
        "alert_certificate",
        Denied,
        "the server refuses the client certificate",
        _CLIENT_CERT,
    ),
    Rule(Phase.CONNECT, ssl.SSLError, "", BadPeer, "TLS failed: ", _TLS),
    Rule(
        Phase.BEFORE,
        nats.errors.Error,
        "authorization violation",
        Denied,
        "the server refuses the credentials",
        _CREDENTIALS,
    ),
    Rule(Phase.BEFORE, nats.errors.AuthorizationError, "", Denied, "the server refuses the credentials", _CREDENTIALS),
    Rule(
        Phase.BEFORE, nats.errors.Error, "authentication expired", Denied, "the credentials have expired", _CREDENTIALS
    ),
    Rule(
        Phase.BEFORE, nats.errors.Error, "authentication revoked", Denied, "the credentials are revoked", _CREDENTIALS
    ),
    Rule(Phase.CONNECT, nats.errors.Error, "route port", BadPeer, "this is the port for other servers' routes", _PORT),
    Rule(Phase.CONNECT, nats.errors.Error, "leaf node port", BadPeer, "this is the port for leaf nodes", _PORT),
    Rule(Phase.CONNECT, nats.errors.Error, "gateway port", BadPeer, "this is the port for gateways", _PORT),
    Rule(Phase.CONNECT, nats.errors.Error, "tls required", BadPeer, "the server wants TLS", "write tls:// in NATS_URL"),
    Rule(Phase.CONNECT, nats.errors.Error, "json parse error", BadPeer, "it greets unlike a NATS server", _PORT),
    Rule(
        Phase.ANY,
        Violation,
        "permissions violation for publish",
        Denied,
        "no permission to publish to the subject",
        "grant it on the server",
    ),
    Rule(
        Phase.BEFORE,
        Violation,
        "permissions violation for subscription",
        Denied,
        "no permission to receive answers",
        "allow subscribing to the inbox, or set NATS_INBOX_PREFIX",
    ),
    Rule(
        Phase.SENT,
        Violation,
        "permissions violation for subscription",
        NoAck,
        "no permission to receive the acknowledgement",
        "allow subscribing to the inbox, or set NATS_INBOX_PREFIX",
    ),
    Rule(
        Phase.SENT,
        ConnectionLost,
        "maximum payload violation",
        Rejected,
        "the message is larger than the server takes",
    ),
    Rule(
        Phase.SENT,
        ConnectionLost,
        "maximum control line exceeded",
        Rejected,
        "the subject is longer than the server takes",
    ),
    Rule(Phase.SENT, ConnectionLost, "invalid publish subject", Rejected, "the server refuses the subject"),
    # nats-py's word for an 'Authorization Violation' that comes after the handshake: the user was removed meanwhile.
    Rule(
        Phase.BEFORE,
        ConnectionLost,
        "authorization failed",
        Denied,
        "the server refuses the credentials",
        _CREDENTIALS,
    ),
    Rule(Phase.BEFORE, ConnectionLost, "authentication expired", Denied, "the credentials have expired", _CREDENTIALS),
    Rule(Phase.BEFORE, ConnectionLost, "authentication revoked", Denied, "the credentials are revoked", _CREDENTIALS),
    Rule(Phase.BEFORE, ConnectionLost, "", Unavailable, "the connection ended: "),
    Rule(Phase.SENT, ConnectionLost, "", NoAck, "the connection ended before the acknowledgement: "),
    Rule(Phase.ANY, nats.errors.MaxPayloadError, "", Rejected, "the message is larger than the server takes"),
    Rule(
        Phase.PUBLISH,
        nats.errors.ConnectionClosedError,
        "",
        Unavailable,
        "the connection ended before the message was sent",
    ),
    Rule(
        Phase.PUBLISH,
        nats.js.errors.NoStreamResponseError,
        "",
        Unavailable,
        "no stream answers on the subject",
        "is its leader being elected?",
    ),
    Rule(Phase.PUBLISH, nats.errors.NoRespondersError, "", Unavailable, "nobody takes messages on the subject"),
    Rule(Phase.CONNECT, ConnectionRefusedError, "", Unavailable, "connection refused", "is the server running?"),
    Rule(Phase.CONNECT, socket.gaierror, "", Unavailable, "", "is the host name right?"),
    Rule(
        Phase.CONNECT,
        TimeoutError,
        "",
        Unavailable,
        "no answer within the timeout",
        "is the address right? If the server wants TLS first, set NATS_TLS_FIRST=true",
    ),
    Rule(Phase.ASK, TimeoutError, "", Unavailable, "no answer from JetStream within the timeout"),
    Rule(Phase.JOIN, TimeoutError, "", Unavailable, "no answer from NATS Streaming within the timeout"),
    Rule(Phase.SENT, TimeoutError, "", NoAck, "no acknowledgement within the timeout"),
    Rule(
        Phase.ASK,
        nats.errors.NoRespondersError,
        "",
        Unusable,
        "JetStream is off",
        "start the server with JetStream: nats-server -js",
    ),
    # What nats-py's JetStream calls make of the same 503.
    Rule(
        Phase.ASK,
        nats.js.errors.ServiceUnavailableError,
        "",
        Unusable,
        "JetStream is off",
        "start the server with JetStream: nats-server -js",
    ),
    Rule(
        Phase.JOIN,
        nats.errors.NoRespondersError,
        "",
        Unavailable,
        "no NATS Streaming server of this cluster answers",
        "is it running, and is NATS_CLUSTER_ID its cluster?",
    ),
    Rule(
        Phase.JOIN,
        Refusal,
        "clientid already registered",
        Unavailable,
        "the client ID is taken",
        "another client holds it: stop that one, or set CRYPTO_TRIGGER_CLIENT_ID_EXACT=false",
    ),
    Rule(
        Phase.JOIN,
        Refusal,
        "invalid clientid",
        Unusable,
        "the server refuses the client ID",
        "NATS_CLIENT_ID may hold letters, digits, - and _",
    ),
    Rule(Phase.JOIN, Refusal, "", Rejected, "NATS Streaming does not take us as a client: "),
    Rule(Phase.PUBLISH, Refusal, UNKNOWN_CLIENT, Rejected, "NATS Streaming refuses the message: "),
    Rule(Phase.PUBLISH, Refusal, "too many channels", Rejected, "the server's limit of channels is reached"),
    Rule(Phase.PUBLISH, Refusal, "rejecting channel", Rejected, "NATS Streaming refuses the channel: "),
    Rule(Phase.PUBLISH, Refusal, "channel is being deleted", Unavailable, "the channel is being deleted"),
    Rule(Phase.PUBLISH, Refusal, "node is not the leader", Unavailable, "NATS Streaming has no leader now"),
    Rule(Phase.PUBLISH, Refusal, "leadership transfer in progress", Unavailable, "NATS Streaming has no leader now"),
    # Any other error may come after the storing: of the disk, or of a leader that lost its post in between.
    Rule(Phase.PUBLISH, Refusal, "", NoAck, "NATS Streaming answers: "),
    Rule(Phase.BEFORE, OSError, "", Unavailable, ""),
    Rule(Phase.BEFORE, nats.errors.Error, "", Unavailable, ""),
    Rule(Phase.SENT, OSError, "", NoAck, ""),
    Rule(Phase.SENT, nats.errors.Error, "", NoAck, ""),
    # What nats-py's parsers let out when the other side speaks something else.
    Rule(Phase.CONNECT, ValueError, "", BadPeer, "it greets unlike a NATS server", _PORT),
    Rule(Phase.CONNECT, TypeError, "", BadPeer, "it greets unlike a NATS server", _PORT),
    Rule(Phase.CONNECT, AttributeError, "", BadPeer, "it greets unlike a NATS server", _PORT),
    Rule(Phase.CONNECT, LookupError, "", BadPeer, "it greets unlike a NATS server", _PORT),
    Rule(Phase.ASK, ValueError, "", BadPeer, "the answer is not JetStream's"),
    Rule(Phase.ASK, TypeError, "", BadPeer, "the answer is not JetStream's"),
    Rule(Phase.ASK, AttributeError, "", BadPeer, "the answer is not JetStream's"),
    Rule(Phase.ASK, LookupError, "", BadPeer, "the answer is not JetStream's"),
    Rule(Phase.ASK, RecursionError, "", BadPeer, "the answer is not JetStream's"),
    Rule(Phase.JOIN, ValueError, "", BadPeer, "the answer is not NATS Streaming's"),
    Rule(
        Phase.PUBLISH,
        ValueError,
        "",
        NoAck,
        "the answer is not a PubAck",
        "does another service listen on the subject?",
    ),
    Rule(
        Phase.PUBLISH, TypeError, "", NoAck, "the answer is not a PubAck", "does another service listen on the subject?"
    ),
    Rule(
        Phase.PUBLISH,
        AttributeError,
        "",
        NoAck,
        "the answer is not a PubAck",
        "does another service listen on the subject?",
    ),
    Rule(
        Phase.PUBLISH,
        LookupError,
        "",
        NoAck,
        "the answer is not a PubAck",
        "does another service listen on the subject?",
    ),
    Rule(
        Phase.PUBLISH,
        RecursionError,
        "",
        NoAck,
        "the answer is not a PubAck",
        "does another service listen on the subject?",
    ),
)

NO_MESSAGE = 10037
STREAM_NOT_FOUND = 10059
# Another message came first on the subject: 10071 names its sequence, 10164 says it is still being stored.
LOST_RACE = (10071, 10164)

API_RULES = (
    ApiRule(10002, Rejected, "the account's storage is full"),
    ApiRule(10008, Unavailable, "JetStream has no leader now"),
    ApiRule(10023, Unavailable, "the server is out of resources"),
    ApiRule(10035, Unusable, "the server does not know the account"),
    ApiRule(10039, Unusable, "JetStream is off for this account", "enable it for the account"),
    ApiRule(10047, Rejected, "the server's storage is full"),
    ApiRule(10054, Rejected, "the message is larger than the stream takes"),
    ApiRule(10059, Unusable, "there is no such stream", SETUP),
    ApiRule(
        10060,
        Rejected,
        "another stream owns the subject",
        "name it in CRYPTO_TRIGGER_STREAM, or choose another subject",
    ),
    ApiRule(10071, Unavailable, "other messages kept coming first on the subject"),
    ApiRule(10076, Unusable, "JetStream is off", "start the server with JetStream: nats-server -js"),
    ApiRule(10077, Rejected, "the stream is full, and set to discard new messages"),
    ApiRule(10109, Rejected, "the stream is sealed"),
    ApiRule(10118, Unavailable, "the stream is offline"),
    ApiRule(10158, NoAck, "the same trigger is being stored at this moment"),
    ApiRule(10163, Unavailable, "the stream is catching up"),
    ApiRule(10164, Unavailable, "other messages kept coming first on the subject"),
    ApiRule(10167, Unavailable, "the stream has too many requests"),
    ApiRule(10194, Unavailable, "the stream is offline"),
)
_API_RULES = {rule.err_code: rule for rule in API_RULES}
_SERVER_FAULT = 500


def explain(error: Exception, phase: Phase, where: str) -> Exception:
    """Return what `error` means in `phase`, said of `where`; one of an unforeseen kind is returned as it is."""
    if isinstance(error, (BrokerError, ConfigError)):
        return error
    # What answers may not be JetStream: its codes are numbers only if it is.
    if isinstance(error, nats.js.errors.APIError) and _is_jetstreams(error):
        return _explain_api(error, phase, where)
    text = str(error)
    for rule in RULES:
        if phase in rule.phase and isinstance(error, rule.exception) and rule.text in text.lower():
            says = rule.says or _own_words(error)
            if says.endswith(": "):
                says = says + _own_words(error) if text else says.removesuffix(": ")
            return rule.error(f"{where}: {says}", rule.hint)
    return error


def _explain_api(error: nats.js.errors.APIError, phase: Phase, where: str) -> BrokerError:
    """Explain a JetStream answer that is an error. The server checks before it stores, so it is a plain no.

    An error of the server's own making (5xx) that is not in the table may come after the storing.
    """
    rule = _API_RULES.get(error.err_code or 0)
    if rule:
        return rule.error(f"{where}: {rule.says}", rule.hint)
    says = f"{where}: JetStream answers {error.err_code}: {clean(str(error.description))}"
    if error.code is not None and error.code < _SERVER_FAULT:
        return Rejected(says)
    return NoAck(says) if phase is Phase.PUBLISH else Unavailable(says)


def nobody_responds(error: BaseException | None) -> bool:
    """Tell whether a request failed because nobody listens on its subject: the server's bare 503 (ADR-22)."""
    if isinstance(error, nats.js.errors.ServiceUnavailableError):
        return error.err_code is None
    return isinstance(error, nats.errors.NoRespondersError)


def passes(error: nats.js.errors.APIError) -> bool:
    """Tell whether a JetStream answer that is an error speaks of something that passes."""
    rule = _API_RULES.get(error.err_code or 0) if _is_jetstreams(error) else None
    return rule is not None and rule.error.retryable


def _is_jetstreams(error: nats.js.errors.APIError) -> bool:
    # Not every subclass of nats-py's sets the two.
    return isinstance(getattr(error, "err_code", None), int) and isinstance(getattr(error, "code", None), int)


def _own_words(error: Exception) -> str:
    """Return an exception's own text, freed of nats-py's and OpenSSL's wrapping."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return clean(getattr(error, "verify_message", str(error)))
    if isinstance(error, ssl.SSLError):
        # OpenSSL's errors have a reason, Python's own have not.
        return clean((getattr(error, "reason", None) or str(error)).replace("_", " ").lower())
    if isinstance(error, socket.gaierror) and error.strerror:
        return clean(error.strerror.lower())
    if isinstance(error, OSError) and error.errno:
        # Not its strerror: asyncio writes "Connect call failed" there, whatever the reason is.
        return os.strerror(error.errno).lower()
    return clean(str(error).removeprefix("nats: ").strip("'")) or type(error).__name__


def clean(text: str) -> str:
    """Return a server's text fit for one line: control characters escaped, and cut where it goes on for too long."""
    cut = text if len(text) <= _LONGEST_TEXT else text[:_LONGEST_TEXT] + "..."
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in cut)


def api_error(answer: bytes) -> nats.js.errors.APIError | None:
    """Return the error that a raw JetStream API answer carries, if it does. Raises ValueError if it is not JSON."""
    error = json.loads(answer).get("error")
    if not error:
        return None
    return nats.js.errors.APIError(error.get("code"), error.get("description"), error.get("err_code"))
