"""Change the package in one place at a time, and see whether the tests notice.

    .venv/bin/python benchmarks/mutants.py --number 200

The work tree is copied, and the copy gets a virtual environment of its own. First each test file runs once without a
change, which tells how long it takes and which lines of the package it runs, in other processes, too. Then for each
mutant the tests without servers run, and after them the other test files that run the changed line, quickest first,
until one fails. Linux and Python 3.12 or later, because lines are recorded with sys.monitoring.
"""

from __future__ import annotations

import argparse
import ctypes
import difflib
import importlib.util
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

from mutations import Mutation, mutations

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "crypto_trigger"
SERVERLESS = ("tests/unit", "tests/limits", "tests/source", "tests/properties")
OTHERS = ("tests/broker", "tests/interop")
# One test process, whatever the project's own options say: the first failure is all that is asked for.
PYTEST = ("-m", "pytest", "-q", "-x", "-o", "addopts=--import-mode=importlib", "-p", "no:cacheprovider")
PR_SET_CHILD_SUBREAPER = 36


class Mutant(NamedTuple):
    """One change to one module, named by its path in the package."""

    module: str
    mutation: Mutation


class TestFile(NamedTuple):
    """A test file that passes without a change: how long it takes, and what lines of the package it runs."""

    path: str
    seconds: float
    lines: frozenset[tuple[str, int]]

    def runs(self, mutant: Mutant) -> bool:
        """Whether it runs the changed statement."""
        return any((mutant.module, line) in self.lines for line in mutant.mutation.lines)


class Ended(NamedTuple):
    """How a run of tests ended: `status` is pytest's, or None if the time was up."""

    status: int | None
    failed: str
    seconds: float


