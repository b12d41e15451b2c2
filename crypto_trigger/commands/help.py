"""Lay out the help of a command for a terminal: whole sentences, and whole words, at each width. Pure."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# In columns. The longest name of a variable needs the first; lines longer than the second one are hard to read.
_NARROWEST, _WIDEST = 40, 100
# With fewer columns a text comes below its name, because beside it there would be two or three words a line.
_LEAST_FOR_TWO_COLUMNS = 70
# A longer name has a line of its own.
_LONGEST_NAME = 28
_INDENT, _GAP = 2, 2
_EXAMPLE, _DEFAULT = "Example: ", "default: "


class Entry(NamedTuple):
    """An option or a command: its names, what it is for, and where its value comes from if it is not given."""

    names: str
    text: str
    origin: str = ""


def page(usage: str, about: str, sections: Sequence[tuple[str, Sequence[Entry]]], end: str, columns: int) -> str:
    """Return the help as lines of at most `columns` columns, but at least 40 and at most 100.

    `about` and `end` are paragraphs. One of `end` that begins with "Example: " is a command line, which is broken so
    that a shell still takes it as one.
    """
    width = min(max(columns, _NARROWEST), _WIDEST)
    entries = [entry for _, section in sections for entry in section]
    shift = min(max((len(entry.names) for entry in entries), default=0), _LONGEST_NAME) + _INDENT + _GAP
    if width < _LEAST_FOR_TWO_COLUMNS:
        shift = 0
    blocks = ["\n".join(_wrapped(f"Usage: {usage}", width, "", 4 * " ")), *_paragraphs(about, width)]
    for title, section in sections:
        blocks.append("\n".join([f"{title}:", *(line for entry in section for line in _entry(entry, width, shift))]))
    return "\n\n".join([*blocks, *_paragraphs(end, width)])


def _entry(entry: Entry, width: int, shift: int) -> Iterator[str]:
    """Yield the lines of an entry: its text begins in column `shift`, or, if that is 0, below its names."""
    indent = (shift or 3 * _INDENT) * " "
    names = _INDENT * " " + entry.names
    # A default stays beside its word.
    parts = filter(None, (entry.text, entry.origin.replace(_DEFAULT, _DEFAULT[:-1] + "\0")))
    lines = [line.replace("\0", " ") for text in parts for line in _wrapped(text, width, indent, indent)]
    if len(names) + _GAP <= shift:
        lines[0] = names.ljust(shift) + lines[0][shift:]
    else:
        yield names
    yield from lines


def _paragraphs(text: str, width: int) -> Iterator[str]:
    for paragraph in filter(None, text.split("\n\n")):
        indent = _INDENT * " "
        if paragraph.startswith(_EXAMPLE):
            # Room for the backslash.
            lines = _wrapped(paragraph.removeprefix(_EXAMPLE), width - 2, indent, 3 * indent)
            yield f"{_EXAMPLE.strip()}\n" + " \\\n".join(lines)
        else:
            yield "\n".join(_wrapped(" ".join(paragraph.split()), width, indent, indent))


def _wrapped(text: str, width: int, first: str, others: str) -> list[str]:
    """Return lines that are broken at blanks only, so that names and addresses can be copied."""
    return textwrap.wrap(
        text, width, initial_indent=first, subsequent_indent=others, break_long_words=False, break_on_hyphens=False
    )
