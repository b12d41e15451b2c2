"""`listen` to a server that answers nonsense: an end with one line, or the next connection; never a wrong trigger."""

import json
import re
import time
from datetime import UTC, datetime, timedelta

import pytest
from support.answers import stream_info
from support.listening import told
from support.processes import is_one_clean_line
from support.scripted import Scripted

SETTINGS = {
    "CRYPTO_TRIGGER_STREAM": "S",
    "CRYPTO_TRIGGER_TIMEOUT": "300ms",
    "CRYPTO_TRIGGER_GIVE_UP_AFTER": "1s",
    "CRYPTO_TRIGGER_BACKOFF_BASE": "5ms",
    "CRYPTO_TRIGGER_BACKOFF_MAX": "50ms",
}
NOW = 1_795_000_000 * 10**9


class Stream:
    """A JetStream with one stream, as a script. `deliver(talk, name, inbox, batch)` answers a request for messages."""

    def __init__(self, deliver, *, info=None, created=None):
        self.deliver = deliver
        self.info = info or stream_info
        self.created = created or (lambda name: {"name": name, "delivered": {"stream_seq": 5}})
        self.configs = []
        # What became of consumers, in order.
        self.told = []

    def __call__(self, talk):
        talk.welcome()
        while True:
            subject, inbox = talk.published()
            if ".STREAM.INFO." in subject:
                talk.answer(inbox, self.info())
            elif ".CONSUMER.CREATE." in subject:
                name = subject.split(".")[5]
                self.configs.append(body(talk)["config"])
                self.told.append(("create", name))
                talk.answer(inbox, self.created(name))
            elif ".CONSUMER.MSG.NEXT." in subject:
                self.deliver(talk, subject.split(".")[6], inbox, body(talk)["batch"])
            elif ".CONSUMER.DELETE." in subject:
                self.told.append(("delete", subject.split(".")[5]))


def body(talk):
    """The payload of the last message that the client has published."""
    return json.loads(talk.heard[talk.heard.rindex(b"\r\n{") + 2 : talk.heard.rindex(b"}") + 1])


def message(name, seq, number, payload=b"x", *, stream="S", stored=NOW, subject="crypto.update", delivered=1):
    reply = f"$JS.ACK.{stream}.{name}.{delivered}.{seq}.{number}.{stored}.0"
    return f"MSG {subject} SID {reply} {len(payload)}\r\n".encode() + payload + b"\r\n"


def status(inbox, text, **headers):
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    block = f"NATS/1.0 {text}\r\n{lines}\r\n".encode()
    return f"HMSG {inbox} SID {len(block)} {len(block)}\r\n".encode() + block + b"\r\n"


def say(talk, inbox, *parts):
    """Send to the subscription of the inbox, by the number that the client gave it."""
    (sid,) = re.findall(rb"SUB " + re.escape(inbox.encode()) + rb"\s+(\d+)\r\n", talk.heard)
    for part in parts:
        talk.say(part.replace(b" SID ", b" " + sid + b" ", 1))


@pytest.fixture
def listen(place, run, monkeypatch):  # noqa: ARG001 - a clean place
    """Run `listen` with a script in the server's place."""
    monkeypatch.delenv("CRYPTO_TRIGGER_SUBJECT")
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)

    def call(script, *options):
        with Scripted(script) as server:
            began = time.monotonic()
            result = run("listen", "--json", "--server", server.url, *options)
            assert time.monotonic() - began < 6
            return result

    return call


def payloads(result):
    return [json.loads(line)["payload"] for line in result.out.splitlines()]


def test_the_double_is_taken_for_a_stream(listen):
    def deliver(talk, name, inbox, batch):
        assert batch > 1
        say(talk, inbox, message(name, 7, 1, b"one"), message(name, 9, 2, b"two"))

    script = Stream(deliver)
    result = listen(script, "--count", 2, "--for", "5s")
    assert (result.status, result.err, payloads(result)) == (0, "", ["one", "two"])
    assert script.configs[0]["deliver_policy"] == "by_start_time"
    assert script.configs[0]["filter_subject"] == "crypto.update"


