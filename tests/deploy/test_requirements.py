"""requirements.txt, held against pyproject.toml and installed as the README says."""

import re
import shlex
import tarfile
import tomllib
from importlib.metadata import distributions
from typing import NamedTuple

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from support.shell import ROOT, do

from crypto_trigger import __version__

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
def test_it_holds_every_run_time_dependency_within_its_range_and_nothing_else(installed, target):
    here = {canonicalize_name(found.name): found for found in distributions(path=installed.site_packages)}
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
        for line in (here[name].requires or ()) if name in here else ():
            further = Requirement(line)
            if applies(further, target, requirement.extras):
                further.marker = None
                waiting.append(further)
    assert set(pinned) == needed


def test_the_readmes_commands_install_exactly_these_versions_and_a_program_that_runs(installed):
    expected = {
        entry.name: next(iter(entry.requirement.specifier)).version
        for entry in entries()
        if entry.requirement.marker is None or entry.requirement.marker.evaluate()
    }
    here = {name: version for name, version in installed.versions.items() if name not in ("pip", "setuptools")}
    assert here == {**expected, "crypto-trigger": __version__}
    checked = do(installed.folder / "bin" / "pip", "check")
    assert (checked.status, checked.out.strip()) == (0, "No broken requirements found.")
    assert do(installed.program, "--version").out == f"crypto-trigger {__version__}\n"


def test_the_source_distribution_holds_it(installed):
    with tarfile.open(installed.sdist) as opened:
        name = f"crypto_trigger-{__version__}/requirements.txt"
        assert opened.extractfile(name).read().decode() == TEXT
