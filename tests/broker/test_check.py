"""What `check` says of slots that are planted on a real server: each row of its table, in each of its formats."""

import json
from datetime import UTC, datetime

import pytest
from support import plugin_answers
from support.clocks import rfc3339, roomy
from support.consumers import add_consumer
from support.old_servers import since
from support.patience import until
from support.plugin_answers import see
from support.restricted import restricted_to
from support.streams import add_stream, put, stored

from crypto_trigger.commands.server import Server


@pytest.fixture
def slots(place, monkeypatch):
    """A stream of the test's own, and slots of which the present one began a while ago."""
    add_stream(place.url, place.stream, [place.subject])
    found = roomy()
    for name, value in found.settings.items():
        monkeypatch.setenv(name, value)
    return found


def start(slots, ago):
    """The start of the slot so many slots before the present one."""
    return rfc3339(slots.turn - (ago + 1) * slots.every)


def plant(place, slots, *ago, **headers):
    """Store a trigger for each of these slots."""
    for number in ago:
        put(place.url, place.subject, b"{}", {"ce-time": start(slots, number), "ce-source": "//h/w", **headers})


def elapsed(slots):
    """How many seconds ago the present slot began."""
    return datetime.now(UTC).timestamp() - (slots.turn - slots.every)


def four(slots):
    """A window of four slots."""
    return "--since", f"{4 * slots.every}s"


@since("2.10", "the server's time")
def test_every_slot_has_its_trigger(run, place, slots):
    plant(place, slots, 4, 3, 2, 1, 0)
    assert len(stored(place.url, place.stream)) == 5
    seen = see(run, *four(slots))
    assert seen.status == 0
    assert seen.text.startswith(f"{start(slots, 0)} stored ")
    assert " after its slot began; 4 of 4 slots in " in seen.text
    assert seen.data["missed"] == "0;0;1;0"
    assert seen.data["surplus"] == "0"
    assert 0 <= float(seen.data["age"].removesuffix("s")) < 60
    assert seen.json["missed"] == []
    newest = seen.json["newest"]
    assert (newest["slot"], newest["seq"], newest["source"]) == (start(slots, 0), 5, "//h/w")
    assert abs(seen.json["skew_seconds"]) < 1
    assert seen.metrics["newest_slot_timestamp_seconds"] == slots.turn - slots.every
    assert (seen.metrics["window_expected_slots"], seen.metrics["window_missed_slots"]) == (4, 0)


def test_the_present_slot_is_within_its_grace(run, place, slots):
    plant(place, slots, 2, 1)
    seen = see(run, *four(slots), "--grace", f"{slots.every}s")
    assert seen.status == 0
    assert seen.text.startswith(f"{start(slots, 1)} stored ")
    assert "2 of 2 slots" in seen.text
    assert (seen.json["missed"], seen.json["overdue"]) == ([], [])


def test_the_present_slot_is_overdue(run, place, slots):
    plant(place, slots, 2, 1)
    seen = see(run, *four(slots), "--grace", "1s")
    assert seen.status == 1
    assert seen.text.startswith(f"{start(slots, 0)} is overdue: it has no trigger ")
    assert seen.json["overdue"] == [start(slots, 0)]
    assert (seen.metrics["window_expected_slots"], seen.metrics["window_missed_slots"]) == (3, 0)


@pytest.mark.parametrize(
    ("held", "thresholds", "status"),
    [
        ((4, 3, 1, 0), (), 1),
        ((4, 3, 0), (), 2),
        ((4, 3, 1, 0), ("--missed-critical", 1), 2),
        ((4, 3, 0), ("--missed-warn", 3, "--missed-critical", 4), 0),
        # The order of storing does not matter.
        ((0, 4, 1, 3), (), 1),
    ],
    ids=["one", "two", "one, critical", "two, allowed", "one, out of order"],
)
def test_slots_without_a_trigger_are_missed(run, place, slots, held, thresholds, status):
    plant(place, slots, *held)
    missed = [start(slots, ago) for ago in (3, 2, 1) if ago not in held]
    seen = see(run, *four(slots), *thresholds)
    assert seen.status == status
    assert seen.text.startswith(f"missed {', '.join(missed)}; the newest is of ")
    assert start(slots, 0).endswith(seen.text.rpartition(" ")[2])
    assert seen.json["missed"] == missed
    assert seen.data["missed"].split(";")[0] == str(len(missed))
    assert seen.metrics["window_missed_slots"] == len(missed)
    # The window grows until as many slots may be missed as are critical.
    assert seen.metrics["window_expected_slots"] == (5 if 4 in thresholds else 4)


