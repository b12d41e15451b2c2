"""Lazy imports (PEP 810, CPython 3.15): a publish loads what it uses, before it connects, and tells the truth."""

import os
import re
import subprocess
import sys

import pytest
from support.lossy import LosesAcks
from support.processes import Process, beginning_with
from support.programs import program
from support.proxy import Proxy
from support.streams import add_stream, stored

pytestmark = pytest.mark.skipif(sys.version_info < (3, 15), reason="this Python has no lazy imports")
MAIN = "from crypto_trigger.__main__ import main; main()"
EAGER = f"import sys; sys.set_lazy_imports = sys.set_lazy_imports_filter = lambda _: None; {MAIN}"
SECONDS = 300  # valgrind is fifty times slower than the processor
# Loaded only when a connection is made and used: by nats-py and asyncio, of which the filter decides nothing.
LATE = ("nats.nuid", "nats.aio.transport", "nats.protocol.command")


@pytest.fixture
def publish(place, tmp_path):
    """Run one publish that is stored; returns its stderr."""
    add_stream(place.url, place.stream, [place.subject], duplicate_window=1800)
    env = {**os.environ, "PYTHONPYCACHEPREFIX": str(tmp_path / "compiled"), "PYTHONHASHSEED": "0"}
    env.pop("PYTHONDONTWRITEBYTECODE", None)

    def call(code, *options, before=()):
        already = len(stored(place.url, place.stream))
        done = subprocess.run(
            [*before, sys.executable, *options, "-c", code, "publish", "--quiet", "--force"],
            env=env,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert len(stored(place.url, place.stream)) == already + 1
        assert done.returncode == 0, done.stderr
        return done.stderr

    return call


def loaded(said):
    return {line.rpartition("|")[2].strip() for line in said.splitlines() if line.startswith("import time:")}


def test_a_publish_loads_what_it_uses_and_little_else(publish):
    lazy, eager = (loaded(publish(code, "-X", "importtime")) for code in (MAIN, EAGER))
    unused = {"nats.js.api", "nats.js.kv", "uuid", "hashlib", "asyncio.sslproto"}
    assert unused <= eager
    assert not unused & lazy
    assert len(lazy) <= 0.85 * len(eager)


def test_a_publish_executes_at_most_four_fifths_of_the_instructions_without(publish):
    counter = (program("valgrind"), "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null")
    counts = []
    for code in (MAIN, EAGER):
        publish(code)  # compiles what it imports
        publish(code)  # and what only a publish after another one imports
        counts.append(int(re.search(r"I\s+refs:\s+([\d,]+)", publish(code, before=counter))[1].replace(",", "")))
    lazy, eager = counts
    assert eager > 10**8
    assert lazy <= 0.8 * eager


def compiled(said):
    return re.findall(r"# code object from (/.*\.py)$", said, re.MULTILINE)


def test_what_a_publish_loads_is_compiled_once(publish):
    assert any(path.endswith("/nats/nuid.py") for path in compiled(publish(MAIN, "-v")))
    publish(MAIN)
    assert compiled(publish(MAIN, "-v")) == []


def beginning(folder, module, code):
    """Run this code where the module is first imported."""
    return beginning_with(
        folder,
        "import os, signal, sys, time\n"
        "class Here:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == {module!r}:\n"
        "            sys.meta_path.remove(self)\n"
        f"            {code}\n"
        "sys.meta_path.insert(0, Here())\n",
    )


@pytest.mark.parametrize("module", LATE)
@pytest.mark.parametrize(("name", "status"), [("SIGTERM", 143), ("SIGINT", 130)])
def test_a_signal_while_a_module_is_loaded_late_ends_the_run_unsent(module, name, status, place, tmp_path):
    add_stream(place.url, place.stream, [place.subject], duplicate_window=1800)
    code = f"os.kill(os.getpid(), signal.{name})"
    ended = Process("publish", **beginning(tmp_path, module, code)).end()
    assert stored(place.url, place.stream) == []
    assert ended.status == status
    assert re.fullmatch(rf"crypto-trigger: interrupted by {name}.*; \S+ for \S+ was not stored\n", ended.err)


@pytest.mark.parametrize("module", LATE)
def test_a_module_that_is_loaded_after_the_deadline_ends_the_run_unsent(module, place, tmp_path):
    add_stream(place.url, place.stream, [place.subject], duplicate_window=1800)
    settings = beginning(tmp_path, module, "time.sleep(1)")
    ended = Process("publish", "--give-up-after", "600ms", "--timeout", "500ms", **settings).end()
    assert stored(place.url, place.stream) == []
    assert ended.status == 69
    assert re.fullmatch(r"crypto-trigger: .*; \S+ for \S+ was not stored\n", ended.err)


@pytest.mark.parametrize("module", LATE)
def test_a_module_that_cannot_be_loaded_at_first_ends_in_the_truth(module, place, tmp_path):
    add_stream(place.url, place.stream, [place.subject], duplicate_window=1800)
    ended = Process("publish", **beginning(tmp_path, module, "raise ImportError('the disk is gone')")).end()
    # nats-py tries again where a transport fails, and the module is there by then.
    assert ended.status == (0 if module == "nats.aio.transport" else 70)
    assert len(stored(place.url, place.stream)) == (ended.status == 0)
    assert ended.status == 0 or "the disk is gone" in ended.err


@pytest.mark.parametrize("module", ["crypto_trigger.connection.faults", "backoff", "crypto_trigger.reporting.report"])
def test_a_signal_while_what_a_failure_needs_is_loaded_does_not_hide_that_it_may_be_stored(module, place, tmp_path):
    add_stream(place.url, place.stream, [place.subject], duplicate_window=1800)
    settings = beginning(tmp_path, module, "os.kill(os.getpid(), signal.SIGTERM)")
    fault = LosesAcks()
    with Proxy(place.url) as proxy, proxy.route(fault, then=fault) as route:
        settings["NATS_URL"] = route.url
        ended = Process("publish", "--timeout", "400ms", "--give-up-after", "2s", **settings).end()
    assert len(stored(place.url, place.stream)) == 1
    assert ended.status in {0, 75, 143}
    assert ended.status == 0 or "may be stored" in ended.err
