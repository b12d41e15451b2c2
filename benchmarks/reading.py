"""The table of the commands that read a stream: `check` and `history`, next to a publish."""

from __future__ import annotations

import statistics
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from bench import OURS
from tables import budget, median, ratios, spread, table
from variants import variants

if TYPE_CHECKING:
    import argparse

    from bench import Bench

_QUARTER, _MINUTE = timedelta(minutes=15), timedelta(minutes=1)
_WEEK = timedelta(days=7)
_MANY = 10_000


def reading(bench: Bench, options: argparse.Namespace) -> bool:
    """Look at a week of triggers in streams with nothing else and with a million other messages, next to a publish."""
    (ours,) = bench.prepare([v for v in variants() if v.name == OURS])
    program = ours.command[: ours.command.index("publish")]
    others = 10_000 if options.short else 1_000_000
    many = 200 if options.short else _MANY
    streams = {"alone": (_QUARTER, _WEEK // _QUARTER), "crowd": (_QUARTER, _WEEK // _QUARTER), "many": (_MINUTE, many)}
    for stream, (length, count) in streams.items():
        bench.broker.admin.create(stream, f"{stream}.>")
        _plant(bench, stream, length, count)
    since = time.monotonic()
    bench.broker.admin.load("crowd.other", others, "other: yes")
    print(f"{others} messages of another subject loaded in {time.monotonic() - since:.1f} s")
    looks = {
        "check": ("alone", ("check",)),
        "check, crowd": ("crowd", ("check",)),
        "history of 7 days": ("alone", ("history", "--since", "7d")),
        "history of 7 days, crowd": ("crowd", ("history", "--since", "7d")),
        f"history of {many} triggers": (
            "many",
            ("history", "--every", "1m", "--give-up-after", "30s", "--since", f"{many}m"),
        ),
    }
    runs = {"publish": lambda: bench.run(ours)}
    for name, (stream, command) in looks.items():
        runs[name] = lambda command=command, stream=stream: bench.look(ours, (*program, *command, "--json"), stream)
        for _ in range(1 if options.short else 2):
            runs[name]()  # compiles what it imports
    costs = bench.rounds(runs, options.rounds)
    base = costs["publish"]
    table(
        ("command", "wall ms", "x publish (p10-p90)", "CPU ms", "x publish (p10-p90)"),
        [
            (
                name,
                f"{median(mine, 'wall'):.0f}",
                spread(ratios(mine, base, "wall")),
                f"{median(mine, 'cpu'):.0f}",
                spread(ratios(mine, base, "cpu")),
            )
            for name, mine in ((name, costs[name]) for name in runs)
        ],
    )
    hold = []
    for name, most in (
        ("check", 1.15),
        ("check, crowd", 1.15),
        ("history of 7 days", 1.5),
        ("history of 7 days, crowd", 1.5),
    ):
        for what, label in (("wall", "wall"), ("cpu", "CPU")):
            hold.append(budget(f"{name}: {label} x publish", statistics.median(ratios(costs[name], base, what)), most))
    last = f"history of {many} triggers"
    more = statistics.median(a.wall - b.wall for a, b in zip(costs[last], base, strict=True)) / 1000
    hold.append(budget(f"{last}: more than a publish", more, 1, " s"))
    return all(hold)


def _plant(bench: Bench, stream: str, length: timedelta, count: int) -> None:
    """Store a trigger for each of the last slots, the present one included."""
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    present = epoch + (datetime.now(UTC) - epoch) // length * length
    for ago in reversed(range(count)):
        bench.broker.admin.load(f"{stream}.update", 1, f"ce-time: {present - ago * length:%Y-%m-%dT%H:%M:%SZ}")
