"""API servers written for Node, with the clients people use there: they receive the trigger and parse it as JSON."""

import json
import os
import subprocess
import threading
from pathlib import Path
from queue import Empty, Queue

import pytest
from support.programs import program
from support.streaming import StreamingServer

HERE = Path(__file__).parent
PATIENCE = 30.0
UPDATE = {"trigger": "update"}
SLOT = "2026-11-23T12:00:00Z"


pytestmark = pytest.mark.usefixtures("node_packages")


class Node:
    """A script of tests/interop/node, running while the block does; what it prints is one JSON object a line."""

    def __init__(self, script, *arguments):
        command = [program("node"), HERE / "node" / f"{script}.mjs", *arguments]
        self._process = subprocess.Popen(
            list(map(str, command)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "NODE_NO_WARNINGS": "1"},
        )
        self._lines = Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)

    def __enter__(self):
        self._reader.start()
        return self

    def __exit__(self, *_):
        self._process.kill()
        self._process.communicate()
        self._reader.join(PATIENCE)

    def says(self):
        """The next object it prints."""
        try:
            line = self._lines.get(timeout=PATIENCE)
        except Empty:
            line = None
        assert line, f"it said nothing: {self._process.stderr.read() if self._process.poll() is not None else ''}"
        return json.loads(line)

    def ends(self):
        """Wait for its end, by itself and in order, and return what it had still to say."""
        assert self._process.wait(PATIENCE) == 0, self._process.stderr.read()
        self._reader.join(PATIENCE)
        rest = []
        while line := self._lines.get_nowait():
            rest.append(json.loads(line))
        return rest

    def terminate(self):
        self._process.terminate()

    def _read(self):
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put("")


@pytest.fixture(scope="module", params=["FILE", "MEMORY"])
def stan(request):
    with StreamingServer(request.param) as running:
        yield running


@pytest.fixture
def streaming(stan, place, monkeypatch):
    """The old system: NATS Streaming, and a channel of the test's own."""
    monkeypatch.setenv("NATS_URL", stan.url)
    monkeypatch.setenv("CRYPTO_TRIGGER_DELIVERY", "streaming")
    return stan, place.subject


def test_a_node_nats_streaming_subscriber_receives_the_trigger(run, streaming):
    stan, channel = streaming
    with Node("streaming_subscriber", stan.url, stan.cluster, "api-server", channel, "api", 1) as api:
        assert api.says() == {"ready": True}
        result = run("publish")
        assert api.says() == {"sequence": 1, "body": UPDATE}
        assert api.ends() == []
    assert result.status == 0


def test_an_offline_durable_subscriber_gets_it_when_it_comes_back(run, streaming):
    stan, channel = streaming
    arguments = (stan.url, stan.cluster, "api-server", channel, "api")
    with Node("streaming_subscriber", *arguments, 0) as api:
        assert api.says() == {"ready": True}
        api.ends()
    assert [run("publish").status, run("publish").status] == [0, 0]
    with Node("streaming_subscriber", *arguments, 2) as api:
        assert api.says() == {"ready": True}
        assert [api.says(), api.says()] == [{"sequence": 1, "body": UPDATE}, {"sequence": 2, "body": UPDATE}]
        assert api.ends() == []


def test_beside_a_live_worker_that_holds_its_id_it_publishes_under_one_of_its_own(run, streaming):
    stan, channel = streaming
    with Node("streaming_worker", stan.url, stan.cluster, "worker-server", channel) as worker:
        assert worker.says().keys() == {"published"}
        assert run("publish").status == 0
        assert stan.count(channel) == 2
        assert stan.clients() == ["worker-server"]


def test_a_live_worker_keeps_the_exact_id_out_until_it_ends(run, streaming, monkeypatch):
    stan, channel = streaming
    monkeypatch.setenv("CRYPTO_TRIGGER_CLIENT_ID_EXACT", "true")
    with Node("streaming_worker", stan.url, stan.cluster, "worker-server", channel) as worker:
        assert worker.says().keys() == {"published"}
        refused = run("publish", "--give-up-after", "1s")
        assert stan.count(channel) == 1
        worker.terminate()
        worker.ends()
    assert refused.status == 69
    assert run("publish").status == 0
    assert stan.count(channel) == 2


def test_a_subscriber_of_core_nats_receives_the_trigger(run, place, monkeypatch):
    monkeypatch.setenv("CRYPTO_TRIGGER_DELIVERY", "core")
    with Node("core_subscriber", place.url, place.subject, 1) as api:
        assert api.says() == {"ready": True}
        result = run("publish", "--require-subscriber", "--scheduled-at", SLOT)
        assert api.says() == {"body": UPDATE, "msgId": f"{place.subject}:{SLOT}"}
        assert api.ends() == []
    assert result.status == 0


@pytest.mark.parametrize("script", ["jetstream_consumer", "legacy_jetstream_consumer"], ids=["3.x", "2.x"])
def test_a_jetstream_consumer_receives_the_trigger_once(run, place, script):
    run("setup")
    with Node(script, place.url, place.stream, place.subject, "api", 1) as api:
        assert api.says() == {"ready": True}
        statuses = [run("publish", "--scheduled-at", SLOT).status for _ in range(2)]
        assert api.says() == {"sequence": 1, "body": UPDATE, "msgId": f"{place.subject}:{SLOT}"}
        assert api.ends() == []
    assert statuses == [0, 0]


@pytest.mark.parametrize("script", ["jetstream_consumer", "legacy_jetstream_consumer"], ids=["3.x", "2.x"])
def test_an_offline_jetstream_consumer_gets_it_when_it_comes_back(run, place, script):
    run("setup")
    with Node(script, place.url, place.stream, place.subject, "api", 0) as api:
        assert api.says() == {"ready": True}
        api.ends()
    run("publish", "--scheduled-at", SLOT)
    with Node(script, place.url, place.stream, place.subject, "api", 1) as api:
        assert api.says() == {"ready": True}
        assert api.says() == {"sequence": 1, "body": UPDATE, "msgId": f"{place.subject}:{SLOT}"}


def test_two_api_servers_receive_the_same_trigger_with_one_variable_changed(run, place, monkeypatch):
    """One NATS server, with JetStream in it and NATS Streaming on it."""
    run("setup")
    with StreamingServer(nats_url=place.url) as stan:
        old = (stan.url, stan.cluster, "api-server", place.subject, "api", 1)
        new = (place.url, place.stream, place.subject, "api", 1)
        with Node("streaming_subscriber", *old) as old_api, Node("jetstream_consumer", *new) as new_api:
            assert [old_api.says(), new_api.says()] == [{"ready": True}, {"ready": True}]
            monkeypatch.setenv("CRYPTO_TRIGGER_DELIVERY", "streaming")
            first = run("publish", "--scheduled-at", SLOT)
            monkeypatch.setenv("CRYPTO_TRIGGER_DELIVERY", "jetstream")
            second = run("publish", "--scheduled-at", SLOT)
            assert old_api.says()["body"] == new_api.says()["body"] == UPDATE
    assert [first.status, second.status] == [0, 0]
