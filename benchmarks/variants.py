"""What is compared: crypto-trigger itself and its peers, each ready to be started, or the reason why it is not."""

from __future__ import annotations

import os
import shutil
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

PEERS = Path(__file__).resolve().parent / "peers"
# Libraries of the naive script's own; compiled ones fit one version of Python only.
SITE = PEERS / "site" / str(sys.implementation.cache_tag)
_INSTALL = "sh benchmarks/peers/install.sh"
# Slots of the past, one after the other: a slot that has not begun is refused, and a trigger of a later slot in the
# stream makes those before it superfluous.
_FIRST_SLOT = datetime(2020, 1, 1, tzinfo=UTC)
_SLOT = timedelta(minutes=15)
_RFC_3339 = "%Y-%m-%dT%H:%M:%SZ"
# The header of a trigger of the slot before them all.
OLDER = f"ce-time: {_FIRST_SLOT - _SLOT:{_RFC_3339}}"


class Variant(NamedTuple):
    """One program that publishes one message. `missing` says why it cannot run here."""

    name: str
    meaning: str
    command: tuple[str, ...]
    environment: tuple[tuple[str, str], ...] = ()
    missing: str = ""
    python: bool = False

    def argv(self, serial: int, subject: str) -> list[str]:
        """Return the command of the `serial`-th run, whose slot is later than those of all runs before it."""
        slot = f"{_FIRST_SLOT + serial * _SLOT:{_RFC_3339}}"
        values = {"slot": slot, "subject": subject, "id": f"{subject}-{serial}"}
        return [part.format(**values) for part in self.command]

    def env(self, serial: int, url: str, stream: str, subject: str) -> dict[str, str]:
        """Return the environment of that run."""
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(Path.cwd()),
            "NATS_URL": url,
            "STREAM": stream,
            "SUBJECT": subject,
            "MSG_ID": f"{subject}-{serial}",
            "CRYPTO_TRIGGER_STREAM": stream,
            "CRYPTO_TRIGGER_SUBJECT": subject,
            **dict(self.environment),
        }


def variants() -> list[Variant]:
    """Return everything there is to compare, what is missing included."""
    python = sys.executable
    program = Path(python).with_name("crypto-trigger")
    ours = (str(program),) if program.exists() else (python, "-m", "crypto_trigger")
    no_site = "" if (SITE / "typer").exists() else f"{_INSTALL} {python}"
    node = shutil.which("node") or ""
    cli = shutil.which("nats") or shutil.which(
        "nats", path=str(Path(os.environ.get("GOPATH") or Path.home() / "go", "bin"))
    )
    found = [
        Variant("crypto-trigger", "this program", (*ours, "publish", "--scheduled-at", "{slot}"), python=True),
        _python("bare", "the shortest nats-py script", "bare.py"),
        _python("bare+gc", "the same with this program's two gc lines", "bare_gc.py"),
        _python("naive", "Typer, rich, dotenv, backoff; newest Typer", "naive.py")._replace(
            environment=(("PYTHONPATH", str(SITE)),), missing=no_site
        ),
        _python("naive-pinned", "the same with Typer as pinned here (no pydantic)", "naive.py"),
        _python("raw", "a plain socket in Python: the floor", "raw.py"),
        *(
            Variant(
                name,
                meaning,
                (node, str(PEERS / script)),
                missing=""
                if node and (PEERS / "node_modules" / package).exists()
                else (_INSTALL if node else "node is not installed"),
            )
            for name, meaning, script, package in (
                ("node-v2", "Node one-shot, nats 2", "node_v2.js", "nats"),
                ("node-v3", "Node one-shot, @nats-io 3", "node_v3.mjs", "@nats-io/jetstream"),
            )
        ),
        Variant(
            "nats-cli",
            "the nats CLI, compiled Go",
            (cli or "", "pub", "--jetstream", "-H", "Nats-Msg-Id:{id}", "{subject}", '{{"trigger":"update"}}'),
            missing="" if cli else "the nats CLI is neither on PATH nor in Go's bin folder",
        ),
    ]
    return [v if v.command[0] else v._replace(command=("-",)) for v in found]


def payload_variant(size: int) -> Variant:
    """Return the bare script with a payload of so many bytes."""
    return _python(f"bare, {size} bytes", "", "payload.py")._replace(environment=(("PAYLOAD", str(size)),))


def _python(name: str, meaning: str, script: str) -> Variant:
    return Variant(name, meaning, (sys.executable, str(PEERS / script)), python=True)
