"""`setup` against the real server: what stream there is afterwards, then what is said."""

import asyncio
import json
import re
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.processes import execute, is_one_clean_line
from support.streams import client, put, stored

from crypto_trigger.commands.server import Server

SECOND = 10**9
MINUTE = 60 * SECOND
DAY = 24 * 60 * MINUTE


def api(url, endpoint, **body):
    """Ask the JetStream API as somebody else would; the answer as the server wrote it."""

    async def ask():
        async with client(url) as connection:
            answer = await connection.request(f"$JS.API.{endpoint}", json.dumps(body).encode())
            return json.loads(answer.data)

    return asyncio.run(ask())


def config_of(place):
    """The stream's configuration, or None if there is no stream."""
    return api(place.url, f"STREAM.INFO.{place.stream}").get("config")


def create(place, **config):
    """Create the stream as somebody else would."""
    answer = api(place.url, f"STREAM.CREATE.{place.stream}", name=place.stream, **config)
    assert "error" not in answer, answer


WANTED = {
    "retention": "limits",
    "storage": "file",
    "num_replicas": 1,
    "max_age": 7 * DAY,
    "duplicate_window": 30 * MINUTE,
    "allow_direct": True,
}


def wanted(place, **changes):
    return {"subjects": [place.subject], **WANTED, **changes}


def test_the_stream_is_created_as_the_contract_has_it(run, place):
    result = run("setup")
    found = config_of(place)
    assert {name: found[name] for name in ("name", "subjects", *WANTED)} == {"name": place.stream, **wanted(place)}
    properties = (
        f"subjects {place.subject}, retention limits, storage file, max_age 168h, duplicate_window 30m, "
        "allow_direct on, num_replicas 1"
    )
    assert result == (0, f"stream {place.stream} created on {place.url}: {properties}\n", "")


def test_what_is_created_is_told_in_json_too(run, place):
    answer = json.loads(run("setup", "--json").out)
    assert config_of(place) is not None
    assert answer == {
        "outcome": "created",
        "status": 0,
        "stream": place.stream,
        "server": place.url,
        "created": {
            "subjects": place.subject,
            "retention": "limits",
            "storage": "file",
            "max_age": "168h",
            "duplicate_window": "30m",
            "allow_direct": "on",
            "num_replicas": "1",
        },
    }


def test_the_stream_is_named_after_the_cluster(run, place, monkeypatch):
    monkeypatch.delenv("CRYPTO_TRIGGER_STREAM")
    monkeypatch.setenv("NATS_CLUSTER_ID", place.stream)
    assert run("setup").status == 0
    assert config_of(place)["subjects"] == [place.subject]


@pytest.mark.parametrize(
    ("every", "window", "max_age"),
    [("1m", 2 * MINUTE, 7 * DAY), ("84h", 7 * DAY, 7 * DAY), ("336h", 28 * DAY, 28 * DAY)],
    ids=["short", "a week", "longer"],
)
def test_the_duplicate_window_is_two_slots_and_messages_live_as_long(every, window, max_age, run, place):
    options = ["--every", every, "--give-up-after", "5s"]
    assert run("setup", *options).status == 0
    found = config_of(place)
    assert (found["duplicate_window"], found["max_age"]) == (window, max_age)
    # Nothing of it is warned about by a publish that looks at the window.
    assert run("publish", *options).err == ""


def test_a_stream_that_is_as_wanted_is_left_alone(run, place):
    run("setup")
    put(place.url, place.subject, b"x")
    before = config_of(place)
    for options in ([], ["--update"], ["--replicas", 1]):
        assert run("setup", *options) == (0, f"stream {place.stream} on {place.url} is as needed\n", "")
    assert config_of(place) == before
    assert len(stored(place.url, place.stream)) == 1


@pytest.mark.parametrize("rest", [">", "*", "update"])
def test_a_stream_whose_wildcard_takes_the_subject_is_as_wanted(rest, run, place):
    create(place, **wanted(place, subjects=[f"{place.stream}.{rest}"]))
    assert run("setup") == (0, f"stream {place.stream} on {place.url} is as needed\n", "")


@pytest.mark.parametrize("rest", ["*.*", "update.>", "upd*"])
def test_a_stream_whose_wildcard_does_not_take_the_subject_gets_it_added(rest, run, place):
    create(place, **wanted(place, subjects=[f"{place.stream}.{rest}"]))
    assert run("setup").status == 78
    assert run("setup", "--update").status == 0
    assert config_of(place)["subjects"] == [f"{place.stream}.{rest}", place.subject]


DIFFERENCES = {
    "subjects": (
        lambda place: [f"{place.stream}.other"],
        lambda place, found, wanted: (
            f"subjects {found} {place.stream}.other, {wanted} {place.stream}.other, {place.subject}"
        ),
    ),
    "duplicate_window": (
        lambda _: 2 * MINUTE,
        lambda _, found, wanted: f"duplicate_window {found} 2m, {wanted} 30m",
    ),
    "no_ack": (lambda _: True, lambda _, found, wanted: f"no_ack {found} on, {wanted} off"),
}


