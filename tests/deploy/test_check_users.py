"""Who reads and writes the files that docs/check.md names: users on a copy of this machine, and node_exporter."""

import re
import shlex
import subprocess
import urllib.request
from contextlib import suppress
from urllib.error import URLError

import pytest
from prometheus_client.parser import text_string_to_metric_families
from support.clocks import roomy
from support.consumers import add_consumer
from support.crontabs import ENV_FILE
from support.machine import Machine
from support.pages import blocks, section
from support.patience import until
from support.ports import free_port
from support.programs import program
from support.streams import add_stream, put

from crypto_trigger.monitoring.verdict import Level

PAGE = "docs/check.md"
FOLDER = "/var/lib/prometheus/node-exporter"
CRON, SYSTEMD = section("docs/scheduling.md", "cron"), section("docs/scheduling.md", "systemd")


def steps(first):
    """The commands of the page's block that begins so, in one line."""
    (found,) = (block for block in blocks(PAGE) if block.text.startswith(first))
    return " && ".join(found.commands)


def command(words):
    """The command with these words: that of a line for cron, or of Nagios."""
    text = "\n".join(block.text for block in blocks(PAGE))
    (found,) = (line for line in re.findall(r"/opt/crypto-trigger/bin/crypto-trigger check .*", text) if words in line)
    return found.replace("$ARG1$", "api-server")


@pytest.fixture
def on_machine(tmp_path, installed, place):
    """Run commands as root on a copy of this machine; how each ended. The page's own paths are there."""
    slots = roomy()
    add_stream(place.url, place.stream, [place.subject])
    put(place.url, place.subject, b"")
    add_consumer(place.url, place.stream, "api-server", deliver_policy="new")
    names = {"NATS_URL": place.url, "CRYPTO_TRIGGER_STREAM": place.stream, "CRYPTO_TRIGGER_SUBJECT": place.subject}
    (tmp_path / "env").write_text("".join(f"{name}={value}\n" for name, value in {**names, **slots.settings}.items()))
    told = tmp_path / "told"
    told.mkdir()

    def run(*commands):
        prepare = [f"ln -s {installed.folder} /opt/crypto-trigger", "id nagios || useradd --system nagios"]
        # Debian's package of node_exporter has the folder so: `dpkg-deb --contents`.
        prepare += ["mount -t tmpfs -o mode=755 none /var/lib", f"install -d -o root -g root -m 0755 {FOLDER}"]
        noted = [
            f"status=0; sh -c {shlex.quote(each)} >{told}/{n} 2>&1 || status=$?; echo $status >>{told}/{n}"
            for n, each in enumerate(commands)
        ]
        script = "\n".join([*prepare, *noted, f"cp {FOLDER}/* {told} || true", "sleep infinity &"])
        with Machine(tmp_path, script, [installed.folder, tmp_path]):
            pass
        found = [(told / str(n)).read_text().splitlines() for n in range(len(commands))]
        return [(int(lines[-1]), "\n".join(lines[:-1])) for lines in found]

    run.told, run.env = told, tmp_path / "env"
    return run


def as_user(name, line):
    return f"cd / && runuser -u {name} -- env -i PATH=/usr/bin:/bin sh -c {shlex.quote(line)}"


def made_for_cron(env):
    """The commands of the page that make the user and the env file."""
    (add,) = re.findall(r"^useradd .*", CRON, re.MULTILINE)
    (install,) = re.findall(r"^install .* (?=\.env\.example)", CRON, re.MULTILINE)
    return [add, f"{install}{env} {ENV_FILE}"]


def made_for_systemd(env):
    (install,) = re.findall(r"^install .* (?=\.env\.example)", SYSTEMD, re.MULTILINE)
    return [f"{install}{env} {ENV_FILE}"]


