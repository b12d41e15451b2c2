"""What a publish costs next to the shortest nats-py script: modules and instructions, which repeat; never seconds."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.imports import modules_of
from support.programs import ALL, program
from support.streams import stored

from crypto_trigger import entry

BARE = Path(__file__).parents[2] / "benchmarks" / "peers" / "bare.py"
SECONDS = 300  # valgrind is fifty times slower than the processor


@pytest.fixture
def costing(run, place, tmp_path):
    """Run the program and the bare script under the same conditions, each of which stores a message."""
    run("setup")
    publish = ("-m", "crypto_trigger", "publish", "--quiet", "--force")
    env = {**os.environ, "SUBJECT": place.subject, "PYTHONPYCACHEPREFIX": str(tmp_path / "compiled")}
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    env["PYTHONHASHSEED"] = "0"

    def call(arguments, *before):
        already = len(stored(place.url, place.stream))
        done = subprocess.run(
            [*before, sys.executable, *arguments],
            env={**env, "MSG_ID": f"bare-{already}"},
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert len(stored(place.url, place.stream)) == already + 1
        return done.stderr

    def both(*before, options=()):
        scripts = ((*options, *publish), (*options, str(BARE)))
        for script in scripts:
            call(script)  # compiles what it imports
        return [call(script, *before) for script in scripts]

    return both


def test_a_publish_loads_beyond_the_bare_script_only_itself(costing):
    ours, bare = (
        {line.rpartition("|")[2].strip() for line in said.splitlines() if line.startswith("import time:")}
        for said in costing(options=("-X", "importtime"))
    )
    extra = ours - bare
    own = {name for name in extra if name.partition(".")[0] == "crypto_trigger"}
    assert "nats" in ours & bare
    # What it costs to load them is counted in instructions below.
    assert len(own) <= 30
    assert len(extra - own) <= 5
    assert {name.partition(".")[0] for name in extra - own} <= sys.stdlib_module_names


@pytest.mark.skipif(not ALL, reason="runs two programs in valgrind; CRYPTO_TRIGGER_TEST_ALL=1 asks for it")
def test_a_publish_executes_fewer_instructions_than_the_bare_script(costing):
    valgrind = program("valgrind")
    ours, bare = (
        int(re.search(r"I\s+refs:\s+([\d,]+)", said)[1].replace(",", ""))
        for said in costing(valgrind, "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null")
    )
    assert bare > 10**8
    # Measured: 0.954. A garbage collector that is left on takes a tenth, and so does Typer.
    assert ours <= 0.98 * bare


FLAGS = [
    *("--server", "nats://h", "--subject", "s", "--stream", "t", "--delivery", "jetstream", "--every", "15m"),
    *("--context", "c", "--user", "u", "--creds", "p", "--timeout", "5s", "--give-up-after", "60s"),
]


def test_a_flag_costs_a_few_calls_and_no_module():
    def calls(*words):
        counted = []
        sys.setprofile(lambda _, event, __: counted.append(event))
        try:
            given = entry.plain(["publish", *words])
        finally:
            sys.setprofile(None)
        assert given is not None
        return sum(event in ("call", "c_call") for event in counted)

    number = len(FLAGS) // 2
    assert number == 10
    assert calls("--quiet") > number
    assert calls("--quiet", *FLAGS) - calls("--quiet") <= 4 * number
    (_, plain), (status, flagged) = (modules_of("publish", "--dry-run", *flags) for flags in ((), FLAGS[:10]))
    assert status == 0
    assert flagged == plain
    assert "typer" not in flagged
