"""The process: its signals and its garbage collector, from the first line to the last."""

from __future__ import annotations

import gc
import sys


def main() -> None:
    """Run the command line and exit with its status."""
    # A process of a tenth of a second leaves no garbage worth collecting, and the imports would trigger the collector
    # dozens of times: a sixth of the run.
    gc.disable()
    from crypto_trigger import signals

    signals.install()
    try:
        from crypto_trigger.cli import main as run

        status = run()
    except signals.Signalled as signalled:
        status = 128 + signalled.signum
    signals.ignore()
    # What is alive now lives to the end: without this the interpreter walks all of it once more on its way out.
    gc.freeze()
    sys.exit(status)


if __name__ == "__main__":
    main()
