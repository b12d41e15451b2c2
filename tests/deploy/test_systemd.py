"""deploy/systemd: its units, checked by systemd's own tools and run by a real systemd."""

import re
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support.booted import booted
from support.clocks import rfc3339, roomy, turning
from support.patience import until
from support.processes import execute
from support.programs import program
from support.scripted import Scripted
from support.shell import ROOT, do
from support.streams import put, stored

from crypto_trigger.commands.server import Server
from crypto_trigger.settings.load import load
from crypto_trigger.slots.times import duration

FOLDER = ROOT / "deploy" / "systemd"
PUBLISH, CHECK = "crypto-trigger.service", "crypto-trigger-check.service"
ALERT, RECOVERED = "crypto-trigger-alert@.service", "crypto-trigger-recovered@.service"
SERVICES, TIMERS = (PUBLISH, CHECK), ("crypto-trigger.timer", "crypto-trigger-check.timer")
UNITS = (*SERVICES, *TIMERS, ALERT, RECOVERED)
DEFAULTS = load({}, "/dev/null", {})
HOME, ENV_FILE = "/opt/crypto-trigger", "/etc/crypto-trigger.env"
MAILBOX = "/var/mail/sent"
STATE = "/var/lib/crypto-trigger/check"
FOLDER_OF_METRICS = "/var/lib/prometheus/node-exporter"
PAGE = (ROOT / "docs" / "scheduling.md").read_text()
SECTION = re.search(r"^## systemd\n(.*?)(?=^## )", PAGE, re.MULTILINE | re.DOTALL)[1]


def unit(name):
    """The lines of a unit that are in force: section and name -> values."""
    found, section = {}, ""
    for line in (FOLDER / name).read_text().splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault((section, key), []).append(value)
    return found


def one(name, section, key):
    (value,) = unit(name)[section, key]
    return value


def span(text):
    """A time span of systemd's."""
    ((number, of),) = re.findall(r"^(\d+)(s|min)$", text)
    return timedelta(seconds=int(number) * {"s": 1, "min": 60}[of])


def test_the_folder_holds_what_is_tested_here():
    assert {path.name for path in FOLDER.iterdir()} == set(UNITS)


def test_systemd_finds_no_fault_with_the_units(tmp_path):
    for name in UNITS:
        text = (FOLDER / name).read_text().replace(f"{HOME}/bin/crypto-trigger", sys.executable)
        (tmp_path / name).write_text(text)
    verify = program("systemd-analyze"), "verify", *sorted(tmp_path.iterdir())
    assert do(*verify)[:3] == (0, "", "")
    (tmp_path / CHECK).write_text((tmp_path / CHECK).read_text() + "NoSuchThing=yes\n")
    assert "NoSuchThing" in do(*verify).err


def test_systemd_calls_the_sandbox_tight():
    for name in SERVICES:
        asked = do(program("systemd-analyze"), "security", "--offline=true", "--threshold=15", FOLDER / name)
        assert asked.status == 0, asked
        assert f"Overall exposure level for {name}: 1.2 OK" in asked.out


def test_both_services_have_the_same_sandbox():
    ours = {"ExecStart", "Environment", "TimeoutStartSec", "StateDirectory"}
    publish, check = (
        {key: value for (section, key), value in unit(name).items() if section == "Service" and key not in ours}
        for name in SERVICES
    )
    assert publish == check
    assert len(publish) > 20


def test_a_run_ends_by_itself_before_systemd_ends_it_and_before_its_slot_does():
    for name in SERVICES:
        (variable,) = unit(name)["Service", "Environment"]
        limit = duration(variable.removeprefix("CRYPTO_TRIGGER_GIVE_UP_AFTER="))
        assert limit < span(one(name, "Service", "TimeoutStartSec")) < DEFAULTS.every


