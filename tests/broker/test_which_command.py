"""Which command a command line is for is what the parser says, and not a word that looks like one."""

import json
from pathlib import Path

import pytest
from support.monitors import FAILURE, Monitor

METRICS = "m.prom"


@pytest.fixture
def monitor(monkeypatch):
    """Where every publish tells of itself."""
    with Monitor() as running:
        for name, value in running.environ.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("CRYPTO_TRIGGER_METRICS_FILE", METRICS)
        monkeypatch.setenv("CRYPTO_TRIGGER_REPORT_FILE", "report.json")
        yield running


OTHERS = [
    ("setup", "--stream", "publish", "--bogus"),
    ("setup", "publish"),
    ("history", "--svg", "publish", "--bogus"),
    ("listen", "--subject=publish", "--bogus"),
    ("config", "--env-file", "publish"),
    ("config", "publish", "--dry-run"),
    ("--bogus", "setup", "publish"),
    ("bogus", "publish"),
    ("--bogus", "value", "publish"),
    ("pubish",),
    ("-h", "publish", "--bogus"),
    (),
]


@pytest.mark.parametrize("argv", OTHERS, ids=" ".join)
def test_a_word_that_looks_like_publish_is_none(argv, run, monitor):
    run(*argv)
    assert (monitor.asked, list(Path().iterdir())) == ([], [])


WRONG = [
    ("publish", "--bogus"),
    ("--bogus", "publish"),
    ("--bogus", "-x", "publish", "--quiet"),
    ("--bogus", "publish", "--bogus"),
    ("publish", "check"),
    ("publish", "--every"),
    ("publish", "--stream", "setup", "--bogus"),
]


@pytest.mark.parametrize("argv", WRONG, ids=" ".join)
def test_a_wrong_command_line_of_publish_is_told_to_all(argv, run, monitor):
    result = run(*argv)
    assert (result.status, result.out) == (2, "")
    assert monitor.told == [FAILURE]
    assert json.loads(Path("report.json").read_text())["status"] == 2
    assert 'last_run_exit_status{stream="' in Path(METRICS).read_text()


@pytest.mark.parametrize("trial", ["--dry-run", "--rehearse"])
@pytest.mark.parametrize("before", [(), ("--bogus",)], ids=["", "behind a wrong option"])
def test_a_wrong_command_line_of_a_trial_run_is_in_its_report_alone(before, trial, run, monitor):
    assert run(*before, "publish", "--bogus", trial).status == 2
    assert (monitor.asked, Path(METRICS).exists()) == ([], False)
    assert json.loads(Path("report.json").read_text())["status"] == 2


def test_an_option_of_another_command_decides_nothing(run, monitor):
    assert run("publish", "--stream", "--dry-run", "--bogus").status == 2
    assert monitor.told == [FAILURE]


UNKNOWN = [
    ("check", "--bogus"),
    ("--bogus", "check"),
    ("check", "publish"),
    ("check", "--missed-warn", "x"),
    ("check", "--since"),
    ("check", "--stream=publish", "--bogus"),
]


@pytest.mark.parametrize("argv", UNKNOWN, ids=" ".join)
def test_a_wrong_command_line_of_check_is_unknown(argv, run, monitor):
    result = run(*argv)
    assert result.status == 3
    assert result.out.startswith("TRIGGER UNKNOWN - ")
    assert (monitor.asked, list(Path().iterdir())) == ([], [])


@pytest.mark.parametrize("before", [(), ("--bogus",)], ids=["", "behind a wrong option"])
def test_it_is_answered_in_the_form_and_at_the_place_that_it_asks_for(before, run):
    assert run(*before, "check", "--bogus", "--json", "--output-file", "answer").status == 3
    assert json.loads(Path("answer").read_text())["status"] == "UNKNOWN"


@pytest.mark.parametrize("argv", [("setup", "--stream", "check", "--bogus"), ("bogus", "check")], ids=" ".join)
def test_a_word_that_looks_like_check_is_none(argv, run):
    result = run(*argv)
    assert (result.status, result.out) == (2, "")
