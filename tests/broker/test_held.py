"""What a stream holds of a subject since a time: all of it and nothing else, however the server lets it be read."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from itertools import product
from uuid import uuid4

import pytest
from support.answers import NO_MESSAGE, stream_info
from support.clocks import clock, roomy
from support.flights import Flights
from support.old_servers import find, serving
from support.planted import Past, trigger
from support.processes import execute, is_one_clean_line
from support.scripted import Scripted
from support.streams import client, put, stored

from crypto_trigger.commands.ending import limits_of
from crypto_trigger.commands.server import Server
from crypto_trigger.deadline.retry import GaveUp, Retry, complete
from crypto_trigger.delivery import reading as held
from crypto_trigger.errors import BadPeer, Denied, Fact, Unavailable, Unusable
from crypto_trigger.settings.load import load

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
NOW = datetime.now(UTC).replace(microsecond=0)
LIMITS = {"timeout": "2s", "give_up_after": "20s"}


def look(url, stream, subject, back=HOUR, environ=None, until=None, **flags):
    """What the reader finds, back to so long before `until` (NOW). Raises the error that a command would report."""
    back += datetime.now(UTC) - (until or NOW)
    flags = {"servers": url, "stream": stream, "subject": subject, **LIMITS, **flags}
    settings = load(flags, "/dev/null", environ or {})
    try:
        return complete(Retry(limits_of(settings)).run(held.Reader(settings, back)))
    except GaveUp as end:
        raise end.error() from end.last


def seqs(found):
    return [message.seq for message in found.messages]


@pytest.fixture
def plant(planter):
    """Plant messages under names of the test's own; returns where to look."""

    def call(messages, **config):
        stream = f"t{uuid4().hex[:12]}"
        planter.plant(stream, f"{stream}.update", messages, **config)
        return planter.url, stream, f"{stream}.update"

    return call


def ago(minutes, headers=None, **more):
    return Past(NOW - minutes * MINUTE, headers or {}, **more)


DIRECT = pytest.mark.parametrize("direct", [True, False], ids=["in batches", "one by one"])


@pytest.mark.parametrize(
    ("direct", "count"), [*product([True], [0, 1, 1000, 1001, 2100]), *product([False], [0, 1, 15, 16, 17, 300])]
)
def test_every_message_since_the_time_is_found_and_none_before(direct, count, plant):
    before = [ago(61 + n) for n in range(5, 0, -1)]
    # All tests are collected minutes before the last one runs.
    since = [Past(NOW - HOUR + 20 * MINUTE + n * timedelta(seconds=1), {}) for n in range(count)]
    found = look(*plant([*before, *since], allow_direct=direct))
    assert seqs(found) == list(range(6, 6 + count))
    assert (found.first.seq, found.newest.seq) == (1, 5 + count)
    assert [message.stored_at for message in found.messages] == [past.stored_at for past in since]


@DIRECT
def test_the_window_may_begin_at_any_message(direct, plant):
    place = plant([ago(20 - n, subject="other" if n % 3 == 1 else None) for n in range(20)], allow_direct=direct)
    minutes = {n + 1: 20 - n for n in range(20) if n % 3 != 1}
    for back in range(22):
        found = look(*place, back=(back + 0.5) * MINUTE)
        assert seqs(found) == [seq for seq, ago_ in minutes.items() if ago_ <= back]


@DIRECT
def test_messages_of_other_subjects_are_not_read(direct, plant):
    others = [ago(30, payload=b"x" * 100, subject="other.one") for _ in range(40)]
    ours = [ago(29), ago(28)]
    found = look(*plant([*others, *ours[:1], *others[:1], *ours[1:], *others[:1]], allow_direct=direct))
    assert seqs(found) == [41, 43]
    assert (found.first.seq, found.newest.seq) == (41, 43)


@DIRECT
def test_large_messages_come_in_smaller_batches(direct, plant):
    found = look(*plant([ago(9, payload=b"x" * 700_000) for _ in range(5)], allow_direct=direct))
    assert seqs(found) == [1, 2, 3, 4, 5]


