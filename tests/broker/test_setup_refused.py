"""`setup` that is denied, refused or interrupted: what it says of the stream, and what to do."""

import json
import signal

import pytest
from support.processes import Process, is_one_clean_line
from support.scripted import Scripted
from support.streams import add_stream, stored

from crypto_trigger.commands.server import Server

SECOND = 10**9
SHORT = {"CRYPTO_TRIGGER_TIMEOUT": "2s", "CRYPTO_TRIGGER_GIVE_UP_AFTER": "4s"}


def users(tmp_path, place, *denied):
    """A server whose user `limited` may not publish to the subjects that are denied; `admin` may."""
    deny = json.dumps([f"$JS.API.{endpoint}.{place.stream}" for endpoint in denied])
    path = tmp_path / "nats.conf"
    path.write_text(
        f"authorization: {{users: [{{user: limited, password: secretpw, permissions: {{publish: {{deny: {deny}}}}}}}, "
        "{user: admin, password: admin}]}"
    )
    return Server(arguments=("-c", str(path)))


@pytest.mark.parametrize(
    ("there", "denied"),
    [(False, "STREAM.INFO"), (False, "STREAM.CREATE"), (True, "STREAM.INFO"), (True, "STREAM.UPDATE")],
)
@pytest.mark.parametrize("credentials", ["url", "environment"])
def test_a_missing_permission_is_named_with_its_user(credentials, there, denied, run, place, tmp_path, monkeypatch):
    with users(tmp_path, place, denied) as server:
        admin = server.url.replace("//", "//admin:admin@")
        if there:
            add_stream(admin, place.stream, [place.subject])
        if credentials == "url":
            monkeypatch.setenv("NATS_URL", server.url.replace("//", "//limited:secretpw@"))
        else:
            monkeypatch.setenv("NATS_URL", server.url)
            monkeypatch.setenv("NATS_USER", "limited")
            monkeypatch.setenv("NATS_PASSWORD", "secretpw")
        result = run("setup", "--update")
        assert stored(admin, place.stream) == ([] if there else None)
    assert (result.status, result.out) == (77, "")
    assert result.err.startswith(f"crypto-trigger: {server.url}: user 'limited' (from NATS_")
    assert f" has no permission to publish to $JS.API.{denied}.{place.stream}; grant " in result.err
    assert "secretpw" not in result.err
    assert is_one_clean_line(result.err)


@pytest.mark.parametrize("options", [[], ["--dry-run"]], ids=" ".join)
def test_a_stream_that_has_the_subject_already_is_named(options, run, place):
    owner = f"{place.stream}-owner"
    add_stream(place.url, owner, [f"{place.stream}.>"])
    result = run("setup", *options)
    assert stored(place.url, place.stream) is None
    assert result == (
        78,
        "",
        (
            f"crypto-trigger: {place.url}: stream {owner} takes the subject {place.subject}; "
            f"set CRYPTO_TRIGGER_STREAM={owner} in place of '{place.stream}' (from the environment), "
            "or choose another subject with --subject\n"
        ),
    )
    # What the line tells to do is all it takes.
    assert run("setup", "--update", "--stream", owner).status == 0
    assert run("publish", "--stream", owner).status == 0


@pytest.mark.parametrize("options", [[], ["--dry-run"]], ids=" ".join)
def test_a_stream_that_cannot_take_the_subject_too_is_left_alone(options, run, place):
    owner = f"{place.stream}-owner"
    add_stream(place.url, owner, [place.subject])
    add_stream(place.url, place.stream, [f"{place.stream}.other"])
    result = run("setup", "--update", *options)
    assert (result.status, result.out) == (78, "")
    assert f"stream {owner} takes the subject {place.subject}" in result.err
    # Not even the duplicate window: an update is made whole or not at all.
    assert "duplicate_window is 2m" in run("setup").err


