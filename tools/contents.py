"""Check what the wheel and the source distribution in a folder hold: all that they should, and nothing else."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
# Made for this repository's own checks.
_LEFT_OUT = (".ci/", ".github/")


def main() -> int:
    """Print what is wrong, and return the exit status."""
    folder = Path(sys.argv[1])
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    name = sdist.name.removesuffix(".tar.gz")
    kept = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    files = {path for path in kept.stdout.split("\0") if path and not path.startswith(_LEFT_OUT)}
    package = {path for path in files if path.startswith("crypto_trigger/")}
    about = ("METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE")
    wanted = {
        wheel: package | {f"{name}.dist-info/{part}" for part in about},
        sdist: {f"{name}/{path}" for path in (files | {"PKG-INFO"})},
    }
    with zipfile.ZipFile(wheel) as opened, tarfile.open(sdist) as archive:
        held = {wheel: set(opened.namelist()), sdist: {one.name for one in archive if one.isfile()}}
    problems = [
        f"{file.name}: {problem} {path}"
        for file in (wheel, sdist)
        for problem, paths in (("lacks", wanted[file] - held[file]), ("also holds", held[file] - wanted[file]))
        for path in sorted(paths)
    ]
    print(*problems, sep="\n", file=sys.stderr)
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
