"""Who refuses a trigger, and what that proves: only what this run's own stream says counts as "not stored"."""

import asyncio
import json
from datetime import UTC, datetime
from itertools import count

import pytest
from support.answers import NO_MESSAGE, jetstream
from support.clocks import roomy
from support.old_servers import find, serving
from support.processes import execute, is_one_clean_line
from support.scripted import Scripted
from support.streams import client

RELEASES = ["2.9", "2.10", "2.11", "2.12", "2.14", "2.15"]
SUBJECT = "crypto.update"
SETTINGS = {
    "CRYPTO_TRIGGER_STREAM": "S",
    "CRYPTO_TRIGGER_SUBJECT": SUBJECT,
    "CRYPTO_TRIGGER_TIMEOUT": "250ms",
    "CRYPTO_TRIGGER_GIVE_UP_AFTER": "1500ms",
    "CRYPTO_TRIGGER_BACKOFF_BASE": "50ms",
    "CRYPTO_TRIGGER_BACKOFF_MAX": "100ms",
}
ACK = {"stream": "S", "seq": 7}
# What refusals look like: `code`, `err_code` and `description`.
REFUSALS = {
    "too large": (400, 10054, "message size exceeds maximum allowed"),
    "another stream was expected": (400, 10060, "expected stream does not match"),
    "lost a race": (400, 10071, "wrong last sequence: 3"),
    "lost a race, without a number": (400, 10164, "wrong last sequence"),
    "full": (503, 10077, "maximum messages exceeded"),
    "could not store": (503, 10077, "no space left on device"),
    "sealed": (400, 10109, "invalid operation on sealed stream"),
    "out of resources": (503, 10023, "insufficient resources"),
    "the account is full": (400, 10002, "resource limits exceeded for account"),
    "in flight": (409, 10158, "duplicate message id is in process"),
    "busy": (429, 10167, "too many requests"),
    "something new": (400, 19999, "something new"),
}
# Who refuses what: another stream, for each reason, or nobody that is named.
OTHERS = [*((kind, {"stream": "audit"}) for kind in REFUSALS), ("sealed", {}), ("sealed", {"stream": 7})]


def refusal(kind, **named):
    code, err_code, description = REFUSALS[kind]
    return {"error": {"code": code, "err_code": err_code, "description": description}, "seq": 0, **named}


def publish(script, *flags, **settings):
    """Run `publish` against a scripted server; how it ended, and its report."""
    with Scripted(script) as server:
        ended = execute(
            "publish", "--json", *flags, NATS_URL=server.url, **{**SETTINGS, **roomy().settings, **settings}
        )
    return ended, json.loads(ended.out)


def answers(*all_of_them):
    """Answer the trigger so, one after the other."""

    def answer(talk, inbox):
        for one in all_of_them:
            talk.answer(inbox, one)

    return answer


@pytest.mark.parametrize(("kind", "other"), OTHERS)
def test_another_stream_s_refusal_before_the_acknowledgement_changes_nothing(kind, other):
    ended, report = publish(jetstream(answers(refusal(kind, **other), ACK)))
    assert (ended.status, report["outcome"], report["seq"], report["attempts"]) == (0, "published", 7, 1)
    assert ended.err == ""


@pytest.mark.parametrize("first", [{"stream": "audit", "seq": 3}, b"thank you", [], {"error": {}}], ids=str)
def test_whatever_answers_first_the_stream_s_own_acknowledgement_counts(first):
    ended, report = publish(jetstream(answers(first, ACK)))
    assert (ended.status, report["seq"], report["attempts"]) == (0, 7, 1)


@pytest.mark.parametrize(("kind", "other"), OTHERS)
def test_another_stream_s_refusal_alone_proves_nothing(kind, other):
    ended, report = publish(jetstream(refusal(kind, **other)))
    assert (ended.status, report["outcome"]) == (75, "unknown")
    assert report["attempts"] > 1
    assert is_one_clean_line(ended.err)
    said = str(REFUSALS[kind][2])
    assert said in ended.err
    assert ("stream audit refuses" in ended.err) == (other.get("stream") == "audit")
    assert "may be stored" in ended.err


@pytest.mark.parametrize("kind", REFUSALS)
def test_a_trigger_that_another_stream_refuses_is_found_where_it_is_stored(kind):
    slots = roomy()
    message = {"subject": SUBJECT, "seq": 7, "data": "eA==", "time": datetime.now(UTC).isoformat()}
    reading = count()

    def script(talk):
        # Nothing at first; from the second attempt on the stream holds the trigger.
        last = {"message": message} if next(reading) else NO_MESSAGE
        jetstream(refusal(kind, stream="audit"), last=last)(talk)

    with Scripted(script) as server:
        ended = execute("publish", "--json", NATS_URL=server.url, **SETTINGS, **slots.settings)
    report = json.loads(ended.out)
    assert (ended.status, report["outcome"], report["seq"]) == (0, "duplicate", 7)