def test_a_batch_is_bounded_in_messages_and_bytes():
    script = Script([1], batch(1))
    scripted(script)
    (asked,) = script.direct_gets
    assert 1 <= asked["batch"] <= 1000
    assert 1 <= asked["max_bytes"] <= 1 << 20


@DIRECT
def test_headers_are_read_as_publish_reads_them(direct, plant):
    slot = NOW - 20 * MINUTE
    messages = [
        trigger(slot, MINUTE, source="//h/c"),
        Past(NOW - 15 * MINUTE, {}),
        Past(NOW - 14 * MINUTE, {"Nats-Scheduler": "s", "ce-time": "2020-01-01T00:00:00Z"}),
        Past(NOW - 13 * MINUTE, {"Nats-Marker-Reason": "MaxAge"}, b""),
        # Like the server's own in the answer to a direct get; the server's count.
        Past(NOW - 12 * MINUTE, {"Nats-Sequence": "1", "Nats-Stream": "other", "Status": "204"}, b""),
    ]
    found = look(*plant(messages, allow_direct=direct)).messages
    assert [message.seq for message in found] == [1, 2, 3, 4, 5]
    assert [message.source for message in found] == ["//h/c", None, None, None, None]
    assert [message.claimed for message in found][:2] == [messages[0].headers["ce-time"], None]
    assert [message.scheduler for message in found] == [False, False, True, False, False]
    assert [message.marker for message in found] == [False, False, False, True, False]


@DIRECT
def test_the_first_trigger_is_none_of_the_server_s_marks(direct, plant):
    mark = {"Nats-Marker-Reason": "MaxAge"}
    place = plant([ago(90, mark), ago(89, mark), ago(88), ago(30)], allow_direct=direct)
    assert look(*place).first.seq == 3
    only = look(*plant([ago(90, mark), ago(20, mark)], allow_direct=direct))
    assert (only.first.seq, seqs(only)) == (1, [2])


@DIRECT
def test_a_gap_in_the_sequences_is_no_end(direct, plant):
    url, stream, subject = plant([ago(50 - n) for n in range(12)], allow_direct=direct)

    async def remove():
        async with client(url) as connection:
            for seq in (1, 4, 5, 6, 12):
                await connection.jetstream().delete_msg(stream, seq)

    asyncio.run(remove())
    found = look(url, stream, subject)
    assert seqs(found) == [2, 3, 7, 8, 9, 10, 11]
    assert (found.first.seq, found.newest.seq) == (2, 11)


def test_more_messages_than_there_is_memory_for_are_refused(plant, monkeypatch):
    monkeypatch.setattr(held, "MOST", 50)
    for direct in (True, False):
        place = plant([ago(10) for _ in range(60)], allow_direct=direct)
        with pytest.raises(Unusable, match="more than 50 messages of "):
            look(*place)
        assert len(look(*place, back=MINUTE).messages) == 0


def test_reading_costs_no_more_round_trips_than_publishing(plant, monkeypatch):
    url, stream, subject = plant([ago(59 - n / 20) for n in range(200)])
    slots = roomy()
    names = {"CRYPTO_TRIGGER_STREAM": stream, "CRYPTO_TRIGGER_SUBJECT": subject}
    for name, value in {**names, **slots.settings}.items():
        monkeypatch.setenv(name, value)
    counted = {}
    for command in ("history", "publish"):
        with Flights(url, 0.02) as flights:
            ended = execute(command, "--json", NATS_URL=flights.url)
        assert ended.status == 0
        counted[command] = flights.count
    assert len(stored(url, stream)) == 201
    assert counted["history"] < counted["publish"]


def test_the_clock_of_this_host_does_not_matter(plant, monkeypatch):
    url, stream, subject = plant([trigger(NOW - n * 15 * MINUTE, MINUTE) for n in range(20, 0, -1)])
    slots = roomy()
    names = {"NATS_URL": url, "CRYPTO_TRIGGER_STREAM": stream, "CRYPTO_TRIGGER_SUBJECT": subject}
    for name, value in {**names, **slots.settings}.items():
        monkeypatch.setenv(name, value)
    clocks = [{}, *(clock(offset * MINUTE) for offset in (-120, -10, 10, 120))]
    # With this grace the present slot is overdue all the time.
    look = ("history", "--json", "--since", "3h", "--grace", "1s")
    right, *wrong = (execute(*look, **settings) for settings in clocks)
    answer = json.loads(right.out)
    assert answer["totals"]["triggered"] + answer["totals"]["late"] >= 10
    for ended in wrong:
        assert (ended.status, ended.err) == (0, "")
        assert json.loads(ended.out)["slots"] == answer["slots"]


