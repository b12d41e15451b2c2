"""All that may publish, for the same slot: the stream gets one trigger, each of them succeeds, and `check` agrees."""

import json
import os
import re
import time
from collections import Counter
from datetime import timedelta

import pytest
from support.clocks import clock, rfc3339, roomy, turning
from support.processes import Process
from support.shell import ROOT, do
from support.streams import stored

# How far the clocks of two hosts with cron are off, in seconds.
AHEAD, BEHIND = 2, -1
PAYLOAD = b'{"trigger":"update"}'


@pytest.fixture
def at(place, run, monkeypatch):
    """Set up a stream for these slots."""

    def set_up(slots):
        monkeypatch.setenv("CRYPTO_TRIGGER_EVERY", f"{slots.every}s")
        monkeypatch.setenv("CRYPTO_TRIGGER_TIMEOUT", "10s")
        assert run("setup").status == 0
        return place

    return set_up


def host(off):
    """Start what cron starts on a host whose clock is off."""
    return Process("publish", "--json", **clock(timedelta(seconds=off)))


def others(scheduled):
    """Start all others; a Job has its scheduled time (in seconds since the epoch) in its name, as minutes."""
    pods = [Process("publish", "--json", CRYPTO_TRIGGER_K8S_JOB=f"crypto-trigger-{scheduled // 60}") for _ in range(3)]
    catch_up = Process("publish", "--json", INVOCATION_ID="0" * 32)
    dyno = Process("publish", "--json", DYNO="scheduler.1234")
    person = Process("publish", "--json", "--verbose")
    return [*pods, catch_up, dyno, person]


def one_trigger(processes, slot, place, run):
    """Whether all of them succeeded with one trigger for the slot, which is what `check` says, too."""
    ended = [process.end() for process in processes]
    assert [(message.data, message.headers["ce-time"]) for message in stored(place.url, place.stream)] == [
        (PAYLOAD, slot)
    ]
    assert [each.status for each in ended] == [0] * len(ended), ended
    outcomes = Counter(json.loads(each.out)["outcome"] for each in ended)
    assert outcomes == {"published": 1, "duplicate": len(ended) - 1}
    *silent, verbose = ended
    assert [each.err for each in silent] == [""] * len(silent)
    assert "warning" not in verbose.err
    checked = run("check")
    assert checked.status == 0
    assert checked.out.startswith(f"TRIGGER OK - {slot} stored ")
    assert " surplus=0 " in checked.out


def test_all_that_publish_at_the_same_moment_share_one_trigger(at, run):
    slots = roomy()
    place = at(slots)
    # A pod may start minutes after the time in the name of its Job.
    begun = slots.turn - slots.every
    processes = [host(AHEAD), host(BEHIND), *others(begun + 60)]
    one_trigger(processes, rfc3339(begun), place, run)


def test_hosts_that_publish_when_their_own_clocks_begin_the_slot_share_it_with_all_others(at, run):
    slots = turning(6)
    place = at(slots)
    processes = []
    for moment, start in [
        (slots.turn - AHEAD, lambda: [host(AHEAD)]),
        (slots.turn, lambda: others(slots.turn + 60)),
        (slots.turn - BEHIND, lambda: [host(BEHIND)]),
    ]:
        time.sleep(max(0, moment - time.time()))
        processes += start()
    *first, second = processes
    one_trigger([second, *first], slots.next, place, run)


def test_the_commands_of_the_page(run, installed, place, monkeypatch):
    section = (ROOT / "docs" / "scheduling.md").read_text().partition("\n## Several at once\n")[2].partition("\n## ")[0]
    (block,) = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    monkeypatch.setenv("CRYPTO_TRIGGER_EVERY", f"{roomy().every}s")
    monkeypatch.setenv("PATH", f"{installed.folder}/bin:{os.environ['PATH']}")
    assert run("setup").status == 0
    ended = do("bash", "-ec", block)
    assert len(stored(place.url, place.stream)) == 1
    assert (ended.status, ended.err) == (0, "")
    assert Counter(line.split()[0] for line in ended.out.splitlines()) == {
        "published": 1,
        "duplicate:": 1,
        "TRIGGER": 1,
    }
