"""Turn nats-py's exceptions and the error texts of servers into our errors, by the table of faults.

The same fact comes in many forms: nats-py raises its base class for a refused password, wraps every reason for a failed
connect in `NoServersError`, and raises a plain `ValueError` or `AttributeError` from its parser.
"""

from __future__ import annotations

import os
import socket
import ssl
from typing import TYPE_CHECKING

import nats.js.errors

from crypto_trigger.brokers.failures import CutShort, Phase
from crypto_trigger.brokers.fault_table import RULES, SEE_LOG
from crypto_trigger.brokers.jetstream_errors import API_RULES
from crypto_trigger.errors import BrokerError, ConfigError, Fact, NoAck, Rejected, Unavailable
from crypto_trigger.masking import escaped, masked

if TYPE_CHECKING:
    from collections.abc import Mapping

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
