"""What README, the pages and the deploy files say, held against the program."""

import os
import re
import shlex
import tomllib
from datetime import timedelta
from typing import NamedTuple

import pytest
from support.clocks import roomy
from support.programs import program
from support.shell import ROOT, console, do

from crypto_trigger.errors import Outcome
from crypto_trigger.render import report_line
from crypto_trigger.report import Report
from crypto_trigger.server import Server
from crypto_trigger.settings import SETTINGS, load
from crypto_trigger.trigger import Receipt, Slot, Trigger
from crypto_trigger.values import instant

README = (ROOT / "README.md").read_text()
DEFAULTS = load({}, "/dev/null", {})
VARIABLES = {setting.variable for setting in SETTINGS}


def section(title):
    return README.partition(f"## {title}\n")[2].partition("\n## ")[0]


def table(title):
    """The rows of a section's table: the first cell, without its quotes, -> the others."""
    lines = [line.strip("|").split("|") for line in section(title).splitlines() if line.startswith("|")]
    return {cells[0].strip().strip("`"): [cell.strip() for cell in cells[1:]] for cells in lines[2:]}


def commands(run):
    """The commands that `--help` lists."""
    listed = run("--help").out.partition("Commands:\n")[2].partition("\n\n")[0]
    return set(re.findall(r"^  (\w+)", listed, re.MULTILINE))


# README.


def test_every_command_has_help_and_a_row_in_readme(run):
    documented = {name.removeprefix("crypto-trigger ") for name in table("Commands")}
    assert documented == commands(run)
    for command in documented:
        result = run(command, "--help")
        assert (result.status, result.err) == (0, "")
        assert f"Usage: crypto-trigger {command} [OPTIONS]" in result.out


def test_every_command_line_in_readme_parses(run):
    written = re.findall(r"^.*?crypto-trigger((?: +--?[\w-]+| +\w[\w.:/-]*)+)", "\n".join(blocks()), re.MULTILINE)
    assert len(written) > 4
    for arguments in written:
        assert run(*shlex.split(arguments), "--help").status == 0, arguments


def blocks():
    """README's blocks of shell commands: whole lines, prompts and answers taken away."""
    for kind, block in re.findall(r"```(sh|console)\n(.*?)```", README, re.DOTALL):
        for line in block.splitlines():
            if kind == "sh" or line.startswith("$ "):
                yield re.sub(r"^\$ |; echo \$\?$|\[.*?\]", "", line)


def test_every_option_that_readme_names_is_one(run):
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", README))
    helps = "".join(run(*command, "--help").out for command in [(), *zip(commands(run), strict=True)])
    known = set(re.findall(r"--[a-z][a-z-]+", helps))
    others = {"--check", "--no-deps", "--require-hashes", "--upgrade"}  # of ruff, pip and uv
    assert named - others <= known


def test_every_command_that_readme_names_is_one(run):
    named = set(re.findall(r"`crypto-trigger ([a-z]+)", README))
    assert named == commands(run)


def test_readme_lists_every_setting_as_the_table_of_settings_has_it():
    variables = {setting.attribute: setting.variable for setting in SETTINGS}
    wanted = {}
    for setting in SETTINGS:
        default = setting.default or variables.get(setting.default_of, "")
        flag = f" Flag {setting.flag}." if setting.flag else ""
        wanted[setting.variable] = [default, setting.meaning + flag]
    written = {name: [cell.replace("`", "") for cell in cells] for name, cells in table("Settings").items()}
    assert list(written) == list(wanted)
    assert written == wanted


def test_every_flag_of_a_setting_names_its_variable_in_the_help(run):
    helps = " ".join("".join(run(command, "--help").out for command in commands(run)).split())
    for setting in SETTINGS:
        if setting.flag:
            assert re.search(rf"{setting.flag} [^\[]*\[env var: {setting.variable}[;\]]", helps), setting.flag


def test_readme_shows_the_lines_that_the_program_says():
    slot = Slot.containing(instant("2026-11-23T18:00:00Z"), DEFAULTS.every)
    trigger = Trigger.for_slot(slot, DEFAULTS.subject, "//h/c")
    for outcome in (Outcome.PUBLISHED, Outcome.DUPLICATE):
        receipt = Receipt(outcome=outcome, seq=1, guard="compare-and-set", server="nats://h:4222")
        report = Report.now(outcome, 0, 0.1).with_settings(DEFAULTS).with_trigger(trigger).with_receipt(receipt)
        assert report_line(report) in section("Use it against your own NATS").splitlines()


