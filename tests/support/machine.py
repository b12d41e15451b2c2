"""A copy of this machine for a daemon, in which root's files can be replaced; its mail and its log are seen."""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest

from support.patience import PATIENCE, until
from support.programs import program
from support.shell import ROOT, do

_NAMESPACES = ("--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
_SENDMAIL = """\
#!/bin/sh
cat >{folder}/writing.$$ && mv {folder}/writing.$$ {folder}/mail.$$
"""


class Mail(NamedTuple):
    to: str
    subject: str
    body: str


class Machine:
    """Runs a shell script as root in the copy while the block does; its last command starts a daemon with `&`.

    `folders` are those that every user must be able to reach. Without a mail server, there is no `sendmail`.
    """

    def __init__(self, folder, script, folders=(), *, mail_server=True):
        self._folder, self._script = folder / "machine", script
        self._folders = [self._folder, ROOT, sys.base_prefix, *folders]
        self._mail_server = mail_server
        self._log = []

    def __enter__(self):
        unshare = namespaces()
        self._folder.mkdir()
        self._folder.chmod(0o755)
        mails = self._folder / "mails"
        mails.mkdir()
        mails.chmod(0o1777)
        sendmail = self._folder / "sendmail"
        sendmail.write_text(_SENDMAIL.format(folder=shlex.quote(str(mails))))
        sendmail.chmod(0o755)
        self._listen()
        script = self._folder / "script"
        links = {"/dev/log": self._folder / "log"}
        links |= {"/usr/sbin/sendmail": sendmail} if self._mail_server else {}
        lines = ["rm -f /dev/log /usr/sbin/sendmail", *(f"ln -s {shlex.quote(str(links[at]))} {at}" for at in links)]
        script.write_text("\n".join([*lines, self._script]))
        self._said = (self._folder / "said").open("w")
        self._process = subprocess.Popen(
            [unshare, *_NAMESPACES, "sh", Path(__file__).with_suffix(".sh"), script, *map(str, self._folders)],
            stdin=subprocess.PIPE,
            stdout=self._said,
            stderr=subprocess.STDOUT,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
            cwd=ROOT,
        )
        return self

    def __exit__(self, *_):
        try:
            self.end()
        finally:
            with self._said, self._socket:
                self._read_log()

    @property
    def said(self):
        """What the script and the daemon have printed so far."""
        return (self._folder / "said").read_text()

    @property
    def log(self):
        """The lines that the system's log was sent so far, without priority and time."""
        if self._socket.fileno() >= 0:
            self._read_log()
        return self._log

    @property
    def mails(self):
        """The mails that were sent so far."""
        return [_parsed(path.read_text()) for path in sorted((self._folder / "mails").glob("mail.*"))]

    def until(self, condition, what, seconds=PATIENCE):
        """Wait for something that the daemon does."""
        until(lambda: self._runs() and (self.log, condition())[1], what, seconds)

    def end(self):
        """End the daemon, and wait until the last of what it has started has ended."""
        if not self._process.stdin.closed:
            self._process.stdin.close()
            try:
                until(lambda: (self.log, self._process.poll() is not None)[1], "the end of the machine")
            finally:
                self._process.kill()
                self._process.wait()

    def _read_log(self):
        with suppress(BlockingIOError):
            while True:
                line = self._socket.recv(65536).decode()
                self._log.append(re.sub(r"^<\d+>(?:\w{3} [\d ]\d [\d:]{8} )?", "", line))

    def _runs(self):
        assert self._process.poll() is None, self.said
        return True

    def _listen(self):
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        # The path of a socket has 107 characters at most.
        folder = os.open(self._folder, os.O_PATH)
        try:
            self._socket.bind(f"/proc/self/fd/{folder}/log")
        finally:
            os.close(folder)
        (self._folder / "log").chmod(0o666)


def namespaces():
    """The path of `unshare`; skips the test where a copy cannot be made."""
    unshare = program("unshare")
    if os.geteuid():
        pytest.skip("only root can run a daemon that changes the user")
    tried = do(unshare, *_NAMESPACES, "true", timeout=PATIENCE)
    if tried.status:
        pytest.skip(f"unshare may not make namespaces: {tried.err.strip()}")
    return unshare


def _parsed(text):
    head, _, body = text.partition("\n\n")
    headers = dict(line.split(": ", 1) for line in head.splitlines() if not line.startswith("X-"))
    return Mail(headers["To"], headers["Subject"], body)