class Copy:
    """A copy of the work tree with its own environment, in which tests run and modules are changed."""

    def __init__(self, home: Path) -> None:
        self.tree = home / "tree"
        self._python = self.tree / ".venv" / "bin" / "python"
        self._record = home / "lines"
        self._scratch = home / "t"
        self._scratch.mkdir()
        listed = ("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
        names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
        for name in filter(None, names):
            if (ROOT / name).is_file():
                (self.tree / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, self.tree / name)
        subprocess.run([sys.executable, "-m", "venv", self.tree / ".venv"], check=True)
        subprocess.run([self._python, "-m", "pip", "install", "-q", "-e", f"{self.tree}[test]"], check=True)
        (site,) = self.tree.glob(".venv/lib/python*/site-packages")
        shutil.copy(Path(__file__).with_name("mutants_recorder.py"), site)
        # Every process of this environment loads it when it starts.
        (site / "mutants_recorder.pth").write_text("import mutants_recorder\n")

    def modules(self) -> dict[str, bytes]:
        """Return the source of every module."""
        folder = self.tree / PACKAGE
        return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.py"))}

    def write(self, module: str, source: bytes) -> None:
        """Change a module, and forget what was compiled of it."""
        path = self.tree / PACKAGE / module
        path.write_bytes(source)
        Path(importlib.util.cache_from_source(str(path))).unlink(missing_ok=True)

    def test(self, *paths: str, limit: float, record: bool = False) -> Ended:
        """Run tests until one fails or the time is up, and end every process that they leave behind."""
        env = {k: v for k, v in os.environ.items() if not k.startswith(("NATS_", "CRYPTO_TRIGGER_", "PYTHON"))}
        env |= {"TMPDIR": str(self._scratch)} | ({"MUTANTS_LINES": str(self._record)} if record else {})
        since = time.monotonic()
        with (self._scratch / "output").open("w+") as output:
            tests = subprocess.Popen(
                [self._python, *PYTEST, "--basetemp", self._scratch / "p", *paths],
                cwd=self.tree,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            status: int | None = None
            try:
                with suppress(subprocess.TimeoutExpired):
                    status = tests.wait(limit)
            finally:
                tests.kill()
                tests.wait()
                _end_orphans()
            output.seek(0)
            failed = re.search(r"^(?:FAILED|ERROR) (.+?)(?: - |$)", output.read(), re.MULTILINE)
        for left in self._scratch.iterdir():
            shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink()
        return Ended(status, failed[1] if failed else "", time.monotonic() - since)

    def recorded(self) -> frozenset[tuple[str, int]]:
        """Return the lines that were recorded since the last time."""
        text = self._record.read_text() if self._record.exists() else ""
        self._record.unlink(missing_ok=True)
        pairs = (line.rpartition(":") for line in text.splitlines())
        return frozenset((module, int(number)) for module, _, number in pairs)


def _end_orphans() -> None:
    """End all children. This process is a subreaper: what a test left behind has become its child."""
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    while pids := [int(pid) for pid in children.read_text().split()]:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def sample(modules: dict[str, bytes], number: int, chance: random.Random) -> list[Mutant]:
    """Draw mutants: the modules take turns, and within a module the kind of change is drawn before the place."""
    left: dict[str, dict[str, list[Mutation]]] = {}
    for module, source in modules.items():
        kinds: dict[str, list[Mutation]] = defaultdict(list)
        for mutation in mutations(source):
            kinds[mutation.kind].append(mutation)
        left[module] = dict(kinds)
    drawn: list[Mutant] = []
    while len(drawn) < number and any(left.values()):
        for module in chance.sample(sorted(left), len(left)):
            kinds = left[module]
            while kinds and len(drawn) < number:
                kind = chance.choice(sorted(kinds))
                mutation = kinds[kind].pop(chance.randrange(len(kinds[kind])))
                if not kinds[kind]:
                    del kinds[kind]
                if mutation.matters(modules[module]):
                    drawn.append(Mutant(module, mutation))
                    break
    return drawn


def baseline(copy: Copy, paths: list[str], limit: float) -> list[TestFile]:
    """Run each test file once without a change; leave out those that fail or take too long, and name them."""
    serverless = copy.test(*SERVERLESS, limit=limit)
    if serverless.status != 0:
        raise SystemExit(f"the tests without servers do not pass without a change: {serverless}")
    found = []
    for path in paths:
        ended = copy.test(path, limit=limit, record=True)
        lines = copy.recorded()
        if ended.status == 0:
            found.append(TestFile(path, ended.seconds, lines))
        else:
            why = "takes too long" if ended.status is None else f"does not pass without a change: {ended.failed}"
            _say(f"left out: {path} {why}")
    return sorted(found, key=lambda file: file.seconds)


def judge(copy: Copy, mutant: Mutant, source: bytes, files: list[TestFile], limit: float) -> tuple[str, str]:
    """Run the tests on one mutant; return the verdict and what led to it."""
    covering = [file.path for file in files if file.runs(mutant)]
    copy.write(mutant.module, mutant.mutation.apply(source))
    try:
        since = time.monotonic()
        ended = copy.test(*SERVERLESS, limit=limit)
        if ended.status == 0 and covering:
            ended = copy.test(*covering, limit=max(1.0, since + limit - time.monotonic()))
    finally:
        copy.write(mutant.module, source)
    if ended.status is None:
        return "timeout", f"after {limit:g} s"
    if ended.status:
        return "killed", ended.failed or f"pytest ended {ended.status}"
    return "survived", f"test files with servers that run the line: {len(covering)}"


def difference(mutant: Mutant, source: bytes) -> str:
    """Return a mutant as a diff."""
    old, new = (text.decode().splitlines() for text in (source, mutant.mutation.apply(source)))
    path = f"{PACKAGE}/{mutant.module}"
    return "\n".join(difflib.unified_diff(old, new, path, path, n=2, lineterm=""))


def main() -> None:
    """Draw the mutants, judge each, and print what became of them."""
    options = _options()
    if not hasattr(sys, "monitoring"):
        raise SystemExit("needs Python 3.12 or later")
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    # A background job of a shell starts with SIGINT ignored, which the tests of signals would inherit.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    seed = random.randrange(10**6) if options.seed is None else options.seed
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mutants-") as home:
        copy = Copy(Path(home))
        modules = copy.modules()
        mutants = sample(modules, options.number, random.Random(seed))
        _say(f"seed {seed}: {len(mutants)} mutants in {len({mutant.module for mutant in mutants})} modules")
        files = baseline(copy, _test_files(options.tests), options.limit)
        seconds = sum(file.seconds for file in files)
        _say(f"{len(files)} test files beside {' and '.join(SERVERLESS)}, {seconds:.0f} s without a change")
        verdicts: Counter[str] = Counter()
        for number, mutant in enumerate(mutants, 1):
            since = time.monotonic()
            verdict, why = judge(copy, mutant, modules[mutant.module], files, options.limit)
            verdicts[verdict] += 1
            place = f"{mutant.module}:{mutant.mutation.lines.start} {mutant.mutation.kind}"
            _say(f"{number:3}/{len(mutants)} {verdict} in {time.monotonic() - since:.0f} s: {place}: {why}")
            if verdict != "killed":
                _say(difference(mutant, modules[mutant.module]) + "\n")
    said = ", ".join(f"{verdict} {verdicts[verdict]}" for verdict in ("killed", "survived", "timeout"))
    _say(f"{said}; {(time.monotonic() - began) / 60:.0f} minutes, seed {seed}")


def _test_files(paths: list[str]) -> list[str]:
    found: list[Path] = []
    for path in paths:
        if not (ROOT / path).exists():
            raise SystemExit(f"there is no {path}")
        found += sorted((ROOT / path).rglob("test_*.py")) if (ROOT / path).is_dir() else [ROOT / path]
    return [str(path.relative_to(ROOT)) for path in found]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--number", type=int, default=20, metavar="N", help="mutants; default %(default)s")
    parser.add_argument("--seed", type=int, help="of the drawing; default: a new one")
    parser.add_argument(
        "--limit", type=float, default=300, metavar="SECONDS", help="for all tests of one mutant; default %(default)s"
    )
    parser.add_argument(
        "--tests",
        nargs="+",
        default=OTHERS,
        metavar="PATH",
        help=f"beside {' and '.join(SERVERLESS)}; default: {' '.join(OTHERS)}",
    )
    return parser.parse_args()


_say = partial(print, flush=True)

if __name__ == "__main__":
    main()
