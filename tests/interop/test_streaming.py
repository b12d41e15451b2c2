"""Delivery `streaming` against nats-streaming-server 0.25.6 and its double: what is stored, then what is said."""

import json
import re
import signal
from uuid import uuid4

import pytest
from support.patience import until
from support.processes import Process
from support.proxy import Fault, Proxy, Way, messages
from support.streaming import StreamingServer, peer
from support.streaming_double import StreamingDouble

from crypto_trigger.server import Server

QUICK = {
    "CRYPTO_TRIGGER_DELIVERY": "streaming",
    "CRYPTO_TRIGGER_BACKOFF_BASE": "20ms",
    "CRYPTO_TRIGGER_BACKOFF_MAX": "200ms",
    "CRYPTO_TRIGGER_GIVE_UP_AFTER": "20s",
}
SHORT = {"CRYPTO_TRIGGER_TIMEOUT": "300ms", "CRYPTO_TRIGGER_GIVE_UP_AFTER": "1s"}


@pytest.fixture(scope="module", params=["double", "real"])
def stan(request):
    """A streaming server of the module's own: first the double, then the real one."""
    many = 1000
    real = request.param == "real"
    with StreamingServer("MEMORY", arguments=("-mc", many)) if real else StreamingDouble(many) as running:
        yield running


@pytest.fixture
def channel(monkeypatch):
    """A channel of the test's own, and the settings of the old worker but for the address."""
    name = f"t{uuid4().hex[:12]}.update"
    monkeypatch.setenv("CRYPTO_TRIGGER_SUBJECT", name)
    for variable, value in QUICK.items():
        monkeypatch.setenv(variable, value)
    return name


@pytest.fixture
def at(stan, channel, monkeypatch):
    """The server and the channel that the environment names."""
    monkeypatch.setenv("NATS_URL", stan.url)
    return stan, channel


def short(monkeypatch):
    for variable, value in SHORT.items():
        monkeypatch.setenv(variable, value)


# Conformance: the double and the real server agree.


def test_the_channel_holds_one_message_and_the_registration_is_given_up(run, at):
    stan, channel = at
    result = run("publish", "--scheduled-at", "2026-11-23T12:00:00Z")
    assert stan.count(channel) == 1
    assert stan.clients() == []
    assert result.status == 0
    assert result.out == f"published {channel} for 2026-11-23T12:00:00Z in NATS Streaming cluster crypto-stats\n"
    assert result.err == ""


@pytest.mark.usefixtures("at")
def test_the_report_names_the_cluster_and_the_client_and_no_stream(run):
    report = json.loads(run("publish", "--json").out)
    assert report["cluster"] == "crypto-stats"
    assert re.fullmatch("worker-server-[0-9a-f]{8}", report["client_id"])
    assert not {"stream", "seq", "guard", "subscriber", "error"} & report.keys()


def test_a_second_publish_in_the_slot_is_stored_too(run, at):
    stan, channel = at
    assert [run("publish").status, run("publish").status] == [0, 0]
    assert stan.count(channel) == 2


def test_another_cluster_does_not_answer(run, at, monkeypatch):
    stan, channel = at
    short(monkeypatch)
    monkeypatch.setenv("NATS_CLUSTER_ID", "another")
    result = run("publish", "--json")
    assert stan.count(channel) == 0
    assert result.status == 69
    assert "no NATS Streaming server of this cluster answers" in result.err
    assert json.loads(result.out)["attempts"] > 1


def test_a_channel_in_another_case_is_refused_for_good(run, at):
    stan, channel = at
    run("publish")
    result = run("publish", "--subject", channel.upper(), "--json")
    assert stan.count(channel.upper()) == 0
    assert result.status == 65
    assert "different cases not allowed" in result.err
    assert json.loads(result.out)["attempts"] == 1
    assert stan.clients() == []


def test_a_live_client_does_not_hinder_one_with_an_id_of_its_own(run, at):
    stan, channel = at
    with peer(stan.url, stan.cluster, "worker-server"):
        assert run("publish").status == 0
    assert stan.count(channel) == 1


def test_the_exact_id_is_refused_while_a_live_client_holds_it_and_that_client_goes_on(run, at, monkeypatch):
    stan, channel = at
    short(monkeypatch)
    monkeypatch.setenv("CRYPTO_TRIGGER_CLIENT_ID_EXACT", "true")
    with peer(stan.url, stan.cluster, "worker-server") as holder:
        result = run("publish")
        assert stan.count(channel) == 0
        assert holder.publish(channel) == ""
    assert result.status == 69
    assert "the client ID is taken" in result.err