def test_the_newest_trigger_is_older_than_the_window(run, place, slots):
    plant(place, slots, 9, 8)
    seen = see(run, *four(slots))
    assert seen.status == 2
    assert seen.json["missed"] == [start(slots, ago) for ago in (3, 2, 1)]
    assert seen.json["newest"]["slot"] == start(slots, 8)


def test_slots_before_the_first_trigger_that_is_held_are_not_missed(run, place, slots):
    plant(place, slots, 1, 0)
    seen = see(run, *four(slots))
    assert (seen.status, seen.json["missed"]) == (0, [])
    assert "2 of 2 slots" in seen.text


def test_late_and_surplus_triggers_are_counted_and_are_no_alarm(run, place, slots):
    plant(place, slots, 1, 1, 0, 1)
    seen = see(run, *four(slots), "--grace", f"{slots.every}s")
    assert seen.status == 0
    # What is planted now for a slot that has ended was stored after its grace.
    assert seen.json["late"] == [start(slots, 1)]
    assert (seen.data["late"], seen.data["surplus"], seen.json["surplus"]) == ("1", "2", 2)
    assert (seen.metrics["window_late_slots"], seen.metrics["window_surplus_triggers"]) == (1, 2)


def test_a_slot_longer_than_the_window_is_seen_to_be_missed(run, place, slots):
    plant(place, slots, 4, 0)
    assert see(run, "--since", "1s").json["missed"] == [start(slots, 2), start(slots, 1)]


def test_a_trigger_stored_before_its_slot_names_its_publisher(run, place, slots):
    put(place.url, place.subject, b"", {"ce-time": rfc3339(slots.turn), "ce-source": "//fast|host/w"})
    seen = see(run, *four(slots))
    assert seen.status == 1
    (warning,) = seen.json["warning"]
    assert warning.startswith("the clock of the publisher //fast|host/w is at least ")
    assert f" ahead: its trigger for {slots.next} was stored at " in warning
    # The trigger counts for the slot it was stored in.
    assert seen.json["newest"]["slot"] == start(slots, 0)
    plant(place, slots, 0, **{"ce-source": "//fast|host/w"})
    assert see(run, *four(slots)).status == 0


def test_no_trigger_yet_in_a_young_stream_and_in_an_old_one(run, place, monkeypatch):
    for name, value in (("EVERY", "2s"), ("EARLY", "0s"), ("GIVE_UP_AFTER", "1900ms")):
        monkeypatch.setenv(f"CRYPTO_TRIGGER_{name}", value)
    add_stream(place.url, place.stream, [place.subject])
    young = run("check", "--grace", "1s")
    assert (young.status, plugin_answers.line(young.out).text.partition(":")[0]) == (
        0,
        "no trigger has been stored yet",
    )
    until(lambda: run("check", "--grace", "1s").status, "the stream is old")
    seen = see(run, "--grace", "1s")
    assert stored(place.url, place.stream) == []
    assert seen.status == 2
    assert seen.text.startswith(f"no trigger is stored for {place.subject} in stream {place.stream}, which is ")
    assert "age" not in seen.data
    assert seen.json.get("newest") is None
    assert "newest_slot_timestamp_seconds" not in seen.metrics


def test_a_stream_that_does_not_take_the_subject(run, place):
    add_stream(place.url, place.stream, [f"{place.stream}.other"])
    seen = see(run)
    assert (seen.status, seen.text) == (2, f"stream {place.stream} does not take the subject {place.subject}")


def test_no_server_no_stream_and_no_jetstream(run, place, monkeypatch):
    seen = see(run)
    assert (seen.status, seen.json["error"]["kind"]) == (2, "unusable")
    assert f"there is no stream {place.stream}" in seen.text
    assert seen.data == {}
    with Server(jetstream=False) as off:
        seen = see(run, "-s", off.url)
    assert seen.status == 2
    assert "JetStream is off" in seen.text
    monkeypatch.setenv("CRYPTO_TRIGGER_BACKOFF_BASE", "10ms")
    seen = see(run, "-s", off.url, "--give-up-after", "200ms")
    assert (seen.status, seen.json["error"]["kind"]) == (2, "unavailable")
    assert "connection refused" in seen.text
    assert set(seen.metrics) == {"check_status", "check_timestamp_seconds"}


@pytest.mark.parametrize("retention", ["workqueue", "interest"])
def test_a_stream_whose_triggers_go_when_they_are_consumed(run, place, retention):
    add_stream(place.url, place.stream, [place.subject], retention=retention)
    seen = see(run)
    assert seen.status == 3
    assert f"(retention {retention}): which slots were missed cannot be known" in seen.text


