"""What is printed: nothing secret, nothing that a terminal would obey, and only the keys that apply."""

import json
import sys
from datetime import UTC, datetime, timedelta

import pytest
from support.timestamps import untimed

from crypto_trigger import __version__
from crypto_trigger.deadline.retry import Wait
from crypto_trigger.errors import BadPeer, ConfigError, Denied, Interrupted, NoAck, Outcome, Rejected, Unavailable
from crypto_trigger.reporting.report import Failure, Report, verdict
from crypto_trigger.reporting.terminal import Output
from crypto_trigger.reporting.words import report_data, report_line
from crypto_trigger.settings.load import load
from crypto_trigger.settings.masking import keep
from crypto_trigger.slots.times import instant
from crypto_trigger.slots.trigger import Receipt, Slot, Trigger

SETTINGS = load({}, "/dev/null", {})
CORE = load({}, "/dev/null", {"CRYPTO_TRIGGER_DELIVERY": "core"})
NOW = datetime(2026, 11, 23, 12, 0, 3, 999999, tzinfo=UTC)
TRIGGER = Trigger.for_slot(
    Slot.containing(instant("2026-11-23T12:00:00Z"), timedelta(minutes=15)), "crypto.update", "//h/c"
)
RECEIPT = Receipt(outcome=Outcome.PUBLISHED, seq=7, guard="compare-and-set", server="nats://h:4222")
WAIT = Wait(2, Unavailable("nats://h:4222: connection refused"), 0.25, 58.4)


def test_what_a_terminal_would_obey_is_escaped(capsys):
    output = Output(verbose=True)
    for say in (lambda text: output.answer(text, {}), output.failure, output.warn, output.detail):
        say("a\x1b[2J\r\x07\u202eb")
    out, err = capsys.readouterr()
    assert out == "a\\x1b[2J\\r\\x07\\u202eb\n"
    assert err.count("a\\x1b[2J\\r\\x07\\u202eb\n") == 3
    assert (out + err).replace("\n", "").isprintable()


def test_a_secret_is_masked_wherever_it_turns_up(capsys):
    output = Output(verbose=True)
    keep(["hunter", "hunter2hunter", "short"])
    for say in (lambda text: output.answer(text, {}), output.failure, output.warn, output.detail):
        say("with hunter2hunter and hunter: short")
    output.traceback(ValueError("hunter2hunter"))
    out, err = capsys.readouterr()
    # The longer one first, or its tail would be left over. The shortest is masked where it comes from, or not at all:
    # a password like `for` would blot out every other line.
    assert out == "with *** and ***: short\n"
    assert "hunter" not in err
    output.as_json = True
    output.answer("", {"a": ["hunter2hunter", {"b": "x hunter"}], "n": 1})
    assert json.loads(capsys.readouterr().out) == {"a": ["***", {"b": "x ***"}], "n": 1}


def test_quiet_keeps_the_answer_and_nothing_else_back(capsys):
    output = Output(quiet=True, as_json=True)
    output.answer("answer", {"a": 1})
    output.failure("failure")
    assert capsys.readouterr() == ("", "crypto-trigger: failure\n")


def test_json_is_one_line_and_readable_as_it_is(capsys):
    Output(as_json=True).answer("unused", {"subject": "crypto.ü", "message": "two\nlines"})
    out, _ = capsys.readouterr()
    assert out == '{"subject": "crypto.ü", "message": "two\\nlines"}\n'


def test_json_escapes_what_a_terminal_would_obey_as_json_has_it(capsys):
    Output(as_json=True).answer("unused", {"a": "\u202e\x9b2J"})
    out, _ = capsys.readouterr()
    assert out == '{"a": "\\u202e\\u009b2J"}\n'


def test_waiting_is_shown_in_a_pipe_only_if_asked_for(capsys):
    Output().waiting(WAIT)
    assert capsys.readouterr() == ("", "")
    Output(verbose=True).waiting(WAIT)
    said = "crypto-trigger: attempt 2 failed: nats://h:4222: connection refused; next in 0.2s, giving up in 58s\n"
    out, err = capsys.readouterr()
    assert (out, untimed(err)) == ("", said)


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_stream_that_was_closed_before_we_began_is_no_failure(stream, monkeypatch):
    monkeypatch.setattr(sys, stream, None)
    output = Output(verbose=True)
    output.answer("answer", {})
    output.failure("failure")
    output.waiting(WAIT)


# Lines.


def report(outcome, status=0, settings=SETTINGS):
    """The report of a publish that ended now."""
    return Report(outcome, status, NOW, __version__, 12).with_settings(settings).with_trigger(TRIGGER)


def receipt(**changes):
    return report(changes.get("outcome", Outcome.PUBLISHED)).with_receipt(Receipt(**{**vars(RECEIPT), **changes}))


def failed(error, settings=SETTINGS):
    return report(*verdict(error), settings).with_error(error)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "published crypto.update for 2026-11-23T12:00:00Z in stream crypto-stats, sequence 7"),
        (
            {"attempts": 3},
            "published crypto.update for 2026-11-23T12:00:00Z in stream crypto-stats, sequence 7 after 3 attempts",
        ),
        (
            {"outcome": Outcome.DUPLICATE},
            "duplicate: crypto.update for 2026-11-23T12:00:00Z is already in stream crypto-stats, sequence 7",
        ),
        (
            {"outcome": Outcome.SUPERSEDED, "later": TRIGGER.slot._replace(start=instant("2026-11-23T12:15:00Z"))},
            (
                "superseded: crypto.update for 2026-11-23T12:00:00Z is not needed: "
                "the later trigger of 2026-11-23T12:15:00Z is in stream crypto-stats, sequence 7"
            ),
        ),
    ],
    ids=["published", "retried", "duplicate", "superseded"],
)
def test_a_publish_that_went_well_is_one_line(changes, said):
    assert report_line(receipt(**changes)) == said


