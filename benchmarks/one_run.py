"""Tables of one run on loopback: next to the other variants, without .pyc, by size of payload, in instructions."""

from __future__ import annotations

import re
import shutil
import statistics
from pathlib import Path
from typing import TYPE_CHECKING

from bench import BARE, NAIVE, OURS, few
from machine import launcher_memory
from tables import budget, median, ratios, spread, table
from variants import payload_variant, variants

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from bench import Bench
    from variants import Variant


def one_run(bench: Bench, options: argparse.Namespace) -> bool:
    """Run every variant once a round, on loopback, compiled: the main table and the budgets."""
    ready = bench.prepare([v for v in variants() if not options.only or v.name in (BARE, *options.only)])
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
    hold = []
    for peer, most in ((BARE, 1.05), (NAIVE, 0.5), ("naive-pinned", None), ("node-v3", None)):
        for what, label in (("wall", "wall"), ("cpu", "CPU")):
            if peer not in costs:
                continue
            found = ratios(ours, costs[peer], what)
            if most:
                hold.append(budget(f"{label} x {peer}", statistics.median(found), most))
            else:
                print(f"* {label} x {peer}: {spread(found)} (no budget)")
    hold.append(budget("peak memory", median(ours, "rss"), 30, " MB"))
    return all(hold)


def no_pyc(bench: Bench, options: argparse.Namespace) -> bool:
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
    return True


def payload(bench: Bench, options: argparse.Namespace) -> bool:
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
    return True


def instructions(bench: Bench, _: argparse.Namespace) -> bool:
    """Count the instructions of a whole run with valgrind: repeatable where times are not."""
    valgrind = shutil.which("valgrind")
    if not valgrind:
        print("not run (valgrind is not installed)")
        return True
    chosen = bench.prepare([v for v in variants() if v.python])
    found = {variant.name: [count_instructions(bench, variant, valgrind) for _ in range(2)] for variant in chosen}
    base = statistics.mean(found[BARE])
    table(
        ("variant", "million instructions", "x bare"),
        [(name, f"{statistics.mean(n) / 1e6:.0f}", f"{statistics.mean(n) / base:.3f}") for name, n in found.items()],
    )
    print("A gate against regressions, not a stand-in for time: what the gc lines save is mostly cache misses.")
    return True


def count_instructions(bench: Bench, variant: Variant, valgrind: str) -> int:
    """Return how many instructions one run executes."""
    environment = (*variant.environment, ("PYTHONHASHSEED", "0"))

    def run(tool: tuple[str, ...]) -> None:
        bench.run(variant._replace(command=(*tool, *variant.command), environment=environment))

    return counted(run, valgrind)


def counted(run: Callable[[tuple[str, ...]], object], valgrind: str) -> int:
    """Return how many instructions a run executes; it is given the words that go before its command."""
    run((valgrind, "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null", "--log-file=counted"))
    found = re.search(r"I\s+refs:\s+([\d,]+)", Path("counted").read_text())
    if not found:
        raise SystemExit("valgrind counted nothing")
    return int(found[1].replace(",", ""))