@pytest.mark.parametrize(
    ("permitted", "consumer", "status"),
    [
        (("STREAM.INFO", "STREAM.MSG.GET"), False, 0),
        (("STREAM.INFO", "STREAM.MSG.GET", "DIRECT.GET"), False, 0),
        (("STREAM.INFO", "STREAM.MSG.GET", "CONSUMER.INFO"), True, 0),
        (("STREAM.INFO", "STREAM.MSG.GET"), True, 3),
        (("STREAM.INFO",), False, 3),
        (("STREAM.MSG.GET",), False, 3),
    ],
)
def test_what_a_check_needs_permission_for(run, place, permitted, consumer, status):
    subjects = [f"$JS.API.{api}.{place.stream}{'.*' if api == 'CONSUMER.INFO' else ''}" for api in permitted]
    with restricted_to(*subjects) as (admin, user):
        add_stream(admin, place.stream, [place.subject], allow_direct=True)
        put(admin, place.subject)
        if consumer:
            add_consumer(admin, place.stream, "api", ack_policy="none", deliver_policy="new")
        asked = ("--consumer", "api") if consumer else ()
        seen = see(run, "-s", user, *asked)
    assert seen.status == status
    if status:
        assert seen.json["error"]["kind"] == "denied"
        assert "has no permission to publish to $JS.API." in seen.text


def test_refused_credentials(run):
    with Server(arguments=("--user", "u", "--pass", "right")) as server:
        seen = see(run, "-s", server.url.replace("://", "://u:wrong-one@"))
    assert seen.status == 3
    assert "wrong-one" not in json.dumps(seen.json)


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (("--missed-warn", 3), "Invalid value for --missed-warn: 3 is more than --missed-critical 2"),
        (
            ("--consumer-warn", "16m"),
            "Invalid value for --consumer-warn: 16m is longer than --consumer-critical 15m (one slot)",
        ),
        (("--consumer-critical", "4m"), "--consumer-warn: 5m (the grace) is longer than --consumer-critical 4m"),
        (("--grace", "16m"), "--grace: '16m' is longer than a slot, 15m"),
        (("--grace", "soon"), "--grace: 'soon' is not a duration"),
        (("--since", ""), "--since: '' is not a duration"),
        (
            ("--since", "8760h", "--every", "6s", "--give-up-after", "1s"),
            "--since: '8760h' holds more than 100000 slots of 6s",
        ),
        (("--consumer", "a.b"), "--consumer: 'a.b' holds '.'"),
        (("--missed-warn", "x"), "'x' is not a valid int"),
        (("--missed-warn", "0"), "0 is not in the range"),
        (("--bogus",), "No such option: --bogus"),
        (("more",), "Got unexpected extra argument"),
        (("--every", "1x"), "CRYPTO_TRIGGER_EVERY '1x' (from --every) is not a duration"),
        (("--env-file", "nowhere"), "nowhere"),
        (("--delivery", "core"), "CRYPTO_TRIGGER_DELIVERY 'core' (from --delivery) keeps nothing that"),
        (("--delivery", "streaming"), "CRYPTO_TRIGGER_DELIVERY 'streaming' (from --delivery) keeps nothing that"),
    ],
)
def test_a_wrong_command_line_or_setting_is_unknown_in_every_format(run, argv, says):
    answers = [run("check", *argv, "--format", name) for name in ("nagios", "json", "prometheus")]
    assert [answer.status for answer in answers] == [3, 3, 3]
    read = plugin_answers.line(answers[0].out)
    assert read.status == "UNKNOWN"
    assert says in read.text
    assert says in json.loads(answers[1].out)["unknown"][0]
    read = plugin_answers.metrics(answers[2].out)
    assert (set(read), read["check_status"]) == ({"check_status", "check_timestamp_seconds"}, 3)
    # The first line of stderr is the parser's, if it is one that the parser found.
    assert "Traceback" not in answers[0].err


def test_a_format_that_does_not_exist_or_contradicts_json(run):
    for argv, says in (
        (("--format", "xml"), "--format 'xml' must be nagios, json, prometheus"),
        (("--json", "--format", "nagios"), "--json and --format nagios exclude each other"),
        (("--json", "--format", "prometheus"), "--json and --format prometheus exclude each other"),
    ):
        answer = run("check", *argv)
        assert answer.status == 3
        assert says in answer.out + answer.err
    answer = run("check", "--json", "--format", "json", "--bogus")
    assert (answer.status, json.loads(answer.out)["status"]) == (3, "UNKNOWN")
