"""One trigger per slot, whoever else publishes on the subject and however the stream was made."""

import asyncio
import json
import subprocess
import time
from datetime import UTC, datetime, timedelta

import pytest
from nats.js.api import ConsumerConfig
from support.old_servers import since
from support.processes import Process
from support.programs import program
from support.proxy import holding
from support.restricted import restricted_to
from support.streams import add_stream, client, put, stored

NOW = datetime.now(UTC)
# For tests that take the clock's slot twice: a day changes less often than a quarter of an hour.
DAILY = ("--every", "24h")


def ours(place):
    """The triggers the stream holds."""
    return [message for message in stored(place.url, place.stream) if message.data == b'{"trigger":"update"}']


def report(result):
    return json.loads(result.out)


def outlive_the_window(place):
    """Wait until the stream has forgotten every msg id: publishing one again stores a second message."""
    deadline = time.monotonic() + 20
    number = 0
    while True:
        number += 1
        before = len(stored(place.url, place.stream))
        marker = {"Nats-Msg-Id": f"marker-{before}"}
        put(place.url, f"{place.subject}.marker", b"1", marker)
        time.sleep(0.15)  # longer than the window of 100 ms: the passing of time is what is tested
        put(place.url, f"{place.subject}.marker", b"2", marker)
        if len(stored(place.url, place.stream)) == before + 2:
            return
        assert time.monotonic() < deadline


STREAMS = {
    "a work queue": {"retention": "workqueue"},
    "interest": {"retention": "interest"},
    "memory": {"storage": "memory"},
    "a window of 2m": {"duplicate_window": 120},
    "a window of 100ms": {"duplicate_window": 0.1},
    "one message a subject": {"max_msgs_per_subject": 1},
    "direct reads": {"allow_direct": True},
}


@pytest.mark.parametrize("config", STREAMS.values(), ids=STREAMS)
@pytest.mark.parametrize("shared", [False, True], ids=["of its own", "among others"])
def test_any_stream_holds_one_trigger_a_slot(config, shared, run, place):
    add_stream(place.url, place.stream, [f"{place.stream}.>" if shared else place.subject], **config)
    if config.get("retention") == "interest":
        keep_interest(place)
    for status in ("published", "duplicate", "duplicate"):
        result = run("publish", "--json", *DAILY)
        assert (result.status, report(result)["outcome"]) == (0, status)
        if shared:
            put(place.url, f"{place.stream}.other", b"{}")
    assert len(ours(place)) == 1


def keep_interest(place):
    """A durable consumer, without which such a stream keeps nothing."""

    async def consume():
        async with client(place.url) as connection:
            await connection.jetstream().add_consumer(place.stream, ConsumerConfig(durable_name="reader"))

    asyncio.run(consume())


def test_the_slot_keeps_its_trigger_after_the_duplicate_window_has_passed(run, place):
    add_stream(place.url, place.stream, [f"{place.stream}.>"], duplicate_window=0.1)
    run("publish", *DAILY)
    outlive_the_window(place)
    result = run("publish", "--json", *DAILY)
    assert len(ours(place)) == 1
    assert (result.status, report(result)["outcome"], report(result)["guard"]) == (0, "duplicate", "compare-and-set")


@pytest.mark.parametrize("window", [1800, 0.1], ids=["window of 30m", "window of 100ms"])
def test_twenty_runs_at_once_store_one_trigger_and_all_succeed(window, place):
    add_stream(place.url, place.stream, [place.subject], duplicate_window=window)
    with holding(place.url, b"STREAM.MSG.GET") as hold:
        runs = [run_of_the_crowd(hold.url) for _ in range(20)]
        # All have asked for the last message before any of them hears that there is none.
        hold.wait_for(b"STREAM.MSG.GET", connections=20)
        hold.release()
        ended = [run.end() for run in runs]
    assert len(ours(place)) == 1
    assert [(run.status, run.err) for run in ended if run.status] == []
    outcomes = [json.loads(run.out)["outcome"] for run in ended]
    assert sorted(outcomes) == ["duplicate"] * 19 + ["published"]


def run_of_the_crowd(url):
    moment = NOW.strftime("%Y-%m-%dT%H:%M:%SZ")
    return Process(
        "publish",
        "--json",
        "--scheduled-at",
        moment,
        NATS_URL=url,
        CRYPTO_TRIGGER_TIMEOUT="20s",
        CRYPTO_TRIGGER_GIVE_UP_AFTER="50s",
        CRYPTO_TRIGGER_BACKOFF_BASE="50ms",
    )


def test_runs_that_read_before_the_trigger_was_stored_add_none_after_the_window_has_passed(run, place):
    add_stream(place.url, place.stream, [f"{place.stream}.>"], duplicate_window=0.1)
    with holding(place.url, b"STREAM.MSG.GET") as hold:
        runs = [run_of_the_crowd(hold.url) for _ in range(5)]
        hold.wait_for(b"STREAM.MSG.GET", connections=5)
        first = run("publish", "--json", "--scheduled-at", NOW.strftime("%Y-%m-%dT%H:%M:%SZ"))
        outlive_the_window(place)
        hold.release()
        ended = [run.end() for run in runs]
    assert len(ours(place)) == 1
    assert report(first)["outcome"] == "published"
    assert [(run.status, json.loads(run.out)["outcome"]) for run in ended] == [(0, "duplicate")] * 5


