"""Publish with a monitor that fails in every way, and look for a run that it changed, delayed or revealed.

    .venv/bin/python benchmarks/monitor_faults.py --runs 1000

Every publish is a process of its own, with a subject of its own or to a port that nobody listens on, and pings a
monitor with a fault that is drawn at random. Runs without a monitor, among the others, show how long a process takes to
start on this machine: that is no part of a deadline. Exits 1 if a fault changed a status, kept a trigger from the
stream, or held a run for longer than its deadline and one second, or if any output has a part of the URL.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import socket
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support.certificates import Authority
from support.monitors import SCRIPTS, Answer, Monitor, endless_headers, long_status_line
from support.scripted import Scripted, full_backlog
from support.streams import add_stream, stored

from crypto_trigger.commands.server import Server

if TYPE_CHECKING:
    from collections.abc import Mapping

# A part of every URL, which no output may have.
SECRET = "topsecret-7Zx9Kv"
DEADLINE, BEYOND = 2.0, 1.0
STREAM = "crypto-stats"
# One run in so many has no monitor.
CONTROLS = 8
# More would measure how the machine shares its cores: a run must start within the second that it has to spare.
PER_CORE = 2
# A run that takes longer than this is stuck, in seconds.
STUCK = 60.0
# A lookup that fails, and one that hangs, without a name server.
LOOKUPS = f"""
import socket, time
real = socket.getaddrinfo
def lookup(host, *args, **more):
    if host == "{SECRET}.fails":
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
    if host == "{SECRET}.hangs":
        time.sleep({STUCK})
    return real(host, *args, **more)
socket.getaddrinfo = lookup
"""


class Fault(NamedTuple):
    """A fault: its name, the URL to ping, and whether the run warns of it."""

    name: str
    url: str
    warns: bool = True


NO_MONITOR = Fault("no monitor", "", warns=False)


class Ended(NamedTuple):
    """How a run ended, and how long the whole process took, in seconds. `subject` is None if there was no server."""

    fault: Fault
    subject: str | None
    status: int
    said: str
    seconds: float


def faults(servers: ExitStack, folder: Path) -> list[Fault]:
    """Start the monitors, each with its fault."""
    path = f"/{SECRET}"
    found = [Fault("well", servers.enter_context(Monitor(_Any())).url + path, warns=False)]
    for script in SCRIPTS:
        server = servers.enter_context(Scripted(script))
        warns = script not in (endless_headers, long_status_line)  # their status is a success
        found.append(Fault(script.__name__, f"http://127.0.0.1:{server.port}{path}", warns))
    authority = Authority(folder, "unknown")
    found += [
        Fault("refused", f"http://127.0.0.1:{_closed_port()}{path}"),
        Fault("black hole", servers.enter_context(full_backlog()).replace("nats:", "http:") + path),
        Fault("name not found", f"http://{SECRET}.fails/"),
        Fault("lookup hangs", f"https://{SECRET}.hangs/"),
        Fault("TLS without TLS", found[0].url.replace("http:", "https:")),
    ]
    for name, more in (("unknown", {}), ("expired", {"lasts": (-2, -1)}), ("other", {"hosts": ("monitor.example",)})):
        monitor = servers.enter_context(Monitor(_Any(), certificate=authority.issue(name, **more)))
        found.append(Fault(f"certificate {name}", monitor.url + path))
    down = Monitor(_Redirects(), certificate=Authority(folder, "trusted").issue("trusted"))
    found.append(Fault("https to http", servers.enter_context(down).url + path))
    return found


class _Any:
    """A service that accepts everything."""

    success, failure = "/", None

    def take(self, _: object) -> Answer:
        return Answer(200, "OK")


class _Redirects:
    """A service that redirects every request from https to http."""

    success, failure = "/", None

    def take(self, _: object) -> Answer:
        return Answer(302, "", None, (("Location", "http://h"),))


async def publish(fault: Fault, subject: str | None, server: str, home: Path, report: str) -> Ended:
    """Run one publish, to a subject of the server, or to a port that nobody listens on."""
    path = home / report
    arguments = ["publish", "-v", "--json", "--report-file", str(path)]
    arguments += ["--subject", subject, "--server", server] if subject else ["--server", "nats://127.0.0.1:1"]
    began = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "crypto_trigger",
        *arguments,
        cwd=home,
        env=environment(fault, home),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), STUCK)
    except TimeoutError:
        process.kill()
        out, err = await process.communicate()
    seconds = time.monotonic() - began
    said = (out + err).decode(errors="replace") + path.read_text(errors="replace")
    return Ended(fault, subject, process.returncode or 0, said, seconds)


def environment(fault: Fault, home: Path) -> Mapping[str, str]:
    """Return the settings of a run, and nothing of the machine's own that would change it."""
    own = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("NATS_", "CRYPTO_TRIGGER_")) and not name.lower().endswith("_proxy")
    }
    return {
        **own,
        "PYTHONPATH": str(home),
        "SSL_CERT_FILE": str(home / "trusted-ca.pem"),
        "CRYPTO_TRIGGER_PING_URL": fault.url,
        "CRYPTO_TRIGGER_GIVE_UP_AFTER": f"{DEADLINE}s",
        "CRYPTO_TRIGGER_METRICS_FILE": "metrics.prom",
        "CRYPTO_TRIGGER_LOG_FORMAT": random.choice(["text", "json"]),
    }


