"""Read an env file: NAME=value a line, as dotenv writes it."""

# No `from __future__ import annotations` here: a named tuple would compile each field's annotation from its text.

import os
from pathlib import Path
from typing import NamedTuple

from crypto_trigger.files import read_text
from crypto_trigger.masking import shown_path

_DEFAULT = ".env"
# In characters: python-dotenv looks for the end of a value in a time that grows with the square of its blanks.
_LONGEST_LINE = 4096


class Entry(NamedTuple):
    """One line of an env file: its value, None where it has no `=`, and where it stands."""

    value: str | None
    origin: str


class EnvFile(NamedTuple):
    """What an env file holds, by name, and a line for each thing that is wrong with it."""

    entries: dict[str, Entry]
    problems: tuple[str, ...]


def read(path: str | None, until: float) -> EnvFile:
    """Return what the env file holds; of a name that comes twice, the last one.

    `path` None means `.env` in the working directory, if there is one. `until` bounds the reading as `read_text` does.
    """
    if path is None:
        # A directory of that name is somebody's virtual environment, not ours to complain about.
        if not os.path.lexists(_DEFAULT) or Path(_DEFAULT).is_dir():
            return EnvFile({}, ())
        named = f"the env file '{_DEFAULT}' of the working directory"
    else:
        named = f"--env-file '{shown_path(path)}'"
    try:
        content = read_text(_DEFAULT if path is None else path, until)
    except ValueError as error:
        return EnvFile({}, (f"{named} {error}",))
    for number, line in enumerate(content.replace("\r\n", "\n").replace("\r", "\n").split("\n"), 1):
        if len(line) > _LONGEST_LINE:
            return EnvFile({}, (f"{named} cannot be read: line {number} is longer than {_LONGEST_LINE} characters",))
    return _parse(content, shown_path(path or _DEFAULT))


def _parse(content: str, named: str) -> EnvFile:
    from io import StringIO

    from dotenv.parser import parse_stream

    entries: dict[str, Entry] = {}
    problems = []
    # Node's dotenv, which wrote these files, expands no ${NAME}; neither do we.
    for binding in parse_stream(StringIO(content)):
        text = binding.original.string
        # The parser counts a binding from the blank lines before it.
        line = binding.original.line + text[: len(text) - len(text.lstrip())].count("\n")
        origin = f"{named} line {line}"
        if binding.error:
            problems.append(f"{origin} is not NAME=value; correct it, or put # before it")
        elif binding.key:
            entries[binding.key] = Entry(binding.value, origin)
    return EnvFile(entries, tuple(problems))
