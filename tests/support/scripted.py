"""A TCP server that says what a script tells it to, when it tells it to: for what no real server can be made to do."""

from __future__ import annotations

import json
import re
import socket
import struct
import threading
from contextlib import contextmanager, suppress
from datetime import UTC, datetime

from support.patience import PATIENCE

INFO = {"server_id": "SCRIPTED", "version": "2.15.1", "headers": True, "max_payload": 1048576, "jetstream": True}


def info(**changes):
    """The greeting of a NATS server."""
    return b"INFO " + json.dumps(INFO | changes).encode() + b"\r\n"


class Talk:
    """One connection, seen from the server's side. `heard` is every byte the client has sent so far."""

    def __init__(self, connection):
        self._connection = connection
        self._changed = threading.Condition()
        self._read = 0
        self.heard = b""

    def say(self, data):
        self._connection.sendall(data)

    def hear(self, wanted):
        """Read on until `wanted` has come, and return what came up to its end. Raises EOFError if it never does."""
        while (found := self.heard.find(wanted, self._read)) < 0:
            self.receive()
        start, self._read = self._read, found + len(wanted)
        return self.heard[start : self._read]

    def listen(self):
        """Read until the client hangs up, and say nothing."""
        with suppress(EOFError):
            while True:
                self.receive()

    def welcome(self, **changes):
        """Greet and shake hands as a NATS server does."""
        self.say(info(**changes))
        self.hear(b"PING\r\n")
        self.say(b"PONG\r\n")

    def asked(self):
        """Return the subject and the inbox of the next message the client publishes with a reply subject.

        A question about the stream, which the client asks beside another, is answered on the way: with the time.
        """
        while True:
            subject, inbox = self.published()
            if ".STREAM.INFO." not in subject:
                return subject, inbox
            self.answer(inbox, {"config": {}, "ts": datetime.now(UTC).isoformat()})

    def published(self):
        """Return the subject and the inbox of the next message the client publishes, whatever it asks."""
        line = self.hear(b"PUB ") + self.hear(b"\r\n")
        head = line[line.rindex(b"PUB ") + 4 :].split()
        sizes = 2 if b"HPUB " in line else 1
        size = int(head[-1])
        while len(self.heard) < self._read + size + 2:
            self.receive()
        self._read += size + 2
        return head[0].decode(), head[1].decode() if len(head) > 1 + sizes else ""

    def answer(self, inbox, payload):
        """Send a message to the client's inbox."""
        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        self.say(f"MSG {inbox} {self.sid(inbox)} {len(body)}\r\n".encode() + body + b"\r\n")

    def no_responders(self, inbox):
        """Say that nobody listens on the subject that was asked."""
        header = b"NATS/1.0 503\r\n\r\n"
        sizes = f"{len(header)} {len(header)}"
        self.say(f"HMSG {inbox} {self.sid(inbox)} {sizes}\r\n".encode() + header + b"\r\n")

    def sid(self, inbox):
        """The number of the subscription that takes an inbox: of its own, or of all of the client's."""
        for subject, sid in reversed(re.findall(rb"SUB (\S+) +(\d+)\r\n", self.heard)):
            if subject.decode() in (inbox, inbox.rpartition(".")[0] + ".*"):
                return int(sid)
        return 1

    def empty_stream(self):
        """Answer the reading of the subject's last message: there is none."""
        _, inbox = self.asked()
        error = {"code": 404, "err_code": 10037, "description": "no message found"}
        self.answer(inbox, {"type": "io.nats.jetstream.api.v1.stream_msg_get_response", "error": error})

    def reset(self):
        """Hang up with a RST, not a FIN."""
        self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self):
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._connection.close()

    def wait_for(self, wanted):
        """Wait, in another thread than the script's, until `wanted` has been heard."""
        with self._changed:
            assert self._changed.wait_for(lambda: wanted in self.heard, PATIENCE), f"never heard {wanted!r}"

    def receive(self):
        data = self._connection.recv(65536)
        if not data:
            raise EOFError
        with self._changed:
            self.heard += data
            self._changed.notify_all()


class Scripted:
    """A server on a free port of 127.0.0.1 that runs `script(talk)` for every connection, each in a thread."""

    def __init__(self, script, host="127.0.0.1"):
        self._script = script
        self._listener = socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        self._threads = [threading.Thread(target=self._accept)]
        self._changed = threading.Condition()
        self.port = self._listener.getsockname()[1]
        self.url = f"nats://{f'[{host}]' if ':' in host else host}:{self.port}"
        self.talks = []

    def __enter__(self):
        self._threads[0].start()
        return self

    def __exit__(self, *_):
        # Closing alone does not wake a thread that is in accept().
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for talk in self.talks:
            talk.close()
        for thread in self._threads:
            thread.join(PATIENCE)
            assert not thread.is_alive(), "a script does not end"

    @property
    def heard(self):
        """Every byte of every client."""
        return b"".join(talk.heard for talk in self.talks)

    def talk(self, number=0):
        """Wait for the connection of that number."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.talks) > number, PATIENCE), "nobody connected"
        return self.talks[number]

    def _accept(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.settimeout(PATIENCE)
            talk = Talk(connection)
            thread = threading.Thread(target=self._run, args=(talk,))
            self._threads.append(thread)
            with self._changed:
                self.talks.append(talk)
                self._changed.notify_all()
            thread.start()

    def _run(self, talk):
        with suppress(OSError, EOFError):
            self._script(talk)
        talk.close()


@contextmanager
def full_backlog():
    """A port that takes no connection and refuses none: the SYNs go unanswered. Yields its URL."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        waiting = []
        try:
            while True:
                caller = socket.socket()
                waiting.append(caller)
                caller.settimeout(0.2)
                try:
                    caller.connect(listener.getsockname())
                except TimeoutError:
                    break
            yield f"nats://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            for caller in waiting:
                caller.close()
