"""The program as a process forked by a process that has loaded its libraries: a quarter of the cost of a start."""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from threading import Thread

_PROGRAM = Path(__file__).with_name("fork_server.py")
# Variables that an interpreter, or what loads it, reads only when it starts.
_READ_AT_THE_START = ("PYTHON", "LC_", "LANG", "TZ", "LD_", "FAKETIME", "OPENSSL_")


def forkable(environment):
    """Tell whether a fork would run in this environment as a new process does."""
    # From 3.15 the program loads libraries late, and a fork has them all.
    return sys.version_info < (3, 15) and _read_at_the_start(environment) == _server()[1]


class Fork:
    """A run of the program in a session of its own, with the methods of `subprocess.Popen`."""

    def __init__(self, arguments, environment, server=None):
        """Fork a process of `server`, which `fork_server` has started, or else of that of this process."""
        self.returncode = None
        self._readers = []
        self._said = {}
        ours, theirs = zip(*(os.pipe() for _ in range(3)), strict=True)
        request = {"arguments": arguments, "environment": environment, "folder": str(Path.cwd())}
        with Path(os.devnull).open() as nothing:
            fds = [theirs[0], nothing.fileno(), *theirs[1:]]
            socket.send_fds(server or _server()[0], [json.dumps(request).encode()], fds)
        for fd in theirs:
            os.close(fd)
        self._told, self.stdout, self.stderr = (os.fdopen(fd) for fd in ours)
        self.pid = int(self._told.readline())

    def poll(self):
        """Return the exit status, or None while the process runs."""
        if self.returncode is None and select.select([self._told], [], [], 0)[0]:
            self.wait()
        return self.returncode

    def wait(self, timeout=None):
        """Return the exit status when the process has ended. Raises TimeoutExpired."""
        if self.returncode is None:
            if not select.select([self._told], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("crypto_trigger", timeout)
            self.returncode = int(self._told.readline())
            self._told.close()
        return self.returncode

    def communicate(self, timeout=None):
        """Return all of stdout and stderr that was not read yet, when the process has ended. Raises TimeoutExpired."""
        if not self._readers:
            streams = (self.stdout, self.stderr)
            self._readers = [Thread(target=self._read, args=(stream,), daemon=True) for stream in streams]
            for reader in self._readers:
                reader.start()
        self.wait(timeout)
        for reader in self._readers:
            reader.join(timeout)
            if reader.is_alive():
                raise subprocess.TimeoutExpired("crypto_trigger", timeout)
        return self._said[self.stdout], self._said[self.stderr]

    def send_signal(self, signum):
        if self.poll() is None:
            os.kill(self.pid, signum)

    def kill(self):
        self.send_signal(signal.SIGKILL)

    def _read(self, stream):
        with stream:
            self._said[stream] = stream.read()


@contextmanager
def fork_server(**settings):
    """A fork server of one's own, whose interpreter starts with these settings; the socket for requests."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        command = [sys.executable, "-P", _PROGRAM, str(theirs.fileno())]
        environment = {**os.environ, **settings}
        server = subprocess.Popen(command, pass_fds=[theirs.fileno()], env=environment, start_new_session=True)
    try:
        yield ours
    finally:
        ours.close()
        server.wait()


@cache
def _server():
    """Start the fork server of this process; its socket, and what its interpreter read from the environment."""
    running = ExitStack()
    atexit.register(running.close)
    return running.enter_context(fork_server()), _read_at_the_start(os.environ)


def _read_at_the_start(environment):
    return {name: value for name, value in environment.items() if name.startswith(_READ_AT_THE_START)}
