"""Settings are read in bounded time, whatever they hold."""

import json
import os
import sys
import time
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from crypto_trigger.errors import ConfigError
from crypto_trigger.settings import load as settings
from crypto_trigger.settings.load import load


@contextmanager
def within(seconds):
    began = time.monotonic()
    yield
    assert time.monotonic() - began < seconds


def problems_of(environ=None, env_file=os.devnull, began=None, **flags):
    with pytest.raises(ConfigError) as caught:
        load(flags, env_file, environ or {}, began)
    return caught.value.problems


def test_blanks_in_an_env_file_take_no_time():
    Path("blanks.env").write_text(f"NATS_TOKEN=x{' ' * 200_000}y\n")
    with within(2):
        (problem,) = problems_of(env_file="blanks.env")
    assert problem == "--env-file 'blanks.env' cannot be read: it holds more than 64 KiB"


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"], ids=["lf", "cr", "crlf"])
@pytest.mark.parametrize("blank", [" ", "\t", "\x0b", "\u2028"], ids=ascii)
def test_many_blanks_in_a_line_of_an_env_file_are_refused_by_its_number(blank, end):
    content = f"# settings{end}NATS_TOKEN=x{blank * 257}y{end}"
    Path("blanks.env").write_text(content, newline="")
    with within(2):
        (problem,) = problems_of(env_file="blanks.env")
    assert problem == "--env-file 'blanks.env' cannot be read: line 2 has more than 256 blanks in a row"


def test_the_worst_env_file_that_is_read_takes_no_longer_than_a_reading_may():
    Path("blanks.env").write_text("NATS_TOKEN=t\nOTHER=x" + (" " * 256 + "y") * 240 + "\n")
    with within(2):
        assert load({}, "blanks.env", {}).token == "t"


@pytest.mark.parametrize(
    "variable", ["CRYPTO_TRIGGER_TIMEOUT", "CRYPTO_TRIGGER_GIVE_UP_AFTER", "CRYPTO_TRIGGER_SCHEDULED_AT"]
)
@pytest.mark.parametrize("digits", [900, 8_000, 20_000, 120_000])
def test_a_number_without_end_takes_no_time(variable, digits):
    with within(2):
        problems = problems_of({variable: "9" * digits})
    assert len(problems) == 1
    assert problems[0].startswith(f"{variable} '{'9' * 80}...' ")


@pytest.mark.parametrize(
    "content",
    [b"-" * 60_000, b"-----BEGIN NATS USER JWT-----\n" + b" " * 60_000, b"-----BEGIN NATS USER JWT-----\n" * 2_000],
    ids=["dashes", "blanks", "beginnings"],
)
def test_a_credentials_file_of_one_character_takes_no_time(content):
    Path("creds").write_bytes(content)
    with within(2):
        (problem,) = problems_of({"NATS_CREDS": "creds"})
    assert "has no NATS USER JWT part" in problem


@pytest.mark.parametrize("variable", ["NATS_CA", "NATS_CERT", "NATS_KEY"])
@pytest.mark.parametrize("device", ["/dev/null", "/dev/zero", "/dev/full"])
def test_certificates_are_taken_from_regular_files_alone(variable, device):
    with within(2):
        problems = problems_of({variable: device})
    assert any(f"{variable} '{device}' (from the environment) is a device, not a file" in line for line in problems)


def test_a_certificate_file_without_end_is_refused():
    with Path("ca.pem").open("wb") as file:
        file.truncate(1 << 34)
    (problem,) = problems_of({"NATS_CA": "ca.pem"})
    assert "is too large" in problem


PIPES = ["NATS_PASSWORD_FILE", "NATS_TOKEN_FILE", "NATS_CREDS", "NATS_NKEY"]


@pytest.fixture
def silent():
    """Pipes that nobody writes to, one for each secret."""
    for name in PIPES:
        os.mkfifo(name)
    return {"NATS_USER": "worker", **{name: name for name in PIPES}}


def test_all_files_together_have_one_bound(silent, monkeypatch):
    monkeypatch.setattr(settings, "_READ_SECONDS", 0.4)
    with within(1.5):
        problems = problems_of(silent)
    assert [line.partition(" ")[0] for line in problems] == PIPES
    assert all("was not written and closed in time" in line for line in problems)


