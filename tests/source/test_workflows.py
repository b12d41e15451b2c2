"""The workflows: actions by their hash, only permissions that are needed, the Pythons that are named elsewhere."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".github" / "workflows"
# Not in the source distribution.
pytestmark = pytest.mark.skipif(not FOLDER.exists(), reason="this is not a clone")
FILES = sorted(FOLDER.glob("*.yml"))


def jobs(path):
    return yaml.safe_load(path.read_text())["jobs"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_each_action_is_named_by_its_hash_and_version(path):
    used = re.findall(r"uses: (.*)", path.read_text())
    assert used
    assert [one for one in used if not re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", one)] == []


def test_one_hash_stands_for_one_version():
    pairs = {
        re.fullmatch(r"(.*)@(.*) # (.*)", one).groups()
        for path in FILES
        for one in re.findall(r"uses: (.*)", path.read_text())
    }
    assert len({action for action, *_ in pairs}) == len(pairs)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_job_may_do_what_it_does_and_nothing_else(path):
    assert yaml.safe_load(path.read_text())["permissions"] == {}
    for name, job in jobs(path).items():
        assert job["permissions"] == ({"id-token": "write"} if name == "publish" else {"contents": "read"})


def test_the_job_that_publishes_runs_no_code_of_ours():
    assert all("run" not in step for step in jobs(FOLDER / "release.yml")["publish"]["steps"])


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_checks_are_those_of_the_one_script(path):
    said = [step.get("run") for job in jobs(path).values() for step in job["steps"]]
    assert "bash .ci/run --this-python" in said


def test_the_pythons_are_the_same_everywhere():
    (job,) = jobs(FOLDER / "ci.yml").values()
    versions = job["strategy"]["matrix"]["python"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    classified = [line.rpartition(" ")[2] for line in project["classifiers"] if ":: Python :: 3." in line]
    (tested,) = re.findall(r"^VERSIONS = \((.*)\)$", (ROOT / "tools" / "pythons.py").read_text(), re.MULTILINE)
    page = (ROOT / "docs" / "pythons.md").read_text()
    assert (
        versions == classified == re.findall(r'"(.*?)"', tested) == re.findall(r"^\| (3\.\d+) \|", page, re.MULTILINE)
    )
    assert project["requires-python"] == f">={versions[0]}"