# Rights.


def test_without_permission_for_batches_messages_are_read_one_by_one(tmp_path):
    with restricted(tmp_path, 'deny: "$JS.API.DIRECT.GET.>"') as url:
        assert seqs(look(url, "S", "crypto.update")) == [1, 2]


def test_without_permission_to_read_the_error_says_so(tmp_path):
    for denied in ("$JS.API.STREAM.MSG.GET.>", "$JS.API.STREAM.INFO.>"):
        with restricted(tmp_path, f'deny: "{denied}"') as url, pytest.raises(Denied) as raised:
            look(url, "S", "crypto.update")
        assert denied.removesuffix(".>") in raised.value.message


def restricted(folder, permission):
    """A server with two triggers, and a user who may publish to all subjects but some."""
    from contextlib import contextmanager

    @contextmanager
    def run():
        path = folder / "server.conf"
        path.write_text(
            "accounts { A { jetstream: enabled, users: [{ user: a, password: a }, "
            f'{{ user: r, password: r, permissions: {{ publish: {{ allow: ">", {permission} }} }} }}] }} }}'
        )
        with Server(arguments=("-c", str(path))) as server:
            owner, reader = (server.url.replace("://", f"://{user}:{user}@") for user in "ar")
            asyncio.run(create(owner, subjects=["crypto.update"]))
            for _ in range(2):
                put(owner, "crypto.update")
            yield reader

    return run()


async def create(url, **config):
    base = {"name": "S", "storage": "file", "retention": "limits", "discard": "old", "allow_direct": True}
    limits = {"max_consumers": -1, "max_msgs": -1, "max_bytes": -1, "num_replicas": 1}
    async with client(url) as connection:
        body = json.dumps({**base, **limits, **config}).encode()
        answer = json.loads((await connection.request("$JS.API.STREAM.CREATE.S", body, timeout=5)).data)
        assert "error" not in answer, answer


# Mapped subjects.


TRANSFORMS = {
    "one name": ({"src": "crypto.update", "dest": "other.name"}, "other.name"),
    "everything": ({"src": ">", "dest": "moved.>"}, "moved.crypto.update"),
    "no source": ({"src": "", "dest": "moved.>"}, "moved.crypto.update"),
    "a wildcard": ({"src": "*.update", "dest": "up.{{wildcard(1)}}"}, "up.crypto"),
    "a wildcard as before": ({"src": "*.*", "dest": "x.$2.$1"}, "x.update.crypto"),
    "another subject": ({"src": "orders.*", "dest": "other.$1"}, "crypto.update"),
}


@pytest.mark.parametrize(("transform", "name"), TRANSFORMS.values(), ids=TRANSFORMS)
def test_a_subject_that_the_stream_transforms_is_read_by_its_other_name(transform, name):
    with Server() as server:
        asyncio.run(create(server.url, subjects=["crypto.>"], subject_transform=transform))
        put(server.url, "crypto.update")
        assert [message.subject for message in stored(server.url, "S")] == [name]
        found = look(server.url, "S", "crypto.update")
    assert (found.subject, seqs(found)) == (name, [1])


def test_a_transform_that_cannot_be_followed_is_refused_by_name():
    config = {"subject_transform": {"src": "*.*", "dest": "p.{{partition(3,1)}}.$2"}}
    with Server() as server:
        asyncio.run(create(server.url, subjects=["crypto.*"], **config))
        with pytest.raises(Unusable, match="partition") as raised:
            look(server.url, "S", "crypto.update")
    assert "--subject" in raised.value.hint


