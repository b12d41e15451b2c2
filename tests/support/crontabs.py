"""The lines of crontab.example, and of other crontabs."""

from __future__ import annotations

import re
from typing import NamedTuple

from support.shell import ROOT

EXAMPLE = ROOT / "crontab.example"
# Where the example has the program, its settings, and what its check printed last.
PROGRAM, ENV_FILE = "/opt/crypto-trigger/bin/crypto-trigger", "/etc/crypto-trigger.env"
PRINTED = "/var/lib/crypto-trigger/check"


class Entry(NamedTuple):
    """A line: its minute, its other four fields of time, and its command."""

    minute: str
    rest: list[str]
    command: str


class Example(NamedTuple):
    """The lines that are in force, which tell by mail, and those that tell the log, each after a #."""

    mailed: list[Entry]
    logged: list[Entry]


def example():
    text = EXAMPLE.read_text()
    return Example(entries(text), entries("".join(re.findall(r"^#(\S.*\n)", text, re.MULTILINE))))


def entries(text):
    """The lines of a crontab that have a command."""
    lines = [line for line in text.splitlines() if line.strip() and not re.match(r"#|\w+ *=", line)]
    return [Entry(fields[0], fields[1:5], fields[5]) for fields in (line.split(None, 5) for line in lines)]


def crontab(entries, minute=None, user="", **paths):
    """The text of a crontab: lines of the example with other paths, perhaps another minute, perhaps a user name."""
    lines = [[minute or entry.minute, *entry.rest, *([user] if user else []), entry.command] for entry in entries]
    text = "".join(f"{' '.join(line)}\n" for line in lines)
    for name, path in {"program": PROGRAM, "env_file": ENV_FILE, "printed": PRINTED}.items():
        text = text.replace(path, str(paths.get(name, path)))
    return text