STATUSES = {
    "too large": 65,
    "another stream was expected": 65,
    "full": 65,
    "could not store": 75,
    "sealed": 65,
    "out of resources": 75,
    "the account is full": 65,
    "in flight": 75,
    "busy": 69,
    "something new": 65,
}


@pytest.mark.parametrize(("kind", "status"), STATUSES.items(), ids=STATUSES)
def test_the_stream_s_own_refusal_counts(kind, status):
    ended, report = publish(jetstream(refusal(kind, stream="S")))
    assert ended.status == status
    assert (report["attempts"] > 1) == (status != 65)
    assert ("may be stored" in ended.err) == (status == 75)


def test_the_server_s_own_words_tell_why_it_could_not_store():
    ended, _ = publish(jetstream(refusal("could not store", stream="S")))
    assert "the server could not store the message in stream S: no space left on device" in ended.err
    assert "discard" not in ended.err


@pytest.mark.parametrize("kind", [kind for kind in REFUSALS if not kind.startswith("lost a race")])
def test_with_a_domain_no_refusal_counts(kind):
    ended, _ = publish(jetstream(refusal(kind, stream="S")), NATS_JS_DOMAIN="hub")
    assert ended.status == 75
    domain = {**ACK, "domain": "hub"}
    ended, report = publish(jetstream(answers(refusal(kind, stream="S"), domain)), NATS_JS_DOMAIN="hub")
    assert (ended.status, report["attempts"]) == (0, 1)


@pytest.mark.parametrize("kind", REFUSALS)
def test_another_stream_s_refusal_rehearses_nothing(kind):
    ended, _ = publish(jetstream(refusal(kind, stream="audit")), "--rehearse")
    assert ended.status == 75
    own = refusal("lost a race", stream="S")
    ended, report = publish(jetstream(answers(refusal(kind, stream="audit"), own)), "--rehearse")
    assert (ended.status, report["outcome"]) == (0, "rehearsed")


def test_forced_runs_hear_the_stream_s_own_acknowledgement_too():
    ended, report = publish(jetstream(answers(refusal("too large", stream="audit"), ACK)), "--force")
    assert (ended.status, report["seq"]) == (0, 7)


@pytest.mark.parametrize(
    ("ack", "status"),
    [
        ({"stream": "S", "seq": 0, "duplicate": True}, 0),
        ({"stream": "S", "seq": 0}, 75),
        ({"stream": "S", "seq": 0, "duplicate": 1}, 75),
        ({"stream": "S", "seq": False, "duplicate": True}, 75),
        ({"stream": "S", "seq": -1, "duplicate": True}, 75),
        ({"stream": "T", "seq": 0, "duplicate": True}, 75),
    ],
    ids=str,
)
def test_a_duplicate_of_2_9_on_an_interest_stream_has_no_sequence(ack, status):
    ended, report = publish(jetstream(ack))
    assert ended.status == status
    if status == 0:
        assert (report["outcome"], "seq" in report) == ("duplicate", False)
        with Scripted(jetstream(ack)) as server:
            line = execute("publish", NATS_URL=server.url, **SETTINGS, **roomy().settings).out
        assert line.endswith("in stream S\n")


async def refused(url):
    """Let a stream refuse a message for each reason that a server can be made to give; by `err_code`, its answers."""
    found = {}
    async with client(url) as connection:
        js = connection.jetstream()
        await js.add_stream(name="S", subjects=["s"], max_msg_size=500)
        await js.add_stream(name="F", subjects=["f"], max_msgs=1, discard="new")

        async def ask(subject, payload=b"", **headers):
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            answer = await connection.request(subject, payload, timeout=5, headers=named or None)
            content = json.loads(answer.data)
            if "error" in content:
                found[content["error"]["err_code"]] = content

        await ask("s", b"x" * 1000)
        await ask("s", Nats_Expected_Stream="T")
        await ask("s", Nats_Expected_Last_Subject_Sequence="9")
        await ask("f")
        await ask("f")
        config = (await js.stream_info("S")).config
        await js.update_stream(config.evolve(sealed=True))
        await ask("s")
    return found


@pytest.mark.parametrize("release", RELEASES)
def test_every_refusal_of_a_real_server_names_its_stream(release):
    with serving(find(release)) as server:
        found = asyncio.run(refused(server.url))
    named = {code: answer.get("stream") for code, answer in found.items()}
    assert named == {10054: "S", 10060: "S", 10071: "S", 10077: "F", 10109: "S"}
    assert found[10077]["error"]["description"] == "maximum messages exceeded"
