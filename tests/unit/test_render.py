"""What is printed: nothing secret, nothing that a terminal would obey, and only the keys that apply."""

import json
import sys
from datetime import timedelta

import pytest

from crypto_trigger.delivery import Wait
from crypto_trigger.errors import ConfigError, NoAck, Outcome, Unavailable
from crypto_trigger.render import Output, dry_run_line, error_line, receipt_line, report
from crypto_trigger.settings import load
from crypto_trigger.trigger import Receipt, Slot, Trigger
from crypto_trigger.values import instant

SETTINGS = load({}, "/dev/null", {})
TRIGGER = Trigger.for_slot(
    Slot.containing(instant("2026-11-23T12:00:00Z"), timedelta(minutes=15)), "crypto.update", "//h/c"
)
RECEIPT = Receipt(
    outcome=Outcome.PUBLISHED, stream="crypto-stats", seq=7, guard="compare-and-set", server="nats://h:4222"
)
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
    output.keep_secret(["hunter", "hunter2hunter", "short"])
    for say in (lambda text: output.answer(text, {}), output.failure, output.warn, output.detail):
        say("with hunter2hunter and hunter: short")
    output.traceback(ValueError("hunter2hunter"))
    out, err = capsys.readouterr()
    # The longer one first, or its tail would be left over. The shortest is masked where it comes from, or not at all:
    # a password like `for` would blot out every other line.
    assert out == "with *** and ***: short\n"
    assert "hunter" not in err
    assert json.loads(output.json({"a": ["hunter2hunter", {"b": "x hunter"}], "n": 1})) == {
        "a": ["***", {"b": "x ***"}],
        "n": 1,
    }


def test_quiet_keeps_the_answer_and_nothing_else_back(capsys):
    output = Output(quiet=True, as_json=True)
    output.answer("answer", {"a": 1})
    output.failure("failure")
    assert capsys.readouterr() == ("", "crypto-trigger: failure\n")


def test_json_is_one_line_and_readable_as_it_is(capsys):
    Output(as_json=True).answer("unused", {"subject": "crypto.ü", "message": "two\nlines"})
    out, _ = capsys.readouterr()
    assert out == '{"subject": "crypto.ü", "message": "two\\nlines"}\n'


def test_waiting_is_shown_in_a_pipe_only_if_asked_for(capsys):
    Output().waiting(WAIT)
    assert capsys.readouterr() == ("", "")
    Output(verbose=True).waiting(WAIT)
    said = "crypto-trigger: attempt 2 failed: nats://h:4222: connection refused; next in 0.2s, giving up in 58s\n"
    assert capsys.readouterr() == ("", said)


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_stream_that_was_closed_before_we_began_is_no_failure(stream, monkeypatch):
    monkeypatch.setattr(sys, stream, None)
    output = Output(verbose=True)
    output.answer("answer", {})
    output.failure("failure")
    output.waiting(WAIT)


# Lines.


@pytest.mark.parametrize(
    ("changes", "line"),
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
def test_a_receipt_is_one_line(changes, line):
    assert receipt_line(changed(**changes), TRIGGER) == line


def changed(**changes):
    fields = {
        name: getattr(RECEIPT, name) for name in ("outcome", "stream", "seq", "guard", "server", "later", "attempts")
    }
    return Receipt(**{**fields, **changes})


def test_a_weaker_guard_is_told():
    assert "no permission to read" in receipt_line(changed(guard="msg-id"), TRIGGER)
    assert receipt_line(changed(guard="none"), TRIGGER).endswith("; forced")


def test_a_dry_run_tells_everything_that_would_be_sent_and_where_to():
    settings = load({}, "/dev/null", {"NATS_URL": "nats://worker:hunter2@a,nats://b:1"})
    assert dry_run_line(TRIGGER, settings) == (
        'dry run: would publish {"trigger":"update"} to crypto.update for 2026-11-23T12:00:00Z '
        "(msg id crypto.update:2026-11-23T12:00:00Z, stream crypto-stats, nats://a:4222, nats://b:1)"
    )


def test_an_error_is_told_with_its_hint_and_several_problems_on_lines_of_their_own():
    assert error_line(Unavailable("no answer", "is it up?")) == "no answer; is it up?"
    assert error_line(Unavailable("no answer")) == "no answer"
    assert error_line(ConfigError("one", "two")) == "one\ntwo"


# The report.

COMMON = {"outcome", "status", "elapsed_ms"}
RUN = COMMON | {"delivery", "subject", "stream", "client_id", "msg_id", "scheduled_at"}


@pytest.mark.parametrize(
    ("known", "keys"),
    [
        ({"outcome": Outcome.CONFIG, "status": 78, "error": ConfigError("x")}, COMMON | {"error"}),
        ({"outcome": Outcome.DRY_RUN, "status": 0, "settings": SETTINGS, "trigger": TRIGGER}, RUN),
        (
            {
                "outcome": Outcome.PUBLISHED,
                "status": 0,
                "settings": SETTINGS,
                "trigger": TRIGGER,
                "receipt": RECEIPT,
                "attempts": 1,
            },
            RUN | {"seq", "guard", "attempts", "server"},
        ),
        (
            {
                "outcome": Outcome.UNKNOWN,
                "status": 75,
                "settings": SETTINGS,
                "trigger": TRIGGER,
                "error": NoAck("x"),
                "attempts": 4,
            },
            RUN | {"attempts", "error"},
        ),
    ],
    ids=["bad-settings", "dry-run", "published", "failed"],
)
def test_a_report_holds_the_keys_that_apply_and_no_others(known, keys):
    data = report(**{"attempts": 0, "elapsed": 0.0124, **known})
    assert set(data) == keys
    assert (data["outcome"], data["status"], data["elapsed_ms"]) == (str(known["outcome"]), known["status"], 12)
    assert None not in data.values()


def test_a_report_says_what_the_run_knew():
    data = report(
        outcome=Outcome.PUBLISHED, status=0, settings=SETTINGS, trigger=TRIGGER, receipt=RECEIPT, attempts=2, elapsed=1
    )
    assert data == {
        "outcome": "published",
        "status": 0,
        "delivery": "jetstream",
        "subject": "crypto.update",
        "stream": "crypto-stats",
        "seq": 7,
        "msg_id": "crypto.update:2026-11-23T12:00:00Z",
        "scheduled_at": "2026-11-23T12:00:00Z",
        "guard": "compare-and-set",
        "attempts": 2,
        "elapsed_ms": 1000,
        "server": "nats://h:4222",
        "client_id": "worker-server",
    }


@pytest.mark.parametrize(
    ("error", "data"),
    [
        (Unavailable("m", "h"), {"kind": "unavailable", "message": "m", "hint": "h"}),
        (NoAck("m"), {"kind": "no-ack", "message": "m"}),
        (KeyError("m"), {"kind": "KeyError", "message": "'m'"}),
    ],
    ids=["with-hint", "without", "a-bug"],
)
def test_an_error_is_reported_by_kind_message_and_hint(error, data):
    assert report(outcome=Outcome.BUG, status=70, error=error, attempts=0, elapsed=0)["error"] == data
