"""Names that no name server knows: the lookup of one leads to this host, and those of others go on as they are."""

import socket


def found_here(monkeypatch, name):
    """Let this name, exactly as it is written, be one of 127.0.0.1; returns the list of its lookups."""
    real, asked = socket.getaddrinfo, []

    def look_up(host, *arguments, **more):
        if host == name:
            asked.append(host)
            host = "127.0.0.1"
        return real(host, *arguments, **more)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return asked
