"""What README.md, docs/settings.md and the command lines of all pages say, held against the program."""

import os
import re
import shlex
import shutil
import tomllib

import pytest
from support.clocks import roomy
from support.pages import PAGES, anchors, block, blocks, masked, section, table, text
from support.shell import ROOT, console, do

from crypto_trigger.commands.server import Server
from crypto_trigger.settings.load import SETTINGS

README = text("README.md")
OWN = "Use it against your own NATS"


def commands(run):
    """The commands that `--help` lists."""
    listed = run("--help").out.partition("Commands:\n")[2].partition("\n\n")[0]
    return set(re.findall(r"^  (\w+)", listed, re.MULTILINE))


# What is where.


def test_readme_is_short_and_says_first_who_does_not_need_the_program():
    assert len(README.splitlines()) < 200
    titles = re.findall(r"^## (.*)", README, re.MULTILINE)
    wanted = ["Do you need it?", "Try it", OWN, "Schedulers", "Exit statuses", "Settings"]
    assert [title for title in titles if title in wanted] == wanted
    need = section("README.md", "Do you need it?")
    assert need.index("You do not need it") < need.index("You need it") < need.index("](docs/history.svg)")


def test_the_two_commands_are_where_ci_takes_them_from():
    lines = [line for line in README.splitlines() if re.match(r"python3 -m venv \.venv && ", line)]
    ends = [line.rpartition(" && ")[2] for line in lines]
    assert ends == [".venv/bin/crypto-trigger demo", ".venv/bin/python -m pytest"]
    assert r"grep '^python3 -m venv \.venv && ' README.md" in (ROOT / ".ci" / "run").read_text()
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert [re.search(r"'\.\[(\w+)\]'", line)[1] in extras for line in lines] == [True, True]


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page):
    for path, anchor in re.findall(r"\]\((?!http)([^)#]*)#?([^)]*)\)", text(page)):
        target = (PAGES[page].parent / path).resolve() if path else PAGES[page]
        assert target.exists(), path
        if anchor:
            assert anchor in anchors(str(target.relative_to(ROOT))), f"{path}#{anchor}"


def test_every_deploy_file_is_in_the_table_of_schedulers():
    linked = re.findall(r"\]\(([^)]*)\)", section("README.md", "Schedulers"))
    files = ["crontab.example", "k8s-cronjob.yaml", "Dockerfile", "app.json"]
    files += (str(path.relative_to(ROOT)) for path in (ROOT / "deploy").iterdir())
    there = [name for name in files if (ROOT / name).exists()]
    assert [name for name in there if not any(link.startswith(name) for link in linked)] == []


# Commands.


def test_every_command_has_help_and_a_row_in_readme(run):
    documented = {name.removeprefix("crypto-trigger ") for name in table(section("README.md", "Commands"))}
    assert documented == commands(run)
    for command in documented:
        result = run(command, "--help")
        assert (result.status, result.err) == (0, "")
        assert f"Usage: crypto-trigger {command} [OPTIONS]" in result.out


@pytest.mark.parametrize("page", PAGES)
def test_every_command_line_of_a_page_parses(page, run):
    known = "|".join(commands(run))
    written = "\n".join([*re.findall(r"`([^`\n]+)`", text(page)), *(each.text for each in blocks(page))])
    lines = re.findall(rf"crypto-trigger +({known})((?: +[^\s;|&<>)`'\"\\]+)*)", written)
    for command, arguments in lines:
        assert run(command, "--help", *shlex.split(arguments)).status == 0, arguments
    assert lines or "crypto-trigger " not in written


@pytest.mark.parametrize("page", PAGES)
def test_every_command_that_a_page_names_is_one(page, run):
    assert set(re.findall(r"`crypto-trigger ([a-z]+)", text(page))) <= commands(run)


def test_every_option_that_readme_names_is_one(run):
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", README))
    helps = "".join(run(*command, "--help").out for command in [(), *zip(commands(run), strict=True)])
    others = {"--no-deps", "--require-hashes"}  # of pip
    assert named - others <= set(re.findall(r"--[a-z][a-z-]+", helps))


# Settings.


def rows_of_settings():
    """What a row of the table of settings is to say, for each setting."""
    variables = {setting.attribute: setting.variable for setting in SETTINGS}
    for setting in SETTINGS:
        default = setting.default or variables.get(setting.default_of, "")
        flag = f" Flag {setting.flag}." if setting.flag else ""
        yield setting.variable, [default, setting.meaning + flag]


def test_the_page_lists_every_setting_and_readme_some_as_the_program_knows_them():
    wanted = dict(rows_of_settings())
    whole, short = (
        {name: [cell.replace("`", "") for cell in cells] for name, cells in table(f"|\n|\n{rows}").items()}
        for written in (text("docs/settings.md"), section("README.md", "Settings"))
        for rows in [written.partition("|---|---|---|\n")[2].partition("\n\n")[0]]
    )
    assert list(whole) == list(wanted)
    assert whole == wanted
    assert len(short) > 5
    assert short == {name: wanted[name] for name in short}
    assert list(short) == [name for name in wanted if name in short]


def test_every_flag_of_a_setting_names_its_variable_in_the_help(run):
    helps = " ".join("".join(run(command, "--help").out for command in commands(run)).split())
    for setting in SETTINGS:
        if setting.flag:
            assert re.search(rf"{setting.flag} [^\[]*\[env var: {setting.variable}[;\]]", helps), setting.flag


# Your own NATS.


def test_what_readme_shows_of_your_own_nats_is_what_the_program_says(installed, tmp_path):
    (shown,) = (each for each in blocks("README.md") if each.kind == "console")
    path = os.pathsep.join([str(installed.folder / "bin"), os.environ["PATH"]])
    with Server() as server:
        written = shown.text.replace("nats://localhost:4222", server.url)
        said = console(written, env={**os.environ, **roomy().settings, "PATH": path}, cwd=tmp_path)
    assert masked(said) == masked(shown.text)


def test_the_last_line_of_the_installation_puts_the_program_on_path(installed, tmp_path):
    lines = block("README.md", "python3 -m venv /opt/crypto-trigger").commands
    assert lines[-1].startswith("ln -sf ")
    places = {"/opt/crypto-trigger/": f"{installed.folder}/", "/usr/local/bin/": f"{tmp_path}/"}
    for place, here in places.items():
        assert place in lines[-1]
        lines[-1] = lines[-1].replace(place, here)
    assert do("sh", "-c", lines[-1]).status == 0
    ended = do("crypto-trigger", "--version", env={"PATH": str(tmp_path)}, cwd="/")
    assert (ended.status, ended.err) == (0, "")
    assert shutil.which("crypto-trigger", path=str(tmp_path))
