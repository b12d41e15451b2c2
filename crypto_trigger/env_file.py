"""Read an env file: NAME=value a line, as dotenv writes it."""

# No `from __future__ import annotations` here: a named tuple would compile each field's annotation from its text.

import re
from pathlib import Path
from typing import NamedTuple

from crypto_trigger.files import read_text
from crypto_trigger.masking import shown_path

# python-dotenv looks for the end of a value in a time that grows with the square of the blanks in it.
_MOST_BLANKS = 256


class Entry(NamedTuple):
    """One line of an env file: its value, None where it has no `=`, and where it stands."""

    value: str | None
    origin: str


class EnvFile(NamedTuple):
    """What an env file holds, by name, and a line for each thing that is wrong with it."""

    entries: dict[str, Entry]
    problems: tuple[str, ...]


def read(path: str, until: float, *, asked_for: bool) -> EnvFile:
    """Return what the env file holds; of a name that comes twice, the last one.

    `until` bounds the reading as `read_text` does. A file that was not asked for is the working directory's.
    """
    # A directory of that name is somebody's virtual environment, not ours to complain about.
    if not asked_for and Path(path).is_dir():
        return EnvFile({}, ())
    shown = shown_path(path)
    named = f"--env-file '{shown}'" if asked_for else f"the env file '{shown}' of the working directory"
    try:
        content = read_text(path, until)
    except ValueError as error:
        return EnvFile({}, (f"{named} {error}",))
    if blanks := re.search(rf"[^\S\r\n]{{{_MOST_BLANKS + 1}}}", content):
        line = len(re.findall("\r\n|\r|\n", content[: blanks.start()])) + 1
        return EnvFile({}, (f"{named} cannot be read: line {line} has more than {_MOST_BLANKS} blanks in a row",))
    return _parse(content, shown)


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