STRANGE = {
    "another stream": {"stream": "T"},
    "another consumer": {"name": "other"},
    "another subject": {"subject": "crypto.other"},
    "no sequence": {"seq": "x"},
    "a sequence of zero": {"seq": 0},
    "a sequence that does not rise": {"seq": 7},
    "a time that is none": {"stored": "x"},
    "a time far ahead": {"stored": 10**30},
    "a time before 1970": {"stored": -1},
    "too many parts": {"delivered": "1.2"},
    "a huge number": {"stored": "9" * 5000},
}


@pytest.mark.parametrize("change", STRANGE.values(), ids=STRANGE)
def test_a_message_that_was_not_asked_for_ends_it_with_76(change, listen):
    def deliver(talk, name, inbox, _):
        second = {"name": name, "seq": 8, "number": 2, **change}
        say(talk, inbox, message(name, 7, 1, b"good"), message(payload=b"bad", **second))

    result = listen(Stream(deliver), "--for", "5s")
    assert result.status == 76
    assert is_one_clean_line(result.err)
    assert payloads(result) == ["good"]


def test_a_consumer_that_begins_before_its_beginning_ends_it_with_76_and_repeats_nothing(listen):
    def deliver(talk, name, inbox, _):
        say(talk, inbox, message(name, 7, 1, b"one"), status(inbox, "503"))

    script = Stream(deliver, info=lambda: stream_info(state={"last_seq": 9}))
    result = listen(script, "--for", "5s")
    assert (result.status, payloads(result)) == (76, ["one"])
    assert is_one_clean_line(told(result.err)[1])


def test_a_gap_is_closed_from_the_last_message_that_was_shown(listen):
    def deliver(talk, name, inbox, _):
        if len(script.configs) == 1:
            say(talk, inbox, message(name, 7, 1, b"one"), message(name, 9, 3, b"three"))
        else:
            say(talk, inbox, message(name, 8, 1, b"two"), message(name, 9, 2, b"three"))

    script = Stream(deliver, info=lambda: stream_info(state={"last_seq": 9}))
    result = listen(script, "--count", 3, "--for", "5s")
    assert (result.status, payloads(result)) == (0, ["one", "two", "three"])
    assert script.configs[1]["opt_start_seq"] == 8


def test_a_consumer_that_was_left_behind_is_deleted_before_the_next_one_is_created(listen):
    def deliver(talk, name, inbox, _):
        if len(script.configs) == 1:
            talk.close()
        else:
            say(talk, inbox, message(name, 6, 1, b"one"))

    script = Stream(deliver)
    assert listen(script, "--count", 1, "--for", "5s").status == 0
    names = [config["name"] for config in script.configs]
    assert script.told[:3] == [("create", names[0]), ("delete", names[0]), ("create", names[1])]


@pytest.mark.parametrize("again", [False, True], ids=["at first", "again"])
def test_too_many_consumers_end_it_with_78_unless_one_of_them_is_its_own(again, listen):
    refused = {"error": {"code": 400, "err_code": 10026, "description": "maximum consumers limit reached"}}

    def created(name):
        full = len(script.configs) == (2 if again else 1)
        return refused if full else {"name": name, "delivered": {"stream_seq": 5}}

    def deliver(talk, name, inbox, _):
        if len(script.configs) == 1:
            talk.close()
        else:
            say(talk, inbox, message(name, 6, 1, b"one"))

    script = Stream(deliver, created=created)
    result = listen(script, "--count", 1, "--for", "5s")
    assert (result.status, payloads(result)) == ((0, ["one"]) if again else (78, []))


def test_without_a_message_so_far_the_next_consumer_begins_at_the_same_sequence(listen):
    """Not at the same time: a new leader's clock may be behind."""

    def deliver(talk, name, inbox, _):
        say(talk, inbox, status(inbox, "503") if len(script.configs) == 1 else message(name, 6, 1, b"one"))

    script = Stream(deliver, info=lambda: stream_info(state={"last_seq": 9}))
    result = listen(script, "--count", 1, "--for", "5s")
    assert (result.status, payloads(result)) == (0, ["one"])
    assert (script.configs[0]["deliver_policy"], script.configs[1]["opt_start_seq"]) == ("by_start_time", 6)


ENDS = {
    "deleted": "409 Consumer Deleted",
    "new leader": "409 Leadership Change",
    "no such consumer": "503",
    "unknown": "299 \x1b[31mwhatever",
    "no status": "",
}


