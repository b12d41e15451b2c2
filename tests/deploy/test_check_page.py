"""What docs/check.md says, held against the program: its commands run, its tables compared with what comes out."""

import os
import re
import shlex
from datetime import UTC, datetime, timedelta

import pytest
import yaml
from support.clocks import roomy
from support.consumers import add_consumer
from support.plugin_answers import line, metrics, see
from support.shell import ROOT, console, do
from support.streams import put

from crypto_trigger.commands.server import Server
from crypto_trigger.monitoring.coverage import Cadence
from crypto_trigger.monitoring.plugin import Answer, data, nagios
from crypto_trigger.monitoring.verdict import Thresholds, examine
from crypto_trigger.slots.contents import Consumer, Held, Memory
from crypto_trigger.slots.times import instant
from crypto_trigger.slots.trigger import Reading, Stored

PAGE = (ROOT / "docs" / "check.md").read_text()
PROGRAM, ENV_FILE = "/opt/crypto-trigger/bin/crypto-trigger", "/etc/crypto-trigger.env"
PROMETHEUS = "/var/lib/prometheus/node-exporter/crypto-trigger-check.prom"


def blocks(kind):
    return re.findall(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)


def table(title):
    """The rows of the first table after a heading: the cells without their quotes."""
    part = PAGE.partition(f"# {title}\n")[2]
    lines = re.search(r"(?:^\|.*\n)+", part, re.MULTILINE)[0].splitlines()
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in lines[2:]]


def names(cell):
    return re.findall(r"`([\w-]+)`", cell)


def masked(text):
    """A text without times, durations and ages, and without what depends on them."""
    text = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "TIME", text)
    text = re.sub(r"stored \S+ after", "stored N after", text)
    text = re.sub(r"late=\d", "late=N", text)
    return re.sub(r"(age|skew)=-?[\d.]+s", r"\1=N", re.sub(r";[\d.]+;[\d.]+;0$", ";N;N;0", text, flags=re.MULTILINE))


@pytest.fixture
def ready(run, place, monkeypatch):
    """A stream with the trigger of the present slot, and a consumer that has nothing left to acknowledge."""
    for name, value in roomy().settings.items():
        monkeypatch.setenv(name, value)
    assert run("setup").status == 0
    put(place.url, place.subject, b"{}")
    add_consumer(place.url, place.stream, "api-server", deliver_policy="new")
    return place


@pytest.fixture
def local(installed, settings, tmp_path):
    """Put the programs and files of this machine in place of those that the page names."""
    env_file = tmp_path / "crypto-trigger.env"
    values = {**settings, **roomy().settings}
    env_file.write_text("".join(f"{name}={value}\n" for name, value in values.items()))
    made = {
        PROGRAM: installed.program,
        ENV_FILE: str(env_file),
        PROMETHEUS: str(tmp_path / "crypto-trigger-check.prom"),
    }

    def replace(text):
        for ours, here in made.items():
            text = text.replace(ours, here)
        return text

    return replace


def test_what_the_page_shows_of_a_terminal_is_what_the_program_says(installed, tmp_path):
    (block,) = blocks("console")
    path = os.pathsep.join([str(installed.folder / "bin"), os.environ["PATH"]])
    with Server() as server:
        environ = {**os.environ, **roomy().settings, "PATH": path, "NATS_URL": server.url}
        assert do("crypto-trigger", "setup", env=environ, cwd=tmp_path).status == 0
        said = console(block, env=environ, cwd=tmp_path)
    assert masked(said) == masked(block)


def answered(now, *messages, back=timedelta(hours=1), consumers=(), **memory):
    """The answer for a stream that holds these messages."""
    cadence = Cadence(timedelta(minutes=15), timedelta(seconds=5), timedelta(minutes=5))
    limits = Thresholds(1, 2, cadence.grace, cadence.every)
    config = {"name": "crypto-stats", "subjects": ["t"]}
    # This host's clock is the server's.
    reading = Reading(instant(now), instant(now), instant(now))
    held = Held("s", reading, instant(now), config, None, "t", messages[0], messages[-1], messages, Memory(**memory))
    result = examine(held, consumers, back, cadence, limits)
    return Answer(result.level, result.findings, result=result)


