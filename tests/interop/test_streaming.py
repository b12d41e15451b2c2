"""Delivery `streaming` against nats-streaming-server 0.25.6 and its double, which must agree: what is stored first."""

import json
import re

import pytest
from support.patience import until
from support.processes import Process
from support.proxy import Fault, Proxy
from support.streaming import StreamingServer, peer
from support.streaming_double import StreamingDouble


@pytest.fixture(scope="module", params=["double", "real"])
def stan(request):
    """A streaming server of the module's own: first the double, then the real one."""
    many = 1000
    real = request.param == "real"
    with StreamingServer("MEMORY", arguments=("-mc", many)) if real else StreamingDouble(many) as running:
        yield running


@pytest.fixture
def at(stan, channel, monkeypatch):
    """The server and the channel that the environment names."""
    monkeypatch.setenv("NATS_URL", stan.url)
    return stan, channel


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


@pytest.mark.usefixtures("short")
def test_another_cluster_does_not_answer(run, at, monkeypatch):
    stan, channel = at
    monkeypatch.setenv("NATS_CLUSTER_ID", "another")
    result = run("publish", "--json")
    assert stan.count(channel) == 0
    assert result.status == 69
    assert "no server of the NATS Streaming cluster another answers" in result.err
    assert json.loads(result.out)["attempts"] > 1


def test_a_channel_in_another_case_is_refused_at_once(run, at):
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


@pytest.mark.usefixtures("short")
def test_the_exact_id_is_refused_while_a_live_client_holds_it_and_that_client_goes_on(run, at, monkeypatch):
    stan, channel = at
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
