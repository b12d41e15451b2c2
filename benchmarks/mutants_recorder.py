"""Record which lines of the package run, in every process of the environment that this module is installed in.

The file that MUTANTS_LINES names gets a line `module:number` for each. It is written when the line first runs in a
process, so that nothing is lost where the process is killed. Without the variable nothing happens.
"""

import os
import sys
from contextlib import suppress

_TOOL = sys.monitoring.COVERAGE_ID


def _record(folder: str, path: str) -> None:
    def line(code, number):  # noqa: ANN001, ANN202  # no import of types: this runs at each start
        if code.co_filename.startswith(folder):
            # Not kept open: some tests count descriptors.
            with suppress(OSError), open(path, "ab", buffering=0) as lines:  # noqa: PTH123
                lines.write(f"{code.co_filename.removeprefix(folder)}:{number}\n".encode())
        return sys.monitoring.DISABLE

    sys.monitoring.use_tool_id(_TOOL, "mutants")
    sys.monitoring.register_callback(_TOOL, sys.monitoring.events.LINE, line)
    sys.monitoring.set_events(_TOOL, sys.monitoring.events.LINE)


if "MUTANTS_LINES" in os.environ:
    # The environment is in the tree beside the package.
    _record(sys.prefix.removesuffix(".venv") + "crypto_trigger/", os.environ["MUTANTS_LINES"])
