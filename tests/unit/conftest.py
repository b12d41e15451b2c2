"""No network: a unit test that would use it fails at once."""

import socket

import pytest


@pytest.fixture(autouse=True, scope="module")
def _no_sockets():
    def refuse(*_, **__):
        raise AssertionError("a unit test reached for the network")

    with pytest.MonkeyPatch.context() as patch:
        for name in ("connect", "connect_ex", "bind", "listen", "sendto"):
            patch.setattr(socket.socket, name, refuse)
        patch.setattr(socket, "getaddrinfo", refuse)
        yield
