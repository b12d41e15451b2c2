"""The metrics file: what the textfile collector reads after each run, and what is never done to other files."""

import errno
import fcntl
import json
import math
import os
import stat
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from support.processes import PROGRAM, Process, execute
from support.programs import program
from support.streams import stored

from crypto_trigger import __version__

NOWHERE = ("--server", "nats://127.0.0.1:1", "--give-up-after", "200ms")
SLOT = ("--scheduled-at", "2026-11-23T12:00:00Z")
FILE = "trigger.prom"
PREFIX = "crypto_trigger_"
EVERY_RUN = {
    "last_run_timestamp_seconds",
    "last_run_duration_seconds",
    "last_run_exit_status",
    "last_run_attempts",
    "build_info",
}
ALL = EVERY_RUN | {"last_success_timestamp_seconds", "last_run_slot_timestamp_seconds"}
WARNING = f"crypto-trigger: warning: the metrics could not be written to {FILE}: "
PUBLISHED = "; the outcome is still published (status 0)"


@pytest.fixture
def ready(run, place, monkeypatch):
    """The test's own place, its stream set up; the environment names a metrics file."""
    assert run("setup").status == 0
    monkeypatch.setenv("CRYPTO_TRIGGER_METRICS_FILE", FILE)
    return place


def read(path=FILE):
    """What prometheus_client reads: each metric's value and labels by its name without the prefix."""
    found = {}
    for family in text_string_to_metric_families(Path(path).read_text()):
        assert family.type == "gauge"
        assert family.documentation
        (sample,) = family.samples
        assert sample.name.startswith(PREFIX)
        assert math.isfinite(sample.value)
        found[sample.name.removeprefix(PREFIX)] = sample.value, sample.labels
    return found


def values(path=FILE):
    return {name: value for name, (value, _) in read(path).items()}


def names(folder="."):
    return [path.name for path in Path(folder).iterdir()]


def seconds(text):
    return datetime.fromisoformat(text).timestamp()


# What it says.


def test_a_success_is_told_with_its_slot(run, ready):
    result = run("publish", *SLOT, "--json")
    (message,) = stored(ready.url, ready.stream)
    report = json.loads(result.out)
    found = read()
    assert message.seq == report["seq"]
    assert set(found) == ALL
    labels = {"stream": ready.stream, "subject": ready.subject}
    assert [given for name, (_, given) in found.items() if name != "build_info"] == [labels] * (len(ALL) - 1)
    assert found["build_info"] == (1, labels | {"version": __version__})
    told = values()
    assert told["last_run_slot_timestamp_seconds"] == seconds("2026-11-23T12:00:00Z")
    assert told["last_success_timestamp_seconds"] == told["last_run_timestamp_seconds"]
    assert 0 <= told["last_run_timestamp_seconds"] - seconds(report["time"]) < 1
    assert told["last_run_duration_seconds"] == report["elapsed_ms"] / 1000
    assert (told["last_run_exit_status"], told["last_run_attempts"]) == (0, 1)


@pytest.mark.parametrize(
    ("argv", "status", "names"),
    [
        (NOWHERE, 69, ALL),
        (("--every", "banana"), 78, ALL - {"last_run_slot_timestamp_seconds"}),
        (("--subject", "no subject"), 78, ALL - {"last_run_slot_timestamp_seconds"}),
        (("--no-such-option",), 2, ALL - {"last_run_slot_timestamp_seconds"}),
    ],
    ids=["unavailable", "setting", "subject", "usage"],
)
def test_a_failure_keeps_the_time_of_the_last_success(argv, status, names, run, ready):
    run("publish", *SLOT)
    before = read()
    result = run("publish", *argv, "--json")
    after = read()
    assert len(stored(ready.url, ready.stream)) == 1
    assert result.status == status
    assert set(after) == names
    assert after["last_success_timestamp_seconds"] == before["last_success_timestamp_seconds"]
    assert after["last_run_timestamp_seconds"][0] > before["last_run_timestamp_seconds"][0]
    assert after["last_run_exit_status"] == (status, {"stream": ready.stream, "subject": ready.subject})
    attempts = json.loads(result.out)["attempts"] if status == 69 else 0
    assert after["last_run_attempts"][0] == attempts


def test_before_the_first_success_there_is_no_time_of_one(run, ready):
    run("publish", *NOWHERE)
    assert set(values()) == ALL - {"last_success_timestamp_seconds"}
    run("publish")
    first = values()["last_success_timestamp_seconds"]
    run("publish")  # a duplicate: the slot has its trigger
    assert values()["last_success_timestamp_seconds"] > first
    assert len(stored(ready.url, ready.stream)) == 1


