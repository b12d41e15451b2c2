"""A clean environment for every test, a server, and the program run in the process of the test."""

from __future__ import annotations

import gc
import os
import signal
import sys
from itertools import count
from typing import NamedTuple
from uuid import uuid4

import pytest
from support.old_servers import run_on_release
from support.programs import missing
from support.proxy import Elsewhere
from support.surroundings import catch_ignored_signals, keep_bytecode_elsewhere

from crypto_trigger.commands import entry
from crypto_trigger.commands.server import Server
from crypto_trigger.deadline import signals
from crypto_trigger.settings import masking


class Result(NamedTuple):
    status: int
    out: str
    err: str


class Place(NamedTuple):
    """A server, and a stream and subject on it that no other test uses. The environment names all three."""

    url: str
    stream: str
    subject: str


def pytest_configure(config):
    run_on_release()
    alone = not config.getoption("numprocesses", None)
    config.add_cleanup(keep_bytecode_elsewhere(alone=alone))
    if alone:
        catch_ignored_signals()


def pytest_collection_finish():
    # The collector then passes over what is loaded by now, which is most of the heap and stays until the end.
    gc.collect()
    # Hypothesis searches for what refers to its generator, and on 3.15 a search passes over that, too.
    if sys.version_info < (3, 15):
        gc.freeze()


def pytest_terminal_summary(terminalreporter):
    if told := missing(terminalreporter.stats.get("skipped", [])):
        terminalreporter.write_line(f"programs that were missing: {told}")


@pytest.fixture(scope="session")
def shared(tmp_path_factory):
    """A folder that all processes of this test run have in common."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


class _Workplaces:
    """Empty folders. Every test needs one, and `tmp_path` costs much: a folder that stays empty is used again."""

    def __init__(self, base):
        self._folders = (base / str(number) for number in count())
        self._next()

    def empty(self):
        with os.scandir(self._folder) as entries:
            used = next(entries, None)
        if used:
            self._next()
        return self._folder

    def _next(self):
        self._folder = next(self._folders)
        self._folder.mkdir()


@pytest.fixture(scope="session")
def _workplaces(tmp_path_factory):
    return _Workplaces(tmp_path_factory.mktemp("workplaces"))


@pytest.fixture(autouse=True)
def _clean(monkeypatch, _workplaces):
    """No settings from the machine, an empty working directory and home, and no signal or secret of another test."""
    monkeypatch.setattr(signals, "_came", 0)
    monkeypatch.setattr(masking, "_kept", ())
    for name in list(os.environ):
        if name.startswith(("NATS_", "CRYPTO_TRIGGER_")) or name in ("TRACEPARENT", "TRACESTATE", "XDG_CONFIG_HOME"):
            monkeypatch.delenv(name)
    workplace = _workplaces.empty()
    monkeypatch.chdir(workplace)
    monkeypatch.setenv("HOME", str(workplace))


@pytest.fixture
def run(capsys):
    """Run a command line through `entry.main`; returns its status, stdout and stderr."""

    def call(*argv):
        capsys.readouterr()
        handlers = {signum: signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)}
        try:
            status = entry.main([str(argument) for argument in argv])
        finally:
            for signum, handler in handlers.items():
                signal.signal(signum, handler)
        return Result(status, *capsys.readouterr())

    return call


@pytest.fixture(scope="session")
def server():
    """The real nats-server with JetStream, one for the session."""
    with Server() as running:
        yield running


@pytest.fixture(scope="session")
def stranger():
    """Where a connection leads to a server that refuses us, so that a run ends at once and not by its deadline."""
    with Server(arguments=["--auth", "secret"], jetstream=False) as running:
        yield Elsewhere(running.url)


@pytest.fixture
def place(server, monkeypatch):
    """A stream name and subject of the test's own, named by the environment; nothing is set up yet."""
    name = f"t{uuid4().hex[:12]}"
    found = Place(server.url, name, f"{name}.update")
    monkeypatch.setenv("NATS_URL", found.url)
    monkeypatch.setenv("CRYPTO_TRIGGER_STREAM", found.stream)
    monkeypatch.setenv("CRYPTO_TRIGGER_SUBJECT", found.subject)
    return found
