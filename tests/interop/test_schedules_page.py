"""The recipe of docs/scheduling.md for a schedule of the server's own, run by the nats CLI on each server for it."""

import json
import os
import re
from datetime import timedelta

import pytest
from support import schedules
from support.clocks import roomy
from support.old_servers import find, serving
from support.patience import until
from support.programs import program
from support.shell import ROOT, do
from support.streams import stored

from crypto_trigger.commands.server import Server
from crypto_trigger.settings.load import load

SECTION = "## A schedule of NATS's own, with publish as its stand-by\n"
PAGE = (ROOT / "docs" / "scheduling.md").read_text().partition(SECTION)[2].partition("\n## ")[0]
(RECIPE,) = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
(CRONTAB,) = re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL)
SHOW, END = re.findall(r"`(nats stream (?:get|purge) [^`]*)`", PAGE)
EVERY_QUARTER = "'0 */15 * * * *'"


@pytest.fixture(params=["wheel", "2.14", "2.15"])
def url(request):
    started = Server() if request.param == "wheel" else serving(find(request.param))
    with started as server:
        yield server.url


@pytest.fixture
def bash(url, monkeypatch):
    """Run command lines of the page."""
    path = os.path.dirname(program("nats"))  # noqa: PTH120 - one entry of PATH
    monkeypatch.setenv("NATS_URL", url)

    def run(lines):
        environ = {**os.environ, "PATH": os.pathsep.join([path, os.environ["PATH"]]), "NO_COLOR": "1"}
        ended = do("bash", "-ec", lines, env=environ)
        assert ended.status == 0, ended
        return ended.out

    return run


def on(subject, url):
    return [message for message in stored(url, "crypto-stats") if message.subject == subject]


def test_the_recipe_fires_and_the_stand_by_fills_the_slots_after_it_was_ended(run, bash, url, monkeypatch):
    assert EVERY_QUARTER in RECIPE
    slots = roomy()
    for name, value in slots.settings.items():
        monkeypatch.setenv(name, value)
    assert run("setup").status == 0
    bash(RECIPE.replace(EVERY_QUARTER, "'* * * * * *'"))
    first = until(lambda: on("crypto.update", url))[0]
    assert first.data == b'{"trigger":"update"}'
    assert set(first.headers) == {"Nats-Scheduler", "Nats-Schedule-Next"}
    found = run("publish", "--json")
    assert [message for message in on("crypto.update", url) if "Nats-Msg-Id" in message.headers] == []
    assert (found.status, json.loads(found.out)["outcome"]) == (0, "duplicate")
    assert run("setup").out == f"stream crypto-stats on {url} is as needed\n"
    assert json.loads(run("history", "--json").out)["totals"]["sources"] == {"nats-schedule": 1}
    assert "Nats-Schedule: * * * * * *" in bash(SHOW)
    # The benchmark and the other tests store the same.
    (schedule,) = on("crypto.schedule", url)
    assert schedule.data == schedules.PAYLOAD
    assert schedule.headers == schedules.headers("* * * * * *", "crypto.update")
    bash(END)
    assert on("crypto.schedule", url) == []
    bash("nats stream purge crypto-stats --force")
    filled = run("publish", "--json")
    (trigger,) = on("crypto.update", url)
    assert "Nats-Msg-Id" in trigger.headers
    assert (filled.status, json.loads(filled.out)["outcome"]) == (0, "published")


@pytest.mark.parametrize("url", ["wheel"], indirect=True)
def test_a_second_publish_of_the_recipe_takes_the_place_of_the_first(run, bash, url):
    assert run("setup").status == 0
    bash(RECIPE)
    bash(RECIPE.replace(EVERY_QUARTER, "'0 0 * * * *'").partition("\n")[2])
    (schedule,) = on("crypto.schedule", url)
    assert schedule.headers["Nats-Schedule"] == "0 0 * * * *"


def test_the_stand_by_runs_two_minutes_after_each_slot_begins(run):
    minutes, hour, day, month, weekday, command = CRONTAB.strip().split(maxsplit=5)
    every = load({}, "/dev/null", {}).every // timedelta(minutes=1)
    assert [int(minute) for minute in minutes.split(",")] == list(range(2, 60, every))
    assert [hour, day, month, weekday] == ["*"] * 4
    assert f" {command}\n" in (ROOT / "crontab.example").read_text()
    assert run(*command.split()[1:], "--help").status == 0
