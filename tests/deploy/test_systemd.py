"""deploy/systemd: its units, checked by systemd's own tools and run by a real systemd."""

import re
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from support.booted import booted
from support.clocks import roomy
from support.patience import until
from support.processes import execute
from support.programs import program
from support.shell import ROOT, do
from support.streams import stored

from crypto_trigger.server import Server
from crypto_trigger.settings import load

FOLDER = ROOT / "deploy" / "systemd"
PUBLISH, CHECK = "crypto-trigger.service", "crypto-trigger-check.service"
ALERT = "crypto-trigger-alert@.service"
SERVICES, TIMERS = (PUBLISH, CHECK), ("crypto-trigger.timer", "crypto-trigger-check.timer")
DEFAULTS = load({}, "/dev/null", {})
HOME, ENV_FILE = "/opt/crypto-trigger", "/etc/crypto-trigger.env"
MAILBOX = "/var/mail/root"
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
    assert {path.name for path in FOLDER.iterdir()} == {*SERVICES, *TIMERS, ALERT}


def test_systemd_finds_no_fault_with_the_units(tmp_path):
    for name in (*SERVICES, *TIMERS, ALERT):
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
    ours = {"ExecStart", "Restart", "RestartSec", "RestartPreventExitStatus"}
    publish, check = (
        {key: value for (section, key), value in unit(name).items() if section == "Service" and key not in ours}
        for name in SERVICES
    )
    assert publish == check
    assert len(publish) > 20


def test_a_status_that_another_run_cannot_change_is_not_tried_again():
    table = (ROOT / "README.md").read_text().partition("## Exit statuses\n")[2].partition("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line[:1] == "|"]
    hopeless = [status for status, _, _, again in rows if again == "no"]
    assert len(hopeless) > 3
    assert one(PUBLISH, "Service", "RestartPreventExitStatus").split() == hopeless


def test_the_runs_of_a_slot_end_within_it():
    # A start in the next slot is counted anew: systemd would otherwise refuse it.
    longest, pause = (span(one(PUBLISH, "Service", key)) for key in ("TimeoutStartSec", "RestartSec"))
    runs = int(one(PUBLISH, "Unit", "StartLimitBurst"))
    assert DEFAULTS.give_up_after < longest
    assert runs * (longest + pause) < span(one(PUBLISH, "Unit", "StartLimitIntervalSec")) < DEFAULTS.every


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
        keep = f'{{ echo "$@"; cat; }} > {MAILBOX}.new\nmv {MAILBOX}.new {MAILBOX}'
        running.write("/usr/bin/mail", f"#!/bin/sh\n{keep}\n", 0o755)
        yield running


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
        }
        self.set()
        for name in (*SERVICES, *TIMERS, ALERT):
            system.write(f"/etc/systemd/system/{name}", (FOLDER / name).read_text())
        system.must("systemctl", "daemon-reload")
        self._since = system.must("date", "+%s.%N").strip()

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
        return self.system.must("journalctl", "-q", "-o", "cat", "--since", f"@{self._since}", *match).splitlines()

    def mail(self):
        """The mail that an alert has sent."""
        path = self.system.root / MAILBOX.lstrip("/")
        until(path.exists, "mail")
        return path.read_text()

    def held(self):
        return len(stored(self.place.url, self.place.stream))

    def clear(self):
        """Take away what a test has left."""
        self.system.must("systemctl", "disable", "--now", *TIMERS)
        self.system.do("systemctl", "stop", *SERVICES)
        self.system.do("systemctl", "reset-failed", *SERVICES)
        self.system.must("rm", "-rf", *(f"/etc/systemd/system/{name}.d" for name in SERVICES), MAILBOX)


@pytest.fixture
def host(system, place, run):
    assert run("setup").status == 0
    found = Host(system, place)
    yield found
    found.clear()


def test_the_timer_catches_up_on_a_slot_and_the_next_run_in_it_is_a_duplicate(host):
    host.system.must("mkdir", "-p", "/var/lib/systemd/timers")
    host.system.must("touch", "--date=1 hour ago", "/var/lib/systemd/timers/stamp-crypto-trigger.timer")
    host.system.must("rm", *(f"/etc/systemd/system/{name}" for name in (*SERVICES, *TIMERS, ALERT)))
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
    assert host.said(CHECK)[0].startswith("TRIGGER OK - ")
    listed = host.system.must("systemctl", "list-timers", "--all")
    assert all(f"{timer} " in listed for timer in TIMERS)


def test_without_a_server_there_are_three_runs_and_one_mail(host):
    host.edit(PUBLISH, "[Service]\nRestartSec=100ms\n")
    host.set(NATS_URL="nats://127.0.0.1:1", CRYPTO_TRIGGER_GIVE_UP_AFTER="300ms")
    host.start(PUBLISH)
    mail = host.mail()
    assert host.ended(PUBLISH) == ("exit-code", 69)
    assert sum("127.0.0.1:1: connection refused" in line for line in host.said(PUBLISH)) == 3
    assert mail.startswith(f"-s {PUBLISH} failed on ")
    assert mail.count("connection refused") == 3
    # A run by hand is not refused, once the server is there.
    host.set()
    host.system.must("systemctl", "reset-failed", PUBLISH)
    assert host.start(PUBLISH) == ("success", 0)
    assert host.held() == 1


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


def test_a_missed_slot_is_mailed_by_the_check(host):
    assert host.start(CHECK) == ("success", 0)  # the stream is young
    settings = {
        "CRYPTO_TRIGGER_EVERY": "1s",
        "CRYPTO_TRIGGER_GIVE_UP_AFTER": "900ms",
        "CRYPTO_TRIGGER_EARLY": "0s",
    }
    host.set(**settings)
    assert host.start(PUBLISH) == ("success", 0)
    # Not by the unit: its mail of a WARNING may still be on its way, and there is one at a time.
    until(lambda: execute("check", **settings).status == 2, "a missed slot")
    assert host.start(CHECK) == ("exit-code", 2)
    (*_, line) = host.said(CHECK)
    assert line.startswith("TRIGGER CRITICAL - missed ")
    assert line in host.mail()


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
    (block,) = re.findall(r"```ini\n(.*?)```", SECTION, re.DOTALL)
    assert f"ReadWritePaths={FOLDER_OF_METRICS}\n" in block
    host.edit(PUBLISH, block.replace("User=prometheus", "User=daemon"))
    assert host.start(PUBLISH) == ("success", 0)
    assert f"{path}: permission denied" in host.said(PUBLISH)[-1]
    (permit,) = re.findall(r"`(chgrp [^`]*)`", SECTION)
    host.system.must("sh", "-euc", permit.replace("chgrp prometheus", "chgrp daemon"))
    assert host.start(PUBLISH) == ("success", 0)
    assert "crypto_trigger_last_run_exit_status" in (host.system.root / path.lstrip("/")).read_text()
