"""Decentralised authentication: an operator, an account with JetStream, and the users it vouches for."""

from __future__ import annotations

import base64
import hashlib
import json
import os

import nkeys


class Key:
    """An nkey: `public` and `seed` as NATS writes them."""

    def __init__(self, prefix):
        self.seed = nkeys.encode_seed(os.urandom(32), prefix).decode()
        self._pair = nkeys.from_seed(bytearray(self.seed.encode()))
        self.public = self._pair.public_key.decode()

    def jwt(self, name, subject, nats, **claims):
        """A token about `subject`, signed with this key, as NATS has it (version 2)."""
        body = {"iss": self.public, "sub": subject, "name": name, "iat": 1700000000, "nats": {"version": 2, **nats}}
        body |= claims
        body["jti"] = base64.b32encode(hashlib.sha256(json.dumps(body).encode()).digest()).decode().rstrip("=")
        signed = f"{_part({'typ': 'JWT', 'alg': 'ed25519-nkey'})}.{_part(body)}"
        return f"{signed}.{_encoded(self._pair.sign(signed.encode()))}"


def _part(claims):
    return _encoded(json.dumps(claims).encode())


def _encoded(data):
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


class Realm:
    """An operator and an account; `payload` is the size of the account's largest message, -1 for any."""

    def __init__(self):
        self.payload = -1
        self.operator, self.account, self.system = (
            Key(nkeys.PREFIX_BYTE_OPERATOR),
            Key(nkeys.PREFIX_BYTE_ACCOUNT),
            Key(nkeys.PREFIX_BYTE_ACCOUNT),
        )

    def config(self):
        limits = {
            "subs": -1,
            "data": -1,
            "payload": self.payload,
            "imports": -1,
            "exports": -1,
            "conn": -1,
            "leaf": -1,
        }
        stores = {"mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1}
        operator = self.operator.jwt("O", self.operator.public, {"type": "operator"})
        account = self.operator.jwt(
            "A", self.account.public, {"type": "account", "limits": {**limits, **stores, "wildcards": True}}
        )
        system = self.operator.jwt("SYS", self.system.public, {"type": "account", "limits": limits})
        return (
            f"operator: {operator}\nsystem_account: {self.system.public}\nresolver: MEMORY\n"
            f"resolver_preload {{ {self.account.public}: {account}, {self.system.public}: {system} }}\n"
        )

    def creds(self, payload=-1, *, signer=None, seed=None, **claims):
        """A credentials file, as nsc writes it, for a new user, whose largest message is of this size."""
        user = Key(nkeys.PREFIX_BYTE_USER)
        nats = {"type": "user", "pub": {}, "sub": {}, "subs": -1, "data": -1, "payload": payload}
        token = (signer or self.account).jwt("u", user.public, nats, **claims)
        return (
            f"-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n"
            "************************* IMPORTANT *************************\n"
            "NKEY Seed printed below can be used to sign and prove identity.\n\n"
            f"-----BEGIN USER NKEY SEED-----\n{seed or user.seed}\n------END USER NKEY SEED------\n"
        )
