"""The process: set up garbage collection and lazy imports, run the command line, exit with its status."""

from __future__ import annotations

import gc
import os
import sys


def _may_wait(importing: str, imported: str, _: object) -> bool:
    """Tell whether `imported` may be loaded when it is first used, and not where the module `importing` imports it.

    What makes a connection is loaded before the first attempt, so that it takes no time of an attempt, and a signal
    meanwhile ends the run before it connects. Classes of errors are used only after a failure. PyNaCl has
    functions with the names of their modules (`crypto_sign`); late, the module would take the function's place.
    """
    if importing.startswith(("nkeys", "nacl")):
        return False
    eager = ("crypto_trigger.connection", "crypto_trigger.delivery")
    return not importing.startswith(eager) or imported.endswith(".errors")


def main() -> None:
    """Run the command line and exit with its status."""
    # The process lives for a tenth of a second and leaves little garbage. The imports alone would start the collector
    # dozens of times, which takes a sixth of the run.
    gc.disable()
    if sys.version_info >= (3, 15):
        # Modules are loaded when they are first used (PEP 810). A publish never uses a fifth of what is imported.
        sys.set_lazy_imports("all")
        sys.set_lazy_imports_filter(_may_wait)
    from crypto_trigger.deadline import signals

    # A signal from here on ends the run in its own way, once the command line is read.
    signals.install()
    signals.postpone()
    from crypto_trigger.commands import entry

    status = entry.main()
    signals.ignore()
    # All files are closed and all output is written. The interpreter's own clean-up would take a fiftieth of the run,
    # and would wait for threads.
    os._exit(status)


if __name__ == "__main__":
    main()
