"""Commands run to their end, as an operator's."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from support.processes import HANGS, Ended

ROOT = Path(__file__).parents[2]


def do(*command, timeout=HANGS, **options):
    """Run a command; how it ended."""
    begun = time.monotonic()
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, timeout=timeout, check=False, **options
    )
    return Ended(done.returncode, done.stdout, done.stderr, time.monotonic() - begun)
