"""`publish --rehearse`: it tells what a publish would come to, and nothing is stored."""

import asyncio
import json
import sys

import pytest
from support.clocks import roomy
from support.consumers import add_consumer, consumer_info
from support.imports import modules_of
from support.monitors import Healthchecks, Monitor
from support.processes import execute, is_one_clean_line
from support.restricted import restricted_to
from support.streaming_double import StreamingDouble
from support.streams import add_stream, client, put, stored
from support.subscribers import Subscriber

PAYLOAD = b'{"trigger":"update"}'
EARLIER, LATER = "2026-11-23T12:00:00Z", "2026-11-23T12:15:00Z"


def rehearsed(ended):
    """The report of a rehearsal that ended well, and said nothing beside it."""
    assert (ended.status, ended.err) == (0, "")
    report = json.loads(ended.out)
    assert (report["outcome"], report["status"], report["rehearsal"]) == ("rehearsed", 0, True)
    return report


def test_nothing_is_stored_and_a_publish_after_it_is_stored(run, place):
    add_stream(place.url, place.stream, [place.subject], duplicate_window=1800)
    add_consumer(place.url, place.stream, "api")
    report = rehearsed(run("publish", "--rehearse", "--json", "--scheduled-at", EARLIER))
    assert stored(place.url, place.stream) == []
    assert consumer_info(place.url, place.stream, "api")["num_pending"] == 0
    after = run("publish", "--json", "--scheduled-at", EARLIER)
    (message,) = stored(place.url, place.stream)
    assert (message.seq, message.data, message.headers["Nats-Msg-Id"]) == (1, PAYLOAD, report["msg_id"])
    assert json.loads(after.out)["outcome"] == "published"
    assert (report["would_be"], report["guard"], report["server"]) == ("published", "compare-and-set", place.url)
    assert "seq" not in report


def test_a_slot_that_has_its_trigger_is_told_and_nothing_is_added(run, place):
    run("setup")
    run("publish", "--scheduled-at", EARLIER)
    report = rehearsed(run("publish", "--rehearse", "--json", "--scheduled-at", EARLIER))
    line = run("publish", "--rehearse", "--scheduled-at", EARLIER).out
    assert len(stored(place.url, place.stream)) == 1
    assert (report["would_be"], report["seq"]) == ("duplicate", 1)
    assert line == (
        f"rehearsed: {place.url} permits publishing, but {place.subject} for {EARLIER} is already in stream "
        f"{place.stream}, sequence 1; nothing was stored\n"
    )


def test_a_slot_whose_successor_has_its_trigger_is_told(run, place):
    run("setup")
    run("publish", "--scheduled-at", LATER)
    report = rehearsed(run("publish", "--rehearse", "--json", "--scheduled-at", EARLIER))
    line = run("publish", "--rehearse", "--scheduled-at", EARLIER).out
    assert len(stored(place.url, place.stream)) == 1
    assert (report["would_be"], report["seq"], report["superseded_by"]) == ("superseded", 1, LATER)
    assert f"is not needed: the later trigger of {LATER} is in stream {place.stream}, sequence 1" in line


def test_the_line_says_where_it_would_be_published(run, place):
    run("setup")
    line = run("publish", "--rehearse", "--scheduled-at", EARLIER).out
    assert stored(place.url, place.stream) == []
    assert line == (
        f"rehearsed: {place.subject} for {EARLIER} would be published in stream {place.stream} on {place.url}; "
        "nothing was stored\n"
    )


def test_a_forced_publish_is_rehearsed_as_one(run, place):
    run("setup")
    run("publish", "--scheduled-at", EARLIER)
    report = rehearsed(run("publish", "--rehearse", "--force", "--json", "--scheduled-at", EARLIER))
    assert len(stored(place.url, place.stream)) == 1
    assert (report["would_be"], report["guard"]) == ("published", "none")