def test_the_exact_id_is_waited_for(at):
    stan, channel = at
    with Proxy(stan.url) as proxy, proxy.route(then=Fault()) as route:
        with peer(stan.url, stan.cluster, "worker-server"):
            process = Process("publish", "--json", NATS_URL=route.url, CRYPTO_TRIGGER_CLIENT_ID_EXACT="true")
            until(lambda: route.connections > 2)
        ended = process.end()
    assert stan.count(channel) == 1
    assert ended.status == 0
    assert json.loads(ended.out)["client_id"] == "worker-server"


@pytest.mark.parametrize("exact", ["false", "true"], ids=["unique IDs", "one ID"])
def test_twenty_publishers_at_once_all_store(at, exact):
    stan, channel = at
    crowd = [Process("publish", CRYPTO_TRIGGER_CLIENT_ID_EXACT=exact) for _ in range(20)]
    ended = [process.end() for process in crowd]
    assert stan.count(channel) == 20
    assert [one.status for one in ended] == [0] * 20
    assert stan.clients() == []


@pytest.mark.parametrize("case", ["double", "real"])
def test_the_limit_of_channels_is_final(run, channel, monkeypatch, case):
    with StreamingDouble(channels=1) if case == "double" else StreamingServer("MEMORY", arguments=("-mc", 1)) as stan:
        monkeypatch.setenv("NATS_URL", stan.url)
        assert run("publish").status == 0
        result = run("publish", "--subject", f"{channel}.more", "--json")
        assert stan.count(f"{channel}.more") == 0
    assert result.status == 65
    assert json.loads(result.out)["attempts"] == 1


# Faults no real server can be made to have: the double alone.


@pytest.fixture
def double(channel, monkeypatch):  # noqa: ARG001 - its settings
    with StreamingDouble() as stan:
        monkeypatch.setenv("NATS_URL", stan.url)
        yield stan


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        ("stan: invalid publish request", 65),
        ("too many channels", 65),
        ('rejecting channel "A" because channel "a" alreay exists (different cases not allowed)', 65),
        ("stan: channel is being deleted", 69),
        ("node is not the leader", 69),
        ("leadership transfer in progress", 69),
        ("leadership lost while committing log", 75),
        ("raft is already shutdown", 75),
        ("write /data/msgs.1.dat: no space left on device", 75),
        ("anything that is not known", 75),
    ],
)
def test_what_each_error_of_the_acknowledgement_means(run, double, monkeypatch, answer, status):
    short(monkeypatch)
    double.answers += [answer] * 1000
    result = run("publish", "--json")
    report = json.loads(result.out)
    assert result.status == status
    # Refused is refused at once, but for a registration that the server may have lost: that is made anew, once.
    attempts = report["attempts"]
    assert attempts == (2 if "invalid publish" in answer else 1) if status == 65 else attempts > 1
    assert "\n" not in result.err.rstrip("\n")


@pytest.mark.parametrize("answer", ["stan: channel is being deleted", "stan: invalid publish request", "any other"])
def test_what_passes_is_tried_again(run, double, channel, answer):
    double.answers.append(answer)
    result = run("publish", "--json")
    assert double.count(channel) == 2
    assert result.status == 0
    assert json.loads(result.out)["attempts"] == 2


@pytest.mark.parametrize(
    ("lost", "least", "most"), [("connect-response", 1, 1), ("message", 1, 1), ("ack", 2, 2), ("close-response", 1, 1)]
)
@pytest.mark.parametrize("exact", ["false", "true"])
def test_what_is_lost_is_made_good(run, double, channel, monkeypatch, lost, least, most, exact):
    monkeypatch.setenv("CRYPTO_TRIGGER_TIMEOUT", "1s")
    monkeypatch.setenv("CRYPTO_TRIGGER_CLIENT_ID_EXACT", exact)
    double.loses.append(lost)
    result = run("publish")
    assert least <= double.count(channel) <= most
    assert result.status == 0


@pytest.mark.parametrize(
    ("lost", "status", "stored"), [("connect-response", 69, 0), ("message", 75, 0), ("ack", 75, 1)]
)
def test_what_stays_lost_is_told_as_it_is(run, double, channel, monkeypatch, lost, status, stored):
    short(monkeypatch)
    double.loses += [lost] * 1000
    result = run("publish")
    assert (double.count(channel) > 0) == bool(stored)
    assert result.status == status


def test_a_leave_that_is_not_taken_is_a_warning(run, double, channel):
    double.loses.append("close-response")
    result = run("publish", "--json")
    report = json.loads(result.out)
    assert double.count(channel) == 1
    assert result.status == 0
    assert report["warnings"] == [f"NATS Streaming did not strike client {report['client_id']} off: no answer in time"]
    assert result.err == f"crypto-trigger: warning: {report['warnings'][0]}\n"