@pytest.mark.parametrize("layer", ["flag", "environment", "env file"])
def test_no_file_is_waited_for_beyond_the_deadline(silent, layer):
    Path(".env").write_text("CRYPTO_TRIGGER_GIVE_UP_AFTER=20ms\n" if layer == "env file" else "")
    flags = {"give_up_after": "20ms"} if layer == "flag" else {}
    environ = {"CRYPTO_TRIGGER_GIVE_UP_AFTER": "20ms"} if layer == "environment" else {}
    with within(2):
        problems = problems_of(silent | environ, env_file=None, **flags)
    assert len(problems) == len(PIPES)


def test_the_env_file_itself_is_not_waited_for_beyond_the_deadline():
    os.mkfifo("env")
    with within(2):
        (problem,) = problems_of(env_file="env", give_up_after="20ms")
    assert "was not written and closed in time" in problem


def test_the_deadline_counts_from_the_beginning_of_the_run(silent):
    with within(2):
        problems = problems_of(silent, began=time.monotonic() - 59.98)
    assert len(problems) == len(PIPES)


def test_a_file_is_read_though_the_deadline_is_past():
    Path("token").write_text("secret\n")
    assert load({}, os.devnull, {"NATS_TOKEN_FILE": "token"}, time.monotonic() - 100).token == "secret"


def test_a_context_nested_too_deep_is_one_line():
    Path("deep.json").write_text('{"url": ' + "[" * 20_000 + "]" * 20_000 + "}")
    (problem,) = problems_of({"NATS_CONTEXT": "deep.json"})
    # From 3.15 the parser reads as deep as the stack allows, which is deeper than a file of this size can be.
    read = sys.version_info >= (3, 15)
    ends = "holds a url that is not text" if read else "is not a NATS context: deep.json is not a JSON object"
    assert problem == f"NATS_CONTEXT 'deep.json' (from the environment) {ends}"


def test_a_context_with_a_nul_in_a_path_is_one_line():
    Path("nul.json").write_text(json.dumps({"creds": "a\0b", "ca": "a\0b"}))
    problems = problems_of({"NATS_CONTEXT": "nul.json"})
    assert len(problems) == 2
    assert all("holds a NUL, which is not allowed in a path" in line for line in problems)


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-16"])
def test_an_env_file_in_utf_16_is_one_line(encoding):
    Path("wide.env").write_bytes("NATS_URL=nats://wide:1\n".encode(encoding))
    (problem,) = problems_of(env_file="wide.env")
    assert problem.startswith("--env-file 'wide.env' cannot be read: it ")
    assert "UTF-8" in problem


LONG = {
    "NATS_CLIENT_ID": "c",
    "NATS_CLUSTER_ID": "c",
    "CRYPTO_TRIGGER_STREAM": "s",
    "CRYPTO_TRIGGER_SUBJECT": "s",
    "NATS_JS_DOMAIN": "d",
    "NATS_INBOX_PREFIX": "i",
    "CRYPTO_TRIGGER_DISCOVER_PREFIX": "d",
}


@pytest.mark.parametrize(("variable", "letter"), LONG.items())
def test_a_name_longer_than_a_line_of_the_protocol_is_refused(variable, letter):
    (problem,) = problems_of({variable: letter * 256})
    assert problem.endswith("is longer than 255 bytes")
    (problem,) = problems_of({variable: letter * 5_000})
    assert "is longer than " in problem
    load({}, os.devnull, {variable: letter * 255})


def test_a_value_longer_than_any_is_refused_before_it_is_parsed():
    for variable, value in (("NATS_URL", "nats://h,"), ("NATS_TOKEN", "t"), ("NATS_USER", "u"), ("NATS_CA", "/")):
        (problem,) = problems_of({variable: value * 10_000})
        assert problem.endswith("is longer than 8192 bytes")


def test_many_variables_that_are_no_settings_are_a_few_lines():
    unknown = {f"CRYPTO_TRIGGER_X{number}": "" for number in range(20_000)}
    with within(5):
        warnings = load({}, os.devnull, unknown).warnings
    assert len(warnings) == 11
    assert warnings[-1] == "19990 more variables are not settings and are ignored"


@pytest.mark.parametrize(
    ("raw", "length"), [("7d", timedelta(days=7)), ("2w", timedelta(weeks=2)), ("1d12h", timedelta(hours=36))]
)
def test_durations_may_be_in_days_and_weeks(raw, length):
    assert load({"every": raw}, os.devnull, {}).every == length
