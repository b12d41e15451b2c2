"""`tools/dist`: what it builds is the same each time, and what it must refuse, it refuses."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from email import message_from_bytes
from importlib.util import find_spec

import pytest
from support.programs import ALL, program
from support.shell import ROOT, do

from crypto_trigger import __version__

TAG = f"v{__version__}"
ADDRESS = "https://forge.example/somebody/crypto-trigger"


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
    changelog = folder / "CHANGELOG.md"
    changelog.write_text(changelog.read_text().replace("[Unreleased]", f"[{__version__}] - 2026-12-01"))
    commit(folder)


def links(page):
    """Where the links of a page of Markdown lead, without its blocks of code, in order."""
    text = re.sub(r"^ *```.*?^ *```$", "", page, flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"\]\(([^)]+)\)", text)


def urls_lead_to(address, urls):
    """Whether these are the project URLs of a repository at this address."""
    return urls == {
        "Homepage": address,
        "Documentation": f"{address}/tree/{TAG}/docs",
        "Changelog": f"{address}/blob/{TAG}/CHANGELOG.md",
        "Issues": f"{address}/issues",
    }


def test_a_release_needs_its_tag_an_address_a_dated_change_log_and_no_open_change(copy):
    assert "the tag is v0.0.9" in dist(copy, "--release", "v0.0.9", ADDRESS).err
    for address in ((), ("http://forge.example/x",), (f"{ADDRESS}/",), ("https://forge.example",)):
        assert "the repository's address is" in dist(copy, "--release", TAG, *address).err
    assert "CHANGELOG.md has no date" in dist(copy, "--release", TAG, ADDRESS).err
    releasable(copy)
    (copy / "pyproject.toml").write_text((copy / "pyproject.toml").read_text() + "\n")
    ended = dist(copy, "--release", TAG, ADDRESS)
    assert (ended.status, ended.out) == (1, "")
    assert "not committed" in ended.err
    assert not (copy / "dist").exists()


def test_an_address_makes_the_project_urls_and_every_link_of_readme(copy):
    before = links((copy / "README.md").read_text())
    assert do(sys.executable, copy / "tools" / "addressed.py", copy, ADDRESS, TAG).status == 0
    after = links((copy / "README.md").read_text())
    assert len(after) > 30
    for old, new in zip(before, after, strict=True):
        if old.startswith("#"):
            assert new == old
        else:
            kind = "raw" if old.endswith(".svg") else "blob"
            assert new == f"{ADDRESS}/{kind}/{TAG}/{old}"
            assert (copy / old.partition("#")[0]).exists()
    assert urls_lead_to(ADDRESS, tomllib.loads((copy / "pyproject.toml").read_text())["project"]["urls"])


# `.ci/run` runs it once it has installed the extra `dev`, which twine is in.
@pytest.mark.skipif(not (ALL and find_spec("twine")), reason="builds a release, which needs twine; .ci/run does it")
def test_the_files_of_a_release_lead_to_the_repository(copy):
    releasable(copy)
    assert dist(copy, "--release", TAG, ADDRESS).status == 0
    (wheel,) = (copy / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as opened:
        (name,) = (name for name in opened.namelist() if name.endswith("/METADATA"))
        metadata = message_from_bytes(opened.read(name))
    assert urls_lead_to(ADDRESS, dict(url.split(", ") for url in metadata.get_all("Project-URL")))
    shown = links(metadata.get_payload())
    assert len(shown) > 30
    assert [link for link in shown if not link.startswith(("#", f"{ADDRESS}/"))] == []
    # Only the built files have the address.
    assert subprocess.run(["git", "diff", "--quiet"], cwd=copy, check=False).returncode == 0


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
