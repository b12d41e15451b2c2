"""Tests of the source use no network."""

from support.no_network import no_sockets

__all__ = ["no_sockets"]
