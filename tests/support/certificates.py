"""Certificates for the tests: an authority, and what it issues to servers and clients, good and bad."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = timedelta(days=1)
# From when until when certificates are valid, in days from now.
LASTS, EXPIRED, TO_COME = (-2, 1), (-2, -1), (1, 2)


class Pair(NamedTuple):
    """The paths of a certificate and its key."""

    cert: str
    key: str


class Authority:
    """A certificate authority that writes into `folder`; `path` is its own certificate."""

    def __init__(self, folder, name, issuer=None, *, lasts=LASTS):
        """Make one that signs itself, or one that `issuer` signs, valid for the days `lasts` from now."""
        self._folder = folder
        self._name = name
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._subject = _name(f"{name} authority")
        by = issuer or self
        certificate = (
            _valid(self._subject, by._subject, self._key.public_key(), lasts)  # noqa: SLF001 - its own class
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
            .sign(by._key, hashes.SHA256())  # noqa: SLF001 - its own class
        )
        self.path = self._write("ca.pem", _pem(certificate))

    def issue(
        self,
        name,
        hosts=("localhost", "127.0.0.1", "::1"),
        *,
        lasts=LASTS,
        password=None,
        with_authority=False,
        self_signed=False,
        for_servers=True,
    ):
        """Issue a certificate for a server or a client, valid for the days `lasts` from now.

        Its key is encrypted if there is a password; the authority's certificate may follow it in the file.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        purposes = [ExtendedKeyUsageOID.SERVER_AUTH] * for_servers + [ExtendedKeyUsageOID.CLIENT_AUTH]
        issuer, signer = (_name(name), key) if self_signed else (self._subject, self._key)
        certificate = (
            _valid(_name(name), issuer, key.public_key(), lasts)
            .add_extension(x509.SubjectAlternativeName([_host(host) for host in hosts]), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
            .sign(signer, hashes.SHA256())
        )
        protection = serialization.NoEncryption()
        if password:
            protection = serialization.BestAvailableEncryption(password.encode())
        secret = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, protection)
        chain = _pem(certificate) + (Path(self.path).read_bytes() if with_authority else b"")
        return Pair(self._write(f"{name}.pem", chain), self._write(f"{name}.key", secret))

    def _write(self, name, content):
        path = self._folder / f"{self._name}-{name}"
        path.write_bytes(content)
        return str(path)


def _valid(subject, issuer, public_key, lasts):
    now = datetime.now(UTC)
    begins, ends = lasts
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + begins * DAY)
        .not_valid_after(now + ends * DAY)
    )


def _usage(*, signs_certificates):
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _name(text):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _host(host):
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _pem(certificate):
    return certificate.public_bytes(serialization.Encoding.PEM)