def stored(seq, text):
    return Stored(seq, instant(f"2026-11-23T{text}Z"))


def test_the_lines_about_what_is_missing_are_those_of_the_program():
    missed, many, unread = next(block for block in blocks("text") if "TRIGGER" in block).splitlines()

    def said(*arguments, **options):
        return nagios(answered(*arguments, **options)).partition(" | ")[0] + " | ..."

    assert said("2026-11-23T18:02:00Z", stored(1, "17:00:01"), stored(2, "17:15:01")) == missed
    times = [f"{hour:02}:{minute:02}:01" for hour in range(8, 19) for minute in (0, 15, 30, 45)]
    held = [stored(seq, time) for seq, time in enumerate(times, 1) if not "09:00" <= time < "10:30" and time < "18:15"]
    assert said("2026-11-23T18:02:00Z", *held, back=timedelta(hours=10)) == many
    waiting = stored(730, "17:45:01"), stored(731, "18:00:01")
    assert said("2026-11-23T18:16:05Z", *waiting, consumers=[Consumer("api-server", floor=730)]) == unread


# What is not known of a stream with one trigger.
UNKNOWN = {"since": instant("2026-11-23T18:00:03.1Z"), "limits": ("max_msgs_per_subject 1",)}


def test_the_line_about_what_is_not_known_is_that_of_the_program():
    (block,) = (block for block in blocks("text") if "not known" in block)
    assert nagios(answered("2026-11-23T18:04:15.1Z", stored(1, "18:00:03.1"), **UNKNOWN)) + "\n" == block


def test_one_message_per_incident(ready, installed, tmp_path):
    section = PAGE.partition("## One message per incident\n")[2].partition("\n## ")[0]
    (command,) = re.findall(r"```sh\n(.*)\n```", section)
    path = "/var/lib/crypto-trigger/check"
    assert command.endswith(path)
    environ = {**os.environ, "PATH": os.pathsep.join([str(installed.folder / "bin"), os.environ["PATH"]])}
    broken = {**environ, "NATS_URL": "nats://127.0.0.1:1", "CRYPTO_TRIGGER_GIVE_UP_AFTER": "200ms"}
    words = shlex.split(command.replace(path, str(tmp_path / "check")))
    ended = [do(*words, env=each)[:3] for each in (environ, broken, broken, environ, environ)]
    assert [status for status, _, _ in ended] == [0, 2, 2, 0, 0]
    assert [out.partition(" - ")[0] for _, out, _ in ended] == ["", "TRIGGER CRITICAL", "", "TRIGGER OK", ""]
    assert {err for _, _, err in ended} == {""}
    (form,) = re.findall(r"and when: `(\w+ )", section)
    assert re.fullmatch(rf"({form.strip()}|OK) [-0-9T:]+Z\n", (tmp_path / "check").read_text())
    assert ready


@pytest.mark.usefixtures("ready")
def test_the_command_of_nagios_and_the_one_of_icinga(local):
    nagios, icinga = (block for block in blocks("text") if "command" in block)
    command = re.search(r"command_line +(.*)", nagios)[1].replace("$ARG1$", "api-server")
    words = [*re.search(r"command = \[ (.*) \]", icinga)[1].replace('"', "").split(", ")]
    for option, value in re.findall(r'"(--[\w-]+)" = (?:\{ value = )?"([^"]*)"', icinga):
        words += [option, value.replace("$crypto_trigger_consumer$", "api-server")]
    # The order of the arguments of an Icinga command is not defined.
    assert sorted(words) == sorted(shlex.split(command))
    ended = do(*shlex.split(local(command)))
    assert (ended.status, ended.err) == (0, "")
    assert line(ended.out).data["api-server_unacknowledged"] == "0"


