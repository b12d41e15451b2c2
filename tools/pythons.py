"""Find the interpreters that the program supports: on this machine, or else in Debian's unstable distribution.

Debian's are unpacked into a folder and changed so that they load their own C library. Nothing is installed, and the
machine's own libraries stay as they are.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

VERSIONS = ("3.11", "3.12", "3.13", "3.14", "3.15")
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_PROGRAMS = ("apt-get", "dpkg-deb", "patchelf")


class NotToBeHad(Exception):
    """Debian's packages cannot be fetched or unpacked here, and why."""


class Python(NamedTuple):
    """An interpreter, its full version, and where it is from."""

    path: Path
    version: str
    source: str


def found(version: str) -> Python | None:
    """Return the interpreter of a version, such as "3.14", that is on PATH or that pyenv has built; None without."""
    name = f"python{version}"
    built = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions").glob(f"*/bin/{name}")
    on_path = [Path(folder, name) for folder in os.get_exec_path()]
    for path in (*on_path, *sorted(built, reverse=True)):
        # A version without venv, as Debian has it, is of no use. One of pyenv's shims may lead nowhere.
        if path.is_file() and (told := _asked(path)):
            return Python(path, told, "this machine")
    return None


def from_debian(versions: list[str], folder: Path) -> list[Python]:
    """Unpack the interpreters of these versions into a folder. Raises NotToBeHad."""
    if missing := [name for name in _PROGRAMS if not shutil.which(name)]:
        raise NotToBeHad(f"{', '.join(missing)} is not installed")
    environment = {**os.environ, "APT_CONFIG": str(_apt(folder))}
    # The venv packages bring pip's wheel.
    _do("apt-get", "update", "-q", env=environment)
    packages = [f"python{version}-venv" for version in versions]
    options = ("-q", "-y", "--download-only", "--no-install-recommends")
    _do("apt-get", "install", *options, *packages, env=environment)
    root = folder / "root"
    for package in sorted((folder / "cache" / "archives").glob("*.deb")):
        _do("dpkg-deb", "--extract", str(package), str(root))
    return [_completed(root, version) for version in versions]


def _completed(root: Path, version: str) -> Python:
    """Let an unpacked interpreter, and what it loads, use the unpacked C library."""
    path = root / "usr" / "bin" / f"python{version}"
    loader = _do("patchelf", "--print-interpreter", str(path)).strip()
    (libraries,) = (root / "usr" / "lib").glob("*-linux-gnu*")
    _do("patchelf", "--set-interpreter", f"{root}/usr{loader}", str(path))
    # RPATH, unlike RUNPATH, also serves the libraries that a library needs.
    _do("patchelf", "--force-rpath", "--set-rpath", str(libraries), str(path))
    told = _asked(path)
    if not told:
        raise NotToBeHad(f"Debian's python{version} does not run here")
    return Python(path, told, "Debian unstable")


def _asked(path: Path) -> str:
    """Return the full version of an interpreter that can make virtual environments, or an empty text."""
    asked = "import venv, ensurepip, platform; print(platform.python_version())"
    done = subprocess.run([path, "-c", asked], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def _apt(folder: Path) -> Path:
    """Return a configuration by which apt keeps everything in the folder; the mirror is the machine's own."""
    if not Path(_KEYRING).exists():
        raise NotToBeHad(f"there is no {_KEYRING}")
    targets = _do("apt-get", "indextargets", "--format", "$(REPO_URI)", "Label: Debian", "Created-By: Packages")
    if not targets:
        raise NotToBeHad("apt has no mirror of Debian, or was not updated")
    for name in ("state/lists/partial", "cache/archives/partial", "etc"):
        (folder / name).mkdir(parents=True)
    (folder / "state" / "status").touch()
    (folder / "etc" / "sources.list").write_text(f"deb [signed-by={_KEYRING}] {targets.split()[0]} sid main\n")
    configuration = folder / "apt.conf"
    configuration.write_text(
        f'Dir "{folder}";\n'
        f'Dir::State "{folder}/state";\n'
        f'Dir::State::status "{folder}/state/status";\n'
        f'Dir::Cache "{folder}/cache";\n'
        f'Dir::Etc "{folder}/etc";\n'
        # The list of a mirror that is some days behind is still signed.
        'Acquire::Check-Valid-Until "false";\n'
        'Acquire::Languages "none";\n'
        'APT::Sandbox::User "";\n'
    )
    return configuration


def _do(*command: str, env: dict[str, str] | None = None) -> str:
    """Run a command and return its stdout. Raises NotToBeHad if it fails."""
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
        raise NotToBeHad(f"{command[0]} failed: {said[-1]}")
    return done.stdout