def test_no_start_is_refused_and_none_is_repeated():
    for name in SERVICES:
        assert unit(name).get(("Unit", "StartLimitIntervalSec"), ["0"]) == ["0"]
        assert ("Service", "Restart") not in unit(name)
    # A check that is started more often than the default limit allows would be refused; it has no reason to be.
    assert one(PUBLISH, "Unit", "StartLimitIntervalSec") == "0"


def test_the_timers_fire_once_a_slot():
    minutes = DEFAULTS.every // timedelta(minutes=1)
    assert one("crypto-trigger.timer", "Timer", "OnCalendar") == f"*:0/{minutes}"
    first, every = re.fullmatch(r"\*:(\d+)/(\d+)", one("crypto-trigger-check.timer", "Timer", "OnCalendar")).groups()
    assert int(every) == minutes
    # Past the grace of `check`, and before the next slot.
    assert DEFAULTS.every / 3 < timedelta(minutes=int(first)) < DEFAULTS.every
    for name in TIMERS:
        assert one(name, "Timer", "AccuracySec") == "1s"
        assert ("Timer", "RandomizedDelaySec") not in unit(name)
        asked = do(program("systemd-analyze"), "calendar", "--iterations=2", one(name, "Timer", "OnCalendar"))
        assert asked.status == 0


# With a real systemd.


def put_program(system, installed):
    """Install the program where the units expect it."""
    python = system.add_python()
    system.must("mkdir", HOME)
    system.must(python, "-m", "venv", "--without-pip", HOME)
    (site_packages,) = installed.site_packages
    system.must("mount", "--bind", site_packages, f"{HOME}/lib/{Path(python).name}/site-packages")
    _, _, code = Path(installed.program).read_text().partition("import ")
    system.write(f"{HOME}/bin/crypto-trigger", f"#!{HOME}/bin/python\nimport {code}", 0o755)


@pytest.fixture(scope="module")
def system(installed):
    """A systemd that has the program where the units expect it, and puts mail into a file."""
    with booted(ROOT, installed.folder) as running:
        put_program(running, installed)
        keep = f'mkdir -p {MAILBOX}\n{{ echo "$@"; cat; }} >{MAILBOX}.$$\nmv {MAILBOX}.$$ {MAILBOX}/$(date +%s.%N)'
        running.write("/usr/bin/mail", f"#!/bin/sh\n{keep}\n", 0o755)
        yield running


def greets(talk):
    """A server that says nothing more."""
    talk.welcome()
    talk.listen()


