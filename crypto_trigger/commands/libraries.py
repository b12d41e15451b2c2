"""Say which library is not there, or is not the one that its name stands for, where the program cannot be loaded."""

from __future__ import annotations

import os
import shlex
import sys
from contextlib import suppress
from importlib import metadata
from importlib.util import find_spec
from types import ModuleType

# What each library is called where it is installed from.
_LIBRARIES = {
    "typer": "typer",
    "nats": "nats-py",
    "nkeys": "nkeys",
    "nacl": "PyNaCl",
    "dotenv": "python-dotenv",
    "backoff": "backoff",
    "rich": "rich",
}


def problem_with(error: ImportError | AttributeError) -> str:
    """Return what is wrong with a library, or an empty text for an error that no library is to blame for.

    A library is not there where the program is run from its source, by an interpreter that it is not installed for. It
    is another one of the same name where PYTHONPATH or the working directory has one.
    """
    if isinstance(error, ImportError):
        name = error.name
    else:
        name = error.obj.__name__ if isinstance(error.obj, ModuleType) else None
    root = (name or "").partition(".")[0]
    # An error of an import that names nothing may be what another library of that name raises.
    if root == "crypto_trigger" or (not root and not isinstance(error, ImportError)):
        return ""
    for library in [*filter(root.__eq__, _LIBRARIES), *_LIBRARIES]:
        if place := _foreign(library):
            wanted = _LIBRARIES[library]
            return (
                f"{library} is loaded from {place}, which is not the library {wanted}; take that folder out of "
                "PYTHONPATH, or start the program in another folder"
            )
    if root and isinstance(error, ModuleNotFoundError):
        return (
            f"the library {name} is not installed for {sys.executable}; install this program first, for example with: "
            f"{shlex.quote(sys.executable)} -m venv .venv && .venv/bin/pip install ."
        )
    return ""


def _foreign(library: str) -> str:
    """Return where a library is loaded from if that is not where its distribution is installed, or an empty text."""
    try:
        spec = find_spec(library)
    except (ImportError, ValueError):  # the second: loaded already, by a name of its own
        return ""
    places = [*(spec.submodule_search_locations or []), spec.origin] if spec else []
    place = next(filter(None, places), None)
    if place is None:
        return ""
    with suppress(metadata.PackageNotFoundError):
        ours = metadata.distribution(_LIBRARIES[library]).locate_file(library)
        if os.path.realpath(str(ours)) == os.path.realpath(place):
            return ""
    return place