def test_a_plain_subscriber_sees_it_and_can_tell_it_from_the_trigger(run, place):
    run("setup")
    with Subscriber(place.url, place.subject) as subscriber:
        rehearsed(run("publish", "--rehearse", "--json", "--scheduled-at", EARLIER))
        run("publish", "--scheduled-at", EARLIER)
        rehearsal, trigger = subscriber.heard()
    assert len(stored(place.url, place.stream)) == 1
    assert rehearsal.data == trigger.data == PAYLOAD
    for name in ("Nats-Msg-Id", "ce-id"):
        assert rehearsal.headers[name].startswith("rehearsal:")
        assert len(rehearsal.headers[name]) == len(trigger.headers[name])
    differ = {name for name in rehearsal.headers if rehearsal.headers[name] != trigger.headers.get(name)}
    assert differ == {"Nats-Msg-Id", "ce-id", "Nats-Expected-Last-Subject-Sequence"}


def test_without_permission_to_read_the_line_says_what_guards_the_slot(place):
    with restricted_to(place.subject) as (admin, some):
        add_stream(admin, place.stream, [place.subject], duplicate_window=1800)
        ended = execute("publish", "--rehearse", NATS_URL=some)
        assert stored(admin, place.stream) == []
    assert ended.status == 0
    assert "guarded by the msg id alone; nothing was stored" in ended.out


def test_a_short_duplicate_window_is_warned_about_as_a_publish_would(run, place):
    add_stream(place.url, place.stream, [place.subject], duplicate_window=120)
    ended = run("publish", "--rehearse")
    assert stored(place.url, place.stream) == []
    assert ended.status == 0
    assert "the duplicate window of stream" in ended.err
    assert is_one_clean_line(ended.err)


@pytest.mark.parametrize("trigger", [False, True], ids=["empty", "with a trigger"])
def test_a_mapped_subject_is_looked_up_under_its_own_name(trigger, place):
    subjects = {"subjects": [place.subject], "subject_transform": {"src": place.subject, "dest": f"{place.stream}.x"}}

    async def create():
        body = json.dumps({"name": place.stream, "duplicate_window": 1800 * 10**9, **subjects}).encode()
        async with client(place.url) as connection:
            answer = json.loads((await connection.request(f"$JS.API.STREAM.CREATE.{place.stream}", body)).data)
            assert "error" not in answer

    asyncio.run(create())
    slots = roomy()
    if trigger:
        assert execute("publish", **slots.settings).status == 0
    ended = execute("publish", "--rehearse", "--json", **slots.settings)
    assert len(stored(place.url, place.stream)) == trigger
    assert rehearsed(ended)["would_be"] == ("duplicate" if trigger else "published")


def test_other_messages_on_the_subject_do_not_matter(run, place):
    add_stream(place.url, place.stream, [f"{place.stream}.>"], duplicate_window=1800)
    for _ in range(3):
        put(place.url, place.subject, b"old", {"ce-time": "2020-01-01T00:00:00Z"})
        put(place.url, f"{place.stream}.other")
    report = rehearsed(run("publish", "--rehearse", "--json"))
    assert len(stored(place.url, place.stream)) == 6
    assert report["would_be"] == "published"


def test_neither_a_ping_nor_metrics_but_the_report_file(run, place, monkeypatch, tmp_path):
    run("setup")
    metrics, report = tmp_path / "metrics.prom", tmp_path / "report.json"
    with Monitor(Healthchecks()) as monitor:
        monkeypatch.setenv("CRYPTO_TRIGGER_PING_URL", monitor.environ["CRYPTO_TRIGGER_PING_URL"])
        ended = run("publish", "--rehearse", "--json", "--metrics-file", metrics, "--report-file", report)
        failed = run("publish", "--rehearse", "--stream", "missing", "--metrics-file", metrics)
        wrong = run("publish", "--rehearse", "--every", "x", "--metrics-file", metrics)
        assert monitor.asked == []
    assert stored(place.url, place.stream) == []
    assert (failed.status, wrong.status) == (78, 78)
    assert not metrics.exists()
    assert json.loads(report.read_text()) == rehearsed(ended)


def test_a_dry_run_beside_it_is_a_wrong_command_line(run, place, tmp_path):
    run("setup")
    report = tmp_path / "report.json"
    ended = run("publish", "--rehearse", "--dry-run", "--json", "--report-file", report)
    assert stored(place.url, place.stream) == []
    assert (ended.status, ended.out) == (2, "")
    assert "--dry-run connects to nothing, and --rehearse connects: give one of the two" in ended.err
    assert json.loads(report.read_text())["rehearsal"] is True


