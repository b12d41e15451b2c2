"""What one run costs, next to other ways to publish one message: the command line and the tables.

Standard library only, Linux. Starts its own nats-server. Every variant is a whole process, measured by the operating
system; all variants run once in each round, in random order, and ratios are taken within a round, so that a busy
machine slows both sides. Every run must have stored exactly one message, or the benchmark ends with status 1.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import random
import re
import shutil
import signal
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections import defaultdict
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import process
from broker import Broker, Client, Link, available_memory, free_port, load_average, program
from variants import PEERS, SITE, Variant, next_hour, payload_variant, variants

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

OURS, BARE, NAIVE = "crypto-trigger", "bare", "naive"
_DAY = 86400
_TELLING = 300
_HERD = 200
_missed: list[str] = []


class Bench:
    """A server, a compiled state of Python, and the runs made so far: each is checked to have stored one message."""

    def __init__(self, broker: Broker, home: Path, warm: int) -> None:
        self.broker = broker
        self._warm = warm
        self.compiled = home / "compiled"
        self._uncompiled = home / "uncompiled"
        self._serials = count(1)
        self._streams: set[str] = set()

    def prepare(self, chosen: Sequence[Variant]) -> list[Variant]:
        """Run each variant, which compiles what it imports; return those that can run, and name the others."""
        for variant in chosen:
            if variant.missing:
                print(f"{variant.name}: not run ({variant.missing})")
        ready = [variant for variant in chosen if not variant.missing]
        for variant in ready:
            for _ in range(self._warm):
                self.run(variant)
        return ready

    def run(self, variant: Variant, url: str = "", *, compiled: bool = True, subject: str = "") -> process.Cost:
        """Run once, and see that one message more is stored."""
        stream = re.sub("[^a-z0-9]", "-", variant.name)
        subject = subject or f"{stream}.update"
        if stream not in self._streams:
            self.broker.admin.create(stream, subject)
            self._streams.add(stream)
        serial = next(self._serials)
        before = self.broker.admin.count(stream)
        env = self.env(variant, serial, url or self.broker.url, stream, subject, compiled=compiled)
        cost = process.run(variant.argv(serial, subject), env)
        stored = self.broker.admin.count(stream) - before
        if cost.status or stored != 1:
            raise SystemExit(f"{variant.name}: status {cost.status}, {stored} messages stored\n{cost.said}")
        return cost

    def env(
        self, variant: Variant, serial: int, url: str, stream: str, subject: str, *, compiled: bool = True
    ) -> Mapping[str, str]:
        """Return a run's environment, with the state of Python's .pyc files it is to find."""
        env = variant.env(serial, url, stream, subject)
        if variant.python:
            env["PYTHONPYCACHEPREFIX"] = str(self.compiled if compiled else self._uncompiled)
            if not compiled:
                env["PYTHONDONTWRITEBYTECODE"] = "1"
        return env

    def skip_to(self, serial: int) -> None:
        """Go on counting runs from here."""
        self._serials = count(serial)

    def rounds(self, runs: Mapping[str, Callable[[], process.Cost]], number: int) -> dict[str, list[process.Cost]]:
        """Make every run once a round, in random order; return the costs of each, one a round."""
        costs = defaultdict(list)
        for _ in range(number):
            for name in random.sample(sorted(runs), len(runs)):
                costs[name].append(runs[name]())
        return dict(costs)


def quantiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the median, the 10th and the 90th percentile."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    tenths = statistics.quantiles(values, n=10, method="inclusive")
    return statistics.median(values), tenths[0], tenths[8]


def ratios(one: Sequence[process.Cost], other: Sequence[process.Cost], what: str) -> list[float]:
    """Return the ratio of each round."""
    return [getattr(a, what) / getattr(b, what) for a, b in zip(one, other, strict=True)]


def spread(values: Sequence[float], form: str = ".2f") -> str:
    """Return a median with its 10th and 90th percentile."""
    middle, low, high = (format(value, form) for value in quantiles(values))
    return f"{middle} ({low}-{high})"


def median(costs: Sequence[process.Cost], what: str) -> float:
    """Return the median of one cost."""
    return statistics.median(getattr(cost, what) for cost in costs)


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a Markdown table."""
    cells = [list(map(str, row)) for row in (head, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    cells.insert(1, ["-" * width for width in widths])
    print()
    for row in cells:
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |")
    print()


def budget(what: str, value: float, most: float, unit: str = "") -> None:
    """Print whether a budget holds, and remember if it does not."""
    holds = value <= most
    print(f"* {what}: {value:.2f}{unit}, budget {most:g}{unit}: {'holds' if holds else 'MISSED'}")
    if not holds:
        _missed.append(what)


def few(options: argparse.Namespace, part: int) -> int:
    """Return a part of the rounds, for a table whose differences are large."""
    return max(1 if options.short else 3, options.rounds // part)


# The modes, each one table.


def startup(bench: Bench, options: argparse.Namespace) -> None:
    """Run every variant once a round, on loopback, compiled: the main table and the budgets."""
    ready = bench.prepare(variants())
    costs = bench.rounds({v.name: lambda v=v: bench.run(v) for v in ready}, options.rounds)
    floor = launcher_memory()
    rows = []
    for variant in ready:
        mine = costs[variant.name]
        rss = median(mine, "rss")
        rows.append(
            (
                variant.name,
                variant.meaning,
                f"{median(mine, 'wall'):.0f}",
                spread(ratios(mine, costs[BARE], "wall")),
                f"{median(mine, 'cpu'):.0f}",
                spread(ratios(mine, costs[BARE], "cpu")),
                f"{rss:.1f}" if rss > floor + 0.5 else f"<= {floor:.0f}",
            )
        )
    table(("variant", "", "wall ms", "x bare (p10-p90)", "CPU ms", "x bare (p10-p90)", "peak MB"), rows)
    print(f"n = {options.rounds} rounds. Peak memory cannot be read below the launcher's own {floor:.0f} MB.\n")
    ours = costs[OURS]
    for peer, most in ((BARE, 1.05), (NAIVE, 0.5), ("naive-pinned", None), ("node-v3", None)):
        for what, label in (("wall", "wall"), ("cpu", "CPU")):
            if peer not in costs:
                continue
            found = ratios(ours, costs[peer], what)
            if most:
                budget(f"{label} x {peer}", statistics.median(found), most)
            else:
                print(f"* {label} x {peer}: {spread(found)} (no budget)")
    budget("peak memory", median(ours, "rss"), 30, " MB")


def no_pyc(bench: Bench, options: argparse.Namespace) -> None:
    """Run without any .pyc, as in an image that ships none and cannot write them."""
    ready = bench.prepare([v for v in variants() if v.name in (OURS, BARE, NAIVE)])
    runs = {}
    for variant in ready:
        for compiled in (True, False):
            runs[variant.name, compiled] = lambda v=variant, c=compiled: bench.run(v, compiled=c)
    costs = bench.rounds(runs, few(options, 4))
    table(
        ("variant", "with .pyc, ms", "without, ms", "x with"),
        [
            (
                v.name,
                f"{median(costs[v.name, True], 'wall'):.0f}",
                f"{median(costs[v.name, False], 'wall'):.0f}",
                spread(ratios(costs[v.name, False], costs[v.name, True], "wall")),
            )
            for v in ready
        ],
    )
    print(f"n = {few(options, 4)}. Nothing was compiled ahead, the standard library included.")


def herd(bench: Bench, options: argparse.Namespace) -> None:
    """Release many processes at once: each with a slot of its own, and all with the same one."""
    ready = {v.name: v for v in bench.prepare([v for v in variants() if v.name in (OURS, BARE)])}
    number = options.herd
    admin = bench.broker.admin
    rows = []
    totals: dict[str, list[float]] = defaultdict(list)
    for turn in range(options.repeats):
        for name in random.sample([OURS, BARE, "same slot"], 3):
            variant = ready.get(name, ready[OURS])
            stream = f"herd-{turn}-{name.replace(' ', '-')}"
            admin.create(stream, f"{stream}.>")
            subjects = [f"{stream}.update"] if name == "same slot" else [f"{stream}.{i}" for i in range(number)]
            for subject in () if name == BARE else subjects:
                # As every day: an older trigger is there.
                admin.load(subject, 1)
            before = admin.count(stream)
            memory, total, costs = _release(bench, variant, stream, subjects, number)
            stored = admin.count(stream) - before
            failed = sum(cost.status != 0 for cost in costs)
            wanted = len(subjects)
            if failed or stored != wanted:
                raise SystemExit(f"herd of {number}, {name}: {failed} failed, {stored} stored, {wanted} wanted")
            totals[name].append(total)
            cpu = statistics.mean(cost.cpu for cost in costs)
            slowest = max(cost.wall for cost in costs) / 1000
            rows.append((name, number, f"{total:.1f}", f"{cpu:.0f}", f"{slowest:.1f}", f"{memory:.0f}", failed, stored))
    table(
        ("variant", "at once", "total s", "CPU ms each", "slowest s", "memory MB", "failed", "stored"),
        sorted(rows),
    )
    if options.short:
        return
    ratio = statistics.median(ours / bare for ours, bare in zip(totals[OURS], totals[BARE], strict=True))
    if number <= _HERD:
        budget(f"{number} at once, total x bare", ratio, 1.05)
    else:
        print(f"* {number} at once, total x bare: {ratio:.2f} (no budget)")


def _release(
    bench: Bench, variant: Variant, stream: str, subjects: Sequence[str], number: int
) -> tuple[float, float, list[process.Cost]]:
    """Start all, then wait for all: the drop in available memory (MB), the time of all (s), and the costs."""
    calls = []
    slot = next_hour()
    for i in range(number):
        subject = subjects[i % len(subjects)]
        env = bench.env(variant, i, bench.broker.url, stream, subject)
        calls.append((variant.argv(slot, subject), {**env, "MSG_ID": f"{stream}-{i}"}))
    lowest = before = available_memory()
    done = threading.Event()

    def watch() -> None:
        nonlocal lowest
        while not done.wait(0.05):
            lowest = min(lowest, available_memory())

    watcher = threading.Thread(target=watch)
    watcher.start()
    since = time.monotonic()
    running = [process.start(argv, env) for argv, env in calls]
    costs = [process.wait(each) for each in running]
    total = time.monotonic() - since
    done.set()
    watcher.join()
    return before - lowest, total, costs


def payload(bench: Bench, options: argparse.Namespace) -> None:
    """Vary the payload of the bare script; the trigger itself is always 20 bytes."""
    ready = bench.prepare([payload_variant(size) for size in (20, 100_000, 1_000_000)])
    costs = bench.rounds({v.name: lambda v=v: bench.run(v) for v in ready}, few(options, 2))
    base = costs[ready[0].name]
    table(
        ("variant", "wall ms", "x 20 bytes", "peak MB"),
        [
            (
                v.name,
                f"{median(costs[v.name], 'wall'):.0f}",
                spread(ratios(costs[v.name], base, "wall")),
                f"{median(costs[v.name], 'rss'):.1f}",
            )
            for v in ready
        ],
    )


def refused(bench: Bench, options: argparse.Namespace) -> None:
    """Publish to a port that nobody listens on: how long until each says so."""
    chosen = [v for v in variants() if v.name == OURS or not (options.short or v.name in ("naive-pinned", "bare+gc"))]
    ready = bench.prepare(chosen)
    url = f"nats://127.0.0.1:{free_port()}"
    longest = 10
    rows = []
    told = {"CRYPTO_TRIGGER_GIVE_UP_AFTER": "1s", "CRYPTO_TRIGGER_BACKOFF_MAX": "250ms"}
    for variant in ready:
        subject = f"{variant.name}.update"
        env = {**bench.env(variant, 0, url, variant.name, subject), **told}
        costs = [process.run(variant.argv(0, subject), env, longest)]
        if costs[0].status != -1 and not options.short:
            costs += [process.run(variant.argv(0, subject), env, longest) for _ in range(4)]
        statuses = {"stopped" if cost.status == -1 else str(cost.status) for cost in costs}
        wall = median(costs, "wall") / 1000
        took = f"> {longest}" if "stopped" in statuses else f"{wall:.2f}"
        rows.append((variant.name, took, f"{median(costs, 'cpu'):.0f}", ", ".join(sorted(statuses))))
        if variant.name == OURS:
            worst = max(cost.wall for cost in costs) / 1000
            if statuses != {"69"}:
                raise SystemExit(f"refused: {variant.name} ended with {statuses}, not 69")
    table(("variant", "ends after s", "CPU ms", "status"), rows)
    print("crypto-trigger was told to go on trying for 1 s, the others know no such limit.\n")
    if not options.short:
        budget("broker refused, longest of 5, over the 1 s of trying", worst - 1, 1, " s")


def instructions(bench: Bench, _: argparse.Namespace) -> None:
    """Count the instructions of a whole run with valgrind: repeatable where times are not."""
    valgrind = shutil.which("valgrind")
    if not valgrind:
        print("not run (valgrind is not installed)")
        return
    chosen = bench.prepare([v for v in variants() if v.python])
    found = {variant.name: [count_instructions(bench, variant, valgrind) for _ in range(2)] for variant in chosen}
    base = statistics.mean(found[BARE])
    table(
        ("variant", "million instructions", "x bare"),
        [(name, f"{statistics.mean(n) / 1e6:.0f}", f"{statistics.mean(n) / base:.3f}") for name, n in found.items()],
    )
    print("A gate against regressions, not a stand-in for time: what the gc lines save is mostly cache misses.")


def count_instructions(bench: Bench, variant: Variant, valgrind: str) -> int:
    """Return how many instructions one run executes."""
    tool = (valgrind, "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null", "--log-file=counted")
    environment = (*variant.environment, ("PYTHONHASHSEED", "0"))
    bench.run(variant._replace(command=(*tool, *variant.command), environment=environment))
    counted = re.search(r"I\s+refs:\s+([\d,]+)", Path("counted").read_text())
    if not counted:
        raise SystemExit("valgrind counted nothing")
    return int(counted[1].replace(",", ""))


def rtt(bench: Bench, options: argparse.Namespace) -> None:
    """Count round trips on a link with 50 ms of delay, and measure what it adds to a run."""
    delay = 0.05
    trips: dict[str, list[int]] = defaultdict(list)

    def counted(variant: Variant, link: Link) -> process.Cost:
        before = link.trips
        cost = bench.run(variant, link.url)
        trips[variant.name].append(link.trips - before)
        return cost

    ready = bench.prepare(variants())
    with Link(bench.broker.port, 0) as near, Link(bench.broker.port, delay) as far:
        runs = {}
        for v in ready:
            runs[v.name, "near"] = lambda v=v: bench.run(v, near.url)
            runs[v.name, "far"] = lambda v=v: counted(v, far)
        number = few(options, 8)
        costs = bench.rounds(runs, number)
    rows = []
    for v in ready:
        pairs = zip(costs[v.name, "far"], costs[v.name, "near"], strict=True)
        added = [(far.wall - near.wall) / 1000 / delay for far, near in pairs]
        rows.append(
            (
                v.name,
                f"{median(costs[v.name, 'near'], 'wall'):.0f}",
                f"{median(costs[v.name, 'far'], 'wall'):.0f}",
                spread(added, ".1f"),
                "-".join(map(str, sorted({min(trips[v.name]), max(trips[v.name])}))),
            )
        )
    table(
        ("variant", "without delay, ms", "50 ms of delay, ms", "added, in 50 ms (p10-p90)", "round trips counted"), rows
    )
    print(f"n = {number}. TCP's handshake and the server's greeting are two of them for everybody.")


def big_stream(bench: Bench, options: argparse.Namespace) -> None:
    """Publish to a stream with a million messages on the subject, and to one with a few."""
    (ours,) = bench.prepare([v for v in variants() if v.name == OURS])
    number = 10_000 if options.short else 1_000_000
    crowded = ours._replace(name="crowded")
    since = time.monotonic()
    bench.run(crowded)
    # Triggers of the distant past, so that every run still has a slot of its own.
    bench.broker.admin.load("crowded.update", number)
    print(f"{number} messages loaded in {time.monotonic() - since:.1f} s")
    # A plain message counts for the time it was stored, so that runs stand for slots after it.
    bench.skip_to(next_hour())
    costs = bench.rounds(
        {"few": lambda: bench.run(ours), "many": lambda: bench.run(crowded)},
        min(40, options.rounds),
    )
    table(
        ("messages in the stream", "wall ms", "CPU ms", "wall x few"),
        [
            ("a few", f"{median(costs['few'], 'wall'):.0f}", f"{median(costs['few'], 'cpu'):.0f}", "1"),
            (
                f"{number}",
                f"{median(costs['many'], 'wall'):.0f}",
                f"{median(costs['many'], 'cpu'):.0f}",
                spread(ratios(costs["many"], costs["few"], "wall")),
            ),
        ],
    )


def slow_server(bench: Bench, _: argparse.Namespace) -> None:
    """Publish to a server that stands still: for a second and a half, and for good."""
    (ours,) = bench.prepare([v for v in variants() if v.name == OURS])
    pid = bench.broker.process.pid
    rows = []
    env = {**bench.env(ours, 0, bench.broker.url, OURS, f"{OURS}.update"), "CRYPTO_TRIGGER_TIMEOUT": "1s"}
    env["CRYPTO_TRIGGER_GIVE_UP_AFTER"] = "5s"
    before = bench.broker.admin.count(OURS)
    for meaning, pause in (("stands still for 1.5 s", 1.5), ("stands still until the run has ended", None)):
        os.kill(pid, signal.SIGSTOP)
        wake = threading.Timer(pause, os.kill, (pid, signal.SIGCONT)) if pause else None
        if wake:
            wake.start()
        try:
            cost = process.run(ours.argv(100_000 + len(rows), f"{OURS}.update"), env)
        finally:
            os.kill(pid, signal.SIGCONT)
            if wake:
                wake.cancel()
        wanted = 0 if pause else 69
        if cost.status != wanted:
            raise SystemExit(f"a server that {meaning}: status {cost.status}, not {wanted}\n{cost.said}")
        rows.append((meaning, f"{cost.wall / 1000:.2f}", cost.status))
    stored = bench.broker.admin.count(OURS) - before
    if stored != 1:
        raise SystemExit(f"{stored} messages stored, not 1")
    table(("server", "ends after s", "status"), rows)
    print("Timeout 1 s, deadline 5 s. One message stored, by the first.\n")
    budget("standing still for good, over the deadline", cost.wall / 1000 - 5, 1, " s")


def resident(bench: Bench, options: argparse.Namespace) -> None:
    """Watch the worker that stays: its memory, and the CPU time it uses in that time."""
    node, package = shutil.which("node"), PEERS / "node_modules" / "node-cron"
    if not node or not package.exists():
        print("not run (sh benchmarks/peers/install.sh)")
        return
    bench.broker.admin.create("resident", "resident.update")
    env = {"PATH": os.environ.get("PATH", os.defpath), "NATS_URL": bench.broker.url, "SUBJECT": "resident.update"}
    running = process.start((node, str(PEERS / "resident.js")), env, "stderr")
    try:
        end = time.monotonic() + 10
        while not bench.broker.admin.count("resident"):
            if time.monotonic() > end:
                raise SystemExit(f"the resident worker published nothing\n{Path('stderr').read_text()}")
            time.sleep(0.05)
        settle = min(60.0, options.resident / 4)
        time.sleep(settle)
        since, used = time.monotonic(), _cpu_seconds(running.pid)
        time.sleep(options.resident - settle)
        seconds, used = time.monotonic() - since, _cpu_seconds(running.pid) - used
        memory = {
            line.split(":")[0]: int(line.split()[1]) / 1024
            for line in Path(f"/proc/{running.pid}/smaps_rollup").read_text().splitlines()
            if line.startswith(("Rss:", "Pss:"))
        }
    finally:
        os.kill(running.pid, signal.SIGTERM)
        process.wait(running)
    # Over a new connection: the server has ended the other one, whose PINGs nobody answered meanwhile.
    fired = Client(bench.broker.port).count("resident") - 1
    table(
        ("worker", "watched s", "RSS MB", "PSS MB", "CPU ms in that time", "fired", "CPU s a day, extrapolated"),
        [
            (
                "node-cron + nats 2",
                f"{seconds:.0f}",
                f"{memory['Rss']:.1f}",
                f"{memory['Pss']:.1f}",
                f"{used * 1000:.1f}",
                fired,
                f"{used / seconds * _DAY:.1f}" if seconds >= _TELLING else "-",
            )
        ],
    )
    print(
        f"Watched after {settle:.0f} s of settling; under {_TELLING} s nothing is extrapolated, and an hour is better."
    )


def _cpu_seconds(pid: int) -> float:
    """Return the CPU time of all threads of a process, by the scheduler's own count."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def launcher_memory() -> float:
    """Return this process's own peak memory in MB, below which no child's can be read."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def describe() -> None:
    """Print what the numbers depend on."""
    arguments = sysconfig.get_config_var("CONFIG_ARGS") or ""
    pgo = "yes" if "--enable-optimizations" in arguments else "not recorded in CONFIG_ARGS"
    model = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.machine(),
    )
    packages = ("crypto-trigger", "nats-py", "typer", "rich", "backoff", "python-dotenv")
    site = [f"{d.metadata['Name']} {d.version}" for d in importlib.metadata.distributions(path=[str(SITE)])]
    print(f"* {time.strftime('%Y-%m-%d %H:%M', time.gmtime())} UTC, {platform.platform()}")
    print(f"* {os.cpu_count()} cores, {model}; load {load_average()}")
    print(
        f"* Python {sys.version.split()[0]} ({sys.version.split('[')[-1].rstrip(']')}), --enable-optimizations: {pgo}"
    )
    print(f"* {', '.join(f'{name} {version(name)}' for name in packages)}")
    naive = [row for row in site if row.split()[0] in ("typer", "pydantic", "nats-py")]
    print(f"* naive script's own: {', '.join(sorted(naive)) or 'not installed'}")
    node = shutil.which("node")
    print(f"* Node {said(node, '--version')}, {', '.join(node_packages()) or 'no packages'}")
    print(f"* {said(program(), '--version')}")
    print(
        "* .pyc: all compiled ahead, in a directory of the benchmark's own (PYTHONPYCACHEPREFIX), unless a table says"
    )


def version(name: str) -> str:
    """Return the version of an installed package."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def node_packages() -> list[str]:
    """Return the names and versions of the peers' Node packages."""
    names = ("nats", "@nats-io/transport-node", "@nats-io/jetstream", "node-cron")
    files = [(name, PEERS / "node_modules" / name / "package.json") for name in names]
    return [f"{name} {json.loads(file.read_text())['version']}" for name, file in files if file.exists()]


def said(found: str | None, argument: str) -> str:
    """Return what a program says of its version."""
    if not found:
        return "not installed"
    return subprocess.run([found, argument], capture_output=True, text=True, check=False).stdout.strip()


MODES = {
    "startup": startup,
    "no-pyc": no_pyc,
    "herd": herd,
    "payload": payload,
    "refused": refused,
    "instructions": instructions,
    "rtt": rtt,
    "big-stream": big_stream,
    "slow-server": slow_server,
    "resident": resident,
}
_ALL = (
    ("startup",),
    ("no-pyc",),
    ("instructions",),
    ("rtt",),
    ("herd", str(_HERD), "--repeats", "3"),
    ("herd", "400"),
    ("big-stream",),
    ("payload",),
    ("refused",),
    ("slow-server",),
)
_WATCHED = 420
_SHORT = (
    ("startup",),
    ("rtt",),
    ("herd", "10"),
    ("big-stream",),
    ("refused",),
    ("resident", "2"),
)


def main() -> None:
    """Run one mode, or all of them, each in a process of its own."""
    options = _options()
    # As Ctrl-C does: the servers and processes started here go, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    if options.all:
        sys.exit(everything(options.rounds))
    if options.short and not options.part:
        sys.exit(validity())
    name = next((name for name in MODES if getattr(options, name.replace("-", "_"), None)), "startup")
    if not options.part:
        describe()
    with tempfile.TemporaryDirectory(prefix="crypto-trigger-benchmark-") as home:
        # Away from any .env; and `stderr` and `counted` are files here.
        os.chdir(home)
        with Broker() as broker:
            MODES[name](Bench(broker, Path(home), 1 if options.short else 2), options)
        os.chdir("/")
    sys.exit(1 if _missed and not options.short else 0)


def everything(rounds: int) -> int:
    """Print every table; return 1 if something is not valid or over its budget."""
    since = time.monotonic()
    describe()
    watch = subprocess.Popen(
        _part("resident", str(_WATCHED)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    failed = []
    try:
        for mode in _ALL:
            _title(*mode)
            if _run_part(*mode, "--rounds", str(rounds))[0]:
                failed.append(" ".join(mode))
        _title("resident", str(_WATCHED))
        print(watch.communicate(timeout=_WATCHED + 60)[0])
        if watch.returncode:
            failed.append("resident")
    finally:
        watch.terminate()
        watch.wait()
    print(f"\n{(time.monotonic() - since) / 60:.1f} minutes, load {load_average()}.")
    print(
        f"Not within budget, or not valid: {', '.join(failed)}." if failed else "Every run valid, every budget holds."
    )
    return 1 if failed else 0


def validity() -> int:
    """Run every variant and mode in small, and say only whether each run stored what it should."""
    status = 0
    for mode in _SHORT:
        failed, said = _run_part(*mode, "--short", "--rounds", "1", output=subprocess.PIPE)
        print(f"{' '.join(mode)}: {'not valid' if failed else 'valid'}", flush=True)
        if failed:
            status = 1
            print(said)
        else:
            print("".join(f"  {line}\n" for line in said.splitlines() if "not run" in line), end="")
    return status


def _title(name: str, *value: str) -> None:
    summary = (MODES[name].__doc__ or "").splitlines()[0]
    print(
        f"\n### --{' '.join((name, *value))}\n\n{summary}\n" if name != "startup" else f"\n### one run\n\n{summary}\n",
        flush=True,
    )


def _run_part(*arguments: str, output: int | None = None) -> tuple[int, str]:
    """Run a mode to its end; where we are to end first, let it clean up."""
    error = subprocess.STDOUT if output else None
    part = subprocess.Popen(_part(*arguments), stdout=output, stderr=error, text=True)
    try:
        said = part.communicate()[0] or ""
    finally:
        part.terminate()
        part.wait()
    return part.returncode, said


def _part(name: str, *rest: str) -> list[str]:
    mode = [] if name == "startup" else [f"--{name}"]
    return [sys.executable, __file__, "--part", *mode, *rest]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40, metavar="N", help="rounds of the main table (40)")
    parser.add_argument("--repeats", type=int, default=1, metavar="N", help="repeats of a herd (1)")
    parser.add_argument("--short", action="store_true", help="every variant and mode in small: is it valid? No times.")
    parser.add_argument("--part", action="store_true", help=argparse.SUPPRESS)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--all", action="store_true", help="every table, with budgets; status 1 if one is missed")
    for name, mode in MODES.items():
        summary = (mode.__doc__ or "").splitlines()[0]
        if name == "herd":
            which.add_argument("--herd", type=int, metavar="N", help=summary)
        elif name == "resident":
            which.add_argument("--resident", type=float, metavar="SECONDS", help=summary)
        elif name != "startup":
            which.add_argument(f"--{name}", action="store_true", help=summary)
    return parser.parse_args()


if __name__ == "__main__":
    main()