class Host:
    """The systemd with our units as they are, and an env file that names the test's own place."""

    def __init__(self, system, place):
        self.system = system
        self.place = place
        self._settings = {
            "NATS_URL": place.url,
            "CRYPTO_TRIGGER_STREAM": place.stream,
            "CRYPTO_TRIGGER_SUBJECT": place.subject,
            **roomy().settings,
            # The failures of these tests do not depend on how often a run tries.
            "CRYPTO_TRIGGER_BACKOFF_BASE": "50ms",
            "CRYPTO_TRIGGER_BACKOFF_MAX": "100ms",
        }
        self.set()
        for name in UNITS:
            system.write(f"/etc/systemd/system/{name}", (FOLDER / name).read_text())
        system.must("systemctl", "daemon-reload")
        self.since = system.must("date", "+%s.%N").strip()

    def set(self, **changed):
        """Write the env file."""
        lines = [f"{name}={value}\n" for name, value in {**self._settings, **changed}.items()]
        self.system.write(ENV_FILE, "".join(lines), 0o600)

    def edit(self, service, text):
        """Add to a service, as `systemctl edit` does."""
        self.system.write(f"/etc/systemd/system/{service}.d/override.conf", text)
        self.system.must("systemctl", "daemon-reload")

    def start(self, service):
        """Start a service, and wait for its end, all tries included; its result and the status of the last one."""
        self.system.do("systemctl", "start", service)
        return self.ended(service)

    def ended(self, service):
        until(lambda: self.system.shown(service, "ActiveState") in ("inactive", "failed"), service)
        return self.system.shown(service, "Result"), int(self.system.shown(service, "ExecMainStatus"))

    def said(self, service):
        """What the program has said in the journal, a line each."""
        match = ("--unit", service, "--identifier", "crypto-trigger")
        return self.system.must("journalctl", "-q", "-o", "cat", "--since", f"@{self.since}", *match).splitlines()

    def mails(self, count):
        """The mails that were sent, once there are so many."""
        folder = self.system.root / MAILBOX.lstrip("/")
        until(lambda: folder.exists() and len(list(folder.iterdir())) >= count, f"{count} mails")
        self._alerts_end()
        return [path.read_text() for path in sorted(folder.iterdir())]

    def mail(self):
        """The only mail that was sent."""
        (mail,) = self.mails(1)
        return mail

    def mailed_nothing(self):
        """Whether no mail was sent, once those who may send one have ended."""
        self._alerts_end()
        return not (self.system.root / MAILBOX.lstrip("/")).exists()

    def _alerts_end(self):
        running = ("list-units", "--plain", "--no-legend", "--state=activating,active")
        until(
            lambda: not self.system.must("systemctl", *running, "crypto-trigger-alert@*", "crypto-trigger-recovered@*")
        )

    def at(self, moment):
        """Let the timer fire at this moment alone, in seconds since the epoch."""
        text = f"[Timer]\nOnCalendar=\nOnCalendar={datetime.fromtimestamp(moment, UTC):%Y-%m-%d %H:%M:%S} UTC\n"
        self.edit("crypto-trigger.timer", text)
        self.system.must("systemctl", "start", "crypto-trigger.timer")

    def held(self):
        return len(stored(self.place.url, self.place.stream))

    def slots(self):
        """The slots that the stream holds triggers of."""
        return [message.headers["ce-time"] for message in stored(self.place.url, self.place.stream)]

    def clear(self):
        """Take away what a test has left."""
        self.system.must("systemctl", "disable", "--now", *TIMERS)
        self.system.do("systemctl", "stop", *SERVICES)
        self.system.do("systemctl", "reset-failed", *SERVICES)
        self._alerts_end()
        changed = (f"/etc/systemd/system/{name}.d" for name in (*SERVICES, *TIMERS))
        self.system.must("rm", "-rf", *changed, MAILBOX, f"/var/lib/private/{Path(STATE).parent.name}")


@pytest.fixture
def host(system, place, run):
    assert run("setup").status == 0
    found = Host(system, place)
    yield found
    found.clear()


def test_the_timer_catches_up_on_a_slot_and_the_next_run_in_it_is_a_duplicate(host):
    host.system.must("mkdir", "-p", "/var/lib/systemd/timers")
    host.system.must("touch", "--date=1 hour ago", "/var/lib/systemd/timers/stamp-crypto-trigger.timer")
    host.system.must("rm", *(f"/etc/systemd/system/{name}" for name in UNITS))
    (block,) = re.findall(r"```sh\n(.*?)```", SECTION, re.DOTALL)
    copy, *commands = block.splitlines()
    assert f" {ENV_FILE} " in copy
    host.system.must("bash", "-ec", "\n".join([f"cd {ROOT}", copy.replace(ENV_FILE, "/etc/copy.env"), *commands]))
    assert "\nNATS_URL=" in host.system.must("cat", "/etc/copy.env")
    until(host.held, "the trigger")
    assert host.ended(PUBLISH) == ("success", 0)
    assert host.start(PUBLISH) == ("success", 0)
    assert host.held() == 1
    assert [line.partition(" ")[0] for line in host.said(PUBLISH)] == ["published", "duplicate:"]
    assert host.start(CHECK) == ("success", 0)
    # It was never anything else.
    answered, known = host.said(CHECK)
    assert answered.endswith(f"{host.place.url} answered")
    assert " not printed again, " in known
    assert "TRIGGER OK - " in known
    assert host.mailed_nothing()
    listed = host.system.must("systemctl", "list-timers", "--all")
    assert all(f"{timer} " in listed for timer in TIMERS)


