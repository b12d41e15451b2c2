"""Ports of 127.0.0.1 that nobody uses."""

from __future__ import annotations

import random
import socket
from contextlib import ExitStack, suppress

# Not from the range that the system gives to clients and to servers that ask for any port: those would take a port
# while its server is down. Not from the shared generator: hypothesis seeds it alike in every test process.
_RANGE = range(10000, 30000)
_draw = random.SystemRandom()


def free_port():
    """A port where nobody listens, and which stays free until the test uses it."""
    return free_ports(1)[0]


def free_ports(count):
    """So many ports where nobody listens, each different."""
    with ExitStack() as stack:
        found = []
        while len(found) < count:
            each = stack.enter_context(socket.socket())
            with suppress(OSError):
                each.bind(("127.0.0.1", _draw.choice(_RANGE)))
                found.append(each.getsockname()[1])
        return found