@pytest.mark.parametrize("text", ENDS.values(), ids=ENDS)
def test_a_consumer_that_has_ended_is_replaced(text, listen):
    def deliver(talk, name, inbox, _):
        if len(script.configs) == 1:
            say(talk, inbox, message(name, 7, 1, b"one"), status(inbox, text))
        else:
            say(talk, inbox, message(name, 8, 1, b"two"))

    script = Stream(deliver, info=lambda: stream_info(state={"last_seq": 9}))
    result = listen(script, "--count", 2, "--for", "5s")
    assert (result.status, told(result.err), payloads(result)) == (0, (1, ""), ["one", "two"])


def test_a_request_that_ends_is_followed_by_the_next_one(listen):
    asked = []

    def deliver(talk, name, inbox, batch):
        asked.append(batch)
        if len(asked) == 1:
            say(talk, inbox, message(name, 7, 1, b"one"), status(inbox, "100 Idle Heartbeat"))
            say(talk, inbox, status(inbox, "408 Request Timeout", Nats_Pending_Messages=batch - 1))
        else:
            say(talk, inbox, message(name, 8, 2, b"two"))

    script = Stream(deliver)
    result = listen(script, "--count", 2, "--for", "5s")
    assert (result.status, payloads(result)) == (0, ["one", "two"])
    assert (len(asked), len(script.configs)) == (2, 1)


def test_a_server_that_sends_heartbeats_and_nothing_else_is_left_when_they_stop(listen):
    def deliver(talk, _, inbox, __):
        for _ in range(3):
            say(talk, inbox, status(inbox, "100 Idle Heartbeat"))

    script = Stream(deliver)
    result = listen(script, "--for", "1500ms", "--count", 1)
    assert result.status == 69
    assert len(script.configs) > 1


ANSWERS = {
    "no name": {},
    "another name": {"name": "other", "delivered": {}},
    "a list": [],
    "an error without a code": {"error": {}},
    "no JSON": b"\xff{",
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_nonsense_about_the_consumer_ends_it_with_one_line(answer, listen):
    result = listen(Stream(lambda *_: None, created=lambda _: answer), "--for", "5s")
    assert result.status in (69, 76)
    assert is_one_clean_line(result.err)


INFOS = {
    "subjects that are none": {"config": {"subjects": [1, None, {}]}},
    "a state that is none": {"state": []},
    "a time that is none": {"ts": "yesterday"},
    "a time of year one": {"ts": "0001-01-01T00:00:00Z"},
    "a creation that is none": {"created": 7},
    "sources that are none": {"config": {"subjects": "x", "sources": 1, "subject_transform": 3}},
}


@pytest.mark.parametrize("changes", INFOS.values(), ids=INFOS)
def test_nonsense_about_the_stream_ends_it_with_one_line_or_does_no_harm(changes, listen):
    script = Stream(
        lambda talk, name, inbox, _: say(talk, inbox, message(name, 7, 1, b"one")), info=lambda: stream_info(**changes)
    )
    result = listen(script, "--count", 1, "--for", "5s")
    if result.status:
        assert result.status == 78
        assert is_one_clean_line(result.err)
    else:
        assert (payloads(result), result.err) == (["one"], "")


def test_where_the_server_does_not_tell_its_time_the_clock_of_this_host_decides(listen):
    script = Stream(
        lambda talk, name, inbox, _: say(talk, inbox, message(name, 6, 1, b"one")), info=lambda: stream_info(ts=None)
    )
    before = datetime.now(UTC)
    result = listen(script, "--count", 1, "--for", "5s", "-v")
    assert (result.status, payloads(result)) == (0, ["one"])
    assert "it does not tell its time, so that the clock of this host decides" in result.err
    begin = datetime.fromisoformat(script.configs[0]["opt_start_time"])
    assert abs(begin - before) < timedelta(seconds=3)


def test_a_server_that_accepts_everything_and_hangs_up_is_not_asked_without_a_pause(listen):
    script = Stream(lambda talk, *_: talk.close())
    with_pauses = listen(script, "--for", "1s", "--count", 1)
    assert with_pauses.status == 69
    lost, end = told(with_pauses.err)
    assert lost > 1
    assert is_one_clean_line(end)
    assert 2 < len(script.configs) < 100
