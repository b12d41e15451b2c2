"""Tables of a network in trouble: a long line, a port that nobody listens on, a server that stands still."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import process
from bench import BARE, OURS, few
from broker import free_port
from tables import budget, median, spread, table
from variants import variants

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support.flights import Flights

if TYPE_CHECKING:
    import argparse

    from bench import Bench
    from variants import Variant


def rtt(bench: Bench, options: argparse.Namespace) -> bool:
    """Count round trips on a link with 50 ms of delay, and measure what it adds to a run."""
    delay = 0.05
    trips: dict[str, list[int]] = defaultdict(list)

    def counted(variant: Variant, link: Flights) -> process.Cost:
        before = link.count
        cost = bench.run(variant, link.url)
        trips[variant.name].append(link.count - before)
        return cost

    ready = bench.prepare([v for v in variants() if v.name in (OURS, BARE) or not options.short])
    with Flights(bench.broker.url, 0) as near, Flights(bench.broker.url, delay / 2) as far:
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
    return True


def refused(bench: Bench, options: argparse.Namespace) -> bool:
    """Publish to a port that nobody listens on: how long until each says so."""
    chosen = [v for v in variants() if v.name == OURS or not (options.short or v.name in ("naive-pinned", "bare+gc"))]
    ready = bench.prepare(chosen)
    url = f"nats://127.0.0.1:{free_port()}"
    longest = 3 if options.short else 10
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
    return options.short or budget("broker refused, longest of 5, over the 1 s of trying", worst - 1, 1, " s")


def slow_server(bench: Bench, _: argparse.Namespace) -> bool:
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
    return budget("standing still for good, over the deadline", cost.wall / 1000 - 5, 1, " s")
