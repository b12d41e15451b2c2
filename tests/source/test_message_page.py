"""The page of messages: it has every text that the program may print, and says of each when it comes and what to do.

Run as a program it brings the page up to date: PYTHONPATH=tests python tests/source/test_message_page.py
It then lists new texts under "New"; somebody has to say there when they come, and to move them to their table.
"""

from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest
from support.message_places import HOME, is_message, places, status_of
from unit.test_fault_table import SHOWN, when

from crypto_trigger.connection.faults import API_RULES, RULES

PAGE = Path(__file__).parents[2] / "docs" / "messages.md"
HEAD = ["line", "status", "when", "what to do"]
OPEN = "(to be written)"


class Row(NamedTuple):
    """A row of the page. The program's own hint is in quotes."""

    line: str
    status: str
    when: str
    do: str


def cell(text):
    return text.replace("|", "\\|").replace("\n", " / ").strip(" ")


def said(text, hint):
    """The two cells that the code decides: the line, and the hint."""
    return cell(text), f'"{cell(hint)}"' if hint else ""


def from_code():
    """Every text once, in the order of the code: its line, its status ("" if that depends), its hint, when it comes."""
    found = []
    for rule in RULES:
        own = "*its own words*"
        says = (f"{rule.says}{own}" if rule.says.endswith(": ") else rule.says or own).format_map(SHOWN)
        line, hint = said(f"*server*: {says}", rule.hint.format_map(SHOWN))
        found.append(Row(line, status_of(rule.error), when(rule.phase), hint))
    for rule in API_RULES:
        says = f"{rule.says}*its own words*" if rule.says.endswith(": ") else rule.says
        line, hint = said(f"*server*: {says.format_map(SHOWN)}", rule.hint.format_map(SHOWN))
        found.append(Row(line, status_of(rule.error), f"JetStream answers {rule.err_code}", hint))
    for place in places():
        line, hint = said(place.text, place.hint)
        found.append(Row(line, place.status, OPEN, hint))
    merged = {}
    for row in found:
        before = merged.setdefault(key(row), row)
        if row.when not in (before.when, OPEN):
            merged[key(row)] = before._replace(when=f"{before.when}, {row.when}")
    return list(merged.values())


def key(row):
    """What the code decides in a row."""
    return row.line, row.do if row.do.startswith('"') else ""


def on_the_page():
    rows = []
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("| "):
            cells = [part.strip().replace("\0", "\\|") for part in line.replace("\\|", "\0").strip("|").split("|")]
            if cells != HEAD and cells[0] != "---":
                rows.append(Row(*cells))
    return rows


def problem(row, wanted):
    """What is wrong with a row of the page, or None."""
    if wanted.status and wanted.status not in row.status:
        return f"the status is {wanted.status}"
    if wanted.when not in (OPEN, row.when):
        return f"it comes: {wanted.when}"
    if OPEN in row or not all(row):
        return "a cell is to be written"
    return None


def test_the_page_has_every_message_once_and_no_other():
    on_page = Counter(map(key, on_the_page()))
    code = Counter(map(key, from_code()))
    anew = f"bring it up to date with: PYTHONPATH=tests python {Path(__file__).relative_to(PAGE.parents[1])}"
    assert [*(code - on_page)] == [], anew
    assert [*(on_page - code)] == [], anew


def test_each_row_says_when_the_line_comes_and_what_to_do():
    code = {key(row): row for row in from_code()}
    wrong = {row: said for row in on_the_page() if (said := problem(row, code.get(key(row), row)))}
    assert not wrong


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        ("the connection ended", True),
        ("*server*: nobody listens", True),
        ("; forced", True),
        (" of *count*", True),
        ("crypto-trigger", False),
        ("*where*: *what*", False),
        ("$JS.API.*endpoint*", False),
        (", ", False),
    ],
)
def test_what_counts_as_a_message(text, counts):
    assert is_message(text) == counts


@pytest.mark.parametrize(
    "module", ["commands/program", "settings/values", "deadline/retry", "delivery/stream", "delivery/setup"]
)
def test_a_message_that_is_new_is_found(module, tmp_path):
    source = HOME / f"{module}.py"
    copy = tmp_path / source.relative_to(HOME)
    copy.parent.mkdir(exist_ok=True)
    copy.write_text(source.read_text(encoding="utf-8"), encoding="utf-8")
    before = {place.text for place in places(tmp_path)}
    with copy.open("a", encoding="utf-8") as file:
        file.write('\n\ndef added(server, name):\n    return f"{server} does not know {name}"\n')
    places.cache_clear()
    assert {place.text for place in places(tmp_path)} - before == {"*server* does not know *name*"}


def bring_up_to_date():
    """Write the page anew: keep what is written in it, drop what is not in the code, and add what is new."""
    code = {key(row): row for row in from_code()}
    by_line = {row.line: row for row in on_the_page()}
    lines = []
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("| ") and not line.startswith(("| line |", "| --- |")):
            cells = [part.strip().replace("\0", "\\|") for part in line.replace("\\|", "\0").strip("|").split("|")]
            row = Row(*cells)
            if (wanted := code.pop(key(row), None)) is None:
                continue
            status = row.status if wanted.status in row.status else wanted.status
            at = row.when if wanted.when == OPEN else wanted.when
            lines.append("| " + " | ".join(row._replace(status=status, when=at)) + " |")
        else:
            lines.append(line)
    if code:
        lines += ["", "## New", "", "| " + " | ".join(HEAD) + " |", "| --- | --- | --- | --- |"]
    for row in code.values():
        known = by_line.get(row.line)
        at = known.when if known and row.when == OPEN else row.when
        do = row.do or (known.do if known and not known.do.startswith('"') else OPEN)
        lines.append("| " + " | ".join([row.line, row.status or OPEN, at, do]) + " |")
    PAGE.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    bring_up_to_date()