def test_a_message_without_headers_counts_by_the_time_it_was_stored(run, place):
    add_stream(place.url, place.stream, [place.subject])
    put(place.url, place.subject, b'{"trigger":"update"}')
    result = run("publish", "--json", *DAILY)
    assert len(stored(place.url, place.stream)) == 1
    assert (result.status, report(result)["outcome"]) == (0, "duplicate")


def test_a_message_of_the_nats_cli_counts(run, place):
    add_stream(place.url, place.stream, [place.subject])
    command = [program("nats"), "--server", place.url, "pub", "--jetstream", place.subject, '{"trigger":"update"}']
    subprocess.run(command, check=True, capture_output=True, timeout=30)
    result = run("publish", "--json", *DAILY)
    assert len(stored(place.url, place.stream)) == 1
    assert (result.status, report(result)["outcome"]) == (0, "duplicate")


def test_a_message_of_an_earlier_slot_leaves_this_one_open(run, place):
    add_stream(place.url, place.stream, [place.subject])
    run("publish", "--scheduled-at", (NOW - timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ"))
    result = run("publish", "--json")
    assert len(ours(place)) == 2
    assert (result.status, report(result)["outcome"]) == (0, "published")


def test_a_message_of_a_later_slot_supersedes_this_one(run, place):
    add_stream(place.url, place.stream, [place.subject], duplicate_window=0.1)
    run("publish")
    result = run("publish", "--json", "--scheduled-at", (NOW - timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ"))
    assert len(ours(place)) == 1
    assert (result.status, report(result)["outcome"], report(result)["seq"]) == (0, "superseded", 1)


@since("2.12", "schedules")
def test_a_schedule_of_the_server_s_own_fills_the_slot(run, place):
    stream_with_schedules(place)
    moment = (datetime.now(UTC) + timedelta(seconds=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    schedule = {"Nats-Schedule": f"@at {moment}", "Nats-Schedule-Target": place.subject}
    put(place.url, f"{place.stream}.schedule", b'{"trigger":"update"}', schedule)
    wait_for_subject(place)
    result = run("publish", "--json", *DAILY)
    (message,) = [message for message in stored(place.url, place.stream) if message.subject == place.subject]
    assert "Nats-Scheduler" in message.headers
    assert (result.status, report(result)["outcome"], report(result)["seq"]) == (0, "duplicate", message.seq)


def stream_with_schedules(place):
    async def create():
        async with client(place.url) as connection:
            config = {"name": place.stream, "subjects": [f"{place.stream}.>"], "allow_msg_schedules": True}
            body = json.dumps(config).encode()
            answer = await connection.request(f"$JS.API.STREAM.CREATE.{place.stream}", body, timeout=5)
            assert json.loads(answer.data)["config"]["allow_msg_schedules"]

    asyncio.run(create())


def wait_for_subject(place):
    """Wait until the stream holds a message on the subject."""

    async def wait():
        async with client(place.url) as connection:
            subscription = await connection.jetstream().subscribe(place.subject, ordered_consumer=True)
            await subscription.next_msg(20)

    asyncio.run(wait())


NONSENSE = {
    "no time": "yesterday, about tea",
    "empty": "",
    "no zone": "2026-01-01T00:00:00",
    "beyond the calendar": "9999-12-31T23:59:59-23:59",
    "years ahead": f"{NOW.year + 5}-01-01T00:00:00Z",
    "a slot ahead": (NOW + timedelta(days=1)).isoformat(),
    "not ASCII": "día",
    "very long": "2" * 5000,
}


@pytest.mark.parametrize("time_header", NONSENSE.values(), ids=NONSENSE)
def test_a_time_that_is_not_to_be_believed_is_replaced_by_the_time_of_storing(time_header, run, place):
    add_stream(place.url, place.stream, [place.subject])
    put(place.url, place.subject, b"", {"ce-time": time_header})
    result = run("publish", "--json", *DAILY)
    assert len(stored(place.url, place.stream)) == 1
    assert (result.status, report(result)["outcome"]) == (0, "duplicate")


@pytest.mark.parametrize(("window", "warned"), [(120, True), (3600, False)])
def test_without_permission_to_read_the_msg_id_guards_and_the_report_says_so(window, warned, run, place):
    # May ask for the window, but not read the messages.
    with restricted_to(place.subject, f"$JS.API.STREAM.INFO.{place.stream}") as (admin, url):
        add_stream(admin, place.stream, [place.subject], duplicate_window=window)
        first, second = (run("publish", "--json", "--server", url, "--every", "1h") for _ in range(2))
        assert len(ours(place._replace(url=admin))) == 1
    assert (first.status, report(first)["outcome"], report(first)["guard"]) == (0, "published", "msg-id")
    assert (second.status, report(second)["outcome"], report(second)["guard"]) == (0, "duplicate", "msg-id")
    warning = f"the duplicate window of stream {place.stream} is 2m, shorter than a slot (1h)"
    assert (warning in first.err) == warned
    assert bool(first.err) == warned


def test_the_least_permissions_that_work_are_the_subject_and_the_inbox(run, place):
    with restricted_to(place.subject) as (admin, url):
        add_stream(admin, place.stream, [place.subject])
        result = run("publish", "--server", url)
        again = run("publish", "--server", url, "-v")
        assert len(ours(place._replace(url=admin))) == 1
    assert (result.status, result.err) == (0, "")
    assert "no permission to read the stream: the msg id alone guards the slot" in again.err
    assert result.out.endswith("; guarded by the msg id alone\n")


def test_a_window_shorter_than_a_slot_is_warned_about_where_nothing_is_there_to_read(run, place):
    add_stream(place.url, place.stream, [place.subject], duplicate_window=120)
    first, second = run("publish", *DAILY), run("publish", *DAILY)
    assert len(ours(place)) == 1
    assert "crypto-trigger: warning: the duplicate window of stream" in first.err
    assert "make it two slots long with: crypto-trigger setup --every 24h --update\n" in first.err
    assert second.err == ""


def at(result):
    return report(result)["scheduled_at"]


def today():
    """The day of the slot a run of now stands for, which begins 5 s early."""
    return datetime.now(UTC) + timedelta(seconds=5)


def day(moment):
    return moment.strftime("%Y-%m-%dT00:00:00Z")


def test_a_run_a_little_early_belongs_to_the_slot_it_is_early_for(run, place, monkeypatch):
    add_stream(place.url, place.stream, [place.subject])
    # EARLY is nearly as long as the slot: whenever this runs, it stands for the next slot.
    monkeypatch.setenv("CRYPTO_TRIGGER_EARLY", "23h59m59.999s")
    before = datetime.now(UTC)
    slot = at(run("publish", "--json", *DAILY))
    assert slot in {day(before + timedelta(days=1)), day(datetime.now(UTC) + timedelta(days=1))}


def test_an_explicit_time_is_not_moved_by_early(run, place, monkeypatch):
    add_stream(place.url, place.stream, [place.subject])
    monkeypatch.setenv("CRYPTO_TRIGGER_EARLY", "14m")
    result = run("publish", "--json", "--scheduled-at", "2026-11-23T17:59:59+01:00")
    assert at(result) == "2026-11-23T16:45:00Z"
    (message,) = ours(place)
    assert message.headers["ce-time"] == "2026-11-23T16:45:00Z"
    assert message.headers["Nats-Msg-Id"] == f"{place.subject}:2026-11-23T16:45:00Z"


@since("2.10", "the server's time")
def test_a_slot_that_has_not_begun_is_refused_by_the_server_s_clock(run, place):
    add_stream(place.url, place.stream, [place.subject])
    later = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    result = run("publish", "--scheduled-at", later)
    assert stored(place.url, place.stream) == []
    assert result.status == 78
    assert "is in a slot that has not begun; by the clock of the server it is 20" in result.err


def test_the_minute_in_a_kubernetes_job_s_name_is_the_slot_of_all_its_pods(run, place, monkeypatch):
    add_stream(place.url, place.stream, [place.subject], duplicate_window=1800)
    minute = int(NOW.timestamp() // 60) - 90
    monkeypatch.setenv("CRYPTO_TRIGGER_K8S_JOB", f"crypto-trigger-{minute}")
    results = [run("publish", "--json") for _ in range(2)]
    assert len(ours(place)) == 1
    slot = datetime.fromtimestamp(minute * 60 // 900 * 900, UTC)
    assert [at(result) for result in results] == [slot.strftime("%Y-%m-%dT%H:%M:%SZ")] * 2
    assert [result.err for result in results] == ["", ""]


@pytest.mark.parametrize(
    "job",
    ["crypto-trigger-manual", "crypto-trigger-1", "crypto-trigger-999999999", f"x-{int(NOW.timestamp())}", "27"],
    ids=["no-number", "long-ago", "far-ahead", "seconds", "number-alone"],
)
def test_without_a_plausible_minute_in_the_job_name_the_clock_decides_with_a_warning(job, run, place, monkeypatch):
    add_stream(place.url, place.stream, [place.subject])
    monkeypatch.setenv("CRYPTO_TRIGGER_K8S_JOB", job)
    before = today()
    result = run("publish", "--json", *DAILY)
    assert len(ours(place)) == 1
    assert result.status == 0
    assert at(result) in {day(before), day(today())}
    assert f"warning: CRYPTO_TRIGGER_K8S_JOB '{job}' (from the environment) has no scheduled minute" in result.err