async def all_of_them(runs: int, chosen: list[Fault], server: str, home: Path) -> list[Ended]:
    """Run so many publishes, some at a time."""
    free = asyncio.Semaphore(PER_CORE * (os.cpu_count() or 1))
    number = count()

    async def one(fault: Fault) -> Ended:
        async with free:
            n = next(number)
            subject = f"crypto.{n}" if random.choice([True, False]) else None
            return await publish(fault, subject, server, home, f"report-{n}.json")

    drawn = [*chosen, *random.choices(chosen, k=max(0, runs - len(chosen)))]
    for place in range(0, len(drawn), CONTROLS):
        drawn.insert(place, NO_MONITOR)
    return await asyncio.gather(*map(one, drawn))


def judge(runs: list[Ended], subjects: Counter[str], beyond: float) -> list[str]:
    """Return a line for each run that its monitor changed or delayed, or whose URL was shown."""
    start = max(e.seconds - (0 if e.subject else DEADLINE) for e in runs if e.fault is NO_MONITOR)
    problems = []
    for ended in runs:
        named = f"{ended.fault.name}, {'published' if ended.subject else 'refused'}: "
        if ended.status != (0 if ended.subject else 69):
            problems.append(f"{named}status {ended.status}: {ended.said}")
        if ended.subject and subjects[ended.subject] != 1:
            problems.append(f"{named}{subjects[ended.subject]} triggers are stored")
        if SECRET in ended.said:
            problems.append(f"{named}the URL is in the output: {ended.said}")
        warnings = ended.said.count("could not be pinged")
        # On a busy machine a monitor without a fault may be too slow, too.
        late = not ended.fault.warns and "no answer in time" in ended.said
        if warnings != (ended.fault.warns or late):
            problems.append(f"{named}{warnings} warnings: {ended.said}")
        if "Traceback" in ended.said:
            problems.append(f"{named}{ended.said}")
        if ended.seconds > start + DEADLINE + beyond:
            problems.append(f"{named}took {ended.seconds:.1f} s")
    return problems


def _closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def main() -> int:
    """Run it and print the table; 1 on a run that its monitor changed or delayed, or whose URL was shown."""
    parser = argparse.ArgumentParser(
        description="Look for a run that a fault of its monitor changed, held or gave away."
    )
    parser.add_argument("--runs", type=int, default=1000, help="publishes, at least one for each fault; default 1000")
    parser.add_argument("--seed", type=int, help="of all that is random; default: a new one")
    parser.add_argument("--short", action="store_true", help="each fault once, for CI")
    options = parser.parse_args()
    seed = random.randrange(10**6) if options.seed is None else options.seed
    random.seed(seed)
    with tempfile.TemporaryDirectory(prefix="crypto-trigger-") as folder, Server() as server, ExitStack() as servers:
        home = Path(folder)
        (home / "sitecustomize.py").write_text(LOOKUPS)
        add_stream(server.url, STREAM, ["crypto.*"], duplicate_window=1800)
        chosen = faults(servers, home)
        began = time.monotonic()
        runs = asyncio.run(all_of_them(0 if options.short else options.runs, chosen, server.url, home))
        took = time.monotonic() - began
        subjects = Counter(message.subject for message in stored(server.url, STREAM))
    # A few runs on a busy machine say little about time: then only a run that is stuck is held against it.
    problems = judge(runs, subjects, STUCK / 2 if options.short else BEYOND)
    print(f"seed {seed}, {len(runs)} runs, {took:.0f} s")
    for name, number in Counter(ended.fault.name for ended in runs).items():
        slowest = max(ended.seconds for ended in runs if ended.fault.name == name)
        print(f"{name:<24}{number:>6} runs, the slowest {slowest:.1f} s")
    print(f"{len(problems)} runs were changed, held or gave the URL away")
    for problem in problems:
        print(problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
