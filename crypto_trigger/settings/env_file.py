"""Read an env file: one NAME=value per line, in the format of dotenv."""

# No `from __future__ import annotations` here: a named tuple would compile each field's annotation from its text.

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from crypto_trigger.deadline.files import read_text
from crypto_trigger.settings.masking import shown_path

# python-dotenv needs time that grows with the square of the number of blanks in a row.
_MOST_BLANKS = 256
_BACKTICK = "has a value that begins with a backtick, which is a quote in Node's dotenv and none here; put it in quotes"


class Entry(NamedTuple):
    """One entry of an env file: its value and its place (file and line)."""

    value: str
    origin: str


class EnvFile(NamedTuple):
    """The entries of an env file by name, and one line for each problem with it.

    `lines` are names and what follows them, right or wrong, in force or not: for what may be a secret.
    """

    entries: dict[str, Entry]
    problems: tuple[str, ...]
    lines: tuple[tuple[str, str], ...] = ()


def read(path: str, until: float, *, asked_for: bool) -> EnvFile:
    """Return the content of the env file. Where a name occurs twice, the last entry counts.

    `until` limits the time as in `files.read_text`. `asked_for` is false for the `.env` of the working directory.
    """
    # A directory named .env is usually a virtual environment, so it is not an error.
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
        problem = f"{named} cannot be read: line {line} has more than {_MOST_BLANKS} blanks in a row"
        return EnvFile({}, (problem,), tuple(_unread(content)))
    return _parse(content, shown)


def _parse(content: str, named: str) -> EnvFile:
    from io import StringIO

    from dotenv.parser import parse_stream

    entries: dict[str, Entry] = {}
    problems = []
    lines: list[tuple[str, str]] = []
    # ${NAME} is not expanded: the files come from programs that use Node's dotenv, which does not expand it, either.
    for binding in parse_stream(StringIO(content)):
        text = binding.original.string
        # The parser's line number is that of the first blank line before the binding.
        line = binding.original.line + text[: len(text) - len(text.lstrip())].count("\n")
        origin = f"{named} line {line}"
        if binding.key and binding.key.isprintable() and binding.value:
            lines.append((binding.key, binding.value))
        else:
            lines += _unread(text)
        if binding.error or (binding.key and binding.value is None):
            problems.append(f"{origin} is not NAME=value; correct it, or put # before it")
        elif binding.key and not binding.key.isprintable():
            problems.append(f"{origin} has an invisible character in its name, such as a byte order mark; retype it")
        elif binding.key and binding.value is not None:
            entries[binding.key] = Entry(binding.value, origin)
            # The backticks around a value that only other programs read change no setting.
            ours = binding.key.startswith(("NATS_", "CRYPTO_TRIGGER_"))
            if re.match(r"[^=]*=[^\S\r\n]*`", text) and (ours or "`" not in binding.value[1:]):
                problems.append(f"{origin} {_BACKTICK}")
    return EnvFile(entries, tuple(problems), tuple(lines))


def _unread(content: str) -> Iterator[tuple[str, str]]:
    """Yield the names at the beginning of lines, and what follows each: as it is, and without quotes and remarks."""
    for name, rest in re.findall(r"(?m)^[^\w\r\n]*(?:export[ \t]+)?['\"]?(\w+)['\"]?[ \t]*[=: \t](.*)", content):
        yield name, rest.strip()
        yield name, rest.strip().strip("'\"")
        yield name, rest.partition(" #")[0].strip().strip("'\"")