AWAY = {"NATS_URL": "nats://127.0.0.1:1"}
SOON = "[Service]\nEnvironment=CRYPTO_TRIGGER_GIVE_UP_AFTER=300ms\n"


def test_without_a_server_each_run_fails_once_and_is_mailed_once(host):
    host.edit(PUBLISH, SOON)
    host.set(**AWAY)
    for number in (1, 2):
        assert host.start(PUBLISH) == ("exit-code", 69)
        mails = host.mails(number)
        assert len(mails) == number
        assert mails[-1].startswith(f"-s {PUBLISH} failed on ")
        assert mails[-1].count("connection refused") == number
    assert len(host.said(PUBLISH)) == 2
    # One by hand is not refused, once the server is there.
    host.set()
    assert host.start(PUBLISH) == ("success", 0)
    assert host.held() == 1
    assert len(host.mails(2)) == 2


@pytest.mark.parametrize("nats", ["away", "there"])
def test_however_many_starts_came_before_a_slot_the_timer_starts_its_run(nats, host):
    """A start limit would refuse it, and no mail would come: the unit has failed already."""
    slots = turning(15)
    settings = {**slots.settings, "CRYPTO_TRIGGER_EARLY": "0s"}
    host.edit(PUBLISH, SOON)
    host.set(**settings, **(AWAY if nats == "away" else {}))
    host.at(slots.turn)
    for _ in range(3):
        host.start(PUBLISH)
    assert time.time() < slots.turn, "too slow to come before the slot"
    before = len(host.said(PUBLISH))
    assert before == 3
    until(lambda: len(host.said(PUBLISH)) == before + 1, "the timer's run", 60)
    result = host.ended(PUBLISH)
    assert host.system.shown("crypto-trigger.timer", "Result") == "success"
    if nats == "away":
        assert result == ("exit-code", 69)
        assert len(host.mails(before + 1)) == before + 1
        assert slots.next in host.said(PUBLISH)[-1]
    else:
        assert result == ("success", 0)
        assert host.slots() == [rfc3339(slots.turn - slots.every), slots.next]
        assert host.mailed_nothing()


def test_a_run_by_hand_is_over_before_the_timer_starts_that_of_the_next_slot(host):
    """systemd drops the start of a service that is running. The deadline is that of the unit, ten minutes."""
    slots = turning(8, shortest=600)
    host.set(**slots.settings, **AWAY)
    host.at(slots.turn)
    host.system.must("systemctl", "start", "--no-block", PUBLISH)
    until(lambda: host.system.shown(PUBLISH, "ActiveState") == "activating", "the run by hand")
    # The next run reads it.
    host.set(**slots.settings)
    until(host.held, "the trigger of the timer's run", 120)
    assert host.slots() == [slots.next]
    mail = host.mail()
    assert rfc3339(slots.turn - slots.every) in mail
    assert "until the end of its slot" in mail
    assert host.ended(PUBLISH) == ("success", 0)


def test_a_run_that_is_killed_is_not_repeated_and_told_at_once(host):
    host.set(**AWAY)
    host.system.must("systemctl", "start", "--no-block", PUBLISH)
    until(lambda: int(host.system.shown(PUBLISH, "MainPID")), "the run")
    host.system.must("systemctl", "kill", "--signal=KILL", PUBLISH)
    assert host.ended(PUBLISH) == ("signal", 9)
    assert host.mail().startswith(f"-s {PUBLISH} failed on ")
    assert host.system.shown(PUBLISH, "NRestarts") == "0"


def test_a_run_that_systemd_ends_because_it_takes_too_long_is_told(host):
    host.edit(PUBLISH, "[Service]\nTimeoutStartSec=1s\n")
    host.set(**AWAY)
    assert host.start(PUBLISH)[0] == "timeout"
    assert "interrupted by SIGTERM" in host.mail()