def test_the_probe_of_kubernetes(ready, run, installed):
    (probe,) = (yaml.safe_load(block)["readinessProbe"] for block in blocks("yaml"))
    environ = {**os.environ, "PATH": os.pathsep.join([str(installed.folder / "bin"), os.environ["PATH"]])}
    assert do(*probe["exec"]["command"], env=environ).status == 0
    seconds = int(re.search(r"--give-up-after (\d+)s", probe["exec"]["command"][-1])[1])
    assert seconds + 1 < probe["timeoutSeconds"] < probe["periodSeconds"]
    # A trigger of a later slot is a WARNING, which the probe accepts; a wrong setting is not accepted.
    put(ready.url, ready.subject, b"{}", {"ce-time": "2099-01-01T00:00:00Z"})
    assert run("check").status == 1
    assert do(*probe["exec"]["command"], env=environ).status == 0
    assert do(*probe["exec"]["command"], env={**environ, "CRYPTO_TRIGGER_EVERY": "x"}).status == 1


def test_the_file_of_the_textfile_collector(ready, local, cron, tmp_path):
    (block,) = blocks("crontab")
    *_, command = block.rstrip("\n").split(None, 5)
    assert "%" not in command
    assert cron(local(command))[:3] == (0, "", "")
    found = metrics((tmp_path / "crypto-trigger-check.prom").read_text())
    assert found["check_status"] == 0
    assert ready


def test_the_tables_of_metrics_and_keys_are_what_comes_out(run, ready):
    two_slots_ago = datetime.now(UTC) - 2 * timedelta(seconds=int(os.environ["CRYPTO_TRIGGER_EVERY"].rstrip("s")))
    put(ready.url, ready.subject, b"{}", {"ce-source": "//h/w", "ce-time": f"{two_slots_ago:%Y-%m-%dT%H:%M:%SZ}"})
    seen = see(run, "--consumer", "api-server", "--consumer", "nobody")
    documented = {names(row[0])[0].removeprefix("crypto_trigger_") for row in table("Prometheus")}
    assert documented == {re.sub(r"\[.*", "", name) for name in seen.metrics}
    keys = {name for row in table("Other programs") for name in names(row[0])}
    failed = see(run, "--stream", "nowhere").json
    unknown = data(answered("2026-11-23T18:04:15Z", stored(1, "18:00:03"), **UNKNOWN))
    found = {*seen.json, *failed, *unknown, "unknown", "warning"}
    assert found == keys
    inner = {name for row in table("Other programs") for name in names(row[1])}
    for part in (seen.json["newest"], *seen.json["consumers"], *seen.json["perf_data"], failed["error"]):
        assert set(part) <= inner


def test_the_table_of_options_is_that_of_the_help(run):
    words = " ".join(run("check", "--help").out.split())
    for option, default, _ in table("Options"):
        name = option.strip("`")
        assert f"{name} " in words
        shown = re.search(rf"{name} [A-Z]+ .*?\[default: ([^\];]+)[\];]", words)
        if default not in ("none", "stdout"):
            assert shown[1] == default.strip("`")


def test_the_permissions_suffice_and_none_of_the_first_two_can_be_left_out(run, tmp_path):
    rows = [(row[0].strip("`"), row[1]) for row in table("Permissions")]
    publish = [subject for subject, to in rows if to.startswith("publish")]
    for left_out, status in ((None, 0), (2, 0), (0, 3), (1, 3), (3, 3)):
        permitted = ", ".join(f'"{subject}"' for number, subject in enumerate(publish) if number != left_out)
        config = tmp_path / "server.conf"
        config.write_text(
            "accounts { A { jetstream: enabled, users: [ { user: all, password: all }\n"
            f'{{ user: some, password: pw, permissions: {{ publish: [{permitted}], subscribe: ["{rows[-1][0]}"] }} }}\n'
            "] } }"
        )
        with Server(arguments=("-c", str(config))) as server:
            admin = server.url.replace("://", "://all:all@")
            assert run("setup", "-s", admin).status == 0
            put(admin, "crypto.update", b"{}")
            add_consumer(admin, "crypto-stats", "api-server", deliver_policy="new")
            answer = run("check", "-s", server.url.replace("://", "://some:pw@"), "--consumer", "api-server")
        assert answer.status == status, answer