def test_the_extras_and_files_that_readme_names_exist():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set(re.findall(r"'\.\[(\w+)\]'", README)) <= set(project["optional-dependencies"])
    links = re.findall(r"\]\((?!http)([^)#]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_env_example_is_read_without_a_complaint_even_with_every_line_in_force(run, tmp_path):
    text = (ROOT / ".env.example").read_text()
    named = set(re.findall(r"^#?([A-Z_]+)=", text, re.MULTILINE))
    assert named <= VARIABLES
    result = run("config", "--env-file", ROOT / ".env.example")
    assert (result.status, result.err) == (0, "")
    # Files of credentials are the operator's own.
    every = re.sub(r"^#(?=[A-Z_]+=)(?!\w+(_FILE|_CREDS)=)", "", text, flags=re.MULTILINE)
    (tmp_path / "every.env").write_text(every)
    result = run("config", "--env-file", tmp_path / "every.env")
    assert (result.status, result.err) == (0, "")


# What the pages show of a terminal. Those of docs/setup.md and docs/deliveries.md that need other servers have their
# tests beside those servers.


# How many blocks of each page, from its first.
PAGES = {
    "README.md": 1,
    "docs/guarantees.md": 2,
    "docs/report.md": 1,
    "docs/faults.md": 1,
    "docs/deliveries.md": 1,
    "docs/pings-and-logs.md": 3,
}
SHOWN = {
    f"{page}, {number}": block
    for page, most in PAGES.items()
    for number, block in enumerate(re.findall(r"```console\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)[:most])
}


def test_every_block_that_is_to_be_run_is_there():
    assert len(SHOWN) == sum(PAGES.values())


def masked(text):
    """A text without what is different each time: the server's port, times, durations, how often it was tried."""
    text = re.sub(r"nats://(localhost|127\.0\.0\.1):\d{4,}", "nats://SERVER", text)
    text = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "TIME", text)
    return re.sub(r"\(\d+ attempts\)|(?<=\"elapsed_ms\": )\d+", "N", text)


@pytest.mark.parametrize("block", SHOWN.values(), ids=SHOWN)
def test_what_a_page_shows_of_a_terminal_is_what_the_program_says(block, installed, tmp_path):
    path = os.pathsep.join([str(installed.folder / "bin"), os.environ["PATH"]])
    if "faketime" in block:
        program("faketime")
    with Server() as server:
        environ = {**os.environ, **roomy().settings, "PATH": path, "NATS_URL": server.url}
        assert do("crypto-trigger", "setup", env=environ, cwd=tmp_path).status == 0
        said = console(block, env=environ, cwd=tmp_path)
    assert masked(said) == masked(block)


# The crontab.


class Entry(NamedTuple):
    minute: str
    rest: list[str]
    command: str


def crontab():
    lines = [line for line in (ROOT / "crontab.example").read_text().splitlines() if line.strip()]
    entries = [line for line in lines if not line.startswith("#") and not re.match(r"\w+ *=", line)]
    return [Entry(fields[0], fields[1:5], fields[5]) for fields in (line.split(None, 5) for line in entries)]


def test_every_crontab_command_is_one_that_cron_can_run(run):
    assert crontab()
    for entry in crontab():
        program, *arguments = shlex.split(entry.command)
        assert program.startswith("/")
        assert program.endswith("/crypto-trigger")
        assert run(*arguments, "--help").status == 0
        assert not re.search(r"(?<!\\)%", entry.command)


def test_the_check_of_a_command_by_its_help_sees_a_wrong_one(run):
    assert run("publish", "--no-such-option", "--help").status == 2
    assert run("pubish", "--help").status == 2


def test_the_crontab_runs_once_a_slot():
    for entry in crontab():
        assert entry.rest == ["*"] * 4
        assert entry.minute == f"*/{DEFAULTS.every // timedelta(minutes=1)}"


def test_the_crontab_command_publishes_in_crons_environment_and_says_nothing(installed, cron, settings, tmp_path):
    env_file = tmp_path / "crypto-trigger.env"
    env_file.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    assert cron(f"{installed.program} setup", **settings).status == 0
    (entry,) = crontab()
    command = entry.command.replace("/opt/crypto-trigger/bin/crypto-trigger", installed.program)
    command = command.replace("/etc/crypto-trigger.env", str(env_file))
    assert cron(command)[:3] == (0, "", "")
    status, out, *_ = cron(f"{installed.program} publish --env-file {env_file}")
    assert (status, out.partition(":")[0]) == (0, "duplicate")
