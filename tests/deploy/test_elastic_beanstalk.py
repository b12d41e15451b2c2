"""deploy/elastic-beanstalk: the hooks, deployed to a machine with a real systemd, again and again."""

import json
import os
import re
from pathlib import Path

import pytest
from support.booted import booted
from support.clocks import roomy
from support.monitors import SUCCESS, TOKEN, Healthchecks, Monitor
from support.programs import ALL, program
from support.shell import ROOT, do
from support.streams import stored

from crypto_trigger.settings.load import SETTINGS, load

FOLDER = ROOT / "deploy" / "elastic-beanstalk"
HOOK, CONFIG_HOOK = (f".platform/{kind}/postdeploy/50_crypto_trigger.sh" for kind in ("hooks", "confighooks"))
PAGE = (ROOT / "docs" / "scheduling.md").read_text()
SECTION = re.search(r"^## Elastic Beanstalk\n(.*?)(?=^## )", PAGE, re.MULTILINE | re.DOTALL)[1]
APPLICATION, BEANSTALK = "/var/app/current", "/opt/elasticbeanstalk"
ENV_FILE = "/etc/crypto-trigger.env"
PUBLISH, CHECK, TIMERS = (
    "crypto-trigger.service",
    "crypto-trigger-check.service",
    ("crypto-trigger.timer", "crypto-trigger-check.timer"),
)
# Downloads what requirements.txt names.
_PATIENCE = 300


def test_shellcheck_finds_no_fault_with_the_hooks():
    assert do(program("shellcheck"), FOLDER / HOOK, FOLDER / CONFIG_HOOK)[:2] == (0, "")
    assert all(os.access(FOLDER / hook, os.X_OK) for hook in (HOOK, CONFIG_HOOK))


def test_the_properties_that_the_page_sets_are_settings():
    (properties,) = re.findall(r"^eb setenv (.*)", SECTION, re.MULTILINE)
    known = {setting.variable for setting in SETTINGS}
    assert {name for name, _, _ in (word.partition("=") for word in properties.split())} <= known


class Instance:
    """A machine of Elastic Beanstalk's: what its platform brings, and the application's files."""

    def __init__(self, system, bundle):
        self.system = system
        self._python = Path(system.add_python())
        system.must("mkdir", "-p", APPLICATION)
        system.must("cp", "-r", f"{bundle}/.", APPLICATION)
        tell = f'[ "$*" = environment ] && cat {BEANSTALK}/properties.json'
        system.write(f"{BEANSTALK}/bin/get-config", f"#!/bin/sh\n{tell}\n", 0o755)

    def deploy(self, properties, hook=HOOK):
        """Run a hook as Elastic Beanstalk does; how it ended."""
        self.system.write(f"{BEANSTALK}/properties.json", json.dumps(properties))
        environ = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
        environ["PATH"] = f"{self._python.parent}:/usr/sbin:/usr/bin:/sbin:/bin"
        return self.system.do("bash", "-c", f"cd {APPLICATION} && {hook}", env=environ, timeout=_PATIENCE)

    def active(self):
        """The timers that wait for their times."""
        return [timer for timer in TIMERS if self.system.shown(timer, "ActiveState") == "active"]

    @property
    def env_file(self):
        return self.system.root / ENV_FILE.lstrip("/")

    def start(self, service):
        """Run a service to its end; the result and the program's last line."""
        self.system.do("systemctl", "start", service)
        match = ("--unit", service, "--identifier", "crypto-trigger")
        *_, line = self.system.must("journalctl", "-q", "-o", "cat", *match).splitlines()
        return self.system.shown(service, "Result"), line


@pytest.fixture
def instance(tmp_path):
    """An instance to which the application of docs/scheduling.md is deployed."""
    (tmp_path / "api").mkdir()
    (block,) = re.findall(r"```sh\n(.*?)```", SECTION, re.DOTALL)
    bundling = block.partition("cd ../api")[0].replace("../api", str(tmp_path / "api"))
    assert do("bash", "-ec", bundling, cwd=ROOT, timeout=_PATIENCE).status == 0
    with booted(tmp_path / "api") as system:
        yield Instance(system, tmp_path / "api")


@pytest.mark.skipif(not ALL, reason="installs the program from the package index, which takes a minute")
def test_each_deployment_leaves_one_timer_with_the_properties_of_the_environment(instance, place):
    odd = 'p"a $HOME \\n#ü'
    ours = {"NATS_URL": place.url, "CRYPTO_TRIGGER_STREAM": place.stream, "CRYPTO_TRIGGER_SUBJECT": place.subject}
    ours |= {"NATS_CLIENT_ID": odd, **roomy().settings}
    theirs = {"DATABASE_PASSWORD": "secretsecret"}

    missing = instance.deploy(theirs)
    assert (missing.status, missing.out) == (1, "")
    assert re.fullmatch(r"crypto-trigger: the environment property NATS_URL is missing; .*\n", missing.err)
    wrong = instance.deploy({**ours, "CRYPTO_TRIGGER_EVERY": "banana"})
    assert wrong.status == 1
    assert wrong.err.startswith("crypto-trigger: CRYPTO_TRIGGER_EVERY 'banana' ")
    # The deadline of the unit, which wins, is longer than these slots.
    short = instance.deploy({**ours, "CRYPTO_TRIGGER_EVERY": "10m", "CRYPTO_TRIGGER_GIVE_UP_AFTER": "1s"})
    assert short.status == 1
    assert "CRYPTO_TRIGGER_GIVE_UP_AFTER '10m' " in short.err
    assert not instance.env_file.exists()
    assert instance.active() == []

    for outcome in ("published", "duplicate:"):
        assert instance.deploy({**ours, **theirs})[:3] == (0, "", "")
        about = instance.env_file.stat()
        assert (about.st_mode & 0o777, about.st_uid) == (0o600, 0)
        assert "secretsecret" not in instance.env_file.read_text()
        assert load({}, str(instance.env_file), {}).client_id == odd
        assert instance.active() == list(TIMERS)
        (set_up,) = re.findall(r"'sudo (.* setup .*)'", SECTION)
        instance.system.must("bash", "-c", set_up)
        assert [instance.system.shown(timer, "UnitFileState") for timer in TIMERS] == ["enabled"] * 2
        result, line = instance.start(PUBLISH)
        assert (result, line.partition(" ")[0]) == ("success", outcome)
        assert len(stored(place.url, place.stream)) == 1

    before = instance.env_file.read_text()
    wrong = instance.deploy({**ours, "CRYPTO_TRIGGER_EVERY": "banana"}, CONFIG_HOOK)
    assert (wrong.status, instance.env_file.read_text()) == (1, before)

    with Monitor(Healthchecks()) as monitor:
        changed = {**ours, "NATS_CLIENT_ID": "changed", "TRIGGER_CHECK_PING_URL": f"{monitor.url}/{TOKEN}"}
        assert instance.deploy(changed, CONFIG_HOOK)[:3] == (0, "", "")
        assert load({}, str(instance.env_file), {}).client_id == "changed"
        result, line = instance.start(CHECK)
        assert (result, "TRIGGER OK - " in line) == ("success", True)
        assert monitor.told == [SUCCESS]
        assert instance.deploy(ours, CONFIG_HOOK)[:3] == (0, "", "")
        assert instance.start(CHECK)[0] == "success"
        assert monitor.told == [SUCCESS]
    # Every unit that another one names is there.
    assert "Failed to enqueue" not in instance.system.must("journalctl", "-q", "-o", "cat", "--unit", CHECK)