def test_the_success_of_another_subject_is_not_that_of_this_one(run, ready):
    run("publish")
    run("publish", "--subject", f"{ready.subject}.other")
    assert set(values()) == ALL - {"last_success_timestamp_seconds"}


def test_a_delivery_without_a_stream_has_an_empty_label(run, ready):
    assert run("publish", "--delivery", "core").status == 0
    assert read()["last_run_exit_status"][1] == {"stream": "", "subject": ready.subject}


@pytest.mark.usefixtures("ready")
@pytest.mark.parametrize("subject", ['a"b', "a\\b", "a}b", "ä", "a,b=c", 'a\\"', "{}"])
def test_labels_are_escaped_and_read_back(subject, run):
    assert run("publish", "--delivery", "core", "--subject", subject, "-q") == (0, "", "")
    first = values()["last_success_timestamp_seconds"]
    run("publish", "--delivery", "core", "--subject", subject, "-q", *NOWHERE)
    assert read()["last_run_exit_status"] == (69, {"stream": "", "subject": subject})
    assert values()["last_success_timestamp_seconds"] == first


@pytest.mark.usefixtures("ready")
@pytest.mark.parametrize(
    "argv", [("publish", "--dry-run"), ("setup",), ("config",), ("publish", "--help")], ids=" ".join
)
def test_what_is_no_publish_writes_nothing(argv, run):
    assert run(*argv).status == 0
    assert not Path(FILE).exists()


def test_the_flag_names_the_file(run, place):
    run("setup")
    assert run("publish", "--metrics-file", "other.prom").status == 0
    assert len(stored(place.url, place.stream)) == 1
    assert set(values("other.prom")) == ALL
    assert run("publish", "--metrics-file", "other.prom", "--no-such-option").status == 2
    assert values("other.prom")["last_run_exit_status"] == 2


# How it is written.


@pytest.mark.usefixtures("ready")
@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_everybody_may_read_it_and_nothing_is_left_beside_it(umask, run):
    before = os.umask(umask)
    try:
        run("publish")
    finally:
        os.umask(before)
    assert stat.S_IMODE(Path(FILE).stat().st_mode) == 0o644
    assert names() == [FILE]


def test_runs_at_the_same_time_leave_one_whole_file_with_the_newest_success(run, ready):
    run("publish")
    began = datetime.now(UTC).timestamp()
    runs = [Process("publish", "-q", *(NOWHERE if number % 2 else ())) for number in range(4)]
    assert sorted(process.end().status for process in runs) == [0, 0, 69, 69]
    assert len(stored(ready.url, ready.stream)) in (1, 2)  # a slot may have begun in between
    assert set(values()) == ALL
    assert values()["last_success_timestamp_seconds"] > began
    assert names() == [FILE]


@pytest.mark.usefixtures("ready")
def test_a_link_stays_and_the_file_behind_it_is_replaced(run):
    Path("there").mkdir()
    Path(FILE).symlink_to("there/real.prom")
    run("publish")
    run("publish")
    assert Path(FILE).is_symlink()
    assert set(values("there/real.prom")) == ALL
    assert names("there") == ["real.prom"]


# Files that are not ours, and folders that take nothing.


FOREIGN = {
    "node": b'node_boot_time_seconds 1\n# HELP other x\nother{a="b"} 2\n',
    "check": b'crypto_trigger_check_status{stream="s",subject="t"} 0\n',
    "both": b'crypto_trigger_last_run_exit_status{stream="s",subject="t"} 0\nother 1\n',
    "text": b"a letter\n",
    "binary": bytes(range(256)),
    "huge": b'crypto_trigger_build_info{stream="s",subject="t",version="1"} 1\n' * 100_000,
    "report": b'{"outcome": "published"}\n',
}


@pytest.mark.parametrize("content", FOREIGN.values(), ids=FOREIGN)
def test_a_file_of_something_else_is_kept(content, run, ready):
    Path(FILE).write_bytes(content)
    result = run("publish")
    assert len(stored(ready.url, ready.stream)) == 1
    assert (result.status, result.err) == (0, f"{WARNING}it holds something else, which is kept{PUBLISHED}\n")
    assert Path(FILE).read_bytes() == content
    assert names() == [FILE]


@pytest.mark.usefixtures("ready")
@pytest.mark.parametrize(
    "content",
    [
        "",
        "\n",
        "crypto_trigger_last_success_timestamp_seconds",
        'crypto_trigger_last_success_timestamp_seconds{stream="s",sub',
        'crypto_trigger_last_success_timestamp_seconds{stream="s",subject="t"} NaN\n',
        "# HELP crypto_trigger_build_info\n# TYPE crypto_trigger_build_info gauge\n",
    ],
)
def test_a_file_of_ours_that_is_empty_or_damaged_is_replaced(content, run):
    Path(FILE).write_text(content)
    assert run("publish", "-q", *NOWHERE).err.count("\n") == 1
    assert set(values()) == ALL - {"last_success_timestamp_seconds"}


