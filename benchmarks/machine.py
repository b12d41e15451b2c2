"""The machine and its software: what the numbers depend on."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

from broker import program
from variants import PEERS, SITE


def describe() -> None:
    """Print what the numbers depend on."""
    arguments = sysconfig.get_config_var("CONFIG_ARGS") or ""
    pgo = "yes" if "--enable-optimizations" in arguments else "not recorded in CONFIG_ARGS"
    model = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.machine(),
    )
    packages = ("crypto-trigger", "nats-py", "typer", "rich", "backoff", "python-dotenv")
    site = [f"{d.metadata['Name']} {d.version}" for d in importlib.metadata.distributions(path=[str(SITE)])]
    print(f"* {time.strftime('%Y-%m-%d %H:%M', time.gmtime())} UTC, {platform.platform()}")
    print(f"* {os.cpu_count()} cores, {model}; load {load_average()}")
    print(
        f"* Python {sys.version.split()[0]} ({sys.version.split('[')[-1].rstrip(']')}), --enable-optimizations: {pgo}"
    )
    print(f"* {', '.join(f'{name} {version(name)}' for name in packages)}")
    naive = [row for row in site if row.split()[0] in ("typer", "pydantic", "nats-py")]
    print(f"* naive script's own: {', '.join(sorted(naive)) or 'not installed'}")
    node = shutil.which("node")
    print(f"* Node {said(node, '--version')}, {', '.join(node_packages()) or 'no packages'}")
    print(f"* {said(program(), '--version')}")
    print(
        "* .pyc: all compiled ahead, in a directory of the benchmark's own (PYTHONPYCACHEPREFIX), unless a table says"
    )


def version(name: str) -> str:
    """Return the version of an installed package."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def node_packages() -> list[str]:
    """Return the names and versions of the peers' Node packages."""
    names = ("nats", "@nats-io/transport-node", "@nats-io/jetstream", "node-cron")
    files = [(name, PEERS / "node_modules" / name / "package.json") for name in names]
    return [f"{name} {json.loads(file.read_text())['version']}" for name, file in files if file.exists()]


def said(found: str | None, argument: str) -> str:
    """Return what a program says of its version."""
    if not found:
        return "not installed"
    return subprocess.run([found, argument], capture_output=True, text=True, check=False).stdout.strip()


def launcher_memory() -> float:
    """Return this process's own peak memory in MB, below which no child's can be read."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def available_memory() -> float:
    """Return the machine's available memory, in MB."""
    with Path("/proc/meminfo").open() as lines:
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("MemAvailable"))


def load_average() -> str:
    """Return the machine's load averages."""
    return " ".join(f"{load:.2f}" for load in os.getloadavg())