@pytest.mark.parametrize("arguments", [(), ("--server=SERVER",)], ids=["without Typer", "with Typer"])
def test_the_json_log_names_the_outcome(arguments, run, place, monkeypatch):
    run("setup")
    monkeypatch.setenv("CRYPTO_TRIGGER_LOG_FORMAT", "json")
    ended = run("publish", "--rehearse", "-v", *(word.replace("SERVER", place.url) for word in arguments))
    last = json.loads(ended.err.splitlines()[-1])
    assert stored(place.url, place.stream) == []
    assert (last["event"], last["level"], last["rehearsal"]) == ("rehearsed", "info", True)


def test_v_tells_which_credentials_were_accepted(place):
    with restricted_to(place.subject, f"$JS.API.STREAM.MSG.GET.{place.stream}") as (admin, some):
        add_stream(admin, place.stream, [place.subject], duplicate_window=1800)
        url = some.replace("some:pw@", "")
        ended = execute("publish", "--rehearse", "-v", NATS_URL=url, NATS_USER="some", NATS_PASSWORD="pw")
        assert stored(admin, place.stream) == []
    assert ended.status == 0
    assert f"{url} accepts user 'some' (from NATS_USER, the environment; password from NATS_PASSWORD" in ended.err


@pytest.mark.parametrize("required", [(), ("--require-subscriber",)], ids=["", "subscriber required"])
def test_core_is_rehearsed_up_to_the_publish(required, run, place):
    with Subscriber(place.url, place.subject) as subscriber:
        report = rehearsed(run("publish", "--rehearse", "--json", "--delivery", "core", *required))
        line = run("publish", "--rehearse", "--delivery", "core", *required).out
        assert subscriber.heard() == []
    assert "would_be" not in report
    assert line.startswith(f"rehearsed up to the publish: {place.url} takes the client; {place.subject} for ")
    assert line.endswith("was not sent, so whether it would be taken is not known\n")


def test_streaming_is_rehearsed_up_to_the_publish_and_its_registration_is_closed(run, place):
    with StreamingDouble() as server:
        ended = run("publish", "--rehearse", "--json", "--delivery", "streaming", "--server", server.url)
        line = run("publish", "--rehearse", "--delivery", "streaming", "--server", server.url).out
        assert server.count(place.subject) == 0
        assert list(server.clients()) == []
    report = rehearsed(ended)
    assert "would_be" not in report
    assert report["client_id"].startswith("worker-server-")
    assert line.startswith(f"rehearsed up to the publish: {server.url} takes the client in NATS Streaming cluster ")


def test_a_publish_does_not_load_what_only_a_rehearsal_needs(run, place):
    run("setup")
    code = "import sys; from crypto_trigger.commands.entry import main; main(); print(*sys.modules, file=sys.stderr)"

    def loaded(*options):
        ended = execute("publish", "--quiet", "--force", *options, command=(sys.executable, "-c", code))
        assert ended.status == 0
        return {name for name in ended.err.split() if "rehearsal" in name}

    assert loaded() == set()
    assert loaded("--rehearse") == {"crypto_trigger.delivery.rehearsal"}
    assert len(stored(place.url, place.stream)) == 1


def test_a_rehearsal_loads_no_library_that_a_publish_does_not(run, place):
    run("setup")
    status, modules = modules_of("publish", "--rehearse")
    assert stored(place.url, place.stream) == []
    assert status == 0
    assert not modules & {"pydantic", "rich", "backoff", "dotenv"}


def test_a_server_without_a_scheme_is_one_of_nats(run, place):
    run("setup")
    port = place.url.rpartition(":")[2]
    report = rehearsed(run("publish", "--rehearse", "--json", "-s", f"localhost:{port}"))
    assert run("publish", "-s", f"localhost:{port}").status == 0
    assert len(stored(place.url, place.stream)) == 1
    assert report["server"] == f"nats://localhost:{port}"
