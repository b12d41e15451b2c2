"""The table of the commands that read the stream: `history` and `check`, next to a publish."""

from __future__ import annotations

import shutil
import statistics
import sys
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

import process
from bench import OURS, few
from one_run import count_instructions, counted
from tables import budget, median, ratios, spread, table
from variants import variants

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping
    from multiprocessing.connection import Connection

    from bench import Bench
    from support.planted import Past
    from variants import Variant

_EVERY, _MINUTE, _DAY = timedelta(minutes=15), timedelta(minutes=1), timedelta(days=1)
_WEEK = 672
_LATE = timedelta(milliseconds=400)
_MANY, _WEEK_RUN = "history of many", "history of a week"
# The streams, and the commands that are measured on each.
_RUNS = {
    "check": ("week", "check", "--since", "1h"),
    "check, after others": ("after", "check", "--since", "1h"),
    "check, among others": ("among", "check", "--since", "1h"),
    "history of a day": ("week", "history"),
    _WEEK_RUN: ("week", "history", "--since", "7d"),
    "history of a week, after others": ("after", "history", "--since", "7d"),
    "history of a week, among others": ("among", "history", "--since", "7d"),
    _MANY: ("many", "history", "--since", "7d", "--every", "1m", "--give-up-after", "50s"),
    "history of a week, one by one": ("old", "history", "--since", "7d"),
}
_PUBLISH = "publish"


def reading(bench: Bench, options: argparse.Namespace) -> bool:
    """Read triggers: `history` and `check` next to a publish, on streams of a week, of many, and among others."""
    (ours,) = bench.prepare([variant for variant in variants() if variant.name == OURS])
    others, many = (1000, 100) if options.short else (1_000_000, 10_000)
    with _planted(others, many) as url:
        commands = {
            name: ([*ours.command[: ours.command.index("publish")], *words], _env(bench, url, stream))
            for name, (stream, *words) in _RUNS.items()
        }
        runs = {name: (lambda argv=argv, env=env: _run(argv, env)) for name, (argv, env) in commands.items()}
        for run in runs.values():
            run()
        costs = bench.rounds({_PUBLISH: lambda: bench.run(ours), **runs}, few(options, 2))
        executed = {} if options.short else _instructions(bench, ours, commands)
    rows = []
    for name in (_PUBLISH, *runs):
        mine = costs[name]
        rows.append(
            (
                name,
                f"{median(mine, 'wall'):.0f}",
                spread(ratios(mine, costs[_PUBLISH], "wall")),
                f"{median(mine, 'cpu'):.0f}",
                f"{median(mine, 'rss'):.1f}",
                f"{executed[name] / 1e6:.0f}" if name in executed else "",
            )
        )
    table(("command", "wall ms", "x publish (p10-p90)", "CPU ms", "peak MB", "million instructions"), rows)
    print(
        f"n = {few(options, 2)}. A week is 672 triggers, many are {many}; the others are {others} messages of other "
        "subjects in the same stream, older than the triggers or among them. nats-server looks at those that are among "
        "them. One by one: direct get is off, as on servers before 2.11.\n"
    )

    def ratio(name: str, other: str = _PUBLISH) -> float:
        return statistics.median(ratios(costs[name], costs[other], "wall"))

    more = statistics.median((a.wall - b.wall) / 1000 for a, b in zip(costs[_MANY], costs[_PUBLISH], strict=True))
    return all(
        [
            budget("history of a week x publish", ratio(_WEEK_RUN), 1.5),
            budget("history of many, more than a publish", more, 1.0, " s"),
            budget("check x publish", ratio("check"), 1.15),
            budget("history of a week, after others x alone", ratio(f"{_WEEK_RUN}, after others", _WEEK_RUN), 1.1),
            budget("check, after others x alone", ratio("check, after others", "check"), 1.1),
        ]
    )


@contextmanager
def _planted(others: int, many: int) -> Iterator[str]:
    """Run a server with the streams in a process of its own, and yield its URL.

    This process must stay small, because the peak memory of a run cannot be read below its own.
    """
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    child = context.Process(target=_plant, args=(theirs, others, many))
    child.start()
    try:
        yield ours.recv()
    finally:
        ours.send("end")
        child.join()


def _plant(parent: Connection, others: int, many: int) -> None:
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from support.planted import Past, planting, trigger

    now = datetime.now(UTC)

    def slots(every: timedelta, count: int) -> Iterator[Past]:
        present = now - (now - datetime(1970, 1, 1, tzinfo=UTC)) % every
        return (trigger(present - number * every, _LATE) for number in range(count, 0, -1))

    def other(stored_at: datetime, number: int) -> Past:
        return Past(stored_at + number * timedelta(milliseconds=100), {}, b"x" * 64, f"others.{number % 100}")

    def among() -> Iterator[Past]:
        for past in slots(_EVERY, _WEEK):
            yield past
            for number in range(others // _WEEK):
                yield other(past.stored_at, number)

    def after() -> Iterator[Past]:
        for number in range(others):
            yield other(now - 9 * _DAY, number)
        yield from slots(_EVERY, _WEEK)

    with planting() as planter:
        planter.plant("week", "week.update", slots(_EVERY, _WEEK))
        planter.plant("old", "old.update", slots(_EVERY, _WEEK), allow_direct=False)
        planter.plant("many", "many.update", slots(_MINUTE, many))
        planter.plant("after", "after.update", after())
        planter.plant("among", "among.update", among())
        parent.send(planter.url)
        parent.recv()


def _env(bench: Bench, url: str, stream: str) -> dict[str, str]:
    return {
        "NATS_URL": url,
        "CRYPTO_TRIGGER_STREAM": stream,
        # A busy machine, or valgrind, may take long.
        "CRYPTO_TRIGGER_TIMEOUT": "45s",
        "CRYPTO_TRIGGER_SUBJECT": f"{stream}.update",
        "HOME": str(Path.cwd()),
        "PYTHONPYCACHEPREFIX": str(bench.compiled),
    }


def _instructions(
    bench: Bench, ours: Variant, commands: Mapping[str, tuple[list[str], dict[str, str]]]
) -> dict[str, int]:
    """Return how many instructions each command executes; none if valgrind is not installed."""
    valgrind = shutil.which("valgrind")
    if not valgrind:
        return {}
    found = {_PUBLISH: count_instructions(bench, ours, valgrind)}
    # Under valgrind ten thousand messages take longer than the deadline.
    for name, (argv, env) in ((name, command) for name, command in commands.items() if name != _MANY):
        found[name] = counted(lambda tool, argv=argv, env=env: _run([*tool, *argv], env), valgrind)
    return found


def _run(argv: list[str], env: dict[str, str]) -> process.Cost:
    cost = process.run(argv, env)
    # `check` may find the present slot late.
    if cost.status not in (0, 1):
        raise SystemExit(f"{' '.join(argv)}: status {cost.status}\n{cost.said}")
    return cost
