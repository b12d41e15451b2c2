"""The container image: built by buildah on a base image of Debian's packages, and run by podman and runc.

Neither needs a daemon. Both keep their storage in a folder of the test run.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from typing import TYPE_CHECKING, NamedTuple

import pytest

from support.programs import ALL, program
from support.shell import ROOT, do

if TYPE_CHECKING:
    from pathlib import Path

# Downloads Debian's and Python's packages.
_PATIENCE = 600
_SUITE = "bookworm"
_BASE = "localhost/python"
# A container has the limits of the tests' own process: podman's own are higher, which not every root may set.
_CONTAINERS_CONF = """
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
"""
# As Kubernetes' restricted profile has it, with podman's default seccomp profile, and nothing to write to. The network
# is the tests' own, where the servers are.
CONFINED = ("--read-only", "--read-only-tmpfs=false", "--cap-drop=all", "--security-opt=no-new-privileges")
HOST_NETWORK = "--network=host"


class Image(NamedTuple):
    """A built image, and the storage that holds it."""

    folder: Path
    name: str

    @property
    def environ(self):
        """The environment of podman."""
        return {**os.environ, "CONTAINERS_CONF": str(self.folder / "containers.conf")}

    def podman(self, *arguments):
        """Run podman on the storage; how it ended."""
        return do("podman", *storage(self.folder), *arguments, env=self.environ, timeout=_PATIENCE)

    def run(self, *arguments, options=(), **environ):
        """Run a container of the image to its end, confined; how it ended."""
        settings = [f"--env={name}={value}" for name, value in environ.items()]
        return self.podman("run", "--rm", HOST_NETWORK, *CONFINED, *settings, *options, self.name, *arguments)

    def inspect(self):
        """Return podman's description of the image."""
        (found,) = json.loads(must(self.podman("image", "inspect", self.name)).out)
        return found

    def again(self, source):
        """Build the image of another source tree, as the next version; returns the image and what buildah printed."""
        return _build(self.folder, source, "localhost/crypto-trigger:next")


def must(ended):
    """Return how a command ended, which must have succeeded."""
    assert ended.status == 0, ended
    return ended


def needed():
    """Skip the test unless all tests are asked for: an image takes a minute of CPU time."""
    if not ALL:
        pytest.skip("builds a container image; CRYPTO_TRIGGER_TEST_ALL=1 runs it, as .ci/run does")
    for name in ("buildah", "podman", "runc", "mmdebstrap"):
        program(name)


def storage(folder):
    """Where images are kept, with the faster overlay where the file system can hold one."""
    overlay = do("stat", "-f", "-c", "%T", folder).out.strip() not in ("overlayfs", "tmpfs")
    driver = "overlay" if overlay else "vfs"
    return [f"--root={folder / 'storage'}", f"--runroot={folder / 'run'}", f"--storage-driver={driver}"]


def buildah(folder):
    """The command that builds an image and keeps its layers for the next build."""
    return ["buildah", *storage(folder), "build", "--isolation=chroot", "--pull-never", "--layers=true"]


def build(folder):
    """Build the image of this repository in a new folder, and its base image; must be done once in a test run."""
    (folder / "containers.conf").write_text(_CONTAINERS_CONF)
    base = folder / "base"
    base.mkdir()
    must(do(*_bootstrap(base / "root.tar"), timeout=_PATIENCE))
    (base / "Dockerfile").write_text("FROM scratch\nADD root.tar /\n")
    must(_buildah(folder, "--tag", _BASE, base))
    shutil.rmtree(base)
    return _build(folder, ROOT, "localhost/crypto-trigger")[0]


def _bootstrap(archive):
    """The command that makes the root file system, without bytecode: the official Python images have none either."""
    return [
        "mmdebstrap",
        "--variant=minbase",
        "--include=python3,python3-venv,ca-certificates",
        *(f"--dpkgopt=path-exclude=/usr/share/{part}/*" for part in ("doc", "man", "locale")),
        '--customize-hook=find "$1/usr/lib" -name "*.pyc" -delete',
        _SUITE,
        archive,
    ]


def _build(folder, source, name):
    """Build the image of a source tree; returns it and what buildah printed."""
    ended = must(_buildah(folder, *here(folder), "--tag", name, source))
    return Image(folder, name), ended.out


def here(folder):
    """The options of a build on this machine: the base image, and the settings that pip has here."""
    settings = dict(re.findall(r"^(?:global|:env:)\.(cert|index-url|proxy)='(.*)'$", _pip_config(), re.MULTILINE))
    pip_conf = folder / "pip.conf"
    pip_conf.write_text("\n".join(["[global]", *(f"{key} = {value}" for key, value in settings.items()), ""]))
    certificates = [f"--volume={settings['cert']}:{settings['cert']}:ro"] if "cert" in settings else []
    return [f"--build-arg=PYTHON_IMAGE={_BASE}", f"--secret=id=pip.conf,src={pip_conf}", *certificates]


def _pip_config():
    return must(do(sys.executable, "-m", "pip", "config", "list")).out


def _buildah(folder, *arguments):
    return do(*buildah(folder), *arguments, timeout=_PATIENCE)
