"""The command line that a hint tells to run: what a shell makes of it is the command that was meant."""

import shlex

import pytest

from crypto_trigger.settings.command_line import command_line
from crypto_trigger.settings.load import load


def told(flags=None, env_file=None, environ=None, options=()):
    return shlex.split(command_line(load(flags or {}, env_file, environ or {}), "setup", *options))


def test_the_flags_that_were_given_are_repeated_and_nothing_else_is(tmp_path):
    env_file = tmp_path / "x.env"
    env_file.write_text("CRYPTO_TRIGGER_SUBJECT=of.the.file\n")
    flags = {"servers": "nats://h:4222", "stream": "S", "every": "1h", "timeout": "1s", "report_file": "/r"}
    environ = {"NATS_CLIENT_ID": "c"}
    other = tmp_path / "y.env"
    other.touch()
    assert told(flags, [str(env_file), str(other)], environ, ["--update"]) == [
        "crypto-trigger",
        "setup",
        "--env-file",
        str(env_file),
        "--env-file",
        str(other),
        "--server",
        "nats://h:4222",
        "--stream",
        "S",
        "--every",
        "1h",
        "--timeout",
        "1s",
        "--update",
    ]


def test_the_env_file_of_the_working_directory_needs_no_flag():
    assert told(env_file=None) == ["crypto-trigger", "setup"]


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("nats://u:secret@h:4222", "nats://h:4222"),
        ("nats://token@h,nats://u:secret@[::1]:4223", "nats://h:4222,nats://[::1]:4223"),
    ],
)
def test_addresses_come_without_their_credentials(given, shown):
    assert told({"servers": given}) == ["crypto-trigger", "setup", "--server", shown]


def test_a_shell_reads_each_value_as_one_word():
    assert told({"stream": "it's;$(x)", "subject": "a.&b"})[2:] == ["--subject", "a.&b", "--stream", "it's;$(x)"]


@pytest.mark.parametrize("command", ["publish", "setup"])
def test_every_flag_that_may_be_repeated_is_one_of_the_command(command, run):
    flags = {
        "servers": "nats://h:4222",
        "subject": "s",
        "stream": "S",
        "delivery": "core",
        "every": "1h",
        "timeout": "1s",
        "give_up_after": "2s",
    }
    options = told(flags)[2:]
    assert len(options) == 2 * len(flags)
    assert run(command, *options, "--help").status == 0


def test_a_flag_that_the_command_does_not_have_is_left_out():
    settings = load({"subject": "a.b", "report_file": "report.json"}, None, {})
    assert command_line(settings, "setup") == "crypto-trigger setup --subject a.b"
    assert command_line(settings, "publish") == "crypto-trigger publish --subject a.b --report-file report.json"
