"""A program that forks itself for each run of `crypto_trigger` that it is asked for.

It has loaded the libraries, and each fork loads the program: a quarter of the cost of a new interpreter. Its argument
is the file descriptor of a Unix socket (SOCK_SEQPACKET). It ends when the other end of the socket is closed.
"""

from __future__ import annotations

import gc
import json
import os
import runpy
import select
import signal
import socket
import sys

LIBRARIES = ("asyncio", "ssl", "subprocess", "typer", "nats", "nats.js", "nkeys", "backoff", "dotenv", "rich.console")
_LARGEST = 1 << 20


def serve(requests):
    """Fork for each request, and return it and its file descriptors in the fork. Exits when there are no more."""
    woken, wakes = os.pipe()
    os.set_blocking(wakes, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wakes, warn_on_full_buffer=False)
    running = {}
    while True:
        readable, _, _ = select.select([requests, woken], [], [])
        if woken in readable:
            os.read(woken, 4096)
            _report(running)
        if requests in readable:
            message, fds, _, _ = socket.recv_fds(requests, _LARGEST, 4)
            if not message:
                sys.exit()
            if (pid := os.fork()) == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                for fd in (requests.detach(), woken, wakes, *running.values()):
                    os.close(fd)
                return json.loads(message), fds
            running[pid], *others = fds
            for fd in others:
                os.close(fd)


def _report(running):
    """Tell the exit status of each process that has ended."""
    for pid in list(running):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            with os.fdopen(running.pop(pid), "w") as told:
                print(os.waitstatus_to_exitcode(status), file=told)


def become(request, fds):
    """Make this process what a new interpreter is before it runs `python -m crypto_trigger`."""
    os.setsid()
    told, *streams = fds
    for number, fd in enumerate(streams):
        os.dup2(fd, number)
        os.close(fd)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    sys.path.insert(0, request["folder"])
    sys.argv = ["crypto_trigger", *request["arguments"]]
    with os.fdopen(told, "w") as started:
        print(os.getpid(), file=started)


for library in LIBRARIES:
    __import__(library)
# A collection in a fork would copy all that is shared.
gc.freeze()
become(*serve(socket.socket(fileno=int(sys.argv[1]))))
runpy.run_module("crypto_trigger", run_name="__main__", alter_sys=True)
