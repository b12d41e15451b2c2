"""The file that says which result of a check was printed last: when a result is news."""

from datetime import UTC, datetime, timedelta

import pytest

from crypto_trigger.commands import state_file
from crypto_trigger.commands.state_file import Printed
from crypto_trigger.monitoring.verdict import Level

NOW = datetime(2026, 11, 23, 18, 7, 2, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.mark.parametrize("level", Level)
@pytest.mark.parametrize("before", Level)
def test_another_result_is_news_and_the_same_one_is_not(before, level):
    assert Printed(before, NOW - timedelta(minutes=15)).covers(level, NOW) is (before is level)


@pytest.mark.parametrize(
    ("age", "known"),
    [
        (timedelta(0), True),
        (DAY - timedelta(seconds=1), True),
        (DAY, False),
        (10 * DAY, False),
        # The clock was ahead.
        (-timedelta(seconds=1), False),
    ],
)
def test_what_is_not_ok_is_news_again_after_a_day(age, known):
    for level in (Level.WARNING, Level.CRITICAL, Level.UNKNOWN):
        assert Printed(level, NOW - age).covers(level, NOW) is known
    assert Printed(Level.OK, NOW - age).covers(Level.OK, NOW)


@pytest.mark.parametrize("level", Level)
def test_what_is_written_is_read(level, tmp_path):
    path = tmp_path / "check"
    assert state_file.write(str(path), Printed(level, NOW)) == ""
    assert path.read_text() == f"{level.name} 2026-11-23T18:07:02Z\n"
    assert state_file.read(str(path), NOW + DAY) == Printed(level, NOW)
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_file_says_ok(tmp_path):
    assert state_file.read(str(tmp_path / "check"), NOW) == Printed(Level.OK, NOW)
    assert state_file.read(str(tmp_path / "folder" / "check"), NOW) == Printed(Level.OK, NOW)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"OK",
        b"OK \n",
        b"OK yesterday",
        b"OK 2026-11-23",
        b"FINE 2026-11-23T18:07:02Z",
        b"ok 2026-11-23T18:07:02Z",
        b"0 2026-11-23T18:07:02Z",
        b"OK 2026-11-23T18:07:02Z CRITICAL",
        b"OK 2026-11-23T18:07:0",
        b"OK 2026-02-30T18:07:02Z",
        b"\0\0\0\0",
        b"\xff\xfe",
        b"OK 2026-11-23T18:07:02Z\n" + b" " * (1 << 17),
    ],
)
def test_a_damaged_file_says_nothing(content, tmp_path):
    path = tmp_path / "check"
    path.write_bytes(content)
    assert state_file.read(str(path), NOW) is None


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("missing/check", "no such file or directory"),
        (".", "it is not a regular file"),
        ("", "is empty"),
        ("a\0b", "holds a nul, which is not allowed in a path"),
        ("x" * 300, "file name too long"),
    ],
)
def test_what_cannot_be_written_is_said(path, why, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert state_file.write(path, Printed(Level.OK, NOW)) == why
    assert list(tmp_path.iterdir()) == []


def test_a_directory_says_nothing(tmp_path):
    assert state_file.read(str(tmp_path), NOW) is None
