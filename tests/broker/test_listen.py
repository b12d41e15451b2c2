"""`listen`: a line for each trigger, from when it was started, until what was asked for has come."""

import asyncio
import json
import re
from datetime import UTC, datetime, timedelta

import pytest
from support.old_servers import since
from support.patience import until
from support.processes import Process, beginning_with, is_one_clean_line
from support.streams import add_stream, client, put, stored

from crypto_trigger.commands.server import Server
from crypto_trigger.slots.times import tolerance

KEYS = ["subject", "slot", "seq", "stored", "lateness_seconds", "source", "payload"]
PAYLOAD = '{"trigger":"update"}'
SLOT = "2026-11-23T12:00:00Z"


@pytest.fixture
def ready(run, place):
    """The test's own place, with its stream set up."""
    assert run("setup").status == 0
    return place


def consumers(url, stream):
    """What the server says of the stream's consumers, by name."""

    async def ask():
        async with client(url) as connection:
            infos = await connection.jetstream().consumers_info(stream)
            return {info.name: (info.config, info.delivered.stream_seq, info.num_pending) for info in infos}

    return asyncio.run(ask())


def listed(out):
    return [json.loads(line) for line in out.splitlines()]


# What it prints.


def test_a_trigger_is_a_line_with_its_subject_slot_sequence_lateness_source_and_payload(run, ready):
    run("publish")
    (message,) = stored(ready.url, ready.stream)
    result = run("listen", "--since", "1h", "--count", 1, "--for", "20s")
    slot, source = message.headers["ce-time"], message.headers["ce-source"]
    line = re.fullmatch(
        rf"{ready.subject} for {slot}: sequence 1, stored ([\dms.]+) after its slot began by {source}: (.*)\n",
        result.out,
    )
    assert line
    assert line[2] == PAYLOAD
    assert timedelta(0) < tolerance(line[1].replace("0.0s", "0s")) < timedelta(seconds=910)
    assert (result.status, result.err) == (0, "")


def test_json_is_one_object_a_line_with_exactly_its_keys(run, ready):
    run("publish")
    put(ready.url, ready.subject, b"hello")
    before, _ = stored(ready.url, ready.stream)
    result = run("listen", "--json", "--since", "1h", "--count", 2, "--for", "20s")
    ours, other = listed(result.out)
    assert list(ours) == list(other) == KEYS
    assert (ours["subject"], ours["slot"], ours["seq"]) == (ready.subject, before.headers["ce-time"], 1)
    assert (ours["source"], ours["payload"]) == (before.headers["ce-source"], PAYLOAD)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", ours["stored"])
    late = datetime.fromisoformat(ours["stored"]) - datetime.fromisoformat(ours["slot"])
    assert ours["lateness_seconds"] == pytest.approx(late.total_seconds(), abs=0.002)
    assert (other["seq"], other["source"], other["payload"]) == (2, None, "hello")
    assert (result.status, result.err) == (0, "")


def test_a_message_of_another_publisher_is_shown_safely(run, ready):
    put(ready.url, ready.subject, b"\x1b[2Jone\ntwo\r\xff", {"ce-source": "\x1b[31mred"})
    put(ready.url, ready.subject, b"")
    result = run("listen", "--since", "1h", "--count", 2)
    wild, empty = result.out.splitlines()
    assert result.out.replace("\n", "").isprintable()
    assert wild.endswith(r"by \x1b[31mred: \x1b[2Jone\ntwo\r\xff")
    assert empty.endswith("its slot began: ")
    objects = listed(run("listen", "--json", "--since", "1h", "--count", 2).out)
    # JSON has its own escapes; only a byte that is not UTF-8 needs ours.
    assert [each["payload"] for each in objects] == ["\x1b[2Jone\ntwo\r\\xff", ""]


def test_a_long_payload_is_cut_in_a_line_and_whole_in_json(run, ready):
    long = b"x" * 300_000
    put(ready.url, ready.subject, long)
    out = run("listen", "--since", "1h", "--count", 1).out
    assert out.endswith(f": {'x' * 200}... (300000 bytes)\n")
    (found,) = listed(run("listen", "--json", "--since", "1h", "--count", 1).out)
    assert found["payload"] == long.decode()


def test_a_secret_that_comes_back_in_a_payload_is_masked(run, ready, monkeypatch):
    monkeypatch.setenv("NATS_TOKEN", "hunter2hunter2")
    put(ready.url, ready.subject, b"the token is hunter2hunter2")
    for options in ((), ("--json",)):
        out = run("listen", "--since", "1h", "--count", 1, *options).out
        assert "the token is ***" in out
        assert "hunter2" not in out


def test_a_trigger_before_its_slot_and_one_of_a_later_slot_are_shown_as_they_count(run, ready):
    put(ready.url, ready.subject, b"", {"ce-time": "2999-01-01T00:00:00Z"})
    put(ready.url, ready.subject, b"", {"ce-time": SLOT})
    ahead, old = listed(run("listen", "--json", "--since", "1h", "--count", 2).out)
    early = timedelta(seconds=5)
    assert ahead["slot"] <= (datetime.now(UTC) + early).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert ahead["lateness_seconds"] < 900
    assert old["slot"] == SLOT


