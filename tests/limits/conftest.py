"""These tests use no network. They wait, and read and write files and pipes, for real."""

from support.no_network import no_sockets

__all__ = ["no_sockets"]
