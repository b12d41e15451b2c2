"""An output file that is one of the run's own descriptors: what it is redirected to is written to, not replaced."""

import json
import os
import subprocess
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from support.processes import HANGS, PROGRAM
from support.streams import stored

pytestmark = pytest.mark.usefixtures("ready")
BEFORE = "what was there before\n"
LOG = "log"
# Each names the stdout of the shell's command, which is appended to a log.
STDOUT = ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", LOG, "link", "$HOME/log"]


def through_shell(redirection, *argv, **settings):
    return subprocess.run(
        ["sh", "-c", f'"$@" {redirection}', "sh", *PROGRAM, *argv],
        capture_output=True,
        text=True,
        timeout=HANGS,
        check=False,
        env={**os.environ, **settings},
    )


@pytest.fixture
def log():
    """A log that is not empty, and a link to it."""
    path = Path(LOG)
    path.write_text(BEFORE)
    Path("link").symlink_to(LOG)
    return path


def added(log):
    """What was appended to the log, which still holds all that it held."""
    text = log.read_text()
    assert text.startswith(BEFORE)
    return text.removeprefix(BEFORE)


@pytest.fixture
def ready(run, place):
    assert run("setup").status == 0
    return place


@pytest.mark.parametrize("path", STDOUT)
def test_check_appends_its_answer(path, log):
    ended = through_shell(f">> {LOG}", "check", "--output-file", path)
    assert ended.returncode == 0, ended
    assert added(log).startswith("TRIGGER OK - ")
    assert added(log).count("\n") == 1


@pytest.mark.parametrize("path", [path for path in STDOUT if "$" not in path])
def test_history_appends_its_picture_and_nothing_else(path, log):
    ended = through_shell(f">> {LOG}", "history", "--svg", path)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ET.fromstring(added(log)).tag == "{http://www.w3.org/2000/svg}svg"


def test_a_picture_on_stdout_and_json_exclude_each_other(log):
    ended = through_shell(f">> {LOG}", "history", "--svg", "-", "--json")
    assert (ended.returncode, added(log)) == (2, "")
    assert "--svg '-' is stdout, where --json has its answer" in ended.stderr


@pytest.mark.parametrize("path", STDOUT)
@pytest.mark.parametrize("by", ["flag", "variable"])
def test_publish_appends_its_report_and_its_metrics_after_the_answer(by, path, log, ready):
    if by == "flag":
        ended = through_shell(f">> {LOG}", "publish", "--report-file", path, "--metrics-file", path)
    else:
        variables = dict.fromkeys(["CRYPTO_TRIGGER_REPORT_FILE", "CRYPTO_TRIGGER_METRICS_FILE"], path)
        ended = through_shell(f">> {LOG}", "publish", **variables)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert len(stored(ready.url, ready.stream)) == 1
    answer, report, *metrics = added(log).splitlines()
    assert answer.startswith("published ")
    assert json.loads(report)["outcome"] == "published"
    assert f'crypto_trigger_last_run_exit_status{{stream="{ready.stream}",subject="{ready.subject}"}} 0' in metrics


def test_the_report_is_alone_on_stdout_with_quiet():
    ended = through_shell("", "publish", "--quiet", "--report-file", "-")
    assert json.loads(ended.stdout)["seq"] == 1
    assert not Path("-").exists()


@pytest.mark.parametrize("path", ["/dev/fd/7", "/proc/self/fd/7"])
@pytest.mark.parametrize(
    "argv",
    [("check", "--output-file"), ("history", "--svg"), ("publish", "--report-file"), ("publish", "--metrics-file")],
)
def test_any_other_descriptor_is_appended_to_as_well(argv, path, log):
    ended = through_shell(f"7>> {LOG}", *argv, path)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert added(log)


def test_the_descriptor_of_stderr_is_appended_to_as_well(log):
    ended = through_shell(f"2>> {LOG}", "check", "--output-file", "/dev/stderr")
    assert (ended.returncode, ended.stdout) == (0, "")
    assert added(log).startswith("TRIGGER OK - ")


@pytest.mark.parametrize(
    ("argv", "status"),
    [
        (("check", "--output-file"), 3),
        (("history", "--svg"), 78),
        (("publish", "--report-file"), 0),
        (("publish", "--metrics-file"), 0),
    ],
)
def test_a_descriptor_that_is_not_open_is_named(argv, status):
    ended = through_shell("", *argv, "/dev/fd/77")
    assert ended.returncode == status
    assert "/dev/fd/77" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("path", [LOG, "-"])
def test_the_file_of_the_last_result_is_never_the_log(path, log):
    ended = through_shell(f">> {LOG}", "check", "--on-change", path)
    assert ended.returncode == 0
    assert added(log).startswith("TRIGGER OK - ")
    assert f"--on-change '{path}' cannot be written: it is where this run writes its output" in ended.stderr


def test_a_file_beside_the_log_is_replaced_as_ever(log):
    Path("answer").write_text("old")
    assert through_shell(f">> {LOG}", "check", "--output-file", "answer").returncode == 0
    assert Path("answer").read_text().startswith("TRIGGER OK - ")
    assert added(log) == ""


# A stdout that takes nothing.


@pytest.mark.parametrize("options", [(), ("--json",)], ids=" ".join)
def test_a_full_stdout_names_what_became_of_the_trigger(options, ready):
    for outcome in ("published", "duplicate"):
        ended = through_shell("> /dev/full", "publish", *options)
        assert ended.returncode == 0
        assert ended.stderr == (
            "crypto-trigger: warning: the answer could not be written to stdout: no space left on device; "
            f"the outcome is still {outcome} (status 0)\n"
        )
    assert len(stored(ready.url, ready.stream)) == 1


@pytest.mark.parametrize(
    ("argv", "still"),
    [
        (("setup",), "; the outcome is still unchanged (status 0)"),
        (("check",), "; the result is still OK (status 0)"),
        (("check", "--json"), "; the result is still OK (status 0)"),
        (("config",), ""),
        (("history",), ""),
    ],
)
def test_so_do_the_other_commands(argv, still):
    ended = through_shell("> /dev/full", *argv)
    assert ended.returncode == 0
    assert ended.stderr == (
        f"crypto-trigger: warning: the answer could not be written to stdout: no space left on device{still}\n"
    )
