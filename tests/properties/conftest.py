"""These tests use no network."""

from support import examples  # noqa: F401 - how they draw
from support.no_network import no_sockets

__all__ = ["no_sockets"]
