"""No network: a test that would use it fails at once."""

from __future__ import annotations

import socket

import pytest


@pytest.fixture(autouse=True, scope="module")
def no_sockets():
    def refuse(*_, **__):
        raise AssertionError("a test without servers reached for the network")

    with pytest.MonkeyPatch.context() as patch:
        for name in ("connect", "connect_ex", "bind", "listen", "sendto"):
            patch.setattr(socket.socket, name, refuse)
        patch.setattr(socket, "getaddrinfo", refuse)
        yield
