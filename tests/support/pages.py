"""The pages that users read, README.md and docs: their sections, their tables, and the code that they show."""

from __future__ import annotations

import re
from typing import NamedTuple

from support.shell import ROOT

# Each page by its name as others link to it.
PAGES = {str(path.relative_to(ROOT)): path for path in (ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")))}


class Block(NamedTuple):
    """A block of code: the page, what kind of code it says it is, and its lines."""

    page: str
    kind: str
    text: str

    @property
    def first(self):
        """Its first line, which names it within its page."""
        return self.text.splitlines()[0]

    @property
    def commands(self):
        """The command lines of a shell or a console, without prompts."""
        match self.kind:
            case "sh":
                return self.text.replace("\\\n", " ").splitlines()
            case "console":
                return re.findall(r"^\$ (.*)", self.text, re.MULTILINE)
            case _:
                return []


def text(page):
    return PAGES[page].read_text()


def blocks(page):
    """All blocks of code of a page, in order."""
    found = re.findall(r"^ *```(\w*)\n(.*?)^ *```$", text(page), re.MULTILINE | re.DOTALL)
    return [Block(page, kind, lines) for kind, lines in found]


def block(page, first):
    """The block of a page that begins with this line."""
    (found,) = (each for each in blocks(page) if each.first == first)
    return found


def section(page, title):
    """The text between a heading of the second level and the next one."""
    return text(page).partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def table(written):
    """The rows of the only table in a text: the first cell, without its quotes, -> the others."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in written.splitlines() if line[:1] == "|"]
    return {first.strip("`"): others for first, *others in rows[2:]}


def anchors(page):
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)", re.sub(r"```.*?```", "", text(page), flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def masked(said):
    """What a terminal shows, without what is different each time: the server's port, times, how often it was tried."""
    said = re.sub(r"\.\d\d\dZ", "Z", said)
    said = re.sub(r"nats://(localhost|127\.0\.0\.1):\d{4,}", "nats://SERVER", said)
    said = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "TIME", said)
    said = re.sub(r"\(\d+ attempts(?: until the end of its slot)?\)|(?<=\"elapsed_ms\": )\d+", "N", said)
    said = re.sub(r"duplicate_window \w+", "duplicate_window N", said)
    said = re.sub(r"stored \S+ after", "stored N after", said)
    said = re.sub(r"attempt \d+ failed: (.*?); next in \S+s, giving up in \d+s", r"attempt N failed: \1", said)
    said = re.sub(r"^(.*attempt N failed.*\n)\1+", r"\1", said, flags=re.MULTILINE)
    return re.sub(r"(age|skew)=-?[\d.]+s|late=\d", "N", said)
