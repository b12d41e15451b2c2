"""The table of many processes released at once."""

from __future__ import annotations

import random
import statistics
import threading
import time
from collections import defaultdict
from typing import TYPE_CHECKING

import process
from bench import BARE, OURS
from machine import available_memory
from tables import budget, table
from variants import OLDER, variants

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from bench import Bench
    from variants import Variant

# The largest herd that has a budget.
MOST = 200


def herd(bench: Bench, options: argparse.Namespace) -> bool:
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
                # As on every day, there is an older trigger.
                admin.load(subject, 1, OLDER)
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
        return True
    ratio = statistics.median(ours / bare for ours, bare in zip(totals[OURS], totals[BARE], strict=True))
    if number > MOST:
        print(f"* {number} at once, total x bare: {ratio:.2f} (no budget)")
        return True
    return budget(f"{number} at once, total x bare", ratio, 1.05)


def _release(
    bench: Bench, variant: Variant, stream: str, subjects: Sequence[str], number: int
) -> tuple[float, float, list[process.Cost]]:
    """Start all, then wait for all: the drop in available memory (MB), the time of all (s), and the costs."""
    calls = []
    for i in range(number):
        subject = subjects[i % len(subjects)]
        env = bench.env(variant, i, bench.broker.url, stream, subject)
        # All stand for one slot: what differs is the subject.
        calls.append((variant.argv(0, subject), {**env, "MSG_ID": f"{stream}-{i}"}))
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
