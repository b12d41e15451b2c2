"""`setup` on streams that hold other people's messages: none is removed, and what is the owner's choice stays."""

import asyncio
import json
import re

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from support import examples  # noqa: F401 - how they draw
from support.processes import is_one_clean_line
from support.shell import ROOT
from support.streams import client, put, stored

SECOND = 10**9
MINUTE = 60 * SECOND
DAY = 24 * 60 * MINUTE
LOCAL = "nats://localhost:4222"
OURS = {"subjects", "duplicate_window", "no_ack"}


def api(url, endpoint, body=None):
    """Ask the JetStream API as somebody else would; the answer as the server wrote it."""

    async def ask():
        async with client(url) as connection:
            answer = await connection.request(f"$JS.API.{endpoint}", json.dumps(body or {}).encode())
            return json.loads(answer.data)

    return asyncio.run(ask())


def config_of(place):
    """The stream's whole configuration."""
    return api(place.url, f"STREAM.INFO.{place.stream}")["config"]


def create(place, **config):
    """Create the stream as somebody else would; whether the server takes it."""
    body = {"name": place.stream, "subjects": [f"{place.stream}.orders.>"], **config}
    return "error" not in api(place.url, f"STREAM.CREATE.{place.stream}", body)


def changed(before, after):
    """The names of what differs between two configurations; false and absent are the same to the server."""
    return {name for name in before | after if (before.get(name) or None) != (after.get(name) or None)}


def orders(place):
    """The other people's messages."""
    return [(message.seq, message.data) for message in stored(place.url, place.stream)]


def fill(place, count=3):
    for number in range(count):
        put(place.url, f"{place.stream}.orders.{number}", b"%d" % number)
    return orders(place)


# What the server takes only together with something else.
RARELY = st.sampled_from([False, False, False, False, True])
CHOICES = {
    "max_age": st.sampled_from([0, 10 * MINUTE, 10 * MINUTE, 30 * MINUTE, 60 * MINUTE, 30 * DAY]),
    "duplicate_window": st.sampled_from([SECOND, 2 * MINUTE, 5 * MINUTE, 45 * MINUTE]),
    "retention": st.sampled_from(["limits", "workqueue", "interest"]),
    "storage": st.sampled_from(["file", "memory"]),
    "max_msgs": st.sampled_from([-1, 2, 100]),
    "max_bytes": st.sampled_from([-1, 500, 100_000]),
    "max_msgs_per_subject": st.sampled_from([-1, 1, 10]),
    "max_msg_size": st.sampled_from([-1, 10, 4096]),
    "max_consumers": st.sampled_from([-1, 3]),
    "discard": st.sampled_from(["old", "new"]),
    "discard_new_per_subject": RARELY,
    "allow_direct": st.booleans(),
    "allow_rollup_hdrs": RARELY,
    "deny_delete": st.booleans(),
    "deny_purge": RARELY,
    "compression": st.sampled_from(["none", "s2"]),
    "no_ack": st.booleans(),
    "allow_msg_ttl": st.booleans(),
    "first_seq": st.sampled_from([0, 1000]),
    "description": st.text(max_size=20),
    "metadata": st.dictionaries(st.text("abc", min_size=1), st.text(), max_size=3),
    "persist_mode": st.sampled_from(["default", "async"]),
    "consumer_limits": st.just({"max_ack_pending": 10}),
}


def remove(place):
    api(place.url, f"STREAM.DELETE.{place.stream}")


@settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much],
)
@given(config=st.fixed_dictionaries({}, optional=CHOICES), ours=st.booleans())
def test_no_update_removes_a_message_or_changes_what_is_the_owners(config, ours, run, place):
    remove(place)
    subjects = [f"{place.stream}.orders.>", *([place.subject] if ours else [])]
    if not create(place, **config, subjects=subjects):
        event("refused by the server")
        return
    for number in range(3):
        # Not every stream acknowledges, keeps or takes it; what it then holds is what must stay.
        publish(place.url, f"{place.stream}.orders.{number}", b"order")
    before, held = config_of(place), orders(place)
    seen = run("setup", "--update", "--dry-run")
    assert (config_of(place), orders(place)) == (before, held)
    result = run("setup", "--update")
    after = config_of(place)
    assert orders(place) == held
    assert changed(before, after) <= OURS
    assert result.status == seen.status
    event(f"ended with {result.status}")
    if result.status == 0:
        assert after["duplicate_window"] == max(before.get("duplicate_window", 0), 30 * MINUTE)
        assert after["subjects"] == [*before["subjects"], *([] if ours else [place.subject])]
        assert not after.get("no_ack")
        assert run("setup").status == 0
    else:
        # Only a max_age that is too short for the window prevents these.
        assert (result.status, after) == (78, before)
        assert 0 < before["max_age"] < 30 * MINUTE
        assert f"nats stream edit {place.stream} --max-age=30m" in result.err
        assert is_one_clean_line(result.err)


def publish(url, subject, payload):
    """Publish without asking for an acknowledgement, and wait until the server has processed it."""

    async def send():
        async with client(url) as connection:
            await connection.publish(subject, payload)
            await connection.flush()

    asyncio.run(send())


def test_notes_alone_are_told_and_end_with_0(run, place):
    create(place, subjects=[place.subject], duplicate_window=30 * MINUTE, max_msgs=100, storage="memory")
    before = config_of(place)
    for options in ([], ["--update"]):
        result = run("setup", *options)
        assert config_of(place) == before
        line = (
            f"stream {place.stream} on {place.url} is as needed; left to its owner: allow_direct is off, "
            "max_age is unlimited, max_msgs is 100, storage is memory (a server that stops loses the triggers)\n"
        )
        assert result == (0, line, "")


def test_the_notes_of_a_stream_are_in_the_json(run, place):
    create(place, subjects=[place.subject], duplicate_window=30 * MINUTE, max_age=7 * DAY, retention="workqueue")
    answer = json.loads(run("setup", "--json").out)
    effect = "once a trigger is consumed, only the duplicate window protects its slot"
    assert answer == {
        "outcome": "unchanged",
        "status": 0,
        "stream": place.stream,
        "server": place.url,
        "notes": [
            {"name": "allow_direct", "found": "off", "created": "on"},
            {"name": "retention", "found": "workqueue", "created": "limits", "effect": effect},
        ],
    }


def test_an_update_sets_no_max_age_on_messages_that_are_kept_for_ever(run, place):
    create(place, max_age=0)
    held = fill(place)
    result = run("setup", "--update")
    assert config_of(place)["max_age"] == 0
    assert orders(place) == held
    assert result.status == 0


def test_a_dry_run_of_an_update_says_what_it_would_change_and_changes_nothing(run, place):
    create(place, max_age=7 * DAY, allow_direct=True)
    before, held = config_of(place), fill(place)
    result = run("setup", "--update", "--dry-run")
    assert (config_of(place), orders(place)) == (before, held)
    line = (
        f"dry run: stream {place.stream} on {place.url} would be updated: duplicate_window is 2m, would be 30m; "
        f"subjects is {place.stream}.orders.>, would be {place.stream}.orders.>, {place.subject}\n"
    )
    assert result == (0, line, "")
    answer = json.loads(run("setup", "--update", "--dry-run", "--json").out)
    assert config_of(place) == before
    assert (answer["outcome"], answer["status"]) == ("would-update", 0)
    assert [difference["name"] for difference in answer["differences"]] == ["duplicate_window", "subjects"]


def test_a_dry_run_without_update_compares_as_ever(run, place):
    create(place)
    before = config_of(place)
    assert run("setup", "--dry-run").status == 78
    assert config_of(place) == before


def test_a_dry_run_without_a_stream_says_what_would_be_created(run, place):
    result = run("setup", "--dry-run")
    assert stored(place.url, place.stream) is None
    line = (
        f"dry run: stream {place.stream} would be created on {place.url}: subjects {place.subject}, "
        "retention limits, storage file, max_age 168h, duplicate_window 30m, allow_direct on, num_replicas 1\n"
    )
    assert result == (0, line, "")


