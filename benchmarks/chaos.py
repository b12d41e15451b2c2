"""Publish to a cluster whose servers die, freeze and lose each other at random, and look for a status that lied.

    .venv/bin/python benchmarks/chaos.py --runs 10000

Every publish is a process of its own. Several stand for each slot, in each of several streams; slots follow each other
as fast as they can, and a slot of which no run ends 0 is run again until one does, before the next begins. When all is
well again, every status is compared with what the streams hold. Exits 1 on any lie, loss or double.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from importlib.metadata import version
from itertools import count
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support.claims import STORED, UNKNOWN, Run, lie, per_slot, storer
from support.cluster import Cluster, Node
from support.streams import Message, stored

from crypto_trigger.commands.server import program

EVERY = timedelta(minutes=15)
# Slots of the past, one after the other: a slot that has not begun is refused.
BEGIN = datetime(2020, 1, 1, tzinfo=UTC)
# CRYPTO_TRIGGER_TIMEOUT, and CRYPTO_TRIGGER_GIVE_UP_AFTER: from impatient to patient.
LIMITS = (("300ms", "1s"), ("500ms", "3s"), ("2s", "20s"))
# A run needs a core when it starts and waits if it is not over soon, in seconds: so many start at a time per core.
# More would measure how the machine shares its cores.
BUSY = 2.0
PER_CORE = 3
# A run that takes longer than this is stuck, in seconds.
STUCK = 90.0
# How long a server is well, and then in trouble, on average. Some troubles are shorter than an election, so that what
# was under way before them goes on after them; and now and then two servers are in trouble, and there is no quorum.
WELL = 12.0
TROUBLED = (1.0, 5.0)
TROUBLES = ("kill", "freeze", "isolate")
# How often there is one more run, which stands for the slot before: a host that is late.
STRAGGLES = 0.2
# How far the runs of a slot are apart at most, in seconds.
SPREAD = 0.3
# Long enough for any election: a slot without a status 0 after so many seconds without trouble never gets one.
PEACE = 300.0
PROGRESS = 60.0


@dataclass
class Tally:
    """What has happened so far."""

    wanted: int
    started: int = 0
    runs: dict[str, list[Run]] = field(default_factory=dict)
    slots: dict[str, list[str]] = field(default_factory=dict)
    troubles: Counter[str] = field(default_factory=Counter)
    longest: float = 0.0
    again: int = 0
    enough: asyncio.Event = field(default_factory=asyncio.Event)

    def start(self) -> int:
        """Count a run that starts, and return its number."""
        self.started += 1
        if self.started >= self.wanted:
            self.enough.set()
        return self.started

    @property
    def ended(self) -> int:
        """How many runs have ended."""
        return sum(map(len, self.runs.values()))


@dataclass
class Lane:
    """One stream, and its slots one after the other."""

    stream: str
    urls: list[str]
    publishers: int
    chance: random.Random
    tally: Tally
    home: str
    cores: asyncio.Semaphore

    async def go(self) -> None:
        """Publish slot after slot until as many runs were started as were asked for."""
        self.tally.runs[self.stream] = []
        slots = self.tally.slots[self.stream] = []
        while not self.tally.enough.is_set():
            slot = (BEGIN + len(slots) * EVERY).strftime("%Y-%m-%dT%H:%M:%SZ")
            slots.append(slot)
            stand_for = [slot] * self.publishers
            if slots[:-1] and self.chance.random() < STRAGGLES:
                stand_for.append(slots[-2])
            ended = await asyncio.gather(*map(self.publish, stand_for))
            while not any(run.slot == slot and run.status == STORED for run in ended):
                self.tally.again += 1
                ended.append(await self.publish(slot))

    async def publish(self, slot: str) -> Run:
        """Run the program once, as a host of its own would, and return how it ended."""
        client_id = f"run{self.tally.start()}"
        timeout, give_up_after = self.chance.choice(LIMITS)
        command = [sys.executable, "-m", "crypto_trigger", "publish", "--json", "--scheduled-at", slot]
        settings = {
            "NATS_URL": ",".join(self.chance.sample(self.urls, len(self.urls))),
            "NATS_CLIENT_ID": client_id,
            "CRYPTO_TRIGGER_STREAM": self.stream,
            "CRYPTO_TRIGGER_SUBJECT": f"{self.stream}.update",
            "CRYPTO_TRIGGER_TIMEOUT": timeout,
            "CRYPTO_TRIGGER_GIVE_UP_AFTER": give_up_after,
        }
        await asyncio.sleep(self.chance.uniform(0, SPREAD))
        async with self.cores:
            began = time.monotonic()
            process = await asyncio.create_subprocess_exec(
                *command,
                cwd=self.home,
                env=_environment() | settings,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            end = asyncio.ensure_future(process.communicate())
            await asyncio.wait({end}, timeout=BUSY)
        try:
            await asyncio.wait({end}, timeout=STUCK)
        finally:
            if process.returncode is None:
                process.kill()
        out, err = await end
        self.tally.longest = max(self.tally.longest, time.monotonic() - began)
        try:
            report = json.loads(out)
        except ValueError:
            report = {"error": err.decode(errors="replace")}
        run = Run(client_id, slot, process.returncode or 0, report)
        self.tally.runs[self.stream].append(run)
        return run


async def trouble(node: Node, first: int, chance: random.Random, tally: Tally, peace: asyncio.Event) -> None:
    """Cause one trouble after the other on a server, until the troubles end."""
    for number in count(first):
        if await _waited(peace, chance.expovariate(1 / WELL)):
            return
        name = TROUBLES[number % len(TROUBLES)]
        await asyncio.to_thread(getattr(node, name))
        tally.troubles[name] += 1
        await _waited(peace, chance.expovariate(1 / chance.choice(TROUBLED)))
        await asyncio.to_thread(node.recover)


async def progress(tally: Tally, peace: asyncio.Event) -> None:
    """Print the progress from time to time."""
    began = time.monotonic()
    while not await _waited(peace, PROGRESS):
        ended, seconds = tally.ended, time.monotonic() - began
        _say(f"{seconds:5.0f}s  {ended} runs, {ended / seconds:.1f} a second; {tally.troubles.total()} troubles")


async def chaos(options: argparse.Namespace, cluster: Cluster, tally: Tally, home: str) -> bool:
    """Run everything; return whether every slot got a status 0."""
    chance = random.Random(options.seed)
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGINT, signal.SIGTERM):
        # The table of the runs so far is still useful.
        loop.add_signal_handler(signum, tally.enough.set)
    urls = [node.url for node in cluster.nodes]
    streams = [f"chaos{n}" for n in range(1, options.streams + 1)]
    for stream in streams:
        await _set_up(stream, cluster.urls, options.replicas, home)
    await asyncio.to_thread(cluster.recover, *streams)
    peace = asyncio.Event()
    cores = asyncio.Semaphore(PER_CORE * (os.cpu_count() or 1))
    lanes = [
        Lane(name, urls, options.publishers, random.Random(chance.random()), tally, home, cores) for name in streams
    ]
    async with asyncio.TaskGroup() as group:
        for number, node in enumerate(cluster.nodes):
            group.create_task(trouble(node, number, random.Random(chance.random()), tally, peace))
        group.create_task(progress(tally, peace))
        going = [group.create_task(lane.go()) for lane in lanes]
        await tally.enough.wait()
        peace.set()
        _, stuck = await asyncio.wait(going, timeout=PEACE)
        for lane in stuck:
            lane.cancel()
    await asyncio.to_thread(cluster.recover, *streams)
    return not stuck


def judge(tally: Tally, messages: dict[str, list[Message]]) -> tuple[list[tuple[str, object]], list[str]]:
    """Return the rows of the table, and every lie, loss and double in words."""
    lies, lost, doubled, perhaps = [], [], [], 0
    for stream, runs in tally.runs.items():
        found = per_slot(messages[stream])
        lies += [f"lie: {stream} {run}: it {told}" for run in runs if (told := lie(run, messages[stream]))]
        lost += [f"lost: {stream} {slot} has no message" for slot in tally.slots[stream] if slot not in found]
        doubled += [f"double: {stream} {slot} has {times} messages" for slot, times in found.items() if times > 1]
        unsure = {run.client_id for run in runs if run.status == UNKNOWN}
        perhaps += sum(storer(message) in unsure for message in messages[stream])
    runs = [run for each in tally.runs.values() for run in each]
    ends = Counter((run.status, run.report.get("outcome") if run.status == STORED else "") for run in runs)
    rows = [
        ("runs", len(runs)),
        *((f"  ended {status} {outcome}", times) for (status, outcome), times in sorted(ends.items())),
        (f"  of {UNKNOWN} stored", perhaps),
        ("slots", sum(map(len, tally.slots.values()))),
        ("  run again for a 0", tally.again),
        ("stored", sum(map(len, messages.values()))),
        ("lost", len(lost)),
        ("doubled", len(doubled)),
        ("lies", len(lies)),
        ("longest run", f"{tally.longest:.1f} s"),
        *((f"troubles: {name}", tally.troubles[name]) for name in TROUBLES),
    ]
    return rows, lies + lost + doubled


def main() -> int:
    """Run it and print the table; 1 on a lie, a loss or a double."""
    parser = argparse.ArgumentParser(description="Look for a lie, a loss or a double in a cluster in trouble.")
    parser.add_argument("--runs", type=int, default=300, help="publishes, at least; default %(default)s")
    parser.add_argument("--publishers", type=int, default=3, help="runs that stand for each slot; default %(default)s")
    parser.add_argument("--streams", type=int, default=12, help="streams at the same time; default %(default)s")
    parser.add_argument("--replicas", type=int, default=3, help="copies of each stream; default %(default)s")
    parser.add_argument("--seed", type=int, help="of all that is random but the clock; default: a new one")
    parser.add_argument("--logs", type=Path, help="keep the servers' logs in this folder")
    parser.add_argument("--short", action="store_true", help="100 runs, for CI")
    options = parser.parse_args()
    if options.short:
        options.runs = 100
    options.seed = random.randrange(10**6) if options.seed is None else options.seed
    tally = Tally(options.runs)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="crypto-trigger-") as home, Cluster() as cluster:
        whole = asyncio.run(chaos(options, cluster, tally, home))
        messages = {stream: stored(cluster.nodes[0].url, stream) for stream in tally.runs}
        if options.logs:
            options.logs.mkdir(parents=True, exist_ok=True)
            for node in cluster.nodes:
                (options.logs / f"{node.name}.log").write_text(node.log)
    rows, problems = judge(tally, messages)
    _say(versions())
    _say(
        f"seed {options.seed}, {options.streams} streams of {options.replicas} copies, {time.monotonic() - began:.0f} s"
    )
    for name, value in rows:
        _say(f"{name:<22}{value:>10}")
    for problem in problems:
        _say(problem)
    if not whole:
        _say(f"a slot did not end 0 within {PEACE:g}s of peace")
    return 1 if problems or not whole else 0


def versions() -> str:
    """Return what takes part."""
    server = subprocess.run([program(), "--version"], capture_output=True, text=True, check=True).stdout.split()[-1]
    parts = [f"{name} {version(name)}" for name in ("crypto-trigger", "nats-py")]
    return ", ".join([*parts, f"nats-server {server}", f"Python {platform.python_version()}"])


async def _waited(event: asyncio.Event, seconds: float) -> bool:
    """Wait for the event at most so long; tell whether it came."""
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return False


async def _set_up(stream: str, urls: str, replicas: int, home: str) -> None:
    command = [sys.executable, "-m", "crypto_trigger", "setup", "--quiet", "--replicas", str(replicas)]
    command += ["--server", urls, "--stream", stream, "--subject", f"{stream}.update"]
    process = await asyncio.create_subprocess_exec(*command, cwd=home, env=_environment())
    if status := await process.wait():
        raise RuntimeError(f"setup ended {status}")


def _environment() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith(("NATS_", "CRYPTO_TRIGGER_"))}


_say = partial(print, flush=True)

if __name__ == "__main__":
    sys.exit(main())
