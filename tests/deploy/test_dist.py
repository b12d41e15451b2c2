"""`tools/dist`: what it builds is the same each time, and what it must refuse, it refuses."""

import os
import shutil
import subprocess
import sys

import pytest
from support.programs import ALL, program
from support.shell import ROOT, do

from crypto_trigger import __version__

TAG = f"v{__version__}"


@pytest.fixture
def copy(tmp_path):
    """What git holds of this repository, in a repository of its own."""
    git = program("git")
    listed = subprocess.run([git, "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode:
        pytest.skip("this is not a clone")
    folder = tmp_path / "copy"
    for name in listed.stdout.decode().split("\0"):
        if name and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    for command in (["init", "-q"], ["add", "-A"]):
        subprocess.run([git, *command], cwd=folder, check=True)
    commit(folder)
    return folder


def commit(folder):
    author = ("-c", "user.name=x", "-c", "user.email=x@localhost")
    subprocess.run(["git", *author, "commit", "-qam", "x"], cwd=folder, check=True)


def dist(folder, *arguments):
    return do(
        folder / "tools" / "dist", *arguments, cwd=folder, timeout=120, env={**os.environ, "PYTHON": sys.executable}
    )


def releasable(folder):
    """Write what a release needs beside the tag."""
    changelog, project = folder / "CHANGELOG.md", folder / "pyproject.toml"
    changelog.write_text(changelog.read_text().replace("[Unreleased]", f"[{__version__}] - 2026-12-01"))
    project.write_text(project.read_text() + '\n[project.urls]\nHomepage = "https://localhost"\n')
    commit(folder)


def test_a_release_needs_its_tag_a_dated_change_log_an_address_and_no_open_change(copy):
    assert dist(copy, "--release", "v0.0.9")[:2] == (1, "")
    assert "CHANGELOG.md has no date" in dist(copy, "--release", TAG).err
    releasable(copy)
    project = (copy / "pyproject.toml").read_text()
    (copy / "pyproject.toml").write_text(project.replace("[project.urls]", "[project.url]"))
    assert "no [project.urls]" in dist(copy, "--release", TAG).err
    (copy / "pyproject.toml").write_text(project + "\n")
    assert "not committed" in dist(copy, "--release", TAG).err
    assert not (copy / "dist").exists()


@pytest.mark.skipif(not ALL, reason="builds four times; CRYPTO_TRIGGER_TEST_ALL=1 asks for it")
def test_a_file_that_does_not_belong_there_is_named(copy):
    (copy / "crypto_trigger" / "notes.txt").write_text("not in git")
    ended = dist(copy)
    assert ended.status == 1
    assert "crypto_trigger/notes.txt" in ended.err + ended.out or "is not reproducible" in ended.err


@pytest.mark.skipif(not ALL, reason="builds four times; CRYPTO_TRIGGER_TEST_ALL=1 asks for it")
def test_a_build_that_depends_on_the_folder_is_refused(copy):
    project = copy / "pyproject.toml"
    project.write_text(project.read_text() + "\n[tool.hatch.build]\nreproducible = false\n")
    commit(copy)
    ended = dist(copy)
    assert ended.status == 1
    assert "is not reproducible" in ended.err
