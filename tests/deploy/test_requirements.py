"""requirements.txt, held against pyproject.toml and installed as the README says."""

import re
import shlex
import sys
import tarfile
import tomllib
from importlib.metadata import distributions
from typing import NamedTuple

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from support.shell import ROOT, do

from crypto_trigger import __version__

# Building and installing ask a package index.
PATIENCE = 300
TEXT = (ROOT / "requirements.txt").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PYTHONS = ("3.11", "3.12", "3.13", "3.14", "3.15")
SYSTEMS = {"linux": "Linux", "darwin": "Darwin"}
TARGETS = [(python, system) for python in PYTHONS for system in SYSTEMS]


class Locked(NamedTuple):
    """One entry of requirements.txt."""

    requirement: Requirement
    hashes: list[str]

    @property
    def name(self):
        return canonicalize_name(self.requirement.name)


def entries():
    lines = re.sub(r" \\\n", " ", re.sub(r"^ *#.*\n", "", TEXT, flags=re.MULTILINE)).splitlines()
    for line in lines:
        requirement, *hashes = re.split(r" +--hash=", line)
        yield Locked(Requirement(requirement), hashes)


def environment(python, system):
    return {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "implementation_version": f"{python}.0",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "sys_platform": system,
        "platform_system": SYSTEMS[system],
        "os_name": "posix",
    }


def applies(requirement, target, extras=()):
    """Whether a requirement's marker asks for it, with one of the extras or without any."""
    marker = requirement.marker
    return marker is None or any(marker.evaluate({**environment(*target), "extra": extra}) for extra in ("", *extras))


def must(*command):
    done = do(*command, cwd=ROOT, timeout=PATIENCE)
    assert done.status == 0, done
    return done.out


@pytest.fixture(scope="session")
def locked(tmp_path_factory):
    """The README's own commands for an installation, in another folder."""
    folder = tmp_path_factory.mktemp("locked") / "opt"
    section = (ROOT / "README.md").read_text().partition("## Use it against your own NATS\n")[2].partition("\n## ")[0]
    commands = [line for line in section.splitlines() if " -m venv " in line or "/pip install " in line]
    assert len(commands) == 3
    assert " --require-hashes -r requirements.txt" in commands[1]
    for command in commands:
        words = shlex.split(command.replace("/opt/crypto-trigger", str(folder)), comments=True)
        must(*[sys.executable if word == "python3" else word for word in words])
    return folder


def test_every_entry_is_an_exact_version_with_hashes():
    found = list(entries())
    assert len(found) > 10
    for entry in found:
        (exact,) = entry.requirement.specifier
        assert exact.operator == "=="
        assert "*" not in exact.version
        assert entry.requirement.url is None
        assert entry.hashes
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", each) for each in entry.hashes), entry.name


def test_it_names_no_address_and_no_package_index():
    assert not re.search(r"://|index-url|find-links|trusted-host|\.org\b|\.com\b|\.io\b", TEXT)


def test_its_header_tells_the_command_that_makes_it():
    (command,) = re.findall(r"^#    (uv pip compile .*)$", TEXT, re.MULTILINE)
    words = shlex.split(command)
    assert {"--universal", "--generate-hashes", "pyproject.toml"} <= set(words)
    assert words[words.index("-o") + 1] == "requirements.txt"
    # The oldest Python is the one that pyproject.toml asks for.
    assert PROJECT["requires-python"] == f">={words[words.index('--python-version') + 1]}" == f">={PYTHONS[0]}"


@pytest.mark.parametrize("target", TARGETS, ids="-".join)
def test_it_holds_every_run_time_dependency_within_its_range_and_nothing_else(locked, target):
    installed = {canonicalize_name(found.name): found for found in distributions(path=site_packages(locked))}
    pinned = {entry.name: entry.requirement for entry in entries() if applies(entry.requirement, target)}
    needed = set()
    waiting = [Requirement(line) for line in PROJECT["dependencies"]]
    seen = set()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if str(requirement) in seen or not applies(requirement, target):
            continue
        seen.add(str(requirement))
        needed.add(name)
        assert name in pinned, requirement
        (exact,) = pinned[name].specifier
        assert requirement.specifier.contains(exact.version), requirement
        # What this interpreter does not need itself is not installed here and has no metadata to read.
        for line in (installed[name].requires or ()) if name in installed else ():
            further = Requirement(line)
            if applies(further, target, requirement.extras):
                further.marker = None
                waiting.append(further)
    assert set(pinned) == needed


def site_packages(folder):
    return [str(path) for path in folder.glob("lib/python*/site-packages")]


def test_the_readmes_commands_install_exactly_these_versions_and_a_program_that_runs(locked):
    here = {found.name: found.version for found in distributions(path=site_packages(locked))}
    here = {canonicalize_name(name): version for name, version in here.items()}
    expected = {
        entry.name: next(iter(entry.requirement.specifier)).version
        for entry in entries()
        if entry.requirement.marker is None or entry.requirement.marker.evaluate()
    }
    assert here.pop("crypto-trigger") == __version__
    assert {name: version for name, version in here.items() if name not in ("pip", "setuptools")} == expected
    assert must(locked / "bin" / "pip", "check").strip() == "No broken requirements found."
    assert must(locked / "bin" / "crypto-trigger", "--version") == f"crypto-trigger {__version__}\n"


def test_the_source_distribution_holds_it(tmp_path):
    must(sys.executable, "-m", "build", "--sdist", "--outdir", tmp_path, ROOT)
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        name = f"crypto_trigger-{__version__}/requirements.txt"
        assert opened.extractfile(name).read().decode() == TEXT
