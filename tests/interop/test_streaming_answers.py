"""Answers of NATS Streaming that no real server can be made to give, by the double: what each means."""

import json
import signal

import pytest
from support.patience import until
from support.processes import Process
from support.streaming import peer


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        ("stan: invalid publish request", 65),
        ("too many channels", 65),
        ('rejecting channel "A" because channel "a" alreay exists (different cases not allowed)', 65),
        ("stan: channel is being deleted", 69),
        ("node is not the leader", 69),
        ("leadership transfer in progress", 69),
        ("leadership lost while committing log", 75),
        ("raft is already shutdown", 75),
        ("write /data/msgs.1.dat: no space left on device", 75),
        ("anything that is not known", 75),
    ],
)
@pytest.mark.usefixtures("short")
def test_what_each_error_of_the_acknowledgement_means(run, double, monkeypatch, answer, status):
    # The deadline should come in a wait: an attempt that it cuts short may have been stored.
    times = {"TIMEOUT": "1s", "BACKOFF_BASE": "1s", "BACKOFF_MAX": "1s", "GIVE_UP_AFTER": "3s"}
    for name, value in times.items():
        monkeypatch.setenv(f"CRYPTO_TRIGGER_{name}", value)
    double.answers += [answer] * 1000
    result = run("publish", "--json")
    report = json.loads(result.out)
    assert result.status == status
    # Refused is refused at once, but for a registration that the server may have lost: that is made anew, once.
    attempts = report["attempts"]
    assert attempts == (2 if "invalid publish" in answer else 1) if status == 65 else attempts > 1
    assert "\n" not in result.err.rstrip("\n")


@pytest.mark.parametrize("answer", ["stan: channel is being deleted", "stan: invalid publish request", "any other"])
def test_what_passes_is_tried_again(run, double, channel, answer):
    double.answers.append(answer)
    result = run("publish", "--json")
    assert double.count(channel) == 2
    assert result.status == 0
    assert json.loads(result.out)["attempts"] == 2


@pytest.mark.parametrize(
    ("lost", "least", "most"), [("connect-response", 1, 1), ("message", 1, 1), ("ack", 2, 2), ("close-response", 1, 1)]
)
@pytest.mark.parametrize("exact", ["false", "true"])
def test_what_is_lost_is_sent_again(run, double, channel, monkeypatch, lost, least, most, exact):
    monkeypatch.setenv("CRYPTO_TRIGGER_TIMEOUT", "1s")
    monkeypatch.setenv("CRYPTO_TRIGGER_CLIENT_ID_EXACT", exact)
    double.loses.append(lost)
    result = run("publish")
    assert least <= double.count(channel) <= most
    assert result.status == 0


@pytest.mark.parametrize(
    ("lost", "status", "stored"), [("connect-response", 69, 0), ("message", 75, 0), ("ack", 75, 1)]
)
@pytest.mark.usefixtures("short")
def test_what_stays_lost_is_reported_as_it_is(run, double, channel, lost, status, stored):
    double.loses += [lost] * 1000
    result = run("publish")
    assert (double.count(channel) > 0) == bool(stored)
    assert result.status == status


def test_a_registration_that_is_not_closed_is_a_warning(run, double, channel):
    double.loses.append("close-response")
    result = run("publish", "--json")
    report = json.loads(result.out)
    assert double.count(channel) == 1
    assert result.status == 0
    (warning,) = report["warnings"]
    assert warning == (
        f"NATS Streaming has not closed the registration of client {report['client_id']}: no answer in time; "
        "the server removes it after some minutes"
    )
    assert result.err == f"crypto-trigger: warning: {report['warnings'][0]}\n"


def test_a_close_request_cut_short_by_the_deadline_changes_nothing(run, double, channel):
    double.loses.append("close-response")
    result = run("publish", "--give-up-after", "2s", "--json")
    assert double.count(channel) == 1
    assert result.status == 0
    assert json.loads(result.out)["elapsed_ms"] < 3000


def test_a_refusal_is_told_though_the_deadline_cuts_the_close_request_short(run, double):
    double.answers.append("too many channels")
    double.loses.append("close-response")
    assert run("publish", "--give-up-after", "2s").status == 65


def test_an_error_that_passes_begins_no_attempt_after_the_deadline(run, double):
    double.answers += ["stan: channel is being deleted"] * 1000
    double.loses += ["close-response"] * 1000
    result = run("publish", "--give-up-after", "2s", "--json")
    report = json.loads(result.out)
    assert result.status == 69
    assert report["attempts"] < 10
    assert report["elapsed_ms"] < 3000


def test_the_server_s_heartbeats_are_answered(double, channel):
    """While a publisher waits for its acknowledgement, another client cannot take its ID."""
    double.loses.append("ack")
    process = Process("publish", CRYPTO_TRIGGER_CLIENT_ID_EXACT="true", CRYPTO_TRIGGER_TIMEOUT="2s")
    until(lambda: double.count(channel))
    with (
        pytest.raises(AssertionError, match="stan: clientID already registered"),
        peer(double.url, double.cluster, "worker-server"),
    ):
        pass
    assert process.end().status == 0


def test_an_interrupted_publisher_closes_its_registration(double, channel):
    double.loses += ["ack"]
    process = Process("publish")
    until(lambda: double.count(channel))
    process.signal(signal.SIGTERM)
    ended = process.end()
    assert ended.status == 143
    assert "may be stored" in ended.err
    until(lambda: double.clients() == [])


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"guid": "another", "error": ""}, 75),
        ({"guid": "another", "error": "too many channels"}, 75),
        ({"guid": "", "error": ""}, 75),
        (b"\xff", 75),
    ],
    ids=["another guid", "another's error", "empty", "garbage"],
)
@pytest.mark.usefixtures("short")
def test_only_an_acknowledgement_with_our_guid_counts(run, double, fields, status):
    double.acknowledges = fields
    assert run("publish").status == status


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"error": "stan: invalid connection request"}, 65),
        ({"error": "stan: invalid clientID: only alphanumeric and `-` or `_` characters allowed"}, 78),
        ({"error": "anything else"}, 65),
        ({"error": "stan: clientID already registered"}, 69),
        ({"pubPrefix": ""}, 76),
        ({"pubPrefix": "_STAN.pub.>"}, 76),
        (b"", 76),
        (b"\xff", 76),
    ],
    ids=lambda value: str(value) if not isinstance(value, int) else None,
)
@pytest.mark.usefixtures("short")
def test_what_each_answer_to_the_registration_means(run, double, channel, fields, status):
    double.greets = fields
    result = run("publish")
    assert double.count(channel) == 0
    assert result.status == status
    assert result.err.count("\n") == 1
