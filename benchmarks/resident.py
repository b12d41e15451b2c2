"""The table of the worker that stays in memory."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import process
from broker import Client
from tables import table
from variants import PEERS

if TYPE_CHECKING:
    import argparse

    from bench import Bench

_DAY = 86400
# Watched for less than this, a worker that fires every 15 minutes tells nothing about a day.
_TELLING = 300


def resident(bench: Bench, options: argparse.Namespace) -> bool:
    """Watch the worker that stays: its memory, and the CPU time it uses in that time."""
    node, package = shutil.which("node"), PEERS / "node_modules" / "node-cron"
    if not node or not package.exists():
        print("not run (sh benchmarks/peers/install.sh)")
        return True
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
    return True


def _cpu_seconds(pid: int) -> float:
    """Return the CPU time of all threads of a process, by the scheduler's own count."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9