def test_a_leave_cut_short_by_the_deadline_changes_nothing(run, double, channel):
    double.loses.append("close-response")
    result = run("publish", "--give-up-after", "500ms", "--json")
    assert double.count(channel) == 1
    assert result.status == 0
    assert json.loads(result.out)["elapsed_ms"] < 1500


def test_a_refusal_is_told_though_the_deadline_cuts_the_leave_short(run, double):
    double.answers.append("too many channels")
    double.loses.append("close-response")
    assert run("publish", "--give-up-after", "500ms").status == 65


def test_an_error_that_passes_begins_no_attempt_after_the_deadline(run, double):
    double.answers += ["stan: channel is being deleted"] * 1000
    double.loses += ["close-response"] * 1000
    result = run("publish", "--give-up-after", "500ms", "--json")
    report = json.loads(result.out)
    assert result.status == 69
    assert report["attempts"] == 1
    assert report["elapsed_ms"] < 1500


def test_the_server_s_heartbeats_are_answered(double, channel):
    """While a publisher waits for its acknowledgement, another client cannot take its ID."""
    double.loses.append("ack")
    process = Process("publish", CRYPTO_TRIGGER_CLIENT_ID_EXACT="true", CRYPTO_TRIGGER_TIMEOUT="2s")
    until(lambda: double.count(channel))
    with (
        pytest.raises(AssertionError, match="stan: clientID already registered"),
        peer(double.url, double.cluster, "worker-server"),
    ):
        pass
    assert process.end().status == 0


def test_an_interrupted_publisher_gives_its_registration_up(double, channel):
    double.loses += ["ack"]
    process = Process("publish")
    until(lambda: double.count(channel))
    process.signal(signal.SIGTERM)
    ended = process.end()
    assert ended.status == 143
    assert "it may be stored" in ended.err
    until(lambda: double.clients() == [])


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"guid": "another", "error": ""}, 75),
        ({"guid": "another", "error": "too many channels"}, 75),
        ({"guid": "", "error": ""}, 75),
        (b"\xff", 75),
    ],
    ids=["another guid", "another's error", "empty", "garbage"],
)
def test_only_an_acknowledgement_with_our_guid_counts(run, double, monkeypatch, fields, status):
    short(monkeypatch)
    double.acknowledges = fields
    assert run("publish").status == status


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"error": "stan: invalid connection request"}, 65),
        ({"error": "stan: invalid clientID: only alphanumeric and `-` or `_` characters allowed"}, 78),
        ({"error": "anything else"}, 65),
        ({"error": "stan: clientID already registered"}, 69),
        ({"pubPrefix": ""}, 76),
        ({"pubPrefix": "_STAN.pub.>"}, 76),
        (b"", 76),
        (b"\xff", 76),
    ],
    ids=lambda value: str(value) if not isinstance(value, int) else None,
)
def test_what_each_answer_to_the_registration_means(run, double, channel, monkeypatch, fields, status):
    short(monkeypatch)
    double.greets = fields
    result = run("publish")
    assert double.count(channel) == 0
    assert result.status == status
    assert result.err.count("\n") == 1


# Faults of the real server.


class At(Fault):
    """Does something when the program sends a message that begins with `start`, before or after it goes on."""

    def __init__(self, start, action, *, before):
        self._start = start
        self._action = action
        self._before = before

    async def filter(self, way, chunks, over):  # noqa: ARG002 - other faults use it
        if way is Way.TO_CLIENT:
            async for chunk in chunks:
                yield chunk
            return
        async for message in messages(chunks):
            hit = not self.struck and message.startswith(self._start)
            self.struck = self.struck or hit
            if hit and self._before:
                self._action()
            yield message
            if hit and not self._before:
                self._action()


def truthful(status, held):
    return {0: held > 0, 69: held == 0, 75: True}[status]


STEPS = {"registering": b"PUB _STAN.discover.", "publishing": b"PUB _STAN.pub.", "leaving": b"PUB _STAN.close."}
MOMENTS = {"before": True, "after": False}


@pytest.fixture(params=["embedded", "external"])
def real(request, channel, server):  # noqa: ARG001 - its settings
    """The real server on a file store, its NATS server embedded, or that of the wheel with JetStream."""
    with StreamingServer("FILE", nats_url=server.url if request.param == "external" else None) as stan:
        yield stan


