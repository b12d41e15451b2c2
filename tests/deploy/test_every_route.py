"""Everything goes wrong once. Each route tells the operator of it, with its slot, and says nothing before and after."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import uuid4

from prometheus_client.parser import text_string_to_metric_families
from support.clocks import clock, rfc3339, roomy
from support.consumers import add_consumer, consumer_info
from support.monitors import FAILURE, SUCCESS, Monitor
from support.patience import until
from support.planted import planting, trigger
from support.processes import execute
from support.promtool import Prometheus
from support.streams import client, put, stored

from crypto_trigger.commands.server import Server
from crypto_trigger.monitoring.verdict import Level

NAGIOS, JSON, METRICS, HISTORY = "check", "check --json", "check --format prometheus", "history"
PING, TEXTFILE, LOG, TERMINATION = "ping", "textfile", "JSON log", "termination log"
LOOKED, RAN = {NAGIOS, JSON, METRICS, HISTORY}, {PING, TEXTFILE, LOG, TERMINATION}
# How many slots `check` and `history` look at.
WINDOW = 4
AHEAD = timedelta(hours=2)
TWO_HOURS = re.compile(r"the clock of this host is (2h|1h59m5[0-9])[0-9.ms]* ahead of the server's")
# What tells of one slot among the metrics of a check.
TIMES = ("window_newest_missed_slot_timestamp_seconds", "consumer_oldest_unacknowledged_timestamp_seconds")
SUCCESS_OF_A_JOB = 'kube_cronjob_status_last_successful_time{{namespace="prices",cronjob="crypto-trigger"}} {:.0f}\n'
# An API server: it takes each trigger and acknowledges it.
API_SERVER = """
import asyncio, sys, nats
async def main(url, stream, consumer):
    connection = await nats.connect(url)
    bound = await connection.jetstream().pull_subscribe_bind(consumer=consumer, stream=stream)
    while True:
        try:
            for message in await bound.fetch(1, timeout=60):
                await message.ack()
        except nats.errors.TimeoutError:
            pass
