"""Install the program on every Python that it supports, from the wheel and from source, and run tests of `publish`.

Run it with the interpreter of a virtual environment that has the extra `dev`. Arguments are versions, such as 3.15; all
if there are none. Every test runs in the C locale: those of the wheel as the present user, those of the source as
`nobody` where the present user is root. A version that is not to be had is named and skipped.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from pythons import VERSIONS, NotToBeHad, Python, found, from_debian

ROOT = Path(__file__).parents[1]
# What depends most on the interpreter: signals, deadlines, what a start loads and costs.
WHEEL = (
    *("publish", "one_per_slot", "failed_publish", "unacknowledged", "signals"),
    *("early_ends", "scarce_resources", "startup", "lazy_imports", "auth", "payload_limits"),
)
SOURCE = ("publish", "one_per_slot")
NOBODY = 65534


class Installation(NamedTuple):
    """How the program is installed, by whom its tests are run, and which tests."""

    kind: str
    file: Path
    user: str
    tests: tuple[str, ...]


def main() -> int:
    """Test each version, print what was run, and return the exit status."""
    wanted = sys.argv[1:] or list(VERSIONS)
    with tempfile.TemporaryDirectory(prefix="pythons-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        pythons, lines = _interpreters(wanted, folder)
        wheel, sdist = _built(folder)
        is_root = os.geteuid() == 0
        kinds = (
            Installation("wheel", wheel, "root" if is_root else "the user", WHEEL),
            Installation("source", sdist, "nobody" if is_root else "the user", SOURCE),
        )
        failed = False
        for python in pythons:
            for kind in kinds:
                ok, said = _tested(python, kind, folder)
                failed = failed or not ok
                line = f"{python.version} ({python.source}), {kind.kind}, as {kind.user}: {said}"
                print(line, flush=True)
                lines.append(line)
    print("\nevery Python, in the C locale:", *lines, sep="\n  ")
    return int(failed)


def _interpreters(wanted: list[str], folder: Path) -> tuple[list[Python], list[str]]:
    """Return the interpreters, and a line for those that are not to be had."""
    here = {version: found(version) for version in wanted}
    missing = [version for version, python in here.items() if python is None]
    pythons = [python for python in here.values() if python]
    try:
        # Debian has no older ones there.
        packaged = [version for version in missing if version in VERSIONS[-2:]]
        unpacked = from_debian(packaged, folder / "debian") if packaged else []
    except NotToBeHad as error:
        return pythons, [f"{', '.join(missing)}: skipped, not to be had: {error}"]
    rest = [version for version in missing if version not in packaged]
    lines = [f"{', '.join(rest)}: skipped, not on this machine"] if rest else []
    return pythons + unpacked, lines


def _built(folder: Path) -> tuple[Path, Path]:
    _do(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder / "dist", ROOT)
    (wheel,), (sdist,) = ((folder / "dist").glob(pattern) for pattern in ("*.whl", "*.tar.gz"))
    return wheel, sdist


def _tested(python: Python, kind: Installation, folder: Path) -> tuple[bool, str]:
    """Install the program and run its tests; tell whether they passed, and pytest's last line."""
    venv = folder / f"{python.version}-{kind.kind}"
    _do(python.path, "-m", "venv", "--without-pip", venv)
    install = ("pip", "install", "-q", "--compile-bytecode", "--python", venv / "bin" / "python")
    _do(Path(sys.executable).parent / "uv", *install, f"{kind.file}[test]")
    place = folder / f"{python.version}-{kind.kind}-tmp"
    place.mkdir()
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(place),
        "TMPDIR": str(place),
        "LC_ALL": "C",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    before = _as_nobody(python, place) if kind.user == "nobody" else ()
    files = [f"tests/broker/test_{name}.py" for name in kind.tests]
    # -P: the program is the installed one, not that of the working directory.
    command = (*before, venv / "bin" / "python", "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", *files)
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    last = re.search(r"(\d+ .*) in [\d.]+s", done.stdout)
    ok = done.returncode == 0 and last is not None
    if not ok:
        print(done.stdout, done.stderr, sep="\n")
    shutil.rmtree(venv)
    return ok, last[1] if last else f"status {done.returncode}"


def _as_nobody(python: Python, place: Path) -> tuple[str, ...]:
    """Return the command that runs another one as nobody, whose home `place` becomes."""
    os.chown(place, NOBODY, NOBODY)
    user = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
    # The interpreter, or this folder, may be in root's home. This permits to read there, and nothing else.
    private = [path for path in (*python.path.resolve().parents, *ROOT.parents) if not path.stat().st_mode & 0o005]
    reading = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search") if private else ()
    return (*user, *reading)


def _do(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{done.stdout}{done.stderr}")


if __name__ == "__main__":
    sys.exit(main())
