"""Commands run to their end, as an operator's."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path
from typing import NamedTuple

from support.processes import HANGS

ROOT = Path(__file__).parents[2]


class Ended(NamedTuple):
    """How a command ended."""

    status: int
    out: str
    err: str


def do(*command, timeout=HANGS, **options):
    """Run a command; how it ended."""
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, timeout=timeout, check=False, **options
    )
    return Ended(done.returncode, done.stdout, done.stderr)


def console(block, **options):
    """Run the commands of a page's console block in one bash; returns what it ought to show, stderr with stdout."""
    commands = re.findall(r"^\$ (.*)", block, re.MULTILINE)
    script = "".join(f"printf '%s\\n' {shlex.quote(f'$ {command}')}\n{command}\n" for command in commands)
    patience = HANGS * len(commands)
    return do("bash", "-c", f"exec 2>&1\n{script}", timeout=patience, stdin=subprocess.DEVNULL, **options).out
