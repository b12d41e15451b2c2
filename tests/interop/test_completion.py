"""Shell completion, installed as the page says and used by the real shells."""

import os
import pty
import re
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.processes import HANGS
from support.programs import program
from support.shell import ROOT, do
from support.terminals import CONTROLS

PAGE = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")
COMMANDS = ["publish", "setup", "check", "history", "listen", "config", "demo"]
# How each shell is started without files of its own, and what makes it load the script that the page installs.
STARTED = {
    "bash": (["--norc", "--noprofile", "-i"], "source ~/.local/share/bash-completion/completions/crypto-trigger"),
    "zsh": (["-f", "-i"], "autoload -Uz compinit; compinit -u -d ~/.dump; source ~/.zshrc"),
}
READY = "ready-to-type"


@pytest.fixture(autouse=True)
def _home(tmp_path, monkeypatch):
    """A home of its own, and the program on PATH as its users have it."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")


def install(shell):
    """Do what the page says for a shell, in bash, whose syntax is the same here."""
    (commands,) = re.findall(rf"^```{shell}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    ended = do("bash", "-e", "-c", commands)
    assert (ended.status, ended.out, ended.err) == (0, "", "")


class Typist:
    """A person at a shell in a terminal."""

    def __init__(self, shell):
        arguments, load = STARTED[shell]
        self._ours, theirs = pty.openpty()
        environ = {**os.environ, "TERM": "vt100", "PS1": "> ", "COLUMNS": "200"}
        self.process = subprocess.Popen(
            [program(shell), *arguments],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=environ,
            start_new_session=True,
        )
        os.close(theirs)
        self.type(f"{load}; echo {READY[:5]}''{READY[5:]}\r")
        self.see(READY)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        os.close(self._ours)

    def type(self, keys):
        os.write(self._ours, keys.encode())

    def see(self, *words):
        """Wait until the terminal has shown all of these words since the last time."""
        seen, until = "", time.monotonic() + HANGS
        while not all(word in seen for word in words):
            ready, _, _ = select.select([self._ours], [], [], max(0.0, until - time.monotonic()))
            assert ready, f"the terminal shows {seen!r}"
            # zsh sends NUL for the terminal to have time.
            seen += CONTROLS.sub("", os.read(self._ours, 4096).decode(errors="replace").replace("\0", ""))
        return seen


@pytest.mark.parametrize("shell", STARTED)
def test_tab_completes_commands_and_options(shell):
    program(shell)
    install(shell)
    with Typist(shell) as typist:
        typist.type("crypto-trigger pub\t")
        typist.see("publish ")
        typist.type("--give\t")
        typist.see("--give-up-after ")
        typist.type("\x15crypto-trigger \t\t")
        typist.see(*COMMANDS)


def test_fish_completes_commands_and_options():
    fish = program("fish")
    install("fish")
    for typed, offered in (("crypto-trigger pub", ["publish"]), ("crypto-trigger ", COMMANDS)):
        ended = do(fish, "-c", f"complete -C '{typed}'")
        assert sorted(line.partition("\t")[0] for line in ended.out.splitlines()) == sorted(offered), ended
        assert "..." not in ended.out
    ended = do(fish, "-c", "complete -C 'crypto-trigger publish --give'")
    assert ended.out.startswith("--give-up-after\tDeadline for everything; shorter than CRYPTO_TRIGGER_EVERY.")


def test_a_shell_that_is_not_known_is_refused_in_one_line():
    ended = do("crypto-trigger", env={**os.environ, "_CRYPTO_TRIGGER_COMPLETE": "source_tcsh"})
    assert (ended.status, ended.out, ended.err) == (1, "", "Shell tcsh not supported.\n")


def test_only_a_shell_that_asks_loads_the_completion():
    command = [sys.executable, "-X", "importtime", "-m", "crypto_trigger"]
    asked = do(
        *command,
        env={**os.environ, "_CRYPTO_TRIGGER_COMPLETE": "complete_bash", "COMP_WORDS": "x pub", "COMP_CWORD": "1"},
    )
    assert asked.out == "publish\n"
    assert "crypto_trigger.commands.completion" in asked.err
    assert " nats" not in asked.err
    assert "crypto_trigger.commands.completion" not in do(*command, "--version").err
    shown = do("crypto-trigger", "--help")
    assert "completion" not in shown.out
