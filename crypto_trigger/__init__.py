"""Publish one trigger to NATS per time slot, and exit with a status that means something."""

import sys

__version__ = "0.1.0"

# Every Python can read this file. An older one would fail at the syntax or the imports of another module.
if sys.version_info < (3, 11):  # noqa: UP036 - that is why
    import os

    _found = sys.version.split()[0] + " (" + sys.executable + ")"
    os.write(2, ("crypto-trigger: Python " + _found + " is too old; use Python 3.11 or later\n").encode())
    # As a monitoring plugin, `check` ends with 3: unknown.
    sys.exit(3 if sys.argv[1:2] == ["check"] else 78)
