"""Every way to fail has one status, and the statuses are those that README promises."""

import os
import re
import signal
from pathlib import Path

import pytest

from crypto_trigger import errors
from crypto_trigger.errors import BrokerError, Interrupted, Outcome, Status, TriggerError

README = Path(__file__).parents[2] / "README.md"


def leaves(kind=TriggerError):
    below = kind.__subclasses__()
    return [leaf for branch in below for leaf in leaves(branch)] if below else [kind]


LEAVES = leaves()


def table():
    """README's table under "Exit statuses": status -> the other cells."""
    section = README.read_text().partition("## Exit statuses\n")[2].partition("\n## ")[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line.startswith("|")
    ]
    return {int(row[0].split()[0]): row[1:] for row in rows if re.match(r"\d", row[0])}


def test_the_statuses_are_those_of_sysexits():
    assert {status.name: int(status) for status in Status} == {
        "OK": 0,
        "USAGE": 2,
        "REJECTED": os.EX_DATAERR,
        "UNAVAILABLE": os.EX_UNAVAILABLE,
        "BUG": os.EX_SOFTWARE,
        "UNKNOWN": os.EX_TEMPFAIL,
        "PROTOCOL": os.EX_PROTOCOL,
        "DENIED": os.EX_NOPERM,
        "CONFIG": os.EX_CONFIG,
        "INTERRUPTED": 130,
        "TERMINATED": 143,
    }
    assert [os.EX_DATAERR, os.EX_UNAVAILABLE, os.EX_SOFTWARE, os.EX_TEMPFAIL] == [65, 69, 70, 75]
    assert [os.EX_PROTOCOL, os.EX_NOPERM, os.EX_CONFIG] == [76, 77, 78]


@pytest.mark.parametrize("leaf", LEAVES, ids=lambda leaf: leaf.__name__)
def test_every_failure_has_a_status_and_an_outcome(leaf):
    assert leaf.status in Status
    assert leaf.status is not Status.OK
    assert leaf.outcome in Outcome


@pytest.mark.parametrize(
    "leaf", [leaf for leaf in LEAVES if issubclass(leaf, BrokerError)], ids=lambda leaf: leaf.__name__
)
def test_what_readme_says_of_running_again_is_what_the_program_does_itself(leaf):
    _, _, again = table()[leaf.status]
    assert leaf.retryable == again.startswith("yes")


def test_readme_lists_every_status_and_no_other():
    assert set(table()) == set(map(int, Status))


def test_readme_says_which_statuses_leave_a_trigger_in_the_stream():
    stored = {status: row[1] for status, row in table().items()}
    assert {status for status, said in stored.items() if said.startswith("yes")} == {Status.OK}
    assert {status for status, said in stored.items() if said == "perhaps"} == {Status.BUG, Status.UNKNOWN}
    signals = {Status.INTERRUPTED, Status.TERMINATED}
    assert {status for status, said in stored.items() if said == "as the message says"} == signals
    assert {said for status, said in stored.items() if status not in {0, 70, 75, *signals}} == {"no"}


def test_the_tree_in_the_docstring_is_the_tree():
    drawn = dict(re.findall(r"\+-- (\w+) +([\d, ]*\d)", errors.__doc__))
    real = {leaf.__name__: str(int(leaf.status)) for leaf in LEAVES}
    assert drawn == {**real, "Interrupted": "130, 143"}
    again = set(re.findall(r"\+-- (\w+) .*tried again$", errors.__doc__, re.MULTILINE))
    assert again == {leaf.__name__ for leaf in LEAVES if getattr(leaf, "retryable", False)}


def test_the_outcomes_are_those_of_the_report():
    assert set(Outcome) == {
        *("published", "duplicate", "superseded", "rejected", "unavailable", "unknown"),
        *("protocol", "denied", "config", "interrupted", "bug", "dry-run", "rehearsed"),
    }


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interruption_exits_as_a_shell_would_say_it(signum, status):
    assert Interrupted(signum, "").exit_status == status


def test_a_kind_is_the_name_in_words():
    kinds = {leaf("").kind if leaf is not Interrupted else leaf(2, "").kind for leaf in LEAVES}
    assert {"config", "interrupted", "no-ack", "bad-peer", "unavailable"} <= kinds
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", kind) for kind in kinds)
