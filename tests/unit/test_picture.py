"""The picture of a history: a mark for each state, and what is worth a look named."""

import re
from datetime import timedelta

import pytest
from support.histories import NOW, ago, history, texts

from crypto_trigger.monitoring.coverage import State
from crypto_trigger.monitoring.picture import MARKS, mark, short, span
from crypto_trigger.reporting.spans import Style
from crypto_trigger.slots.times import instant
from crypto_trigger.slots.trigger import Stored


@pytest.mark.parametrize("ascii_only", [False, True])
def test_each_state_has_a_mark_of_its_own_one_column_wide(ascii_only):
    marks = [mark(state, ascii_only=ascii_only) for state in State]
    assert len(set(marks)) == len(State)
    assert set(map(len, marks)) == {1}
    assert set(State) < set(Style)


def strip(lines):
    """The rows of the strip, from the line below the ruler to the next empty one."""
    start = next(number for number, line in enumerate(lines) if "+1h" in line) + 1
    return lines[start : lines.index("", start)]


def test_the_strip_shows_each_slot_in_its_place():
    """Half a day in a row, an hour in a group; blank before the first trigger."""
    messages = [
        Stored(1, instant("2026-11-23T09:15:01Z")),
        Stored(2, instant("2026-11-23T09:40:00Z")),
        Stored(3, instant("2026-11-23T12:00:01Z")),
        Stored(4, instant("2026-11-23T17:45:01Z")),
    ]
    assert strip(texts(history(messages))) == [
        "Mon 23 Nov 00:00  " + " " * 45 + " ■▲× ×××× ××××",
        "           12:00  ■××× ×××× ×××× ×××× ×××× ×××■ ·",
    ]
    assert strip(texts(history(messages), ascii_only=True))[1] == ("           12:00  #xxx xxxx xxxx xxxx xxxx xxx# .")
    overdue = history(messages, now=NOW + timedelta(minutes=3))
    assert strip(texts(overdue))[1].endswith("×××■ !")


def test_the_ruler_stands_above_the_groups():
    lines = texts(history([ago(1, 86000)]))
    ruler = next(line for line in lines if "+1h" in line)
    row = strip(lines)[1]
    for hour in range(1, 12):
        column = ruler.index(f"+{hour}h")
        assert row[column - 1] == " "
        assert row[column] in MARKS
        assert column == 18 + 5 * hour


def test_the_legend_counts_the_states_that_occur():
    found = history([ago(1, 7200 + 254), ago(2, 3600 - 345)])
    assert found.counts == {State.TRIGGERED: 1, State.LATE: 1, State.MISSED: 6, State.PENDING: 1}
    assert "■ 1 triggered   ▲ 1 late   × 6 missed   · 1 pending   of 9 slots" in texts(found)
    narrow = texts(found, 30)
    assert "■ 1 triggered   ▲ 1 late" in narrow
    assert "× 6 missed   · 1 pending" in narrow
    assert "of 9 slots" in narrow


def fact(lines, name):
    start = next(number for number, line in enumerate(lines) if line.startswith(name))
    said = [lines[start].removeprefix(name)]
    for line in lines[start + 1 :]:
        if not line.startswith(" "):
            break
        said.append(line)
    return " ".join(" ".join(said).split())


@pytest.mark.parametrize("width", [80, 40])
def test_what_is_worth_a_look_is_named(width):
    messages = [
        Stored(1, instant("2026-11-22T20:00:01Z"), source="//cron-1/worker"),
        Stored(2, instant("2026-11-22T20:06:00Z"), source="//cron-1/worker"),
        Stored(3, instant("2026-11-22T20:15:01Z"), "2026-11-22T21:00:00Z", source="//fast/worker"),
        Stored(4, instant("2026-11-22T23:50:02Z"), source="//cron-1/worker"),
        Stored(5, instant("2026-11-23T00:14:58Z"), source="//cron-1/worker"),
    ]
    lines = texts(history(messages, now=instant("2026-11-23T00:20:30Z")), width)
    assert fact(lines, "missed") == "Sun 22 Nov 20:30 to 23:30 (13 slots), Mon 23 Nov 00:00"
    assert fact(lines, "late") == "Sun 22 Nov 23:45 by 5m2s"
    assert fact(lines, "surplus") == "Sun 22 Nov 20:00 (1 more)"
    assert fact(lines, "claimed") == "Sun 22 Nov 20:15 as 21:00 by //fast/worker"
    assert fact(lines, "early") == "1, up to 2.0s before the slot"
    assert fact(lines, "lateness") == "p50 1.0s, p99 5m2s, max 5m2s"
    assert fact(lines, "longest gap") == "3h35m1s, from Sun 22 Nov 20:15 to 23:50"
    assert fact(lines, "published by") == "//cron-1/worker (3), //fast/worker (1)"


def test_what_did_not_happen_is_not_named():
    lines = texts(history([ago(1, 250)], since=900))
    names = re.findall(r"^([a-z][a-z ]+?)  ", "\n".join(lines), re.MULTILINE)
    assert names == ["lateness", "longest gap", "published by"]


def test_of_many_the_newest_are_named_and_the_rest_counted():
    messages = [ago(n, 86400 - n * 1800) for n in range(1, 48)]
    assert history(messages).counts[State.MISSED] == 47
    said = fact(texts(history(messages)), "missed")
    assert said == "Mon 23 Nov 14:15, 14:45, 15:15, 15:45, 16:15, 16:45, 17:15, 17:45, and 39 earlier"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.412, "412ms"), (3.14, "3.1s"), (9.9, "9.9s"), (422, "7m2s"), (-2.4, "-2.4s"), (5397, "1h29m57s")],
)
def test_a_length_of_time_has_about_two_digits(seconds, said):
    assert short(timedelta(seconds=seconds)) == said


@pytest.mark.parametrize(("hours", "said"), [(1, "1h"), (24, "24h"), (168, "7d"), (50, "50h")])
def test_two_days_and_more_are_said_in_days(hours, said):
    assert span(timedelta(hours=hours)) == said
