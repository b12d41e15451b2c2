"""Ports of 127.0.0.1 that nobody uses."""

from __future__ import annotations

import os
import random
import socket
from contextlib import ExitStack, suppress
from itertools import cycle

# Not from the range that the system gives to clients and to servers that ask for any port: those would take a port
# while its server is down. Each process of pytest-xdist has a share of its own, and gives each port once: another
# process could take one between the look at it and its use. Not in the order of the shared generator: hypothesis seeds
# it alike in every process.
_FIRST, _SHARE, _SHARES = 10000, 2000, 10
_share = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _SHARES
_begin = _FIRST + _share * _SHARE
_ports = cycle(random.SystemRandom().sample(range(_begin, _begin + _SHARE), _SHARE))


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
                each.bind(("127.0.0.1", next(_ports)))
                found.append(each.getsockname()[1])
        return found