@pytest.mark.parametrize(("service", "deadline"), [(PUBLISH, "10m"), (CHECK, "60s")])
def test_the_deadline_is_that_of_the_unit_unless_the_operator_leaves_it_to_the_env_file(service, deadline, host):
    host.set(CRYPTO_TRIGGER_GIVE_UP_AFTER="7s")
    program, env_file = f"{HOME}/bin/crypto-trigger", "${CREDENTIALS_DIRECTORY}/crypto-trigger.env"
    config = f"ExecStart=\nExecStart={program} config --env-file {env_file}"
    (edited,) = re.findall(r"`(Environment=CRYPTO_TRIGGER_GIVE_UP_AFTER=)`", SECTION)
    for text, value in ((config, deadline), (f"{config}\n{edited}", "7s")):
        host.edit(service, f"[Service]\n{text}\n")
        assert host.start(service) == ("success", 0)
        said = [line for line in host.said(service) if line.startswith("CRYPTO_TRIGGER_GIVE_UP_AFTER = ")]
        assert said[-1].startswith(f"CRYPTO_TRIGGER_GIVE_UP_AFTER = {value}  (")


def test_slots_of_an_hour(host):
    blocks = re.findall(r"```ini\n# ([\w.-]+).*?\n(.*?)```", SECTION, re.DOTALL)
    assert [name for name, _ in blocks] == [*TIMERS, PUBLISH]
    for name, text in blocks:
        host.edit(name, text)
    for timer, minute in zip(TIMERS, ("00", "22"), strict=True):
        (calendar,) = re.findall(r"OnCalendar=(.*?) ;", host.system.shown(timer, "TimersCalendar"))
        assert calendar == f"*-*-* *:{minute}:00"
    hour = timedelta(hours=1)
    # As for the units themselves: the check is past the grace, and a run ends by itself within its slot.
    assert hour / 3 < timedelta(minutes=22) < hour
    (deadline,) = re.findall(r"GIVE_UP_AFTER=(\w+)", blocks[-1][1])
    (timeout,) = re.findall(r"TimeoutStartSec=(\w+)", blocks[-1][1])
    assert duration(deadline) < span(timeout) < hour
    host.set(CRYPTO_TRIGGER_EVERY="1h")
    assert host.start(PUBLISH) == ("success", 0)
    assert host.slots()[0][13:] == ":00:00Z"
    assert host.start(CHECK) == ("success", 0)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda host: host.set(CRYPTO_TRIGGER_EVERY="banana"), "CRYPTO_TRIGGER_EVERY 'banana' "),
        (lambda host: host.system.must("rm", ENV_FILE), f"'{ENV_FILE} is missing' "),
        (lambda host: host.set(NATS_CREDS="/root/nats.creds"), "NATS_CREDS '/root/nats.creds' "),
    ],
    ids=["a wrong setting", "no env file", "a file that the sandbox hides"],
)
def test_what_another_run_cannot_change_is_mailed_at_once_and_named(change, says, host):
    change(host)
    assert host.start(PUBLISH) == ("exit-code", 78)
    assert host.held() == 0
    (line,) = host.said(PUBLISH)
    assert says in line
    assert line in host.mail()


def test_an_incident_is_mailed_once_by_the_check_and_its_end_once(host):
    assert host.start(CHECK) == ("success", 0)  # the stream is young
    assert host.mailed_nothing()
    second = {"CRYPTO_TRIGGER_EVERY": "1s", "CRYPTO_TRIGGER_EARLY": "0s"}
    host.edit(CHECK, "[Service]\nEnvironment=CRYPTO_TRIGGER_GIVE_UP_AFTER=900ms\n")
    host.set(**second)
    put(host.place.url, host.place.subject)
    until(lambda: execute("check", CRYPTO_TRIGGER_GIVE_UP_AFTER="900ms", **second).status == 2, "a missed slot")
    for _ in range(3):
        assert host.start(CHECK) == ("exit-code", 2)
    mail = host.mail()
    assert mail.startswith(f"-s {CHECK} failed on ")
    (line,) = (line for line in host.said(CHECK) if line.startswith("TRIGGER "))
    assert line.startswith("TRIGGER CRITICAL - missed ")
    assert line in mail
    # The journal has the answers that were not mailed.
    assert sum(" not printed again, " in line for line in host.said(CHECK) if "TRIGGER CRITICAL - missed " in line) == 2
    host.set()
    for _ in range(3):
        assert host.start(CHECK) == ("success", 0)
    first, over = host.mails(2)
    assert first == mail
    assert over.startswith(f"-s {CHECK} is OK again on ")
    assert over.splitlines()[1].startswith("TRIGGER OK - ")
    assert host.system.must("cat", STATE).startswith("OK ")