def test_without_permission_to_look_for_the_owner_setup_says_how_to_find_it(run, place, tmp_path, monkeypatch):
    path = tmp_path / "nats.conf"
    path.write_text(
        'authorization: {users: [{user: u, password: pw, permissions: {publish: {deny: "$JS.API.STREAM.NAMES"}}}, '
        "{user: admin, password: admin}]}"
    )
    with Server(arguments=("-c", str(path))) as server:
        add_stream(server.url.replace("//", "//admin:admin@"), "OWNER", [place.subject])
        monkeypatch.setenv("NATS_URL", server.url.replace("//", "//u:pw@"))
        result = run("setup", "--timeout", "2s")
    assert result.status == 78
    assert f"another stream takes the subject {place.subject}; find it with: nats stream ls --subject" in result.err
    assert is_one_clean_line(result.err)


def test_a_stream_that_differs_is_told_with_the_flags_that_were_used(run, place, monkeypatch, tmp_path):
    add_stream(place.url, place.stream, [place.subject])
    monkeypatch.delenv("CRYPTO_TRIGGER_STREAM")
    env_file = tmp_path / "my env"
    env_file.write_text(f"CRYPTO_TRIGGER_SUBJECT={place.subject}\n")
    monkeypatch.delenv("CRYPTO_TRIGGER_SUBJECT")
    given = ["--server", place.url.replace("//", "//u:secretpw@"), "--stream", place.stream, "--env-file", env_file]
    result = run("setup", *given, "--replicas", 1)
    assert result.status == 78
    hint = (
        f"change it with: crypto-trigger setup --env-file '{env_file}' --server {place.url} --stream {place.stream} "
        "--update --replicas 1\n"
    )
    assert result.err.endswith(hint)
    assert "secretpw" not in result.err


@pytest.fixture(params=[signal.SIGINT, signal.SIGTERM], ids=lambda signum: signum.name)
def signum(request):
    return request.param


def interrupted(server, signum, place, heard):
    """How a setup ends that is signalled once the server has heard something."""
    process = Process("setup", NATS_URL=server.url, **SHORT)
    server.talk().wait_for(heard)
    process.signal(signum)
    ended = process.end()
    assert (ended.status, ended.out) == (128 + signum, "")
    assert "trigger was" not in ended.err
    waiting = f"while waiting for {server.url}"
    said = f"crypto-trigger: setup was interrupted by {signum.name} {waiting}; stream {place.stream} "
    assert ended.err.startswith(said)
    assert is_one_clean_line(ended.err)
    return ended.err.removeprefix(said)


def silent(talk):
    talk.welcome()
    talk.listen()


def no_such_stream(talk):
    """Answer that there is no such stream, and say nothing to its creation."""
    talk.welcome()
    _, inbox = talk.published()
    error = {"code": 404, "err_code": 10059, "description": "stream not found"}
    talk.answer(inbox, {"type": "io.nats.jetstream.api.v1.stream_info_response", "error": error})
    talk.listen()


def test_a_setup_that_is_interrupted_while_it_asks_has_changed_nothing(signum, place):
    with Scripted(silent) as server:
        assert interrupted(server, signum, place, b"STREAM.INFO") == "was not changed\n"


def test_a_setup_that_is_interrupted_while_it_creates_may_have_changed_the_stream(signum, place):
    with Scripted(no_such_stream) as server:
        said = interrupted(server, signum, place, b"STREAM.CREATE")
    assert said == "may have been changed; see with: crypto-trigger setup\n"


def test_a_setup_that_is_interrupted_between_attempts_says_so_too(signum, place):
    process = Process("setup", "-v", NATS_URL="nats://127.0.0.1:1")
    assert "attempt 1 failed" in process.popen.stderr.readline()
    process.signal(signum)
    ended = process.end()
    assert ended.status == 128 + signum
    assert f"setup was interrupted by {signum.name} after 1 attempt; last: nats://127.0.0.1:1: connection" in ended.err
    assert ended.err.endswith(f"; stream {place.stream} was not changed\n")
