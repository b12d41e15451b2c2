"""Measure what one run costs, next to other ways to publish one message: the command line.

Linux. Starts its own nats-server. Every variant is a whole process, measured by the operating
system; all variants run once in each round, in random order, and ratios are taken within a round, so that a busy
machine slows both sides. Every run must have stored exactly one message, or the benchmark ends with status 1.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench import Bench
from big_stream import big_stream
from broker import Broker
from herd import MOST, herd
from machine import describe, load_average
from network import refused, rtt, slow_server
from one_run import instructions, no_pyc, one_run, payload
from reading import reading
from resident import resident

# Each prints its table and returns whether every budget holds.
MODES = {
    "one-run": one_run,
    "no-pyc": no_pyc,
    "herd": herd,
    "payload": payload,
    "refused": refused,
    "instructions": instructions,
    "rtt": rtt,
    "big-stream": big_stream,
    "reading": reading,
    "slow-server": slow_server,
    "resident": resident,
}
_ALL = (
    ("one-run",),
    ("no-pyc",),
    ("instructions",),
    ("rtt",),
    ("herd", str(MOST), "--repeats", "3"),
    ("herd", "400"),
    ("big-stream",),
    ("reading",),
    ("payload",),
    ("refused",),
    ("slow-server",),
)
# Seconds, for the worker that stays.
_WATCHED = 420
_SHORT = (
    ("one-run",),
    ("rtt",),
    ("herd", "10"),
    ("big-stream",),
    ("reading",),
    ("refused",),
    ("resident", "2"),
)


def main() -> None:
    """Run one mode, or all of them, each in a process of its own."""
    options = _options()
    # As with Ctrl-C, the servers and processes started here end, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    if options.all:
        sys.exit(everything(options.rounds))
    if options.short and not options.part:
        sys.exit(validity())
    name = next((name for name in MODES if getattr(options, name.replace("-", "_"), None)), "one-run")
    if not options.part:
        describe()
    with tempfile.TemporaryDirectory(prefix="crypto-trigger-benchmark-") as home:
        # Away from any .env; and `stderr` and `counted` are files here.
        os.chdir(home)
        with Broker() as broker:
            hold = MODES[name](Bench(broker, Path(home), 1 if options.short else 2), options)
        os.chdir("/")
    sys.exit(0 if hold or options.short else 1)


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
    title = "one run" if name == "one-run" else f"--{' '.join((name, *value))}"
    print(f"\n### {title}\n\n{summary}\n", flush=True)


def _run_part(*arguments: str, output: int | None = None) -> tuple[int, str]:
    """Run a mode to its end. If this process must end first, let the mode clean up."""
    error = subprocess.STDOUT if output else None
    part = subprocess.Popen(_part(*arguments), stdout=output, stderr=error, text=True)
    try:
        said = part.communicate()[0] or ""
    finally:
        part.terminate()
        part.wait()
    return part.returncode, said


def _part(name: str, *rest: str) -> list[str]:
    mode = [] if name == "one-run" else [f"--{name}"]
    return [sys.executable, __file__, "--part", *mode, *rest]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40, metavar="N", help="rounds of the main table (40)")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these variants of the main table, and bare")
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
        elif name != "one-run":
            which.add_argument(f"--{name}", action="store_true", help=summary)
    return parser.parse_args()


if __name__ == "__main__":
    main()