def test_a_check_that_is_killed_is_mailed_though_the_one_before_was_as_well(host):
    """What it would have said is not known."""
    host.edit(CHECK, "[Service]\nTimeoutStartSec=1s\n")
    with Scripted(greets) as server:
        host.set(NATS_URL=server.url)
        for number in (1, 2):
            host.system.must("systemctl", "start", "--no-block", CHECK)
            until(lambda: int(host.system.shown(CHECK, "MainPID")), "the check")
            host.system.must("systemctl", "kill", "--signal=KILL", CHECK)
            assert host.ended(CHECK) == ("signal", 9)
            assert len(host.mails(number)) == number


def test_a_check_that_is_ok_leaves_nothing_of_the_unit_that_would_tell_its_end_in_the_journal(host):
    assert host.start(CHECK) == ("success", 0)
    assert host.mailed_nothing()
    told = host.system.must("journalctl", "-q", "-o", "cat", "--since", f"@{host.since}")
    assert "Check that every slot has its trigger" in told
    assert "is OK again" not in told


def test_the_program_gets_its_credentials(host):
    with Server(arguments=["--user", "worker", "--pass", "right"]) as server:
        url = server.url.replace("://", "://worker:right@")
        assert do(sys.executable, "-m", "crypto_trigger", "setup", "--server", url).status == 0
        host.system.write("/etc/crypto-trigger.password", "right", 0o600)
        host.edit(PUBLISH, "[Service]\nLoadCredential=password:/etc/crypto-trigger.password\n")
        host.set(NATS_URL=server.url, NATS_USER="worker", NATS_PASSWORD_FILE="${CREDENTIALS_DIRECTORY}/password")
        assert host.start(PUBLISH) == ("success", 0)
        assert len(stored(url, host.place.stream)) == 1


def test_the_program_writes_nowhere_but_where_an_operator_lets_it(host):
    path = f"{FOLDER_OF_METRICS}/crypto-trigger.prom"
    # As Debian's package of node_exporter has it.
    host.system.must("install", "-d", "-o", "root", "-g", "root", "-m", "0755", FOLDER_OF_METRICS)
    host.set(CRYPTO_TRIGGER_METRICS_FILE=path)
    assert host.start(PUBLISH) == ("success", 0)
    assert host.held() == 1
    assert any(line.startswith("crypto-trigger: warning: ") and path in line for line in host.said(PUBLISH))
    block = next(block for block in re.findall(r"```ini\n(.*?)```", SECTION, re.DOTALL) if "ReadWritePaths" in block)
    assert f"ReadWritePaths={FOLDER_OF_METRICS}\n" in block
    host.edit(PUBLISH, block.replace("User=prometheus", "User=daemon"))
    assert host.start(PUBLISH) == ("success", 0)
    assert f"{path}: permission denied" in host.said(PUBLISH)[-1]
    (permit,) = re.findall(r"`(chgrp [^`]*)`", SECTION)
    host.system.must("sh", "-euc", permit.replace("chgrp prometheus", "chgrp daemon"))
    assert host.start(PUBLISH) == ("success", 0)
    assert "crypto_trigger_last_run_exit_status" in (host.system.root / path.lstrip("/")).read_text()
