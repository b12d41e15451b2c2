"""What a run of the program imports."""

from __future__ import annotations

import subprocess
import sys

from support.processes import HANGS


def modules_of(*argv):
    """The status of a run, and the top-level modules that it imports."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "crypto_trigger", *map(str, argv)],
        capture_output=True,
        text=True,
        timeout=HANGS,
        check=False,
    )
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    return done.returncode, {line.rpartition("|")[2].strip().split(".")[0] for line in lines}