@pytest.mark.parametrize("retention", ["workqueue", "interest"])
def test_a_stream_that_lets_go_of_consumed_messages_is_mended_and_noted(retention, run, place):
    create(place, retention=retention)
    result = run("setup", "--update")
    after = config_of(place)
    assert (after["retention"], after["duplicate_window"]) == (retention, 30 * MINUTE)
    assert result.status == 0
    assert f"retention is {retention} (" in result.out
    assert "only the duplicate window protects its slot" in result.out


def test_a_stream_with_sources_gets_the_subject_and_keeps_its_sources(run, place):
    origin = place._replace(stream=f"{place.stream}-origin")
    create(origin)
    create(place, subjects=None, sources=[{"name": origin.stream}])
    before = config_of(place)
    result = run("setup", "--update")
    after = config_of(place)
    assert (after["sources"], after["subjects"]) == (before["sources"], [place.subject])
    assert result.status == 0
    assert f"sources is {origin.stream} (a message of theirs on {place.subject} counts as a trigger)" in result.out
    assert run("publish").status == 0


def mirrored(place):
    origin = place._replace(stream=f"{place.stream}-origin")
    create(origin)
    create(place, subjects=None, mirror={"name": origin.stream})


def sealed(place):
    create(place)
    api(place.url, f"STREAM.UPDATE.{place.stream}", {**config_of(place), "sealed": True})
    assert config_of(place)["sealed"]


def counting(place):
    create(place, allow_msg_counter=True)


def short_lived(place):
    create(place, max_age=10 * MINUTE, duplicate_window=2 * MINUTE)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (mirrored, "is a mirror of "),
        (sealed, "is sealed: it takes no more messages"),
        (counting, "holds counters (allow_msg_counter) and takes no other message"),
        (short_lived, "needs a duplicate window of two slots (30m), which its max_age of 10m does not allow"),
    ],
)
@pytest.mark.parametrize("options", [[], ["--update"], ["--update", "--dry-run"]], ids=" ".join)
def test_what_no_update_can_mend_is_named_and_left_alone(options, make, says, run, place):
    make(place)
    before = config_of(place)
    result = run("setup", *options)
    assert config_of(place) == before
    assert (result.status, result.out) == (78, "")
    assert f"stream {place.stream} {says}" in result.err
    assert "store the triggers in another stream: --stream NAME" in result.err
    assert is_one_clean_line(result.err)


def test_a_stream_without_acknowledgements_holds_a_trigger_that_the_next_attempt_reads(run, place):
    create(place, subjects=[place.subject], no_ack=True, duplicate_window=30 * MINUTE)
    result = run("publish", "--json", "--timeout", "300ms", "--give-up-after", "10s")
    assert len(stored(place.url, place.stream)) == 1
    report = json.loads(result.out)
    assert (result.status, report["outcome"], report["attempts"]) == (0, "duplicate", 2)


def test_the_page_about_setup_shows_what_it_says(run, place, monkeypatch):
    page = (ROOT / "docs" / "setup.md").read_text()
    (written,) = (block for block in re.findall(r"```console\n(.*?)```", page, re.DOTALL) if "orders" in block)
    # The page's names, made the test's own.
    orders, subject = f"{place.stream}-orders", f"{place.stream}.update"
    written = written.replace("orders", orders).replace("crypto.update", subject).replace(LOCAL, place.url)
    create(place._replace(stream=orders), subjects=[f"{orders}.>"])
    monkeypatch.delenv("CRYPTO_TRIGGER_STREAM")
    said = ""
    for line in written.splitlines():
        if line.startswith("$ crypto-trigger"):
            command, _, status = line.removeprefix("$ crypto-trigger ").partition("; ")
            result = run(*command.split())
            said += f"{line}\n{result.out}{result.err}" + (f"{result.status}\n" if status else "")
    assert said == written