asyncio.run(main(*sys.argv[1:]))
"""


class Told(NamedTuple):
    """What the routes say, those that say something; and the metrics for Prometheus, whatever they say."""

    routes: dict[str, str]
    metrics: str


class Operator:
    """Somebody who has set up every route for one stream."""

    def __init__(self, url, slots, run, monkeypatch, monitor, folder):
        name = f"t{uuid4().hex[:12]}"
        self.url, self.stream, self.subject = url, name, f"{name}.update"
        self.slots, self.monitor = slots, monitor
        self.present = datetime.fromtimestamp(slots.turn - slots.every, UTC)
        self.textfile, self.checked, self.report = (folder / f"{name}.{end}" for end in ("run", "check", "report"))
        self._run = run
        environ = {
            "NATS_URL": url,
            "CRYPTO_TRIGGER_STREAM": name,
            "CRYPTO_TRIGGER_SUBJECT": self.subject,
            "CRYPTO_TRIGGER_METRICS_FILE": str(self.textfile),
            "CRYPTO_TRIGGER_REPORT_FILE": str(self.report),
            "CRYPTO_TRIGGER_LOG_FORMAT": "json",
            **monitor.environ,
            **slots.settings,
        }
        for variable, value in environ.items():
            monkeypatch.setenv(variable, value)

    def slot(self, back=0):
        """The start of a slot, counted back from the present one."""
        return rfc3339(self.present.timestamp() - back * self.slots.every)

    def start(self, back=0):
        """The same, as a time."""
        return datetime.fromisoformat(self.slot(back))

    def ended(self):
        """When the last run ended, in seconds since the epoch."""
        return datetime.fromisoformat(json.loads(self.report.read_text())["time"]).timestamp()

    def set_up(self):
        """Create the stream."""
        assert self._run("setup").status == 0

    def held(self):
        """The slots that the stream holds triggers of."""
        return [message.headers["ce-time"] for message in stored(self.url, self.stream)]

    def publish(self, status, *argv, ahead=None):
        """Run `publish`; what the routes say of it."""
        self.report.write_text("")
        pings = len(self.monitor.told)
        run = execute if ahead else self._run
        ended = run("publish", *argv, **(clock(ahead) if ahead else {}))
        assert ended.status == status, ended
        found = {}
        (meaning,) = self.monitor.told[pings:]
        if meaning == FAILURE:
            found[PING] = self.monitor.asked[-1].body.decode()
        assert (meaning == SUCCESS) == (status == 0)
        lines = [json.loads(line) for line in ended.err.splitlines()]
        if any(line["level"] != "info" for line in lines):
            found[LOG] = json.dumps(lines)
        report = json.loads(self.report.read_text())
        if not {"error", "warnings"}.isdisjoint(report):
            found[TERMINATION] = json.dumps(report)
        values = metrics(self.textfile.read_text())
        if values["last_run_exit_status"]:
            found[TEXTFILE] = f"status {status}, slot {rfc3339(values['last_run_slot_timestamp_seconds'])}"
        return Told(found, self.textfile.read_text())

    def check(self, *argv):
        """Run `check`."""
        return self._run("check", "--since", f"{WINDOW * self.slots.every}s", *argv)

    def look(self, *argv, ahead=None, limit="20s"):
        """Run `check` in its three formats, and `history`; what they say."""
        run = (lambda *arguments: execute(*arguments, **clock(ahead))) if ahead else self._run
        since = ("--since", f"{WINDOW * self.slots.every}s", "--give-up-after", limit)
        nagios = run("check", *since, *argv)
        as_json = run("check", *since, *argv, "--json")
        run("check", *since, *argv, "--format", "prometheus", "--output-file", self.checked)
        history = run("history", *since)
        found = {}
        if nagios.status:
            found[NAGIOS] = nagios.out
        answer = json.loads(as_json.out)
        if answer["status"] != "OK":
            found[JSON] = json.dumps(answer.get("critical", []) + answer.get("warning", []))
        written = self.checked.read_text()
        values = metrics(written)
        if values["check_status"]:
            found[METRICS] = f"status {values['check_status']:.0f}" + "".join(
                f", {name} {self._slot_of(values[name])}" for name in TIMES if name in values
            )
        bad = [line for line in history.out.splitlines() if line.split()[1] in ("missed", "overdue")]
        if history.status or bad:
            found[HISTORY] = "\n".join([*bad, history.err])
        assert nagios.status == as_json.status == values["check_status"]
        return Told(found, written)

    def _slot_of(self, moment):
        return self.slots.of(datetime.fromtimestamp(moment, UTC))


def metrics(text):
    """The values of a file of metrics by name."""
    return {
        sample.name.removeprefix("crypto_trigger_"): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


class Rules:
    """What the alert rules make of the metrics. It is asked for at the end, because promtool may be missing."""

    def __init__(self, folder):
        self._folder, self._cases = folder, []

    def expect(self, slots, alert, slot, scraped, at, beside=()):
        """Expect this alert, which names the slot, or none; and no others but those that may fire beside it.

        `scraped` maps texts to the times at which they were scraped every minute: from and to, in seconds from the
        start of the present slot. `at` is the time at which the alerts fire.
        """
        self._cases.append((slots, alert, slot, scraped, at, beside))

    def hold(self):
        """Ask promtool."""
        for number, (slots, alert, slot, scraped, at, beside) in enumerate(self._cases):
            (folder := self._folder / f"rules-{number}").mkdir()
            past = WINDOW * slots.every
            prometheus = Prometheus(folder, slots.turn - slots.every - past, slots.every)
            for text, (first, last) in scraped.items():
                prometheus.scrape("web-1", text, range((past + first) // 60, (past + last) // 60 + 1))
            minute = (past + at) // 60
            fired = [found for found in prometheus.alerts([minute])[minute] if found.name not in beside]
            assert {found.name for found in fired} == ({alert} if alert else set()), (number, fired)
            named = slot and prometheus.slot(datetime.fromisoformat(slot).timestamp())
            assert all(named in found.summary for found in fired), (number, fired)


def test_each_route_tells_of_the_slot_and_says_nothing_before_and_after(run, monkeypatch, tmp_path):
    rules = Rules(tmp_path)
    with Monitor() as monitor:

        def operator(url):
            return Operator(url, roomy(), run, monkeypatch, monitor, tmp_path)

        with planting() as planter:
            a_slot_is_skipped(planter, operator, rules)
            the_clocks_are_wrong(planter, operator)
        with Server() as server:
            the_server_is_killed(server, operator, rules)
            a_run_fails(server, operator, rules)
            the_consumer_is_frozen(server, operator, rules)
    rules.hold()


def a_slot_is_skipped(planter, operator, rules):
    """The same hole, before it comes, while `check` and `history` look at it, and afterwards."""
    for hole, seen in ((None, False), (2, True), (WINDOW + 1, False)):
        op = operator(planter.url)
        past = [back for back in range(WINDOW + 4, 0, -1) if back != hole]
        planter.plant(op.stream, op.subject, [trigger(op.start(back), timedelta(seconds=0.4)) for back in past])
        ran = op.publish(0)
        assert op.held() == [op.slot(back) for back in (*past, 0)]
        assert ran.routes == {}
        looked = op.look()
        assert set(looked.routes) == (LOOKED if seen else set())
        assert all(op.slot(hole) in said for said in looked.routes.values())
        alert = ("CryptoTriggerMissed", op.slot(hole)) if seen else (None, None)
        rules.expect(op.slots, *alert, {looked.metrics: (0, op.slots.every)}, op.slots.every)
        if hole:
            continue
        # No run, no check and no Job comes after these: the next slot is missed as well, and is late before that.
        turn, after = op.slots.every, op.slot(-1)
        job = SUCCESS_OF_A_JOB.format(op.ended())
        for name, text in (
            ("CryptoTriggerNotPublished", ran.metrics),
            ("CryptoTriggerLate", looked.metrics),
            ("CryptoTriggerCronJobMissed", job),
        ):
            rules.expect(op.slots, None, None, {text: (0, turn + 500)}, turn + 500)
            rules.expect(op.slots, name, after, {text: (0, turn + 900)}, turn + 900)


def the_clocks_are_wrong(planter, operator):
    """Those of a host that publishes, of one that checks, and of a publisher that is not ours."""
    op = operator(planter.url)
    planter.plant(op.stream, op.subject, [trigger(op.start(back), timedelta(seconds=0.4)) for back in (3, 2, 1)])
    ran = op.publish(0, ahead=AHEAD)
    assert op.held() == [op.slot(back) for back in (3, 2, 1, 0)]
    assert set(ran.routes) == {LOG, TERMINATION}
    assert all(TWO_HOURS.search(said) and op.slot() in said for said in ran.routes.values())
    assert op.publish(0).routes == {}

    assert op.look().routes == {}
    wrong = op.look(ahead=AHEAD)
    assert set(wrong.routes) == {NAGIOS, JSON, METRICS}
    assert all(TWO_HOURS.search(wrong.routes[route]) for route in (NAGIOS, JSON))
    assert wrong.routes[METRICS] == "status 1"
    assert op.look().routes == {}

    put(planter.url, op.subject, b"", {"ce-time": op.slot(-2), "ce-source": "//other"})
    other = op.look()
    assert set(other.routes) == {NAGIOS, JSON, METRICS}
    assert all("//other is at least" in other.routes[route] for route in (NAGIOS, JSON))
    assert all(f"its trigger for {op.slot(-2)} was stored at" in other.routes[route] for route in (NAGIOS, JSON))
    put(planter.url, op.subject, b"", {"ce-time": op.slot(), "ce-source": "//other"})
    assert op.look().routes == {}


def the_server_is_killed(server, operator, rules):
    op = operator(server.url)
    op.set_up()
    assert op.publish(0).routes == {}
    before = op.look()
    assert before.routes == {}
    server.stop(signal.SIGKILL)
    failed = op.publish(69, "--give-up-after", "500ms")
    assert set(failed.routes) == RAN
    assert all(op.slot() in said for said in failed.routes.values())
    away = op.look(limit="1s")
    assert set(away.routes) == LOOKED
    assert all("connection refused" in away.routes[route] for route in (NAGIOS, JSON, HISTORY))
    assert away.routes[METRICS] == "status 2"
    rules.expect(op.slots, "CryptoTriggerRunFailed", op.slot(), {failed.metrics: (0, 180)}, 180)
    scraped = {before.metrics: (-900, -60), away.metrics: (0, 780)}
    rules.expect(op.slots, "CryptoTriggerCheckNotOk", op.slot(), scraped, 780)
    server.start()
    again = op.publish(0)
    assert op.held() == [op.slot()]
    assert again.routes == op.look().routes == {}
    rules.expect(op.slots, None, None, {failed.metrics: (0, 180), again.metrics: (240, 300)}, 300)


def a_run_fails(server, operator, rules):
    """The stream does not take so large a message any more, and then does again."""
    op = operator(server.url)
    op.set_up()
    well = op.publish(0)
    assert well.routes == {}
    set_limit(op, 10)
    failed = op.publish(65, "--force")
    assert op.held() == [op.slot()]
    assert set(failed.routes) == RAN
    assert all(op.slot() in said for said in failed.routes.values())
    set_limit(op, -1)
    again = op.publish(0)
    assert again.routes == {}
    rules.expect(op.slots, None, None, {well.metrics: (0, 180)}, 180)
    rules.expect(op.slots, "CryptoTriggerRunFailed", op.slot(), {failed.metrics: (0, 180)}, 180)
    rules.expect(op.slots, None, None, {failed.metrics: (0, 180), again.metrics: (240, 300)}, 300)


def set_limit(op, size):
    """Set the size of the largest message that the stream takes."""

    async def update():
        async with client(op.url) as connection:
            js = connection.jetstream()
            config = (await js.stream_info(op.stream)).config
            config.max_msg_size = size
            await js.update_stream(config)

    asyncio.run(update())


def the_consumer_is_frozen(server, operator, rules):
    op = operator(server.url)
    op.set_up()
    add_consumer(op.url, op.stream, "api-server")
    # A trigger may wait for a moment, and not for longer.
    look = ("--consumer", "api-server", "--consumer-warn", "100ms", "--consumer-critical", "200ms")
    with subprocess.Popen([sys.executable, "-c", API_SERVER, op.url, op.stream, "api-server"]) as api_server:
        try:
            assert op.publish(0).routes == {}
            until(lambda: acknowledged(op) == 1)
            assert op.look(*look).routes == {}
            api_server.send_signal(signal.SIGSTOP)
            assert op.publish(0, "--force").routes == {}
            assert op.held() == [op.slot()] * 2
            until(lambda: op.check(*look).status == Level.CRITICAL)
            frozen = op.look(*look)
            assert set(frozen.routes) == {NAGIOS, JSON, METRICS}
            assert all(op.slot() in said for said in frozen.routes.values())
            assert "api-server has not acknowledged it" in frozen.routes[NAGIOS]
            api_server.send_signal(signal.SIGCONT)
            until(lambda: acknowledged(op) == 2)
            thawed = op.look(*look)
            assert thawed.routes == {}
        finally:
            api_server.kill()
    every, late = op.slots.every, ("CryptoTriggerLate",)  # for want of another trigger in all that time
    went_on = {frozen.metrics: (0, every + 900)}
    rules.expect(op.slots, "CryptoTriggerNotConsumed", op.slot(), went_on, every + 900, late)
    rules.expect(op.slots, None, None, {frozen.metrics: (0, 300), thawed.metrics: (360, every + 300)}, every + 300)


def acknowledged(op):
    """Up to which sequence the consumer has acknowledged every trigger."""
    return consumer_info(op.url, op.stream, "api-server")["ack_floor"]["stream_seq"]
