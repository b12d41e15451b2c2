"""The report: its documented keys are those of the code."""

from datetime import datetime
from pathlib import Path
from types import NoneType
from typing import get_args, get_type_hints

import pytest

from crypto_trigger.errors import Outcome, TriggerError
from crypto_trigger.reporting.report import Failure, Report
from crypto_trigger.settings.values import Delivery

PAGE = (Path(__file__).parents[2] / "docs" / "report.md").read_text()
TYPES = {
    int: "number",
    str: "text",
    Outcome: "text",
    Delivery: "text",
    datetime: "time",
    bool: "true or false",
    tuple[str, ...]: "list",
    Failure: "object",
}


def rows():
    """The cells of the table's rows."""
    lines = [line.strip("|").split("|") for line in PAGE.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in cells] for cells in lines]


def fields():
    """Each key of the report, the type of its value, and whether every report has it."""
    for kind, prefix in ((Report, ""), (Failure.__init__, "error.")):
        for name, hint in get_type_hints(kind).items():
            if name == "return":
                continue
            types = set(get_args(hint)) - {NoneType} if NoneType in get_args(hint) else {hint}
            yield f"`{prefix}{name}`", *types, kind is Report and name not in kind._field_defaults


def test_the_page_documents_every_key_in_the_order_of_the_report_and_no_other():
    assert [key for key, *_ in rows()] == [key for key, *_ in fields()]


@pytest.mark.parametrize(("key", "kind", "always"), list(fields()))
def test_the_page_says_the_type_and_whether_it_is_always_there(key, kind, always):
    (_, documented, present, meaning) = next(row for row in rows() if row[0] == key)
    assert documented == TYPES[kind]
    assert (present == "always") is always
    assert meaning


def test_the_page_names_every_outcome_and_every_kind_of_error():
    outcome = next(row for row in rows() if row[0] == "`outcome`")[3]
    assert [str(name) for name in Outcome if f"`{name}`" not in outcome] == []
    kind = next(row for row in rows() if row[0] == "`error.kind`")[3]
    assert [error for error in kinds(TriggerError) if f"`{error}`" not in kind] == []


def kinds(parent):
    """The kinds of the errors that are raised: those that no other is derived from."""
    below = parent.__subclasses__()
    if not below:
        yield parent.kind.fget(parent.__new__(parent))
    for child in below:
        yield from kinds(child)
