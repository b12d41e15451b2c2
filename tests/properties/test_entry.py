"""A plain command line is read as Typer reads it, without Typer."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from crypto_trigger import checking, cli, entry, publishing
from crypto_trigger.settings import SETTINGS

COMMANDS = {"publish": publishing, "check": checking}
OWN = [
    "--env-file",
    "--force",
    "--dry-run",
    "--rehearse",
    "--json",
    "--quiet",
    "-q",
    "--verbose",
    "-v",
    "--help",
    "--since",
    "--grace",
]
OWN += [
    "--consumer",
    "--consumer-warn",
    "--format",
    "--output-file",
    "--on-change",
    "--missed-warn",
    "--no-such-option",
]
FLAGS = [flag for setting in SETTINGS for flag in (setting.flag, setting.short) if flag]
VALUES = ["", "x", "15m", "nats://h:4222", "a b", "publish", "check", "json", "é", "\udcff", "3", "-1", "--", "-"]
WORD = st.one_of(
    st.sampled_from(OWN + FLAGS),
    st.sampled_from(VALUES),
    st.builds("=".join, st.tuples(st.sampled_from(OWN + FLAGS), st.sampled_from(VALUES))),
)


class Recorded(Exception):
    """What a command was called with."""


def typer_reads(words):
    """The options as Typer passes them to the command, those left out that are at their default; None if it refuses."""
    command = COMMANDS[words[0]]
    calls = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, words[0], lambda _, **options: calls.append(options))
        status = cli.main(words)
    if not calls:
        return None
    assert status == 0
    (options,) = calls
    defaults = {"since": "1h", "missed_warn": 1, "missed_critical": 2} if words[0] == "check" else {}
    return {name: value for name, value in options.items() if value not in (None, False, defaults.get(name))}


@given(command=st.sampled_from(list(COMMANDS)), words=st.lists(WORD, max_size=6))
@example(command="publish", words=[])
@example(command="publish", words=["--quiet", "--env-file", "/etc/crypto-trigger.env"])
@example(command="check", words=["--since", "2h", "-q", "--json"])
@example(command="publish", words=["--env-file", "a", "-q", "--env-file", "b"])
def test_what_is_read_without_typer_is_what_typer_reads(command, words):
    read = entry.plain([command, *words])
    if read is not None:
        defaults = {"since": "1h"} if command == "check" else {}
        changed = {name: value for name, value in read.items() if value != defaults.get(name)}
        assert changed == typer_reads([command, *words])


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("flag", sorted({*OWN, *FLAGS} - {"--help", "--consumer", "--missed-warn", "--no-such-option"}))
def test_every_option_of_the_command_but_a_few_is_read_without_typer(flag, command):
    for words in ([command, flag], [command, flag, "value"]):
        wanted = typer_reads(words)
        assert entry.plain(words) == wanted


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--help",),
        ("publish", "--help"),
        ("publish", "--no-such-option"),
        ("publish", "-qv"),
        ("publish", "-s"),
        ("publish", "-s", "a", "-s", "b"),
        ("publish", "-s", "-q"),
        ("publish", "--server=nats://h"),
        ("publish", "word"),
        ("check", "--consumer", "api"),
        ("setup",),
        ("--version",),
    ],
    ids=" ".join,
)
def test_every_other_command_line_is_left_to_typer(words):
    assert entry.plain(words) is None
