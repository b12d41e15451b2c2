"""The slot and the message: pure functions of the time, whatever the time zone."""

import re
from datetime import datetime, timedelta, timezone

import pytest
from support.found import settings_of

from crypto_trigger.delivery.draft import Draft
from crypto_trigger.settings.load import load
from crypto_trigger.slots.times import instant
from crypto_trigger.slots.trigger import Reading, Slot, Stored, Timing, Trigger, source_of, trace_headers

EVERY = timedelta(minutes=15)
EARLY = timedelta(seconds=5)
NOON = instant("2026-11-23T12:00:00Z")


def slot_at(now, *, every=EVERY, early=EARLY, scheduled_at=None, k8s_job=None):
    timing = Timing(every, early, scheduled_at, k8s_job)
    return str(timing.slot(now)), timing.warning(now)


@pytest.mark.parametrize(
    ("now", "slot"),
    [
        ("11:59:54.999999", "11:45:00"),
        ("11:59:55", "12:00:00"),
        ("12:00:00", "12:00:00"),
        ("12:14:54.999999", "12:00:00"),
        ("12:14:55", "12:15:00"),
    ],
)
def test_a_run_up_to_early_before_a_slot_belongs_to_it(now, slot):
    assert slot_at(instant(f"2026-11-23T{now}Z")) == (f"2026-11-23T{slot}Z", "")


@pytest.mark.parametrize(
    ("scheduled_at", "slot"),
    [
        ("2026-11-23T11:59:59Z", "2026-11-23T11:45:00Z"),
        ("2026-11-23T12:14:59.999Z", "2026-11-23T12:00:00Z"),
        ("2026-11-23T13:00:00+01:00", "2026-11-23T12:00:00Z"),
        ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00Z"),
    ],
)
def test_a_scheduled_time_replaces_the_clock_and_is_never_early(scheduled_at, slot):
    assert slot_at(NOON, scheduled_at=instant(scheduled_at), k8s_job=job_of(NOON)) == (slot, "")


@pytest.mark.parametrize("ahead", ["00:05.001", "14:59", "30:00"])
def test_a_scheduled_time_whose_slot_has_not_begun_is_refused(ahead):
    now = NOON - timedelta(seconds=5, milliseconds=1)
    with pytest.raises(ValueError, match="is in a slot that has not begun"):
        slot_at(now, scheduled_at=instant(f"2026-11-23T12:{ahead}Z"))


def test_a_scheduled_time_may_be_as_early_as_a_run():
    assert slot_at(NOON - EARLY, scheduled_at=NOON + timedelta(minutes=14)) == ("2026-11-23T12:00:00Z", "")


def test_a_clock_that_does_not_decide_refuses_no_slot():
    timing = Timing(EVERY, EARLY, NOON)
    assert timing.slot(NOON - timedelta(days=400), decides=False).start == NOON


def test_a_time_before_1970_is_refused():
    with pytest.raises(ValueError, match="is before 1970"):
        slot_at(NOON, scheduled_at=instant("1969-12-31T23:59:59Z"))


def test_a_time_at_the_end_of_the_calendar_is_an_error_and_no_crash(run):
    result = run("publish", "--dry-run", "--scheduled-at", "0001-01-01T00:00:00Z", "--every", "7h")
    assert result.status == 78
    assert result.err.startswith(
        "crypto-trigger: CRYPTO_TRIGGER_SCHEDULED_AT '0001-01-01T00:00:00Z' (from --scheduled-at) "
    )
    assert result.err.count("\n") == 1


def job_of(moment, name="crypto-trigger"):
    """The name that the CronJob controller gives the Job of a moment."""
    return f"{name}-{int(moment.timestamp()) // 60}"


@pytest.mark.parametrize("late", [timedelta(seconds=-5), timedelta(0), timedelta(minutes=14), timedelta(hours=24)])
def test_the_minute_in_a_kubernetes_job_name_is_the_slot_however_late_the_pod_starts(late):
    assert slot_at(NOON + late, k8s_job=job_of(NOON)) == ("2026-11-23T12:00:00Z", "")


@pytest.mark.parametrize("ahead", [timedelta(seconds=6), timedelta(minutes=16), timedelta(hours=24)])
def test_a_job_whose_slot_has_not_begun_stands_for_the_slot_of_the_clock(ahead):
    assert slot_at(NOON - ahead, k8s_job=job_of(NOON)) == (slot_at(NOON - ahead)[0], "")