@pytest.mark.parametrize("before", MOMENTS.values(), ids=MOMENTS)
@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_a_server_that_is_killed_and_comes_back_stores_the_trigger(run, real, channel, monkeypatch, step, before):
    monkeypatch.setenv("CRYPTO_TRIGGER_TIMEOUT", "1s")

    def restart():
        real.kill()
        real.start()

    fault = At(step, restart, before=before)
    with Proxy(real.url) as proxy, proxy.route(fault, then=Fault()) as route:
        monkeypatch.setenv("NATS_URL", route.url)
        result = run("publish", "--json")
    assert fault.struck
    assert 1 <= real.count(channel) <= json.loads(result.out)["attempts"]
    assert result.status == 0


@pytest.mark.parametrize("before", MOMENTS.values(), ids=MOMENTS)
@pytest.mark.parametrize(("step", "status"), list(zip(STEPS.values(), (69, 75, 0), strict=True)), ids=STEPS)
def test_a_frozen_server_makes_nobody_lie(run, real, channel, monkeypatch, step, status, before):
    short(monkeypatch)
    fault = At(step, real.freeze, before=before)
    with Proxy(real.url) as proxy, proxy.route(fault, then=Fault()) as route:
        monkeypatch.setenv("NATS_URL", route.url)
        result = run("publish")
        real.thaw()
    with peer(real.url, real.cluster, "another") as later:
        # Channels are served in the order of arrival: what was sent before is stored by now.
        assert later.publish(f"{channel}.marker") == ""
    assert fault.struck
    # Where the message goes on before the server freezes, it may be served before, too.
    assert result.status == status or not before
    assert truthful(result.status, real.count(channel))


def test_a_server_that_dies_with_the_message_in_hand_leaves_it_unknown(run, channel, server, monkeypatch):
    short(monkeypatch)
    with StreamingServer("FILE", nats_url=server.url) as stan:
        fault = At(STEPS["publishing"], stan.kill, before=False)
        with Proxy(stan.url) as proxy, proxy.route(fault, then=Fault()) as route:
            monkeypatch.setenv("NATS_URL", route.url)
            result = run("publish")
        stan.start()
        held = stan.count(channel)
    assert fault.struck
    assert truthful(result.status, held)


def test_a_memory_store_that_forgets_us_between_registering_and_publishing_is_registered_with_anew(
    run, channel, server, monkeypatch
):
    with StreamingServer("MEMORY", nats_url=server.url) as stan:

        def restart():
            stan.kill()
            stan.start()

        with (
            Proxy(stan.url) as proxy,
            proxy.route(At(STEPS["publishing"], restart, before=True), then=Fault()) as route,
        ):
            monkeypatch.setenv("NATS_URL", route.url)
            result = run("publish", "--json")
        assert stan.count(channel) == 1
    assert result.status == 0
    assert json.loads(result.out)["attempts"] == 2


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_the_nats_server_beneath_may_be_killed_and_come_back(run, channel, monkeypatch, step):
    monkeypatch.setenv("CRYPTO_TRIGGER_TIMEOUT", "1s")
    with Server() as host, StreamingServer("FILE", nats_url=host.url) as stan:

        def restart():
            host.stop(signal.SIGKILL)
            host.start()

        fault = At(step, restart, before=True)
        with Proxy(host.url) as proxy, proxy.route(fault, then=Fault()) as route:
            monkeypatch.setenv("NATS_URL", route.url)
            result = run("publish", "--json")
        assert fault.struck
        assert 1 <= stan.count(channel) <= json.loads(result.out)["attempts"]
    assert result.status == 0


def test_a_server_with_a_discover_prefix_of_its_own_is_found_by_it(run, channel, monkeypatch, tmp_path):
    path = tmp_path / "streaming.conf"
    path.write_text('streaming: { discover_prefix: "_OLD.discover" }')
    with StreamingServer("MEMORY", arguments=("-sc", path)) as stan:
        monkeypatch.setenv("NATS_URL", stan.url)
        unknown = run("publish", "--give-up-after", "1s")
        monkeypatch.setenv("CRYPTO_TRIGGER_DISCOVER_PREFIX", "_OLD.discover")
        found = run("publish")
        assert stan.count(channel) == 1
    assert (unknown.status, found.status) == (69, 0)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("NATS_CLIENT_ID", "worker.server"),
        ("NATS_CLUSTER_ID", "crypto.stats"),
        ("CRYPTO_TRIGGER_SUBJECT", "crypto/update"),
        ("CRYPTO_TRIGGER_SUBJECT", "crypto..update"),
        ("CRYPTO_TRIGGER_SUBJECT", "crypto.*"),
    ],
)
def test_a_name_that_the_server_would_refuse_is_found_before_the_network(run, double, monkeypatch, variable, value):
    monkeypatch.setenv(variable, value)
    result = run("publish")
    assert double.stored == []
    assert result.status == 78
    assert result.err.startswith(f"crypto-trigger: {variable} '{value}' (from the environment) ")
    assert result.err.count("\n") == 1
