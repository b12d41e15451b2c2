"""The three formats of a check's answer, read back by the rules of those who read them, whatever is in it."""

import json
import string
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import plugin_answers

from crypto_trigger.monitoring.coverage import Entry, State
from crypto_trigger.monitoring.plugin import Answer, data, nagios, prometheus
from crypto_trigger.monitoring.verdict import Backlog, CheckResult, Finding, Level, Thresholds
from crypto_trigger.slots.trigger import Slot, Stored

NOW = datetime(2026, 11, 23, 18, 4, 15, tzinfo=UTC)
SLOT = Slot.containing(NOW, timedelta(minutes=15))
TRIGGER = Stored(7, SLOT.start + timedelta(seconds=3.1), source='//h|"\\/w')
LIMITS = Thresholds(1, 2, timedelta(minutes=5), timedelta(minutes=15))
# What a stream, a subject and a consumer may be called, and what a message's header may hold.
NAMES = st.text(st.sampled_from(string.ascii_letters + string.digits + "-_='\"\\|;,{}%é"), min_size=1, max_size=8)


def label_of(name):
    return name.replace("=", "_").replace("|", "_")


def result(*names, skew=timedelta(seconds=-7200.0166)):
    return CheckResult(
        findings=(Finding(Level.OK, "well"),),
        now=NOW,
        skew=skew,
        entries=(Entry(SLOT, State.TRIGGERED, TRIGGER, 2),),
        newest=(SLOT, TRIGGER),
        backlogs=tuple(Backlog(name, Level.WARNING, 1, TRIGGER) for name in names),
        thresholds=LIMITS,
    )


def test_the_line_of_the_contract():
    found = Finding(Level.OK, f"{SLOT} stored 3.1s after its slot began; 4 of 4 slots in 1h")
    answer = Answer(Level.OK, (found,), "crypto-stats", "crypto.update", result(skew=timedelta(seconds=0.02)))
    assert nagios(answer) == (
        "TRIGGER OK - 2026-11-23T18:00:00Z stored 3.1s after its slot began; 4 of 4 slots in 1h"
        " | age=251.9s missed=0;0;1;0 late=0 surplus=2 skew=0.02s"
    )


@settings(max_examples=30)
@given(
    names=st.lists(NAMES, max_size=3, unique_by=label_of),
    text=NAMES,
    level=st.sampled_from(Level),
)
def test_each_format_can_be_read_whatever_the_names_are(names, text, level):
    answer = Answer(level, (Finding(level, text), Finding(Level.OK, "well")), text, text, result(*names))
    line = plugin_answers.line(nagios(answer) + "\n")
    assert line.status == level.name
    assert line.text == text.replace("|", "/") + ("" if level else "; well")
    labels = [label_of(name) for name in names]
    assert set(line.data) == {
        *("age", "missed", "late", "surplus", "skew"),
        *(f"{label}_{what}" for label in labels for what in ("unacknowledged", "age")),
    }
    assert line.data["skew"] == "-7200.02s"
    out = prometheus(answer, NOW) + "\n"
    assert len(plugin_answers.metrics(out)) == 9 + 2 * len(names)
    for found in plugin_answers.labels(out):
        assert (found["stream"], found["subject"]) == (text, text)
        assert found.get("consumer", names[0] if names else None) in (names or [None])
    assert json.loads(json.dumps(data(answer)))["newest"]["source"] == TRIGGER.source


def test_the_worst_comes_first_and_what_is_well_is_left_out():
    findings = tuple(Finding(level, level.name) for level in (Level.OK, Level.WARNING, Level.CRITICAL, Level.WARNING))
    answer = Answer(Level.CRITICAL, findings, "s", "t")
    assert nagios(answer) == "TRIGGER CRITICAL - CRITICAL; WARNING; WARNING"
    found = data(answer)
    assert (found["critical"], found["warning"], found["ok"]) == (["CRITICAL"], ["WARNING", "WARNING"], ["OK"])


def test_numbers_have_no_exponent():
    old = TRIGGER._replace(stored_at=datetime(1971, 1, 1, tzinfo=UTC))
    found = result("c")._replace(newest=(SLOT, old), skew=timedelta(microseconds=1))
    answer = Answer(Level.OK, found.findings, "s", "t", found)
    assert plugin_answers.line(nagios(answer) + "\n").data["age"] == "1763921055.0s"
    assert "e-" not in prometheus(answer, NOW)
    read = plugin_answers.metrics(prometheus(answer, NOW) + "\n")
    assert read["clock_skew_seconds"] == pytest.approx(1e-6)
    assert read["check_timestamp_seconds"] == NOW.timestamp()
