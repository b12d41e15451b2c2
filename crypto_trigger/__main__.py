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
        from crypto_trigger.entry import main as run

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


if __name__ == "__main__":
    main()