def test_the_minute_in_a_job_name_is_never_early():
    just_before = NOON - timedelta(minutes=1)
    assert slot_at(NOON, early=timedelta(minutes=2), k8s_job=job_of(just_before)) == ("2026-11-23T11:45:00Z", "")


@pytest.mark.parametrize(
    "job",
    [
        "crypto-trigger-manual-1",
        "crypto-trigger-test",
        "crypto-trigger",
        job_of(NOON - timedelta(days=1, minutes=1)),
        job_of(NOON + timedelta(days=1, minutes=1)),
        f"x-{int(NOON.timestamp())}",
        "x-" + "9" * 400,
        "x-２９３９８１８５",  # noqa: RUF001 - digits to Python, not to Kubernetes
        f"{job_of(NOON)}-abcde",
    ],
    ids=lambda job: ascii(job)[:30],
)
def test_a_job_name_without_a_plausible_minute_is_warned_about_and_the_clock_decides(job):
    slot, warning = slot_at(NOON, k8s_job=job)
    assert slot == "2026-11-23T12:00:00Z"
    assert "the clock decides the slot" in warning


# The message.


def trigger_at(moment=NOON, **options):
    return Trigger.for_slot(Slot.containing(moment, EVERY), "crypto.update", "//host/worker", **options)


def test_the_message_is_exactly_that_of_the_contract():
    trigger = trigger_at(NOON + timedelta(minutes=7))
    assert trigger.payload == b'{"trigger":"update"}'
    assert trigger.headers == {
        "Nats-Msg-Id": "crypto.update:2026-11-23T12:00:00Z",
        "ce-specversion": "1.0",
        "ce-id": "crypto.update:2026-11-23T12:00:00Z",
        "ce-source": "//host/worker",
        "ce-type": "crypto.update",
        "ce-time": "2026-11-23T12:00:00Z",
    }
    assert trigger.msg_id == trigger.headers["Nats-Msg-Id"]


def test_the_same_slot_gives_the_same_trigger_and_the_next_one_another():
    assert vars(trigger_at(NOON)) == vars(trigger_at(NOON + timedelta(minutes=14, seconds=59)))
    assert trigger_at(NOON + EVERY).msg_id != trigger_at(NOON).msg_id


def test_a_forced_trigger_has_a_msg_id_of_its_own_and_says_so():
    trigger = trigger_at(extra="a1b2")
    assert trigger.msg_id == trigger.headers["ce-id"] == "crypto.update:2026-11-23T12:00:00Z:a1b2"
    assert (trigger.force, trigger_at().force) == (True, False)


def test_header_values_are_ascii_whatever_the_names():
    slot = Slot.containing(NOON, EVERY)
    trigger = Trigger.for_slot(slot, 'crypto.ü"%', source_of("my client/1", "höst"))
    assert trigger.headers["ce-type"] == "crypto.%C3%BC%22%25"
    assert trigger.headers["ce-source"] == "//h%C3%B6st/my%20client%2F1"
    assert trigger.headers["ce-id"] == "crypto.%C3%BC%22%25:2026-11-23T12:00:00Z"
    # The msg id is NATS's own, and the server compares bytes.
    assert trigger.headers["Nats-Msg-Id"] == 'crypto.ü"%:2026-11-23T12:00:00Z'


PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize(
    ("parent", "state", "headers"),
    [
        (PARENT, None, {"traceparent": PARENT}),
        (PARENT, "a=1,b=2", {"traceparent": PARENT, "tracestate": "a=1,b=2"}),
        (PARENT, "a=ü", {"traceparent": PARENT}),
        (PARENT, " 3t@x=b c , ,b=~", {"traceparent": PARENT, "tracestate": " 3t@x=b c , ,b=~"}),
        (PARENT, "a=1\n", {"traceparent": PARENT}),
        (PARENT, "A=1", {"traceparent": PARENT}),
        (PARENT, "a=1=2", {"traceparent": PARENT}),
        (PARENT, " , ", {"traceparent": PARENT}),
        (PARENT, ",".join(f"k{n}=1" for n in range(33)), {"traceparent": PARENT}),
        (PARENT, '"a=1"', {"traceparent": PARENT}),
        (PARENT + "\n", "a=1", {}),
        ("x" * 9000, "a=1", {}),
        (f"01{PARENT[2:]}-more", None, {"traceparent": f"01{PARENT[2:]}-more"}),
        (None, "a=1", {}),
        ("", "a=1", {}),
        (PARENT.upper(), None, {}),
        (PARENT[:-1], None, {}),
        ("nonsense", "a=1", {}),
        ("ff" + PARENT[2:], None, {}),
        (f"{PARENT}-more", None, {}),
        (f"01{PARENT[2:]}-mörë", None, {}),
        (PARENT.replace("0af7651916cd43dd8448eb211c80319c", "0" * 32), None, {}),
        (PARENT.replace("b7ad6b7169203331", "0" * 16), None, {}),
    ],
    ids=[
        "parent",
        "both",
        "state-not-ascii",
        "state-with-blanks",
        "state-with-line-end",
        "state-upper-case",
        "state-two-signs",
        "state-of-none",
        "state-too-long",
        "state-in-quotes",
        "line-end",
        "too-long",
        "future-version",
        "state-alone",
        "empty",
        "upper-case",
        "short",
        "nonsense",
        "version-ff",
        "version-00-goes-on",
        "not-ascii",
        "no-trace-id",
        "no-span-id",
    ],
)
def test_a_trace_context_is_sent_on_if_it_is_one(parent, state, headers):
    found = settings_of({"TRACEPARENT": parent or "", "TRACESTATE": state or ""})
    sent = trace_headers(found.traceparent, found.tracestate)
    assert sent == headers
    assert trigger_at(trace=sent).headers.items() >= headers.items()


def test_the_trigger_does_not_show_its_headers():
    assert "ce-source" not in repr(trigger_at())


# What is stored.


@pytest.mark.parametrize(
    ("stored_at", "claimed", "slot"),
    [
        ("12:07:00", None, "12:00:00"),
        ("12:14:55", None, "12:15:00"),
        ("12:14:54", None, "12:00:00"),
        ("12:40:00", "2026-11-23T12:00:00Z", "12:00:00"),
        ("11:59:59", "2026-11-23T13:00:00+01:00", "12:00:00"),
        ("12:14:55", "2026-11-23T12:14:59Z", "12:00:00"),
        ("12:07:00", "2026-11-23T12:15:00Z", "12:00:00"),
        ("12:14:55", "2026-11-23T12:15:00Z", "12:15:00"),
        ("12:14:55", "2026-11-23T12:30:00Z", "12:15:00"),
        ("12:07:00", "2026-11-24T12:07:00Z", "12:00:00"),
        ("12:07:00", "9999-12-31T23:59:59-01:00", "12:00:00"),
        ("12:07:00", "0001-01-01T00:00:00+23:00", "12:00:00"),
        ("12:07:00", "2026-11-23T11:45:00", "12:00:00"),
        ("12:07:00", "last tuesday", "12:00:00"),
        ("12:07:00", "", "12:00:00"),
    ],
    ids=[
        "stored",
        "stored-early",
        "stored-not-early",
        "claimed",
        "claimed-elsewhere",
        "claimed-is-never-early",
        "a-slot-ahead",
        "stored-early-for-it",
        "a-slot-ahead-of-that",
        "a-day-ahead",
        "end-of-calendar",
        "beginning-of-calendar",
        "no-zone",
        "nonsense",
        "empty",
    ],
)
def test_a_stored_message_is_the_trigger_of_the_slot_it_claims_if_that_has_begun(stored_at, claimed, slot):
    stored = Stored(1, instant(f"2026-11-23T{stored_at}Z"), claimed)
    assert str(stored.slot(EVERY, EARLY)) == f"2026-11-23T{slot}Z"


def test_a_claim_of_a_time_before_1970_leaves_the_slot_it_was_stored_in_open():
    stored = Stored(1, NOON, "1969-12-31T23:59:59Z")
    assert str(stored.slot(EVERY, EARLY)) == "1969-12-31T23:45:00Z"


def test_what_a_schedule_of_the_server_s_stores_counts_for_the_slot_it_was_stored_in():
    headers = {"ce-time": "2026-11-20T12:00:00Z", "Nats-Scheduler": "crypto.schedule"}
    assert Stored.with_headers(1, NOON, headers).slot(EVERY, EARLY).start == NOON


def test_a_delete_marker_is_no_trigger():
    assert Stored.with_headers(1, NOON, {"Nats-Marker-Reason": "MaxAge"}).slot(EVERY, EARLY) is None


