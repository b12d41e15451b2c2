"""Runs of the variants against one server: each is checked to have stored one message."""

from __future__ import annotations

import random
import re
from collections import defaultdict
from itertools import count
from typing import TYPE_CHECKING

import process

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from broker import Broker
    from variants import Variant

OURS, BARE, NAIVE = "crypto-trigger", "bare", "naive"


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
        """Run each variant, which compiles what it imports. Return those that can run; print the names of the rest."""
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

    def rounds(self, runs: Mapping[str, Callable[[], process.Cost]], number: int) -> dict[str, list[process.Cost]]:
        """Make every run once a round, in random order; return the costs of each, one a round."""
        costs = defaultdict(list)
        for _ in range(number):
            for name in random.sample(sorted(runs), len(runs)):
                costs[name].append(runs[name]())
        return dict(costs)


def few(options: argparse.Namespace, part: int) -> int:
    """Return how many rounds a table with large differences needs: the `part`-th part of them all."""
    return max(1 if options.short else 3, options.rounds // part)
