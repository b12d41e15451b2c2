"""docs/pings-and-logs.md, held against the program and the monitors that it names."""

import re
import socket
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from prometheus_client.parser import text_string_to_metric_families
from support.monitors import FAILURE, SERVICES, SUCCESS, TOKEN, Monitor
from support.patience import PATIENCE
from support.programs import program
from support.shell import ROOT, do
from support.streams import stored

from crypto_trigger.reporting import metrics as metrics_file
from crypto_trigger.reporting import ping as pings

PAGE = (ROOT / "docs" / "pings-and-logs.md").read_text()


def table(heading):
    """The rows of the table whose first heading is this one: its first cell -> the others, without quotes."""
    lines = PAGE.partition(f"| {heading} |")[2].partition("\n\n")[0].splitlines()[2:]
    cells = [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines]
    return {first: rest for first, *rest in cells}


MONITORS = dict(zip(table("monitor"), SERVICES, strict=True))


def path_of(url, name):
    """The path and query of a URL of the page, its words in capitals filled in as the monitors of the tests have it."""
    filled = {"UUID": TOKEN, "TOKEN": TOKEN, "MONITOR": TOKEN, "PROJECT": "0", "SLUG": "crypto-trigger"}
    filled["KEY"] = TOKEN if name == "Sentry" else "key"
    path = urlsplit(url)._replace(scheme="", netloc="").geturl()
    return re.sub("|".join(filled), lambda word: filled[word[0]], path)


@pytest.mark.parametrize("name", MONITORS)
def test_the_urls_of_each_monitor_are_those_that_it_understands(name, run, place, monkeypatch):
    run("setup")
    with Monitor(MONITORS[name]()) as monitor:
        for variable, url in zip(("PING_URL", "PING_FAIL_URL"), table("monitor")[name], strict=True):
            monkeypatch.setenv(f"CRYPTO_TRIGGER_{variable}", url and monitor.url + path_of(url, name))
        assert run("publish").status == 0
        assert run("publish", "--every", "banana").status == 78
    assert len(stored(place.url, place.stream)) == 1
    assert monitor.told == [SUCCESS, FAILURE]


def test_the_metrics_are_those_of_the_file(run):
    run("publish", "--metrics-file", "x.prom", "--server", "nats://127.0.0.1:1", "--give-up-after", "100ms")
    names = {family.name for family in text_string_to_metric_families(Path("x.prom").read_text())} | {
        "crypto_trigger_last_success_timestamp_seconds"
    }
    assert names == set(table("metric")) == {f"crypto_trigger_{name}" for name in metrics_file.METRICS}


def several_hosts(number, installed, monitor):
    """A crontab's line of the page for several hosts, run by a shell: how it ended."""
    section = PAGE.partition("### Several hosts")[2].partition("\n## ")[0]
    line = re.findall(r"^7-59/15 \* \* \* \* (.*)$", section, re.MULTILINE)[number]
    assert "%" not in line  # which cron would take for a line end
    line = line.replace("/opt/crypto-trigger/bin/crypto-trigger", str(installed.program))
    line = line.replace(" --env-file /etc/crypto-trigger.env", "")
    program("curl")
    return do("sh", "-c", line.replace("https://hc-ping.com/UUID", f"{monitor.url}/{TOKEN}"))


@pytest.mark.parametrize("number", [0, 1], ids=["with its status", "only if all is well"])
def test_check_pings_that_all_is_well(number, run, place, installed):
    assert run("setup").status == run("publish").status == 0
    with Monitor() as monitor:
        ended = several_hosts(number, installed, monitor)
    (asked,) = monitor.asked
    assert len(stored(place.url, place.stream)) == 1
    assert (ended.status, ended.out, ended.err, monitor.told) == (0, "", "", [SUCCESS])
    assert asked.body.startswith(b"TRIGGER OK - ") == (number == 0)


@pytest.mark.parametrize(("number", "told"), [(0, [FAILURE]), (1, [])], ids=["with its status", "only if all is well"])
def test_check_pings_what_is_wrong_or_nothing(number, told, installed, monkeypatch):
    monkeypatch.setenv("NATS_URL", "nats://127.0.0.1:1")
    monkeypatch.setenv("CRYPTO_TRIGGER_GIVE_UP_AFTER", "200ms")
    with Monitor() as monitor:
        ended = several_hosts(number, installed, monitor)
    assert (ended.out, ended.err, monitor.told) == ("", "", told)
    for asked in monitor.asked:
        assert asked.path == f"/{TOKEN}/2"
        assert asked.body.startswith(b"TRIGGER CRITICAL - ")


def test_the_numbers_are_those_of_the_code():
    assert "at most 10,000 bytes" in PAGE
    assert pings.LARGEST_BODY == 10_000
    assert f"up to {pings.LONGEST_TRY:g} seconds" in PAGE


def test_the_line_for_syslog_sends_each_object_whole(installed):
    """`logger` writes to a socket of the test's own in place of /dev/log."""
    (line,) = re.findall(r"^\{ crypto-trigger .*$", PAGE, re.MULTILINE)
    path = "log"  # in the working directory: the whole path may be longer than a socket's may be
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
        log.bind(path)
        log.settimeout(PATIENCE)
        line = line.replace("crypto-trigger publish", f"{installed.program} publish --every {'x' * 3000}")
        line = line.replace("logger ", f"{program('logger')} --socket {path} ")
        done = subprocess.run(
            ["sh", "-c", line],
            env={"CRYPTO_TRIGGER_LOG_FORMAT": "json", "PATH": "/usr/bin:/bin"},
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )
        message = log.recv(65536).decode()
    assert (done.stdout, done.stderr) == (b"", b"")
    read = do(program("jq"), "-r", ".event", input="{" + message.partition("{")[2])
    assert (read.status, read.out) == (0, "config\n")