@pytest.mark.parametrize(
    ("name", "value", "said"), [(name, *rest) for name, rest in DIFFERENCES.items()], ids=DIFFERENCES
)
def test_a_difference_is_told_and_ends_with_78_until_update_mends_it(name, value, said, run, place):
    create(place, **wanted(place, **{name: value(place)}))
    before = config_of(place)
    result = run("setup")
    assert config_of(place) == before
    differs = f"crypto-trigger: stream {place.stream} on {place.url} differs: {said(place, 'is', 'must be')}"
    assert result == (78, "", f"{differs}; change it with: crypto-trigger setup --update\n")
    result = run("setup", "--update")
    found = config_of(place)
    assert place.subject in found["subjects"]
    assert {key: found.get(key, False) for key in WANTED} == WANTED
    assert result == (0, f"stream {place.stream} on {place.url} updated: {said(place, 'was', 'is')}\n", "")
    assert run("setup") == (0, f"stream {place.stream} on {place.url} is as needed\n", "")


def test_every_difference_is_listed_by_name(run, place):
    create(place, **wanted(place, no_ack=True, duplicate_window=2 * MINUTE, max_age=60 * MINUTE))
    result = run("setup", "--json")
    answer = json.loads(result.out)
    assert answer == {
        "outcome": "differs",
        "status": 78,
        "stream": place.stream,
        "server": place.url,
        "differences": [
            {"name": "duplicate_window", "found": "2m", "wanted": "30m"},
            {"name": "no_ack", "found": "on", "wanted": "off"},
        ],
        "notes": [{"name": "max_age", "found": "1h", "created": "168h"}],
        "hint": "change it with: crypto-trigger setup --update",
    }
    assert result.status == 78
    assert is_one_clean_line(result.err)
    updated = json.loads(run("setup", "--update", "--json").out)
    answer.pop("hint")
    assert updated == {**answer, "outcome": "updated", "status": 0}


def test_replicas_that_the_server_cannot_have_end_with_78_and_change_nothing(run, place):
    create(place, **wanted(place))
    before = config_of(place)
    result = run("setup", "--update", "--replicas", "3")
    assert config_of(place) == before
    assert result.status == 78
    assert result.out == ""
    assert result.err.startswith(f"crypto-trigger: {place.url}: JetStream refuses stream {place.stream}: ")
    assert is_one_clean_line(result.err)


@pytest.mark.parametrize("replicas", ["0", "6", "many"])
def test_a_number_of_replicas_that_cannot_be_is_a_wrong_command_line(replicas, run, place):
    assert run("setup", "--replicas", replicas).status == 2
    assert config_of(place) is None


def test_two_setups_at_once_make_one_stream_and_both_succeed(place):
    with ThreadPoolExecutor(2) as pool:
        ends = list(pool.map(lambda _: execute("setup"), range(2)))
    assert config_of(place)["subjects"] == [place.subject]
    assert [(end.status, end.err) for end in ends] == [(0, ""), (0, "")]


def test_setup_and_publish_are_all_it_takes(run, place):
    assert run("setup").status == run("publish").status == 0
    assert [message.data for message in stored(place.url, place.stream)] == [b'{"trigger":"update"}']


def test_without_jetstream_setup_ends_with_78_and_says_how_to_have_it(run, monkeypatch):
    with Server(jetstream=False) as plain:
        monkeypatch.setenv("NATS_URL", plain.url)
        result = run("setup")
    assert result.status == 78
    assert result.out == ""
    assert "nats-server -js" in result.err
    assert is_one_clean_line(result.err)


def test_without_a_server_setup_tries_until_the_deadline_and_ends_with_69(run, monkeypatch):
    monkeypatch.setenv("CRYPTO_TRIGGER_BACKOFF_BASE", "20ms")
    monkeypatch.setenv("CRYPTO_TRIGGER_BACKOFF_MAX", "20ms")
    result = run("setup", "--server", "nats://127.0.0.1:1", "--give-up-after", "500ms", "-v")
    assert result.status == 69
    assert result.out == ""
    *waits, last = result.err.splitlines()
    said = re.fullmatch(r"crypto-trigger: \S+Z nats://127.0.0.1:1: connection refused \((\d+) attempts\); .+", last)
    # The time may run out in a wait or in an attempt.
    assert int(said[1]) in {len(waits), len(waits) + 1}
    assert len(waits) > 1


@pytest.mark.parametrize("delivery", ["core", "streaming"])
def test_other_deliveries_have_nothing_to_set_up(delivery, run, place):
    result = run("setup", "--delivery", delivery)
    assert config_of(place) is None
    assert result.status == 78
    assert result.err.startswith(f"crypto-trigger: CRYPTO_TRIGGER_DELIVERY '{delivery}' (from --delivery) ")
    assert is_one_clean_line(result.err)
