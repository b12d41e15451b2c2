"""Three nats-servers that are one cluster on loopback; each can be killed, frozen, cut off, and brought back."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
from contextlib import ExitStack, suppress

import nats.errors

from crypto_trigger.commands.server import Server
from crypto_trigger.errors import Unavailable
from support.links import Link
from support.loops import Loop
from support.patience import until
from support.ports import free_ports
from support.processes import freeze
from support.streams import client

# Elections take up to 10 s each, and a server that was away catches up after them.
_SETTLE_SECONDS = 60.0


class Node(Server):
    """One server of the cluster. `up` while it runs, thawed and in touch with the others."""

    def __init__(self, name, port, arguments, links):
        super().__init__(port, ["-n", name, *arguments])
        self.name = name
        self._links = links
        self._frozen = False
        self._alone = False

    def __exit__(self, *_):
        # Its data is removed, so there is no need for an orderly shutdown.
        self.kill()
        super().__exit__(None, None, None)

    @property
    def up(self):
        return self.process is not None and not self._frozen and not self._alone

    def kill(self):
        """Kill the process (SIGKILL)."""
        if self.process:
            self.process.kill()
        self.stop()
        self._frozen = False

    def freeze(self):
        """Stop the process (SIGSTOP); returns when it has stopped."""
        freeze(self.process)
        self._frozen = True

    def thaw(self):
        """Let the process go on (SIGCONT)."""
        if self.process:
            self.process.send_signal(signal.SIGCONT)
        self._frozen = False

    def isolate(self):
        """Cut it off from the other servers. Its clients reach it all the same."""
        self._alone = True
        for link in self._links:
            link.hush()

    def rejoin(self):
        """Connect it with the other servers again."""
        self._alone = False
        for link in self._links:
            link.speak()

    def recover(self):
        """Undo whatever was done to it."""
        self.thaw()
        self.rejoin()
        if self.process is None:
            until(self._started, f"{self.name} runs", _SETTLE_SECONDS)

    def _started(self):
        try:
            self.start()
        except Unavailable:
            # A busy machine; the next try finds the data as this one did.
            self.kill()
            return False
        return True


class Cluster:
    """Three nats-servers with JetStream and routes to each other, running while the block does."""

    def __init__(self, size=3, further=lambda name: ()):  # noqa: ARG005 - by name
        """Take a function that returns further arguments for nats-server, by the name of the node (`n1`)."""
        self._further = further
        self._names = [f"n{i}" for i in range(1, size + 1)]
        self._stack = ExitStack()
        self._loop = Loop()
        self.nodes = []
        # Where a further server can join, which nothing can cut off.
        self.routes = ""

    def __enter__(self):
        with ExitStack() as stack:
            stack.enter_context(self._loop)
            free = iter(free_ports(2 * len(self._names)))
            ports = dict(zip(self._names, free, strict=False))
            self.routes = ",".join(f"nats://127.0.0.1:{port}" for port in ports.values())
            ways = {
                (a, b): stack.enter_context(contextlib.closing(Link(self._loop, ports[b])))
                for a in self._names
                for b in self._names
                if a != b
            }
            # Servers tell each other where the third one is, and would go around our links: advertise a useless port.
            nowhere = stack.enter_context(socket.socket())
            nowhere.bind(("127.0.0.1", 0))
            for name in self._names:
                routes = ",".join(way.url for (a, _), way in ways.items() if a == name)
                arguments = ["--cluster_name", "crypto", "--cluster", f"nats://127.0.0.1:{ports[name]}"]
                arguments += ["--routes", routes, "--cluster_advertise", f"127.0.0.1:{nowhere.getsockname()[1]}"]
                arguments += self._further(name)
                links = [way for ends, way in ways.items() if name in ends]
                self.nodes.append(stack.enter_context(Node(name, next(free), arguments, links)))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_):
        self._stack.close()

    @property
    def urls(self):
        """All servers, as NATS_URL lists them."""
        return urls(*self.nodes)

    def link(self, node):
        """A link for a client to `node`; close it."""
        return Link(self._loop, int(node.url.rpartition(":")[2]))

    def leader(self, stream):
        """The stream's leader; waits until there is one. Ask while no server is frozen."""

        def lead():
            info = next(filter(None, (self._info(stream, node) for node in self.nodes if node.up)), None)
            return next((node for node in self.nodes if info and node.name == info["cluster"].get("leader")), None)

        return until(lead, f"{stream} has a leader", _SETTLE_SECONDS)

    def lead(self, stream, node):
        """Make `node` the stream's leader."""

        def move():
            leader = self.leader(stream)
            if leader is node:
                return True
            placement = json.dumps({"placement": {"preferred": node.name}}).encode()
            _request(leader, f"STREAM.LEADER.STEPDOWN.{stream}", placement)
            return False

        until(move, f"{node.name} leads {stream}", _SETTLE_SECONDS)

    def recover(self, *streams):
        """Undo whatever was done to the servers, and wait until JetStream answers and these streams are whole."""
        for node in self.nodes:
            node.recover()
        for node in self.nodes:
            until(lambda node=node: _request(node, "INFO", b""), f"{node.name} has a leader", _SETTLE_SECONDS)
        for stream in streams:
            until(lambda stream=stream: self._whole(stream), f"{stream} is whole", _SETTLE_SECONDS)

    def _whole(self, stream):
        """Whether all servers agree on the leader, and it on the copies.

        A leader that was cut off and does not know yet that it was replaced answers for itself.
        """
        infos = [self._info(stream, node) for node in self.nodes]
        if not all(infos):
            return False
        views = {(info["cluster"].get("leader"), info["state"]["last_seq"]) for info in infos}
        copies = infos[0]["cluster"].get("replicas") or []
        return len(views) == 1 and all(copy["current"] and not copy.get("lag") for copy in copies)

    def _info(self, stream, node):
        return _request(node, f"STREAM.INFO.{stream}", b"")


def _request(node, endpoint, body):
    """What is answered to a request to JetStream by way of `node`; None if nothing, or an error."""

    async def ask():
        async with client(node.url, allow_reconnect=False, connect_timeout=1) as connection:
            answer = await connection.request(f"$JS.API.{endpoint}", body, timeout=1)
            return json.loads(answer.data)

    with suppress(nats.errors.Error, OSError):
        answer = asyncio.run(ask())
        return None if "error" in answer else answer
    return None


def urls(*places):
    """NATS_URL for these nodes or links, in this order."""
    return ",".join(place.url for place in places)
