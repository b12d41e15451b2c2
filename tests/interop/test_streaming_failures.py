"""A real NATS Streaming server that is killed, frozen or restarted at each step of a publish."""

import json
import signal

import pytest
from support.proxy import Fault, Proxy, Way, messages
from support.streaming import StreamingServer, peer

from crypto_trigger.commands.server import Server


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
@pytest.mark.usefixtures("short")
def test_a_frozen_server_never_makes_the_status_lie(run, real, channel, monkeypatch, step, status, before):
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


@pytest.mark.usefixtures("short")
def test_a_server_that_dies_before_it_acknowledges_leaves_the_outcome_unknown(run, channel, server, monkeypatch):
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
