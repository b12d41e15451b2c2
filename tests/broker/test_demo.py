"""`demo`: the whole story, and nothing left of it afterwards."""

import inspect
import re
import shutil
import signal
import socket
import sys
from pathlib import Path

import pytest
from support.development import Development
from support.patience import until
from support.ports import free_port
from support.processes import Process, beginning_with, execute, is_one_clean_line
from support.streams import put
from support.traces import children, using

from crypto_trigger.commands import check as checking


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    """An empty folder for temporary files, which is empty again afterwards, and no process that uses it."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    yield folder
    assert using(folder) == []
    assert list(folder.iterdir()) == []


@pytest.fixture
def port():
    return free_port()


@pytest.fixture
def stay(scratch, port):
    """A development server that is up."""
    running = Development(port)
    running.until("Ctrl-C stops the server")
    yield running
    if running.process.popen.poll() is None:
        # Not stopped by the test: nobody is left to remove the server's data.
        running.close()
        for left in scratch.iterdir():
            shutil.rmtree(left, ignore_errors=True)
    running.close()


@pytest.mark.usefixtures("scratch")
def test_demo_tells_the_whole_story_in_under_five_seconds():
    ended = execute("demo")
    assert ended.status == 0
    assert ended.err == ""
    said = ended.out
    address = r"nats://127\.0\.0\.1:\d+"
    slot = r"\d{4}-\d\d-\d\dT\d\d:(00|15|30|45):00Z"
    place = r"in stream crypto-stats, sequence 1\n\(status 0\)"
    story = [
        rf"A throw-away nats-server listens on {address}",
        rf"\$ crypto-trigger setup\nstream crypto-stats created on {address}: subjects .+\n\(status 0\)",
        rf"\$ crypto-trigger publish\npublished crypto\.update for {slot} {place}",
        rf"\$ crypto-trigger publish .*\nduplicate: crypto\.update for {slot} is already {place}",
        r'What a subscriber received: \{"trigger":"update"\} on crypto\.update\n',
        rf"\$ crypto-trigger check\nTRIGGER OK - {slot} stored \S+ after its slot began; 1 of 1 slots .*\n\(status 0\)",
        rf"\$ crypto-trigger history\n{slot} (triggered|late) +\S+s sequence 1 //\S+/worker-server\n\(status 0",
        rf"\$ crypto-trigger publish --server ({address}) .*\ncrypto-trigger: \1: connection refused .*\n\(status 69\)",
    ]
    places = [match.start() if (match := re.search(part, said)) else None for part in story]
    assert None not in places, story[places.index(None)]
    assert places == sorted(places)
    # What a newcomer is promised.
    assert ended.seconds < 5


@pytest.mark.usefixtures("scratch")
def test_demo_checks_as_check_does_and_explains_a_late_trigger():
    said = execute("demo").out
    options = inspect.signature(checking.check).parameters
    assert f" slots in {options['since'].default} | " in said
    assert f" missed=0;{options['missed_warn'].default - 1};{options['missed_critical'].default - 1};0 " in said
    state, explained = re.search(r"crypto-trigger history\n\S+ (\w+) .*\n\(status 0(.*)\)", said).groups()
    assert (state == "late") == ("late, because the demo did not start when the slot began" in explained)


@pytest.mark.usefixtures("scratch")
def test_demo_listens_to_no_setting_and_no_env_file(monkeypatch):
    Path(".env").write_text("nonsense\nNATS_URL=foo\n")
    monkeypatch.setenv("NATS_URL", "foo")
    monkeypatch.setenv("NATS_TLS_FIRST", "true")
    monkeypatch.setenv("CRYPTO_TRIGGER_SUBJECT", "not.this.one")
    ended = execute("demo")
    assert (ended.status, ended.err) == (0, "")
    assert "not.this.one" not in ended.out


@pytest.mark.usefixtures("scratch")
def test_a_port_that_is_taken_ends_with_69_and_one_line():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        for options in ([], ["--stay"]):
            ended = execute("demo", "--port", taken.getsockname()[1], *options)
            assert ended.status == 69
            assert "is the port taken? choose another one with --port" in ended.err
            assert is_one_clean_line(ended.err)


@pytest.mark.usefixtures("scratch")
@pytest.mark.parametrize("port", ["0", "65536", "x"])
def test_a_port_that_cannot_be_is_a_wrong_command_line(port, run):
    assert run("demo", "--port", port).status == 2


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM], ids=lambda signum: signum.name)
def test_demo_stay_prints_every_trigger_and_a_signal_stops_it_cleanly(signum, stay, port, scratch, run):
    server, guard = children(stay.process.popen.pid)
    url = f"nats://127.0.0.1:{port}"
    assert run("publish", "--server", url).out.startswith("published crypto.update")
    assert stay.until("crypto.update").endswith(': {"trigger":"update"}')
    # Whatever comes is shown, and shown safely.
    put(url, "crypto.update", b"\x1b[2J\xff")
    assert stay.until("crypto.update").endswith(r": \x1b[2J\xff")
    assert stay.stop(signum) == (0, "stopped; no process and no file is left", "")
    assert not Path(f"/proc/{server}").exists()
    assert not Path(f"/proc/{guard}").exists()
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM], ids=lambda signum: signum.name)
def test_a_signal_while_demo_stay_starts_stops_it_cleanly_too(signum, port, scratch):
    running = Development(port)
    running.until("crypto-trigger setup")
    assert running.stop(signum) == (0, "stopped; no process and no file is left", "")
    running.close()
    assert list(scratch.iterdir()) == []


def test_publish_finds_the_development_server_by_the_line_it_prints(stay, port):
    line = next(line for line in stay.said if "In another terminal" in line)
    assert line.endswith(f": NATS_URL=nats://127.0.0.1:{port} {sys.executable} -m crypto_trigger publish")


def test_a_second_publish_in_a_slot_shows_nothing_and_the_option_that_is_named_shows_another(stay, port, run):
    url = f"nats://127.0.0.1:{port}"
    told = next(line for line in stay.said if line.startswith("A second publish in the same 15m stores nothing"))
    (option,) = re.findall(r"--\w+", told)
    assert run("publish", "--server", url).out.startswith("published ")
    assert "sequence 1," in stay.until("crypto.update")
    assert run("publish", "--server", url).out.startswith("duplicate: ")
    assert run("publish", "--server", url, option).out.startswith("published ")
    # Nothing came between: the next line is the second trigger's.
    assert "sequence 2," in stay.until("")


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM], ids=lambda signum: signum.name)
@pytest.mark.parametrize("options", [[], ["--stay"]], ids=["demo", "stay"])
def test_a_signal_while_the_server_starts_leaves_nothing_either(options, signum, scratch, port, tmp_path):
    # However slow this test is to send its signal, the demo still waits for the server.
    never = "import crypto_trigger.commands.server; crypto_trigger.commands.server.Server._address = lambda *_: ''"
    process = Process("demo", "--port", port, *options, **beginning_with(tmp_path, never))
    until(lambda: any(scratch.glob("*/log")) and len(children(process.popen.pid)) == 2)
    process.signal(signum)
    ended = process.end()
    assert ended.status == 128 + signum
    assert "Traceback" not in ended.err


@pytest.mark.usefixtures("scratch")
@pytest.mark.parametrize("options", [[], ["--stay"]], ids=["demo", "stay"])
def test_a_demo_whose_stream_cannot_be_set_up_says_why(options, tmp_path):
    without = "import functools; from crypto_trigger.commands import server; "
    without += "server.Server = functools.partial(server.Server, jetstream=False)"
    ended = execute("demo", *options, **beginning_with(tmp_path, without))
    assert ended.status == 78
    assert is_one_clean_line(ended.err)
    assert "JetStream" in ended.err
