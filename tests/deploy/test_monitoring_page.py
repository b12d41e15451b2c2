"""docs/monitoring.md: every recipe is run, and tells of the slot that was missed, or of the run that failed."""

import json
import os
import re
import socket
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from support.clocks import rfc3339, roomy
from support.consumers import add_consumer
from support.crontabs import ENV_FILE, PRINTED, example
from support.crontabs import PROGRAM as INSTALLED
from support.monitors import (
    FAILURE,
    SUCCESS,
    Answer,
    Healthchecks,
    Monitor,
)
from support.patience import PATIENCE
from support.programs import program
from support.promtool import RULES
from support.shell import ROOT, do
from support.streams import add_stream, put, stored

from crypto_trigger.settings.load import SETTINGS, load

DOCS = ROOT / "docs"
SYSTEMD = ROOT / "deploy" / "systemd"
DEFAULTS = load({}, "/dev/null", {})
PAGE = (DOCS / "monitoring.md").read_text()
RECIPES = dict(re.findall(r"^### (.*?)\n(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL))
PROGRAM = f"{sys.executable} -m crypto_trigger"
FOLDER = "/var/lib/prometheus/node-exporter"


def code(title):
    """The code of a recipe, its continued lines joined."""
    (found,) = re.findall(r"```\w+\n(.*?)```", RECIPES[title], re.DOTALL)
    return found.replace("\\\n", " ")


def entry(text):
    """The command of an entry in a crontab; cron takes a percent sign for the end of the line."""
    command = text.split(None, 5)[5].rstrip("\n")
    assert "%" not in command
    return command


def linked(title, words):
    """The code that a recipe leads to: the block with these words, in the section of another page."""
    page, anchor = re.search(r"\]\((\w+\.md)#([\w-]+)\)", RECIPES[title]).groups()
    section = sections(DOCS / page)[anchor]
    (found,) = [block for block in re.findall(r"```\w+\n(.*?)```", section, re.DOTALL) if words in block]
    return found


def sections(path):
    """The sections of a page by their anchors, as GitHub makes them of the headings."""
    found = re.findall(r"^#+ (.*?)\n(.*?)(?=^#+ |\Z)", path.read_text(), re.MULTILINE | re.DOTALL)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-"): text for title, text in found}


def monitors():
    """The rows of the table of monitors: the name, what to set there, what it says."""
    rows = re.search(r"^\| monitor .*?\n\n", PAGE, re.MULTILINE | re.DOTALL)[0].splitlines()[2:-1]
    return {name: rest for name, *rest in ([cell.strip() for cell in row.strip("|").split("|")] for row in rows)}


class Stream(NamedTuple):
    """A stream in which a slot was missed, two slots ago; `missed` is its start, in seconds since the epoch."""

    url: str
    subject: str
    settings: dict[str, str]
    missed: int
    every: int

    @property
    def slot(self):
        return rfc3339(self.missed)

    def fill(self):
        """Store the trigger that is missing."""
        put(self.url, self.subject, b"", {"ce-time": self.slot})


@pytest.fixture
def stream(place):
    slots = roomy()
    add_stream(place.url, place.stream, [place.subject])
    present = slots.turn - slots.every
    for ago in (3, 1, 0):
        put(place.url, place.subject, b"", {"ce-time": rfc3339(present - ago * slots.every)})
    named = {"NATS_URL": place.url, "CRYPTO_TRIGGER_STREAM": place.stream, "CRYPTO_TRIGGER_SUBJECT": place.subject}
    return Stream(place.url, place.subject, named | slots.settings, present - 2 * slots.every, slots.every)


@pytest.fixture
def at_work(stream, tmp_path):
    """Make of a recipe's text what can be run here: our program, our env file, folders and URLs of the test's own."""
    env_file = tmp_path / "crypto-trigger.env"
    env_file.write_text("".join(f"{name}={value}\n" for name, value in stream.settings.items()))

    def change(text, **urls):
        for old, new in {INSTALLED: PROGRAM, ENV_FILE: str(env_file), FOLDER: str(tmp_path), **urls}.items():
            text = text.replace(old, new)
        return text

    return change


@pytest.fixture
def shell(tmp_path):
    """Run a command line as cron does, with nearly no environment."""

    def run(line):
        return do("/bin/sh", "-c", line, env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}, cwd="/")

    return run


# The page.


def test_there_is_a_recipe_for_every_place_and_every_monitor_and_each_has_five_lines_at_most():
    places = {"cron", "systemd", "Kubernetes", "Heroku", "Elastic Beanstalk"}
    others = {"Nagios and Icinga", "Prometheus: hosts", "Prometheus: Kubernetes", "JSON logs"}
    assert set(RECIPES) == places | others
    for title, text in RECIPES.items():
        lines = [line for line in text.splitlines() if line and not line.startswith("```")]
        assert 0 < len(lines) <= 5, title
    # Their URLs are tried in test_pings_page.py.
    urls = re.findall(r"^\| (.*?) \|(?= `http)", sections(DOCS / "pings-and-logs.md")["pings"], re.MULTILINE)
    assert list(monitors()) == urls
    assert len(urls) == 6


def test_what_the_page_names_exists():
    for path, _, anchor in re.findall(r"\]\(([^)#]+)(#([^)]+))?\)", PAGE):
        assert (DOCS / path).exists(), path
        assert not anchor or anchor in sections(DOCS / path), anchor
    variables = {setting.variable for setting in SETTINGS}
    assert set(re.findall(r"\b(?:CRYPTO_TRIGGER|NATS|TRACE)\w+", PAGE)) <= variables
    alerts = set(re.findall(r"alert: (\w+)", RULES.read_text()))
    assert set(re.findall(r"CryptoTrigger\w+", PAGE)) <= alerts


def test_the_times_of_the_monitors_are_those_of_the_slots():
    minutes = DEFAULTS.every // timedelta(minutes=1)
    for name, (what, _) in monitors().items():
        period = {"Uptime Kuma": f"{(minutes + 5) * 60} seconds"}.get(name, "")
        assert period or re.search(rf"\b{minutes} minutes|\*/{minutes} \* \* \* \*", what), name
        assert period in what
    first, every = re.fullmatch(r"(\d+)-59/(\d+) \* \* \* \*", checking()["schedule"]).groups()
    assert DEFAULTS.every / 3 < timedelta(minutes=int(first)) < DEFAULTS.every
    assert int(every) == minutes
    assert f"`check` runs {first} minutes after a slot began" in PAGE
    assert f"OnCalendar=*:{first}/{every}\n" in (SYSTEMD / "crypto-trigger-check.timer").read_text()


# Where the program runs.


def test_cron_mails_the_missed_slot_once_and_its_end_once(stream, at_work, shell, tmp_path):
    assert "](../crontab.example)" in RECIPES["cron"]
    _, check = example().mailed
    command = at_work(check.command, **{PRINTED: str(tmp_path / "check")})
    mailed = shell(command)
    assert (mailed.status, mailed.err) == (1, "")
    assert mailed.out.startswith(f"TRIGGER WARNING - missed {stream.slot};")
    assert shell(command)[:3] == (1, "", "")
    stream.fill()
    over = shell(command)
    assert (over.status, over.err) == (0, "")
    assert over.out.startswith("TRIGGER OK - ")
    assert shell(command)[:3] == (0, "", "")


# What the units of systemd do is tried in test_systemd.py, the hook of Elastic Beanstalk in test_elastic_beanstalk.py.


def checking():
    """The CronJob of the manifest that checks."""
    documents = yaml.safe_load_all((ROOT / "k8s-cronjob.yaml").read_text())
    (found,) = [each["spec"] for each in documents if each["metadata"]["name"] == "crypto-trigger-check"]
    return found


def test_the_check_in_kubernetes_is_a_job_that_fails_when_a_slot_was_missed(stream):
    """Its pod, in the image, is run in test_kubernetes.py."""
    assert "`crypto-trigger-check`" in RECIPES["Kubernetes"]
    (container,) = checking()["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    environ = {**os.environ, **stream.settings, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    ended = do(*container["command"], env=environ)
    assert (ended.status, stream.slot in ended.out) == (1, True)
    stream.fill()
    assert do(*container["command"], env=environ).status == 0


def test_on_elastic_beanstalk_a_check_pings_only_when_all_is_well(stream, at_work, shell, tmp_path):
    program("curl")
    folder = ROOT / "deploy" / "elastic-beanstalk"
    (check,) = re.findall(r"^ExecStart=(.*)", (SYSTEMD / "crypto-trigger-check.service").read_text(), re.MULTILINE)
    (ping,) = re.findall(r"^ExecStart=-(.*)", (folder / "crypto-trigger" / "ping.conf").read_text(), re.MULTILINE)
    name, url = re.search(r"setenv (\w+)=(\S+)", code("Elastic Beanstalk")).groups()
    hook = (folder / ".platform" / "hooks" / "postdeploy" / "50_crypto_trigger.sh").read_text()
    (written,) = re.findall(r'^ *echo "(url = .*)" >', hook, re.MULTILINE)
    assert f'"{name}"' in hook
    with Monitor(Healthchecks()) as monitor:
        url = url.replace("https://hc-ping.com", monitor.url)
        (tmp_path / "ping.curl").write_text(written.replace('\\"', '"').replace("$ping_url", url) + "\n")
        folders = dict.fromkeys(("${CREDENTIALS_DIRECTORY}", "${STATE_DIRECTORY}"), str(tmp_path))
        line = at_work(f"{check} && {ping}", **folders)
        ended = shell(line)
        assert (ended.status, stream.slot in ended.out, monitor.told) == (1, True, [])
        stream.fill()
        assert shell(line).status == 0
    assert monitor.told == [SUCCESS]


# The monitors.


def test_a_monitor_of_heroku_is_told_of_a_success_and_of_the_slot_of_a_failure(run, stream, place, monkeypatch):
    for name, value in stream.settings.items():
        monkeypatch.setenv(name, value)
    before = len(stored(place.url, place.stream))
    with Monitor(Healthchecks()) as monitor:
        name, url = re.search(r"config:set (\w+)=(\S+)", code("Heroku")).groups()
        monkeypatch.setenv(name, url.replace("https://hc-ping.com", monitor.url))
        assert run("publish", "--force")[::2] == (0, "")
        assert len(stored(place.url, place.stream)) == before + 1
        assert monitor.told == [SUCCESS]
        failed = run("publish", "--server", "nats://127.0.0.1:1", "--give-up-after", "300ms")
        assert (failed.status, failed.err.count("\n")) == (69, 1)
    assert monitor.told == [SUCCESS, FAILURE]
    report = json.loads(monitor.asked[-1].body)
    assert report["scheduled_at"] == rfc3339(stream.missed + 2 * stream.every)
    assert "connection refused" in report["error"]["message"]


def test_nagios_reads_which_slot_was_missed(stream, at_work, shell, place):
    add_consumer(place.url, place.stream, "api-server")
    block = at_work(linked("Nagios and Icinga", "command_line"))
    (command,) = re.findall(r"^ *command_line +(.*)", block.replace("$ARG1$", "api-server"), re.MULTILINE)
    ended = shell(command)
    assert (ended.status, ended.err) == (1, "")
    assert re.fullmatch(rf"TRIGGER WARNING - missed {stream.slot}; [^|]+ \| .*\bmissed=1;0;1;0 .*\n", ended.out)
    stream.fill()
    assert shell(command).status == 0


def test_node_exporter_finds_which_slot_was_missed_in_a_file_that_the_rules_are_about(stream, at_work, shell, tmp_path):
    command = at_work(entry(linked("Prometheus: hosts", "check")))
    assert shell(command)[:3] == (1, "", "")
    (written,) = tmp_path.glob("*.prom")
    values = {
        sample.name: sample.value
        for family in text_string_to_metric_families(written.read_text())
        for sample in family.samples
    }
    assert values["crypto_trigger_window_newest_missed_slot_timestamp_seconds"] == stream.missed
    (runs,) = re.findall(r"CRYPTO_TRIGGER_METRICS_FILE=([^`]+)", RECIPES["Prometheus: hosts"])
    assert Path(runs).parent == Path(FOLDER)
    for path in (written.name, Path(runs).name):
        assert path in RULES.read_text()


def test_a_log_service_is_sent_the_end_of_every_run(at_work, shell, place):
    program("logger")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as syslog:
        syslog.bind(("127.0.0.1", 0))
        syslog.settimeout(PATIENCE)
        to = f"logger -d -n 127.0.0.1 -P {syslog.getsockname()[1]} "
        command = at_work(entry(code("JSON logs"))).replace("logger ", to)
        before = len(stored(place.url, place.stream))

        def last():
            while "outcome" not in (said := json.loads(re.sub("^.*?(?={)", "", syslog.recv(65536).decode()))):
                pass
            return said

        shell(command.replace("publish", "publish --force"))
        assert len(stored(place.url, place.stream)) == before + 1
        well = last()
        shell(command.replace("publish", "publish --server nats://127.0.0.1:1 --give-up-after 300ms"))
        failed = last()
    assert (well["outcome"], well["level"]) == ("published", "info")
    assert (failed["outcome"], failed["level"]) == ("unavailable", "error")
    (query,) = re.findall(r"\| jq -c '(.*?)'", RECIPES["JSON logs"])
    found = subprocess.run(
        [program("jq"), "-c", query],
        input="\n".join(map(json.dumps, (well, failed))),
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(found.stdout) == [well["scheduled_at"], "unavailable", failed["message"]]


class Pushgateway:
    """What a Pushgateway takes: a group's metrics in Prometheus' format, the last line ended."""

    def take(self, asked):
        assert (asked.method, asked.path) == ("POST", "/metrics/job/crypto-trigger")
        assert asked.body.endswith(b"\n")
        assert list(text_string_to_metric_families(asked.body.decode()))
        return Answer(200, "", SUCCESS)


def test_one_line_pushes_the_metrics_to_a_pushgateway(run, stream, shell, tmp_path, monkeypatch):
    for name, value in {
        **stream.settings,
        "CRYPTO_TRIGGER_METRICS_FILE": str(tmp_path / "crypto-trigger.prom"),
    }.items():
        monkeypatch.setenv(name, value)
    assert run("publish").status == 0
    program("curl")
    (line,) = re.findall(r"`(curl .*?)`", PAGE)
    with Monitor(Pushgateway()) as monitor:
        line = line.replace("http://pushgateway.example.com:9091", monitor.url).replace(FOLDER, str(tmp_path))
        assert shell(line)[:3] == (0, "", "")
    assert monitor.told == [SUCCESS]