def test_a_subject_that_the_account_maps_is_found_by_the_newest_message(tmp_path):
    path = tmp_path / "server.conf"
    path.write_text(
        "accounts { A { jetstream: enabled, users: [{ user: a, password: a }], "
        'mappings = { "crypto.update": "other.name" } } }'
    )
    with Server(arguments=("-c", str(path))) as server:
        url = server.url.replace("://", "://a:a@")
        asyncio.run(create(url, subjects=["other.name"]))
        assert execute("publish", NATS_URL=url, CRYPTO_TRIGGER_STREAM="S").status == 0
        found = look(url, "S", "crypto.update")
    assert (found.subject, seqs(found)) == ("other.name", [1])


def test_a_domain_is_asked_by_its_prefix(tmp_path):
    path = tmp_path / "server.conf"
    path.write_text("jetstream { domain: hub }")
    with Server(arguments=("-c", str(path))) as server:
        asyncio.run(create(server.url, subjects=["crypto.update"]))
        put(server.url, "crypto.update")
        found = look(server.url, "S", "crypto.update", environ={"NATS_JS_DOMAIN": "hub"})
        assert seqs(found) == [1]
        with pytest.raises(Unavailable, match="domain elsewhere does not answer"):
            look(server.url, "S", "crypto.update", environ={"NATS_JS_DOMAIN": "elsewhere"}, give_up_after="1s")


# Other releases.


@pytest.mark.parametrize("release", ["2.9", "2.10", "2.11", "2.12", "2.14"])
@DIRECT
def test_servers_since_2_9_are_read(release, direct):
    with serving(find(release)) as server:
        asyncio.run(create(server.url, subjects=["crypto.>"], allow_direct=direct))
        fill(server.url)
        found = look(server.url, "S", "crypto.update")
        assert seqs(found) == list(range(1, 61, 3))
        moment = found.messages[9].stored_at
        later = look(server.url, "S", "crypto.update", back=timedelta(0), until=moment)
        assert set(seqs(later)) <= set(range(28, 61, 3))
    assert (found.reading is None) == (release == "2.9")
    assert abs(found.now - datetime.now(UTC)) < MINUTE
    assert found.created is not None


def fill(url):
    async def send():
        async with client(url) as connection:
            for number in range(60):
                subject = "crypto.other" if number % 3 else "crypto.update"
                await connection.jetstream().publish(subject, b"x")

    asyncio.run(send())


# What no real server says.


def message(seq, minutes=30, subject="crypto.update"):
    """The answer of the leader for one message."""
    time = (datetime.now(UTC) - minutes * MINUTE).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return {"message": {"subject": subject, "seq": seq, "data": "", "time": time}}


def direct(seq, minutes=30, pending=0, stream="S", subject="crypto.update", **changes):
    """The headers of one message in the answer to a direct get."""
    time = (datetime.now(UTC) - minutes * MINUTE).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    headers = {"Nats-Stream": stream, "Nats-Subject": subject, "Nats-Sequence": seq, "Nats-Time-Stamp": time}
    return {
        **headers,
        "Nats-Num-Pending": pending,
        **{name.replace("_", "-"): value for name, value in changes.items()},
    }


END = " 204 EOB"


class Script:
    """Answers the leader's questions from `leader`, a list of sequences, and direct gets from `batches`, in turn."""

    def __init__(self, leader, *batches):
        self.leader = leader
        self._batches = list(batches)
        self.direct_gets = []

    def __call__(self, talk):
        talk.welcome()
        while True:
            line = talk.hear(b"PUB ") + talk.hear(b"\r\n")
            subject, inbox, size = line[line.rindex(b"PUB ") + 4 :].split()
            body = json.loads(talk.hear(b"\r\n")[: int(size)] or b"{}")
            subject, inbox = subject.decode(), inbox.decode()
            if ".STREAM.INFO." in subject:
                talk.answer(inbox, stream_info())
            elif ".MSG.GET." in subject:
                talk.answer(inbox, self._one(body))
            else:
                self.direct_gets.append(body)
                batch = self._batches.pop(0) if len(self._batches) > 1 else self._batches[0]
                for part in batch:
                    head, headers = part if isinstance(part, tuple) else ("", part)
                    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
                    data = f"NATS/1.0{head}\r\n{lines}\r\n".encode()
                    talk.say(f"HMSG {inbox} {talk.sid(inbox)} {len(data)} {len(data)}\r\n".encode() + data + b"\r\n")

    def _one(self, body):
        newest = self.leader[-1:]
        found = newest if "last_by_subj" in body else [seq for seq in self.leader if seq >= body["seq"]][:1]
        answer = message(found[0]) if found else NO_MESSAGE
        return {"type": "io.nats.jetstream.api.v1.stream_msg_get_response", **answer}