@since("2.11", "markers")
def test_a_marker_of_the_server_is_no_trigger(run, place):
    async def create():
        async with client(place.url) as connection:
            config = {
                "name": place.stream,
                "subjects": [place.subject],
                "allow_msg_ttl": True,
                "subject_delete_marker_ttl": 3600 * 10**9,
                "max_age": 10**9,
            }
            answer = await connection.request(f"$JS.API.STREAM.CREATE.{place.stream}", json.dumps(config).encode())
            assert "error" not in json.loads(answer.data)

    asyncio.run(create())
    put(place.url, place.subject, PAYLOAD.encode())
    until(lambda: any("Nats-Marker-Reason" in message.headers for message in stored(place.url, place.stream)))
    put(place.url, place.subject, b"after")
    (found,) = listed(run("listen", "--json", "--since", "1h", "--count", 1).out)
    assert found["payload"] == "after"


def test_other_subjects_of_the_stream_are_not_shown(run, place):
    add_stream(place.url, place.stream, [f"{place.stream}.>"])
    put(place.url, f"{place.stream}.other", b"no")
    put(place.url, place.subject, b"yes")
    (found,) = listed(run("listen", "--json", "--since", "1h", "--count", 1).out)
    assert (found["payload"], found["seq"]) == ("yes", 2)


# From when, and until when.


def test_what_was_stored_before_is_not_shown_and_the_time_ends_it_with_0(run, ready, monkeypatch):
    # The limit is for connecting alone.
    monkeypatch.setenv("CRYPTO_TRIGGER_GIVE_UP_AFTER", "500ms")
    put(ready.url, ready.subject, b"before")
    assert run("listen", "--for", "1s") == (0, "", "")


def test_a_count_that_is_not_reached_ends_with_69_and_one_line(run, ready):
    put(ready.url, ready.subject, b"one")
    for options in ((), ("--json",), ("--quiet",)):
        result = run("listen", "--count", 3, "--since", "1h", "--for", "500ms", *options)
        assert result.status == 69
        assert result.err == (
            f"crypto-trigger: 1 of 3 triggers arrived on {ready.subject} in 500ms; does a scheduler publish?\n"
        )
        assert len(result.out.splitlines()) == (options != ("--quiet",))


def test_what_is_stored_while_the_interpreter_starts_is_shown(ready, tmp_path):
    slow = (
        "import pathlib, time\n"
        f"pathlib.Path({str(tmp_path / 'begun')!r}).touch()\n"
        f"while not pathlib.Path({str(tmp_path / 'go')!r}).exists():\n"
        "    time.sleep(0.005)\n"
    )
    process = Process("listen", "--json", "--count", "1", "--for", "20s", **beginning_with(tmp_path, slow))
    until((tmp_path / "begun").exists)
    put(ready.url, ready.subject, b"early")
    (tmp_path / "go").touch()
    ended = process.end()
    assert (ended.status, ended.err) == (0, "")
    assert [each["payload"] for each in listed(ended.out)] == ["early"]


def test_since_shows_what_was_stored_in_that_time_by_the_clock_of_the_server(run, ready):
    put(ready.url, ready.subject, b"old")
    (before,) = listed(run("listen", "--json", "--since", "1h", "--count", 1).out)

    def age():
        return (datetime.now(UTC) - datetime.fromisoformat(before["stored"])).total_seconds()

    until(lambda: age() > 1)
    put(ready.url, ready.subject, b"new")
    found = listed(run("listen", "--json", "--since", "900ms", "--count", 1, "--for", "20s").out)
    assert [each["payload"] for each in found] == ["new"]


@pytest.mark.parametrize(
    "options",
    [("--count", "0"), ("--count", "x"), ("--for", "0s"), ("--for", "banana"), ("--since", "-1h"), ("--since", "")],
    ids=" ".join,
)
def test_a_wrong_option_ends_with_2_before_anything_connects(options, run, monkeypatch):
    monkeypatch.setenv("NATS_URL", "nats://127.0.0.1:1")
    result = run("listen", *options)
    assert (result.status, result.out) == (2, "")
    assert options[0] in result.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--delivery", "core", "--since", "1h"), "--since needs CRYPTO_TRIGGER_DELIVERY=jetstream"),
        (("--delivery", "streaming"), "listen needs CRYPTO_TRIGGER_DELIVERY=jetstream or core"),
    ],
    ids=["since", "streaming"],
)
def test_what_a_delivery_cannot_do_ends_with_78(options, said, run, monkeypatch):
    monkeypatch.setenv("NATS_URL", "nats://127.0.0.1:1")
    result = run("listen", *options)
    assert (result.status, result.out) == (78, "")
    assert is_one_clean_line(result.err)
    assert said in result.err


