"""The entry point: set up signals and garbage collection, run the command line, exit with its status."""

from __future__ import annotations

import gc
import os
import sys

# The status of a monitoring plugin for what it does not know. Python's own statuses have other meanings there.
_UNKNOWN = 3


def main() -> None:
    """Run the command line and exit with its status."""
    # The process lives for a tenth of a second and leaves little garbage. The imports alone would start the collector
    # dozens of times, which takes a sixth of the run.
    gc.disable()
    from crypto_trigger import signals

    signals.install()
    try:
        try:
            from crypto_trigger.cli import main as run
        except ModuleNotFoundError as missing:
            status = _not_installed(missing)
        else:
            status = run()
    except signals.Signalled as signalled:
        status = _UNKNOWN if sys.argv[1:2] == ["check"] else 128 + signalled.signum
    except Exception:
        if sys.argv[1:2] != ["check"]:
            raise
        sys.excepthook(*sys.exc_info())
        status = _UNKNOWN
    signals.ignore()
    # All files are closed and all output is written. The interpreter's own clean-up would take a fiftieth of the run,
    # and would wait for threads.
    os._exit(status)


def _not_installed(missing: ModuleNotFoundError) -> int:
    """Say what to install where this is run from its source. Return the exit status. Raises what else is missing."""
    if missing.name is None or missing.name.startswith("crypto_trigger"):
        raise missing
    import shlex

    from crypto_trigger.errors import Status
    from crypto_trigger.output import Output

    Output().failure(
        f"the library {missing.name} is not installed for {sys.executable}; install this program first, for example "
        f"with: {shlex.quote(sys.executable)} -m venv .venv && .venv/bin/pip install ."
    )
    return _UNKNOWN if sys.argv[1:2] == ["check"] else Status.CONFIG


if __name__ == "__main__":
    main()