def test_the_user_of_cron_writes_where_debian_s_node_exporter_reads(on_machine):
    check = as_user("crypto-trigger", command("--output-file"))
    *made, before, _, after = on_machine(*made_for_cron(on_machine.env), check, steps("chgrp crypto-trigger"), check)
    assert {status for status, _ in made} == {0}
    assert before[0] == Level.UNKNOWN
    assert "permission denied" in before[1]
    assert after == (Level.OK, "")
    assert "crypto_trigger_check_status" in (on_machine.told / "crypto-trigger-check.prom").read_text()


@pytest.mark.parametrize(
    ("made", "permit"),
    [(made_for_cron, "usermod"), (made_for_systemd, "chgrp nagios")],
    ids=["as for cron", "as for systemd"],
)
def test_the_user_of_a_monitoring_system_reads_the_env_file(made, permit, on_machine):
    check = as_user("nagios", command("--consumer"))
    *_, before, permitted, after = on_machine(*made(on_machine.env), check, steps(permit), check)
    assert before[0] == Level.UNKNOWN
    assert "permission denied" in before[1]
    assert permitted == (0, "")
    assert after[0] == Level.OK
    assert after[1].startswith("TRIGGER OK - ")


# node_exporter itself.


@pytest.fixture
def scrape(tmp_path):
    """Return the samples that node_exporter makes of the files in `tmp_path`, by name, as their labels."""
    path, port = program("prometheus-node-exporter"), free_port()
    options = ["--collector.disable-defaults", "--collector.textfile", f"--collector.textfile.directory={tmp_path}"]
    url = f"http://127.0.0.1:{port}/"

    def listens():
        with suppress(URLError), urllib.request.urlopen(url):
            return True

    def scrape():
        with urllib.request.urlopen(f"{url}metrics") as answer:
            families = [*text_string_to_metric_families(answer.read().decode())]
        found = {}
        for sample in (sample for family in families for sample in family.samples):
            found.setdefault(sample.name.removeprefix("crypto_trigger_"), []).append((sample.labels, sample.value))
        assert found["node_textfile_scrape_error"] == [({}, 0)]
        return found

    command = [path, *options, f"--web.listen-address=127.0.0.1:{port}"]
    with (tmp_path / "log").open("w") as log, subprocess.Popen(command, stderr=log) as exporter:
        try:
            until(listens, "node_exporter listens")
            yield scrape
        finally:
            exporter.terminate()


@pytest.fixture
def checked(run, place, tmp_path, monkeypatch):
    """Write the file of a check with these options, of the place's stream or of another one."""
    for variable, value in roomy().settings.items():
        monkeypatch.setenv(variable, value)
    streams = (place.stream, f"{place.stream}-other")
    for stream in streams:
        add_stream(place.url, stream, [f"{stream}.update"])
        put(place.url, f"{stream}.update", b"")
        for consumer in ("a", "b"):
            add_consumer(place.url, stream, consumer, deliver_policy="new")

    def check(name, *options, other=False):
        chosen = ("--stream", streams[other], "--subject", f"{streams[other]}.update")
        written = ("--format", "prometheus", "--output-file", tmp_path / f"{name}.prom")
        assert run("check", *chosen, *written, *options).status == Level.OK

    return check


def test_node_exporter_takes_the_files_of_two_streams(scrape, checked, place):
    checked("one")
    checked("two", other=True)
    found = scrape()
    for name in ("check_status", "check_timestamp_seconds"):
        assert {labels["stream"] for labels, _ in found[name]} == {place.stream, f"{place.stream}-other"}


def test_node_exporter_takes_two_consumers_in_one_file_and_not_the_status_of_two_files(scrape, checked, tmp_path):
    consumers = "consumer_unacknowledged_triggers"
    checked("both", "--consumer", "a", "--consumer", "b")
    found = scrape()
    assert {labels["consumer"] for labels, _ in found[consumers]} == {"a", "b"}
    assert "was collected before" not in (tmp_path / "log").read_text()

    (tmp_path / "both.prom").unlink()
    for consumer in ("a", "b"):
        checked(consumer, "--consumer", consumer)
    found = scrape()
    assert len(found["check_timestamp_seconds"]) == 1
    until(lambda: "was collected before with the same name" in (tmp_path / "log").read_text(), "it is logged")