def test_a_weaker_guard_is_told():
    assert "; guarded by the msg id alone" in report_line(receipt(guard="msg-id"))
    assert report_line(receipt(guard="none")).endswith("; forced")


def test_a_dry_run_tells_everything_that_would_be_sent_and_where_to():
    settings = load({}, "/dev/null", {"NATS_URL": "nats://worker:hunter2@a,nats://b:1"})
    told = report(Outcome.DRY_RUN, 0, settings)._replace(servers=tuple(map(str, settings.servers)))
    assert report_line(told) == (
        'dry run: would publish {"trigger":"update"} to crypto.update for 2026-11-23T12:00:00Z '
        "(msg id crypto.update:2026-11-23T12:00:00Z, stream crypto-stats, nats://a:4222, nats://b:1)"
    )


SLOT = "crypto.update for 2026-11-23T12:00:00Z"


@pytest.mark.parametrize(
    ("error", "stored", "delivered"),
    [
        *(
            (kind("why", "do this"), f"why; do this; {SLOT} was not stored", f"why; do this; {SLOT} was not delivered")
            for kind in (Unavailable, Rejected, BadPeer, Denied)
        ),
        (ConfigError("why"), f"why; {SLOT} was not stored", f"why; {SLOT} was not delivered"),
        (NoAck("why"), f"why; {SLOT} may be stored", f"why; {SLOT} may have been delivered"),
        (Interrupted(15, "why"), f"why; {SLOT} was not stored", f"why; {SLOT} was not delivered"),
        (Interrupted(15, "why", perhaps=True), f"why; {SLOT} may be stored", f"why; {SLOT} may have been delivered"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_a_failed_publish_names_subject_and_slot_and_whether_it_is_stored(error, stored, delivered):
    assert report_line(failed(error)) == stored
    assert report_line(failed(error, CORE)) == delivered


def test_a_failure_before_the_slot_is_known_is_told_with_its_hint_and_several_problems_on_lines_of_their_own():
    def told(error):
        return report_line(Report(*verdict(error), NOW, __version__, 12).with_error(error))

    assert told(Unavailable("no answer", "is it up?")) == "no answer; is it up?"
    assert told(Unavailable("no answer")) == "no answer"
    assert told(ConfigError("one", "two")) == "one\ntwo"


# The report as JSON.

COMMON = {"outcome", "status", "time", "version", "elapsed_ms"}
RUN = COMMON | {"delivery", "subject", "stream", "client_id", "msg_id", "scheduled_at"}


@pytest.mark.parametrize(
    ("told", "keys"),
    [
        (Report(Outcome.CONFIG, 78, NOW, __version__, 12).with_error(ConfigError("x")), COMMON | {"error"}),
        (report(Outcome.DRY_RUN), RUN),
        (receipt(), RUN | {"seq", "guard", "attempts", "server"}),
        (failed(NoAck("x")), RUN | {"error"}),
        (report(Outcome.PUBLISHED, 0, CORE), RUN - {"stream"}),
    ],
    ids=["bad-settings", "dry-run", "published", "failed", "core"],
)
def test_a_report_holds_the_keys_that_apply_and_no_others(told, keys):
    data = report_data(told)
    assert set(data) == keys
    assert (data["outcome"], data["status"], data["elapsed_ms"]) == (str(told.outcome), told.status, 12)
    assert None not in data.values()


def test_a_report_says_what_the_run_knew():
    assert report_data(receipt(attempts=2)) == {
        "outcome": "published",
        "status": 0,
        "time": "2026-11-23T12:00:03Z",
        "version": __version__,
        "elapsed_ms": 12,
        "delivery": "jetstream",
        "subject": "crypto.update",
        "stream": "crypto-stats",
        "seq": 7,
        "msg_id": "crypto.update:2026-11-23T12:00:00Z",
        "scheduled_at": "2026-11-23T12:00:00Z",
        "guard": "compare-and-set",
        "attempts": 2,
        "server": "nats://h:4222",
        "client_id": "worker-server",
    }


@pytest.mark.parametrize(
    ("error", "failure", "data"),
    [
        (Unavailable("m", "h"), Failure("unavailable", "m", "h"), {"kind": "unavailable", "message": "m", "hint": "h"}),
        (NoAck("m"), Failure("no-ack", "m", perhaps=True), {"kind": "no-ack", "message": "m", "perhaps": True}),
        (KeyError("m"), Failure("KeyError", "'m'"), {"kind": "KeyError", "message": "'m'"}),
    ],
    ids=["with-hint", "without", "a-bug"],
)
def test_an_error_is_reported_by_kind_message_and_hint(error, failure, data):
    assert vars(failed(error).error) == vars(failure)
    assert report_data(failed(error))["error"] == data


def test_a_failure_that_counts_its_attempts_reports_them():
    error = NoAck("m")
    error.attempts = 4
    assert report_data(failed(error))["attempts"] == 4
