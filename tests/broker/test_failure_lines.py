"""The line of a failed publish: the slot, the server, whether the trigger is stored, and what to do."""

import asyncio
import json
import signal
from pathlib import Path

import pytest
from support.certificates import Authority
from support.clocks import roomy
from support.ports import free_port
from support.processes import Process, execute, is_one_clean_line
from support.streaming_double import StreamingDouble
from support.streams import add_stream, client, stored

from crypto_trigger.commands.server import Server
from crypto_trigger.settings.load import SETTINGS

QUICK = {
    "CRYPTO_TRIGGER_TIMEOUT": "2s",
    "CRYPTO_TRIGGER_GIVE_UP_AFTER": "4s",
    "CRYPTO_TRIGGER_BACKOFF_BASE": "20ms",
    "CRYPTO_TRIGGER_BACKOFF_MAX": "100ms",
}
BRIEF = {**QUICK, "CRYPTO_TRIGGER_TIMEOUT": "300ms", "CRYPTO_TRIGGER_GIVE_UP_AFTER": "600ms"}
USERS = "accounts { A { jetstream: enabled, users: [{ user: a, password: a }, { user: b, password: b }] } }"
TOKENS = "authorization { token: right }"
PASSWORD = "hunter2-hunter2"


def publish(*flags, **settings):
    """Run `publish --json`; how it ended, its report, and the slot it stood for."""
    slots = roomy()
    slot = slots.now()
    ended = execute("publish", "--json", *flags, **{**QUICK, **slots.settings, **settings})
    assert is_one_clean_line(ended.err)
    assert PASSWORD not in ended.out + ended.err
    return ended, json.loads(ended.out), slot


def says_not_stored(ended, place, slot):
    return f"{place.subject} for {slot} was not stored" in ended.err


@pytest.fixture
def configured(tmp_path):
    """Starts servers with a configuration of their own; returns their URLs."""
    started = []

    def start(config, **options):
        path = tmp_path / f"server-{len(started)}.conf"
        path.write_text(config)
        server = Server(arguments=("-c", str(path)), **options)
        server.__enter__()
        started.append(server)
        return server.url

    yield start
    for server in started:
        server.__exit__(None, None, None)


def update(place, **changes):
    async def change():
        async with client(place.url) as connection:
            js = connection.jetstream()
            config = (await js.stream_info(place.stream)).config
            await js.update_stream(config.evolve(**changes))

    asyncio.run(change())


def test_a_refused_connection_says_that_the_slot_is_not_stored(place):
    url = f"nats://127.0.0.1:{free_port()}"
    ended, _, slot = publish(NATS_URL=url, **BRIEF)
    assert ended.status == 69
    assert f"{url}: connection refused" in ended.err
    assert says_not_stored(ended, place, slot)


@pytest.mark.parametrize("given", ["nothing", "a variable", "a flag", "an env file"])
def test_a_refused_connection_says_whether_an_address_was_set(given, run, monkeypatch):
    """Somebody may use the port of the real default on this machine."""
    url = f"nats://127.0.0.1:{free_port()}"
    (row,) = (setting for setting in SETTINGS if setting.variable == "NATS_URL")
    monkeypatch.setattr(row, "default", url)
    if given == "a variable":
        monkeypatch.setenv("NATS_URL", url)
    Path(".env").write_text(f"{'NATS_URL' if given == 'an env file' else 'NATS_URI'}={url}\n")
    flags = ("--server", url) if given == "a flag" else ()
    result = run("publish", "--give-up-after", "200ms", *flags)
    assert result.status == 69
    assert f"{url}: connection refused" in result.err
    said = "is the server running? NATS_URL is not set, and this is its default"
    assert (said in result.err) == (given == "nothing")
    assert "is the server running?" in result.err


def test_a_missing_stream_says_that_the_slot_is_not_stored(place):
    ended, _, slot = publish()
    assert stored(place.url, place.stream) is None
    assert ended.status == 78
    assert place.url in ended.err
    assert says_not_stored(ended, place, slot)


def test_a_server_without_jetstream_says_that_the_slot_is_not_stored(place, configured):
    ended, _, slot = publish(NATS_URL=configured("", jetstream=False))
    assert ended.status == 78
    assert says_not_stored(ended, place, slot)


def test_refused_credentials_say_that_the_slot_is_not_stored(place, configured):
    ended, _, slot = publish(NATS_URL=configured(USERS), NATS_USER="a", NATS_PASSWORD=PASSWORD)
    assert ended.status == 77
    assert says_not_stored(ended, place, slot)


def test_a_server_without_tls_says_that_the_slot_is_not_stored(place):
    ended, _, slot = publish(NATS_URL=place.url.replace("nats://", "tls://"))
    assert ended.status == 76
    assert says_not_stored(ended, place, slot)


@pytest.mark.parametrize("change", [{"sealed": True}, {"max_msg_size": 10}], ids=["sealed", "small messages"])
def test_a_stream_that_refuses_the_trigger_says_so_and_what_to_do(change, place):
    add_stream(place.url, place.stream, [place.subject], duplicate_window=1800)
    update(place, **change)
    ended, report, slot = publish()
    assert stored(place.url, place.stream) == []
    assert ended.status == 65
    assert says_not_stored(ended, place, slot)
    assert report["error"]["hint"]
    assert report["error"]["hint"] in ended.err


def test_the_slot_named_is_the_one_the_run_stands_for(place):
    ended, _, _ = publish("--every", "1h", "--scheduled-at", "2026-01-02T03:40:00Z")
    assert ended.status == 78
    assert f"{place.subject} for 2026-01-02T03:00:00Z was not stored" in ended.err