def directory(path):
    Path(path).mkdir()


def loop(path):
    Path(path).symlink_to(path)


def full(path):
    Path(path).symlink_to("/dev/full")


ODD = {
    directory: "it is not a regular file",
    os.mkfifo: "it is not a regular file",
    full: "it is not a regular file",
    loop: "too many levels of symbolic links",
}


@pytest.mark.parametrize(("make", "says"), ODD.items(), ids=lambda value: getattr(value, "__name__", ""))
@pytest.mark.parametrize(("options", "status"), [((), 0), (NOWHERE, 69)], ids=["published", "unavailable"])
def test_what_is_no_file_is_one_warning(make, says, options, status, run, ready):
    make(FILE)
    before = os.lstat(FILE)
    result = run("publish", *options)
    assert len(stored(ready.url, ready.stream)) == (status == 0)
    assert result.status == status
    outcome = "unavailable" if status else "published"
    assert result.err.splitlines()[status != 0 :] == [
        f"{WARNING}{says}; the outcome is still {outcome} (status {status})"
    ]
    assert os.lstat(FILE).st_ino == before.st_ino


def test_a_folder_that_is_not_there_is_one_warning(run, ready):
    result = run("publish", "--metrics-file", "nowhere/x.prom")
    assert len(stored(ready.url, ready.stream)) == 1
    assert result.status == 0
    assert result.err == (
        "crypto-trigger: warning: the metrics could not be written to nowhere/x.prom: no such file or directory"
        f"{PUBLISHED}\n"
    )


def test_a_full_disk_is_one_warning_and_the_old_file_stays(ready, run):
    run("publish")
    before = Path(FILE).read_bytes()
    limited = (program("sh"), "-c", 'ulimit -f 0; exec "$@"', "sh")
    ended = Process("publish", "-q", command=(*limited, *PROGRAM), PYTHONDONTWRITEBYTECODE="1").end()
    assert len(stored(ready.url, ready.stream)) == 1
    assert (ended.status, ended.err) == (0, f"{WARNING}file too large; the outcome is still duplicate (status 0)\n")
    assert Path(FILE).read_bytes() == before
    assert names() == [FILE]


def test_a_file_system_without_room_is_one_warning(ready, tmp_path):
    """A file system of four kilobytes, in a mount namespace of its own."""
    unshare = program("unshare")
    tried = subprocess.run([unshare, "-rm", "true"], capture_output=True, check=False)
    if tried.returncode:
        pytest.skip(f"unshare may not make a mount namespace: {tried.stderr.decode().strip()}")
    script = (
        'mount -t tmpfs -o size=4k none "$1" && dd if=/dev/zero of="$1/full" bs=4k count=1 2>/dev/null; '
        'export CRYPTO_TRIGGER_METRICS_FILE="$1/x.prom"; shift; exec "$@"'
    )
    folder = tmp_path / "small"
    folder.mkdir()
    ended = Process("publish", "-q", command=(unshare, "-rm", "sh", "-c", script, "sh", str(folder), *PROGRAM)).end()
    assert len(stored(ready.url, ready.stream)) == 1
    assert ended.status == 0
    assert ended.err == (
        f"crypto-trigger: warning: the metrics could not be written to {folder}/x.prom: no space left on device"
        f"{PUBLISHED}\n"
    )


@pytest.mark.usefixtures("ready")
def test_a_folder_that_is_locked_for_long_is_written_to_all_the_same(run):
    folder = os.open(".", os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    try:
        assert run("publish", "-q") == (0, "", "")
    finally:
        os.close(folder)
    assert set(values()) == ALL


@pytest.mark.usefixtures("ready")
def test_a_folder_that_cannot_be_locked_is_written_to_after_one_attempt(run, monkeypatch):
    """A network file system may have no locks, which this machine's do."""
    asked = []

    def refuse(*_):
        asked.append(1)
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert run("publish", "-q") == (0, "", "")
    assert asked == [1]
    assert set(values()) == ALL


def test_a_clock_that_is_far_ahead_is_believed_until_it_is_right_again(ready):
    faketime = program("faketime")
    ended = Process("publish", "-q", command=(faketime, "2100-01-01 00:00:00", *PROGRAM)).end()
    assert len(stored(ready.url, ready.stream)) == 1
    assert ended.status == 0
    assert values()["last_run_timestamp_seconds"] > seconds("2099-12-30T00:00:00Z")
    assert execute("publish", "-q").status == 0
    assert abs(values()["last_run_timestamp_seconds"] - datetime.now(UTC).timestamp()) < timedelta(minutes=1).seconds