def batch(*seqs, **more):
    return [*(direct(seq, **more) for seq in seqs), (END, {"Nats-Num-Pending": 0, "Nats-Last-Sequence": max(seqs)})]


NOTHING = [(" 404 Message Not Found", {})]


def scripted(script):
    with Scripted(script) as server:
        return look(server.url, "S", "crypto.update")


def test_a_replica_that_lags_is_asked_again_for_the_rest():
    script = Script([1, 2, 3, 4, 5], batch(1, 2), NOTHING, batch(3, 4, 5))
    assert seqs(scripted(script)) == [1, 2, 3, 4, 5]
    assert [asked.get("seq") for asked in script.direct_gets] == [None, 3, 3]


def test_a_replica_that_never_has_the_newest_is_left_for_the_leader():
    script = Script([1, 2, 3, 4, 5], batch(1, 2), NOTHING)
    assert seqs(scripted(script)) == [1, 2, 3, 4, 5]
    assert len(script.direct_gets) < 10


ELSEWHERE = {
    "a mirror answers": batch(1, 2, stream="MIRROR"),
    "an old server answers with one message": [{k: v for k, v in direct(1).items() if k != "Nats-Num-Pending"}],
    "nobody answers": [(" 503", {})],
    "the server takes no such request": [(" 408 Bad Request", {})],
    "no headers": [{}],
}


@pytest.mark.parametrize("answer", ELSEWHERE.values(), ids=ELSEWHERE)
def test_where_batches_cannot_be_had_the_leader_is_asked(answer):
    assert seqs(scripted(Script([1, 2, 3], answer))) == [1, 2, 3]


def test_a_batch_without_an_end_is_left_for_the_leader_after_the_timeout():
    assert seqs(scripted(Script([1, 2, 3], [direct(1)]))) == [1, 2, 3]


NONSENSE = {
    "the order is wrong": batch(2, 1),
    "one comes twice": batch(1, 1),
    "another subject": batch(1, subject="other"),
    "no time": [{**direct(1), "Nats-Time-Stamp": "yesterday"}],
    "a time before the calendar": [{**direct(1), "Nats-Time-Stamp": "0001-01-01T00:00:00Z"}],
    "a sequence that is no number": [{**direct(1), "Nats-Sequence": "one"}],
    "a sequence of many digits": [{**direct(1), "Nats-Sequence": "9" * 5000}],
    "a sequence of other digits": [{**direct(1), "Nats-Sequence": "\u0661"}],
    "more than were asked for": [direct(seq) for seq in range(1, 1100)],
}


@pytest.mark.parametrize("answer", NONSENSE.values(), ids=NONSENSE)
def test_nonsense_is_told(answer):
    with pytest.raises(BadPeer) as raised:
        scripted(Script([1, 2, 3], answer))
    assert raised.value.fact == Fact.NOT_JETSTREAM


def test_a_leader_that_repeats_itself_is_told():
    class Stuck(Script):
        def _one(self, body):
            answer = message(9 if "last_by_subj" in body else 3)
            return {"type": "io.nats.jetstream.api.v1.stream_msg_get_response", **answer}

    with pytest.raises(BadPeer):
        scripted(Stuck([], [(" 503", {})]))


def test_a_server_that_stops_answering_ends_at_the_deadline():
    def script(talk):
        talk.welcome()
        talk.listen()

    with Scripted(script) as server:
        ended = execute("history", "--timeout", "300ms", "--give-up-after", "1s", "--server", server.url)
    assert (ended.status, ended.out) == (69, "")
    assert is_one_clean_line(ended.err)
    assert ended.seconds < 3
