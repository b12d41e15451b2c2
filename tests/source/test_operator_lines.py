"""Each failure line alone tells an operator which server it was, what to do, and what became of the trigger."""

import ast

import pytest
from support.message_places import HOME, last_name

from crypto_trigger.connection.faults import API_RULES, RULES
from crypto_trigger.deadline.retry import Attempt, GaveUp, Limits, Retry, complete
from crypto_trigger.errors import Interrupted, NoAck, Outcome, Unavailable
from crypto_trigger.reporting.report import Report
from crypto_trigger.reporting.words import report_line
from crypto_trigger.settings.load import load
from crypto_trigger.slots.times import instant
from crypto_trigger.slots.trigger import Slot, Trigger

SETTINGS = load({}, "/dev/null", {})
SLOT = Slot(instant("2026-11-23T18:00:00Z"), SETTINGS.every)
ENDS = {"jetstream": "may be stored", "streaming": "may be stored", "core": "may have been delivered"}
KINDS = {"Unavailable", "Rejected", "BadPeer", "Denied", "Unusable"}
# The errors whose hint comes from somewhere else, or that need none: by module and function.
NO_HINT = {
    ("follower", "_unavailable"),  # `listen` connects again
    ("listen", "_end_of_time"),  # its own end
    ("server", "start"),  # the reason is another program's
}


@pytest.mark.parametrize("rule", [*RULES, *API_RULES], ids=lambda rule: rule.says or "own words")
def test_every_row_of_the_fault_tables_says_what_to_do(rule):
    # What may be stored gets its hint from the delivery, which knows whether another run can double it.
    assert rule.hint or rule.error is NoAck


def test_every_error_of_a_broker_says_what_to_do():
    without = set()
    for path in HOME.rglob("*.py"):
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
                calls = [node for node in ast.walk(function) if isinstance(node, ast.Call) and len(node.args) < 2]
                if KINDS & {last_name(call.func) for call in calls}:
                    without.add((path.stem, function.name))
    assert without == NO_HINT


def test_a_deadline_after_sending_names_the_server():
    async def sent(attempt):
        attempt.sent, attempt.where = True, "nats://h:4222"
        raise TimeoutError

    with pytest.raises(GaveUp) as caught:
        complete(Retry(Limits(1, 0.1, 0.1)).run(sent))
    assert caught.value.error().message == "nats://h:4222: it was sent and nobody acknowledged it in time (1 attempt)"


@pytest.mark.parametrize("unknown", [NoAck("h: no acknowledgement"), None])
def test_a_signal_after_sending_says_whether_another_run_can_double_it(unknown):
    end = GaveUp(Attempt(1, lambda: 0.0), Unavailable("h: gone", "is it there?"), unknown, 15, Limits(60, 1, 1))
    error = end.error("run it again: that cannot double it")
    assert isinstance(error, Interrupted)
    assert error.hint == ("run it again: that cannot double it" if unknown else "")
    assert error.perhaps == bool(unknown)


@pytest.mark.parametrize(("delivery", "end"), ENDS.items())
def test_a_bug_names_the_slot_and_says_that_the_trigger_may_be_stored(delivery, end):
    settings = load({"delivery": delivery}, "/dev/null", {})
    trigger = Trigger.for_slot(SLOT, "crypto.update", "//h/c", {}, "")
    report = Report.now(Outcome.BUG, 70, 0.1).with_settings(settings).with_trigger(trigger)
    said = report_line(report.with_error(ZeroDivisionError()))
    assert said.endswith(f"with the lines above; crypto.update for 2026-11-23T18:00:00Z {end}")
    assert "may" not in report_line(Report.now(Outcome.BUG, 70, 0.1).with_error(ZeroDivisionError()))


@pytest.mark.parametrize(("command", "says"), [("publish", True), ("setup", False), ("config", False)])
def test_a_wrong_setting_of_a_publish_says_that_nothing_was_published(run, command, says):
    result = run(command, "--every", "banana", "--timeout", "soon")
    assert result.status == 78
    assert result.err.count("\n") == 2
    assert result.err.endswith("; nothing was published\n") == says
    assert ("published" in result.err) == says


def test_a_time_that_has_no_slot_says_that_nothing_was_published(run):
    result = run("publish", "--dry-run", "--scheduled-at", "1969-12-31T23:59:00Z")
    assert result.status == 78
    assert result.err.endswith("; nothing was published\n")