@pytest.mark.parametrize("attempts", [1, 3])
def test_sigterm_while_retrying_names_the_server_and_the_cause(attempts, place):
    slots = roomy()
    url = f"nats://127.0.0.1:{free_port()}"
    waits = {"CRYPTO_TRIGGER_GIVE_UP_AFTER": "25s", "CRYPTO_TRIGGER_BACKOFF_BASE": "1ms"}
    # Full jitter: only the last wait has to be long enough for the signal, and the longest backoff is not reached soon.
    waits["CRYPTO_TRIGGER_BACKOFF_MAX"] = "10s"
    process = Process("publish", "-v", NATS_URL=url, **{**QUICK, **slots.settings, **waits})
    told = ""
    while f"attempt {attempts} failed" not in told:
        told = process.popen.stderr.readline()
        assert told, "it ended before"
    process.signal(signal.SIGTERM)
    ended = process.end()
    line = ended.err.splitlines()[-1]
    assert ended.status == 143
    made = [f"after {n} attempt{'s' if n > 1 else ''}; last: {url}: connection refused" for n in range(attempts, 40)]
    # One or two attempts more may have been made before the signal came.
    assert any(text in line for text in made)
    assert f"{place.subject} for {slots.now()} was not stored" in line


CREDENTIALS = {
    "user of the URL": (USERS, f"wrong:{PASSWORD}@", {}, "NATS_URL", "user 'wrong'"),
    "user of the environment": (
        USERS,
        "",
        {"NATS_USER": "wrong", "NATS_PASSWORD": PASSWORD},
        "NATS_USER",
        "user 'wrong'",
    ),
    "the URL beats the environment": (
        USERS,
        f"wrong:{PASSWORD}@",
        {"NATS_USER": "a", "NATS_PASSWORD": "a"},
        "NATS_URL",
        "user 'wrong'",
    ),
    "token": (TOKENS, "", {"NATS_TOKEN": PASSWORD}, "NATS_TOKEN", "token"),
    "token of the URL": (TOKENS, f"{PASSWORD}@", {}, "NATS_URL", "token"),
}


@pytest.mark.parametrize(("config", "userinfo", "settings", "origin", "what"), CREDENTIALS.values(), ids=CREDENTIALS)
def test_77_names_the_credential_in_force_and_where_it_came_from(
    config, userinfo, settings, origin, what, place, configured
):
    url = configured(config).replace("://", f"://{userinfo}")
    ended, _, _ = publish(NATS_URL=url, **settings)
    assert ended.status == 77
    assert what in ended.err
    assert f"(from {origin}" in ended.err
    assert place.subject in ended.err
    # Not the whole list: those that are not set are no help.
    assert "NATS_NKEY" not in ended.err
    assert "NATS_CREDS" not in ended.err


def test_77_without_any_credentials_says_that_there_are_none(configured):
    ended, _, _ = publish(NATS_URL=configured(USERS))
    assert ended.status == 77
    assert "without credentials" in ended.err


def test_77_names_what_an_env_file_sets(configured, tmp_path):
    path = tmp_path / "settings.env"
    path.write_text(f"NATS_USER=wrong\nNATS_PASSWORD={PASSWORD}\n")
    ended, _, _ = publish("--env-file", str(path), NATS_URL=configured(USERS))
    assert ended.status == 77
    assert "user 'wrong'" in ended.err
    assert "NATS_USER" in ended.err


@pytest.mark.parametrize("tls", [True, False], ids=["TLS after the greeting", "no TLS"])
def test_tls_first_against_a_server_that_greets_first_is_not_blamed_on_certificates(tls, configured, tmp_path):
    authority = Authority(tmp_path, "ours")
    pair = authority.issue("server")
    config = f'tls {{ cert_file: "{pair.cert}", key_file: "{pair.key}" }}' if tls else ""
    port = configured(config).rpartition(":")[2]
    ended, report, _ = publish(NATS_URL=f"tls://localhost:{port}", NATS_CA=authority.path, NATS_TLS_FIRST="true")
    assert ended.status == 76
    assert "NATS_TLS_FIRST" in report["error"]["hint"]
    assert "certificate" not in ended.err
    assert "NATS_CA" not in ended.err


def test_a_wrong_cluster_of_nats_streaming_is_named(place):
    with StreamingDouble() as server:
        ended, _, _ = publish("--delivery", "streaming", NATS_URL=server.url, NATS_CLUSTER_ID="nowhere", **BRIEF)
        assert server.count(place.subject) == 0
    assert ended.status in {69, 78}
    assert "cluster" in ended.err
    assert "nowhere" in ended.err
    assert "NATS_CLUSTER_ID" in ended.err


def test_the_hint_for_a_missing_stream_keeps_the_flags_that_were_used(place):
    flags = ("--stream", "ELSEWHERE", "--subject", "some.subject", "--server", place.url, "--every", "30m")
    ended = execute("publish", "--json", *flags, **QUICK)
    hint = json.loads(ended.out)["error"]["hint"]
    assert ended.status == 78
    assert "crypto-trigger setup" in hint
    assert all(f"{name} {value}" in hint for name, value in zip(flags[::2], flags[1::2], strict=True))


def test_the_hint_for_a_missing_stream_shows_no_password(configured):
    url = configured(f"accounts {{ A {{ jetstream: enabled, users: [{{ user: a, password: {PASSWORD} }}] }} }}")
    ended, report, _ = publish("--server", url.replace("://", f"://a:{PASSWORD}@"))
    assert ended.status == 78
    assert "crypto-trigger setup" in report["error"]["hint"]
