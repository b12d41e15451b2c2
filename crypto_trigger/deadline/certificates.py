"""Why the certificate of the other side does not verify: its dates, its names, or who signed it."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from crypto_trigger.slots.times import now, rfc3339

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# What OpenSSL says of a certificate (openssl-verification-options(1), x509_vfy.h).
_NOT_YET_VALID, _EXPIRED = 9, 10
_SELF_SIGNED = 18
# The issuer is not there; or it is in what was sent, and signed by itself.
_UNKNOWN_ISSUER = (2, 19, 20, 21)
_OTHER_NAME = (62, 64)
_MOST_NAMES = 8


class CertificateFault(Exception):
    """Why a certificate does not verify, as the end of a sentence in which it is `it`."""


class Expired(CertificateFault):
    """The certificate has expired, or one that the other side has sent with it."""


class AuthorityExpired(CertificateFault):
    """A certificate that this host trusts has expired."""


class NotYetValid(CertificateFault):
    """The time from which the certificate is valid has not come."""


class OtherName(CertificateFault):
    """The certificate is for another host name or address."""


class SelfSigned(CertificateFault):
    """Nobody but itself has signed the certificate, and this host does not trust it."""


class UnknownIssuer(CertificateFault):
    """The authority that signed the certificate is not one that this host trusts."""


def chain_of(handshake: ssl.SSLObject | ssl.SSLSocket | None) -> Sequence[Mapping[str, Any]]:
    """Return the certificates that the other side sent in a failed handshake, its own first, as `ssl` decodes them.

    Empty if Python does not tell them: there is no public way to see a certificate that did not verify.
    """
    try:
        return _decoded(handshake)
    except Exception:  # noqa: BLE001 - without them, the fault is told with fewer words
        return ()


def _decoded(handshake: Any) -> Sequence[Mapping[str, Any]]:  # noqa: ANN401 - a private part of `ssl`
    return [certificate.get_info() for certificate in handshake._sslobj.get_unverified_chain() or ()]  # noqa: SLF001


def fault_of(
    error: ssl.SSLCertVerificationError, chain: Sequence[Mapping[str, Any]], host: str = ""
) -> CertificateFault | ssl.SSLCertVerificationError:
    """Return what is wrong with the certificate, or `error` itself if OpenSSL's words are all that is known.

    `host` is the name or address that the certificate should have been for; empty if it is not to be told.
    """
    code = error.verify_code
    if code in (_EXPIRED, _NOT_YET_VALID):
        return _out_of_date(chain, expired=code == _EXPIRED)
    if code in _OTHER_NAME:
        return OtherName(_names(chain[0], host) if chain else "it is for another host")
    if code == _SELF_SIGNED:
        return SelfSigned("it is self-signed, and not trusted")
    if code in _UNKNOWN_ISSUER:
        issuer = _name(chain[-1].get("issuer")) if chain else ""
        return UnknownIssuer(f"its issuer '{issuer}' is not trusted" if issuer else "its issuer is not trusted")
    return error


def _out_of_date(chain: Sequence[Mapping[str, Any]], *, expired: bool) -> CertificateFault:
    for each in chain:
        date = _date(each, "notAfter" if expired else "notBefore")
        if date and (date < now() if expired else date > now()):
            name, moment = _name(each.get("subject")), rfc3339(date)
            which = "it" if each is chain[0] else f"its issuer '{name}'"
            return (
                Expired(f"{which} expired on {moment}") if expired else NotYetValid(f"{which} is valid from {moment}")
            )
    if chain and expired:
        return AuthorityExpired("the authority that issued it has expired")
    return Expired("it has expired") if expired else NotYetValid("it is not valid yet")


def _date(certificate: Mapping[str, Any], key: str) -> datetime | None:
    try:
        return datetime.fromtimestamp(ssl.cert_time_to_seconds(certificate[key]), UTC)
    except (KeyError, ValueError, OverflowError, OSError):
        return None


def _names(certificate: Mapping[str, Any], host: str) -> str:
    names = [_address(name) if kind == "IP Address" else name for kind, name in certificate.get("subjectAltName", ())]
    # Without any, OpenSSL compares the common name.
    names = names or [_name(certificate.get("subject")) or "no host"]
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    instead = f", not for {host}" if host else ""
    return f"it is for {', '.join(names[:_MOST_NAMES])}{more}{instead}"


def _address(text: str) -> str:
    try:
        return str(ip_address(text))
    except ValueError:
        return text


def _name(distinguished: Any) -> str:  # noqa: ANN401 - a tuple of tuples of pairs
    """Return the common name, or the organization, of a subject or an issuer; an empty text if it has neither."""
    found = {key: value for part in distinguished or () for key, value in part}
    return str(found.get("commonName") or found.get("organizationName") or "")