# The stream.


def test_its_consumer_is_gone_at_the_end_and_no_other_one_has_changed(run, ready):
    async def add():
        async with client(ready.url) as connection:
            await connection.jetstream().add_consumer(ready.stream, durable_name="api-server", ack_policy="explicit")

    asyncio.run(add())
    put(ready.url, ready.subject, b"one")
    before = consumers(ready.url, ready.stream)
    assert run("listen", "--since", "1h", "--count", 1).status == 0
    until(lambda: set(consumers(ready.url, ready.stream)) == {"api-server"}, seconds=5)
    assert consumers(ready.url, ready.stream) == before


def test_its_consumer_goes_by_itself_if_the_program_is_killed(ready):
    process = Process("listen", "--since", "1h")
    found = until(lambda: consumers(ready.url, ready.stream))
    process.kill()
    ((config, *_),) = found.values()
    assert config.durable_name is None
    assert 0 < config.inactive_threshold <= 30
    assert config.mem_storage


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"retention": "workqueue"}, "is a work queue, which takes no second consumer; listen with --delivery core"),
        ({"max_consumers": 0}, None),
    ],
    ids=["work queue", "limit"],
)
def test_a_stream_that_takes_no_consumer_of_ours_ends_with_78(config, said, run, place):
    if said is None:
        config, said = {"max_consumers": 1}, "JetStream refuses a consumer of stream"
    add_stream(place.url, place.stream, [place.subject], **config)

    async def occupy():
        async with client(place.url) as connection:
            await connection.jetstream().add_consumer(place.stream, durable_name="api-server", ack_policy="explicit")

    asyncio.run(occupy())
    result = run("listen", "--count", 1, "--for", "20s")
    assert (result.status, result.out) == (78, "")
    assert is_one_clean_line(result.err)
    assert said in result.err
    assert set(consumers(place.url, place.stream)) == {"api-server"}


def test_a_stream_that_loses_what_is_consumed_keeps_it_for_the_others(run, place):
    add_stream(place.url, place.stream, [place.subject], retention="interest")

    async def add():
        async with client(place.url) as connection:
            await connection.jetstream().add_consumer(place.stream, durable_name="api-server", ack_policy="explicit")

    asyncio.run(add())
    put(place.url, place.subject, b"one")
    (found,) = listed(run("listen", "--json", "--since", "1h", "--count", 1, "--for", "20s").out)
    assert found["payload"] == "one"
    assert len(stored(place.url, place.stream)) == 1


def test_no_stream_and_a_stream_without_the_subject_end_with_78(run, place):
    result = run("listen")
    assert result.status == 78
    assert f"there is no stream {place.stream}; create it with: " in result.err
    add_stream(place.url, place.stream, [f"{place.stream}.other"])
    result = run("listen")
    assert result.status == 78
    assert f"stream {place.stream} does not take the subject {place.subject}; add it with: " in result.err


@since("2.10", "transforms")
def test_a_subject_that_the_stream_transforms_is_followed_by_its_other_name(run, place):
    async def create():
        async with client(place.url) as connection:
            body = {
                "name": place.stream,
                "subjects": [place.subject],
                "subject_transform": {"src": place.subject, "dest": f"{place.stream}.moved"},
            }
            answer = await connection.request(f"$JS.API.STREAM.CREATE.{place.stream}", json.dumps(body).encode())
            assert "error" not in json.loads(answer.data)

    asyncio.run(create())
    put(place.url, place.subject, b"one")
    (found,) = listed(run("listen", "--json", "--since", "1h", "--count", 1, "--for", "20s").out)
    assert (found["payload"], found["subject"]) == ("one", f"{place.stream}.moved")


def test_with_a_domain_the_stream_of_that_domain_is_followed(run, place, tmp_path, monkeypatch):
    path = tmp_path / "server.conf"
    path.write_text("server_name: hub\njetstream { domain: hub }\n")
    with Server(arguments=("-c", str(path))) as server:
        monkeypatch.setenv("NATS_URL", server.url)
        monkeypatch.setenv("NATS_JS_DOMAIN", "hub")
        add_stream(server.url, place.stream, [place.subject])
        put(server.url, place.subject, b"one")
        (found,) = listed(run("listen", "--json", "--since", "1h", "--count", 1, "--for", "20s").out)
        assert (found["payload"], found["seq"]) == ("one", 1)
        monkeypatch.setenv("NATS_JS_DOMAIN", "leaf")
        result = run("listen", "--give-up-after", "1s")
    assert result.status == 69
    assert "JetStream domain leaf does not answer" in result.err


@pytest.mark.usefixtures("ready")
def test_core_keeps_its_connection_while_nothing_is_published(run, monkeypatch):
    monkeypatch.setenv("CRYPTO_TRIGGER_TIMEOUT", "300ms")
    # A new connection would be told of by a warning: what is published in the meantime is lost.
    assert run("listen", "--delivery", "core", "--for", "2s") == (0, "", "")