@pytest.mark.parametrize(
    ("now", "ahead"),
    [
        ("11:50:00", True),
        ("11:59:53.999999", True),
        # Less than `early` before a slot, the present slot is that one.
        ("11:59:55", False),
        ("12:00:00", False),
        ("12:14:00", False),
        ("13:00:00", False),
    ],
)
def test_a_message_is_ahead_if_it_was_stored_later_than_now_and_in_a_later_slot(now, ahead):
    message = Stored(1, NOON, "2026-11-23T11:30:00Z")
    assert message.is_ahead(instant(f"2026-11-23T{now}Z"), EVERY, EARLY) is ahead


def test_a_message_stored_less_than_early_after_now_is_not_ahead_though_the_next_slot_has_begun():
    now = NOON - timedelta(seconds=5, microseconds=1)
    assert not Stored(1, now + EARLY, None).is_ahead(now, EVERY, EARLY)
    assert Stored(1, now + EARLY + timedelta(microseconds=1), None).is_ahead(now, EVERY, EARLY)


@pytest.mark.parametrize(
    ("server", "skew"),
    [(0, -1), (1, 0), (2, 0), (3, 0), (5, 2)],
)
def test_the_clocks_differ_by_what_the_way_of_the_answer_does_not_explain(server, skew):
    base = NOON - timedelta(seconds=1)
    at = [base + timedelta(seconds=second) for second in (server, 1, 3)]
    assert Reading(*at).skew == timedelta(seconds=-skew)


def test_a_slot_is_written_as_rfc_3339_wherever_the_moment_was_taken():
    moment = datetime(2026, 11, 23, 23, 59, tzinfo=timezone(timedelta(hours=-12)))
    assert re.fullmatch(r"2026-11-24T11:45:00Z", str(Slot.containing(moment, EVERY)))


@pytest.mark.parametrize(
    ("now", "left"),
    [
        ("12:00:00", "14:59"),
        ("12:14:54.999", "00:04.001"),
        # Early for the next slot.
        ("12:14:55", "15:04"),
        ("12:14:59", "15:00"),
    ],
)
def test_a_run_by_the_clock_ends_a_second_before_its_slot(now, left):
    timing = Timing(EVERY, EARLY)
    assert timing.time_left(instant(f"2026-11-23T{now}Z")) == instant(f"1970-01-01T00:{left}Z") - instant(
        "1970-01-01T00:00:00Z"
    )


@pytest.mark.parametrize(
    ("every", "into", "left"), [(900, 899.5, 1), (900, 898.5, 1), (900, 897, 2), (10, 0, 9.5), (10, 9.9, 0.5)]
)
def test_a_run_that_starts_at_the_end_of_its_slot_has_a_second_or_a_twentieth_of_a_slot(every, into, left):
    timing = Timing(timedelta(seconds=every), timedelta(0))
    assert timing.time_left(NOON + timedelta(seconds=into)) == timedelta(seconds=left)


def test_a_run_of_a_given_slot_is_not_bound_by_the_clock():
    assert Timing(EVERY, EARLY, scheduled_at=NOON).time_left(NOON) is None
    assert Timing(EVERY, EARLY, k8s_job=job_of(NOON)).time_left(NOON + EVERY) is None
    # A Job whose slot has not begun goes by the clock, and so does one whose name has no minute.
    for job in (job_of(NOON + EVERY), "by-hand"):
        assert Timing(EVERY, EARLY, k8s_job=job).time_left(NOON) == EVERY - timedelta(seconds=1)


@pytest.mark.parametrize(
    ("started", "answered", "slot"),
    [
        ("12:14:55", "12:14:55", "12:15:00"),
        ("12:14:55", "12:14:58", "12:15:00"),
        ("12:14:50", "12:14:58", "12:00:00"),
        ("12:00:00", "12:14:59.999", "12:00:00"),
        # The server's clock alone is past the end of the slot.
        ("12:00:00", "12:15:00", "12:15:00"),
    ],
)
def test_a_run_that_waited_until_just_before_a_slot_does_not_belong_to_it(started, answered, slot):
    draft = Draft(load({}, "/dev/null", {}), instant(f"2026-11-23T{started}Z"), "h", force=False)
    asked = instant(f"2026-11-23T{answered}Z")
    assert str(draft.fix(Reading(asked, asked, asked)).slot) == f"2026-11-23T{slot}Z"


def test_a_clock_that_is_set_back_while_a_run_waits_brings_no_later_slot():
    draft = Draft(load({}, "/dev/null", {}), NOON + timedelta(hours=1), "h", force=False)
    assert draft.fix(Reading(NOON, NOON, NOON)).slot.start == NOON
