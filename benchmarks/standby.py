"""End a schedule of nats-server's own in each way that is silent, and look for a slot that its stand-by failed.

    .venv/bin/python benchmarks/standby.py --slots 1000 --releases 2.14 2.15

Each way has a server of its own, which is also restarted, and slots of a few seconds. The schedule fires as a slot
begins; the stand-by, a `publish`, runs some time later. Exits 1 if a slot holds two triggers, or none although the run
ended 0, or if a schedule that was ended fired, so that nothing was tested.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import platform
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import redirect_stderr, redirect_stdout, suppress
from datetime import UTC, datetime
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from nats.errors import NoServersError
from nats.js.api import ConsumerConfig
from nats.js.errors import NotFoundError, ServiceUnavailableError
from support import old_servers
from support.schedules import PAYLOAD, ask, create, start
from support.streams import client

from crypto_trigger.commands import entry
from crypto_trigger.commands.server import program

if TYPE_CHECKING:
    from collections.abc import Callable

    from nats.js.api import RawStreamMsg

    from crypto_trigger.commands.server import Server

STREAM, SUBJECT, SCHEDULE = "crypto-stats", "crypto.update", "crypto.schedule"
SECOND = 10**9
# The last two end nothing: the server is restarted, for a moment, or for so long that the slot begins and the stand-by
# tries while there is no server.
WAYS = ("max_age", "refused store", "purge", "work queue", "none", "none, outages")
# The server removes a message that is older than `max_age` within this time, in seconds.
EXPIRES = 1.0
# When the stand-by begins and how long it may try, in slots; and how often it does not run, as if its host were down.
STAND_BY, LONGEST, ABSENT = 0.4, 0.55, 0.1
# A stand-by that is so late, in slots, because the machine is busy, does not run either.
TOO_LATE = 0.2
# When the server goes down and comes back, in slots after one began.
RESTARTS = {"as the slot begins": (-0.1, 0.02), "as the stand-by runs": (0.35, 0.55)}
OUTAGES = {"over both": (-0.1, 0.55)}
# The storage of a server whose storage is filled, the messages that fill it, in bytes, and when there is room again, in
# slots after one began.
STORAGE, FILLING, ROOM = 2_000_000, (200_000, 20_000, 2_000, 200), 0.15
# How a run ends that was interrupted by SIGINT or SIGTERM, which are meant for this process.
INTERRUPTED = (130, 143)
# How often something is done that gets no answer.
TRIES = 5
SETTINGS = {
    "CRYPTO_TRIGGER_EARLY": "10ms",
    "CRYPTO_TRIGGER_TIMEOUT": "1s",
    "CRYPTO_TRIGGER_BACKOFF_BASE": "50ms",
    "CRYPTO_TRIGGER_BACKOFF_MAX": "100ms",
}


class Held(NamedTuple):
    """A message of the subject: whose it is, when it was stored, and the slot whose trigger it is (its beginning)."""

    by: str
    stored: float
    slot: int


class Row(NamedTuple):
    """What became of a way on a server: one row of the table, and the rest."""

    release: str
    way: str
    slots: int
    ended: int
    restarted: int
    ran: int
    failed: int
    by_schedule: int
    by_stand_by: int
    left_open: int
    lies: int
    fired_after: int
    doubled: int
    strange: list[str]
    invalid: list[str]
    latest: float


HEADS = (
    "server",
    "what ends the schedule",
    "slots",
    "ended",
    "restarts",
    "runs",
    "not 0",
    "by schedule",
    "by stand-by",
    "open, no run with 0",
    "open after a 0",
    "fired after the run",
    "doubled",
)


class Lane:
    """One way on one server: its slots, one after the other."""

    def __init__(self, release: str, way: str, options: argparse.Namespace) -> None:
        self.release, self.way, self.slots, self.every = release, way, options.slots, options.every
        # In each cycle of slots the schedule is stored before the first one, and ended before the middle one.
        self.cycle, self.middle = options.cycle, options.cycle // 2
        # Until between the last slot of the schedule and the next.
        self.kept = (self.middle - 0.5) * self.every if way == "max_age" else 3600.0
        self.chance = random.Random(f"{options.seed} {release} {way}")
        self.url = ""
        self.first = 0
        self.seq = 0
        self.held: list[Held] = []
        # What is known of a slot, by its number.
        self.runs: dict[int, tuple[int, str]] = {}
        self.restarts: dict[int, str] = {}
        # When the schedule was stored, and when it was ended.
        self.started: list[float] = []
        self.ended: list[float] = []
        self.latest = 0.0

    def go(self) -> Row:
        """Go through all slots."""
        path = program() if self.release == "wheel" else old_servers.look(self.release)
        if path is None:
            raise SystemExit(f"there is no nats-server-{self.release}")
        with tempfile.TemporaryDirectory(prefix="crypto-trigger-") as folder:
            config = Path(folder, "server.conf")
            config.write_text(f"jetstream {{ max_file: {STORAGE} }}" if self.way == "refused store" else "")
            with old_servers.serving(path, arguments=("-c", str(config)), guarded=True) as server:
                self.url = server.url
                os.environ.update(SETTINGS, NATS_URL=server.url, HOME=folder)
                os.environ["CRYPTO_TRIGGER_EVERY"] = f"{self.every}s"
                os.environ["CRYPTO_TRIGGER_GIVE_UP_AFTER"] = f"{LONGEST * self.every}s"
                os.chdir(folder)
                self._set_up()
                self.first = int((time.time() + 1) // self.every + 1) * self.every
                for number in range(self.slots):
                    self._slot(server, number)
                # The last slot may be doubled until it ends.
                _wait_until(self._moment(self.slots))
                self._read()
        return self._row()

    def _moment(self, number: float) -> float:
        """Return when a slot begins, or some part of a slot later."""
        return self.first + number * self.every

    def _set_up(self) -> None:
        window = min(2 * self.every, self.kept)
        config = {"max_age": int(self.kept * SECOND), "duplicate_window": int(window * SECOND)}
        if self.way == "work queue":
            config["retention"] = "workqueue"
        create(self.url, STREAM, [SUBJECT, SCHEDULE], **config)
        if self.way == "work queue":
            asyncio.run(_add_consumer(self.url))
        if self.way == "refused store":
            ask(self.url, "STREAM.CREATE.fill", {"name": "fill", "subjects": ["fill"]})

    def _slot(self, server: Server, number: int) -> None:
        """Prepare a slot before it begins, and go through it until the stand-by has run."""
        turn = number % self.cycle
        if turn == 0:
            kinds = OUTAGES if self.way == "none, outages" else RESTARTS
            # Not before a slot for which the schedule is stored or ended.
            restarted = self.chance.choice([other for other in range(1, self.cycle) if other != self.middle])
            self.restarts[number + restarted] = self.chance.choice(list(kinds))
            self._start()
        if turn == self.middle:
            self._end(number)
        restarting = self._restart(server, number)
        if turn == self.middle and self.way == "refused store":
            _wait_until(self._moment(number + ROOM))
            _surely(lambda: ask(self.url, "STREAM.PURGE.fill"))
        due = self._moment(number + STAND_BY)
        _wait_until(due)
        late = time.time() - due
        if self.chance.random() >= ABSENT and late < TOO_LATE * self.every:
            self.latest = max(self.latest, late)
            self.runs[number] = _publish()
        if restarting:
            restarting.join()
        self._read()
        # What is consumed after the next slot has begun may be the trigger of that slot, which nobody then sees.
        if turn >= self.middle and self.way == "work queue" and time.time() < self._moment(number + 0.9):
            _surely(lambda: asyncio.run(_take_all(self.url)))

    def _start(self) -> None:
        """Store the schedule."""
        cron, forever = f"*/{self.every} * * * * *", self.way != "max_age"
        self.started.append(time.time())
        _surely(lambda: start(self.url, SCHEDULE, cron, SUBJECT, forever=forever))
        if not forever:
            self.ended.append(time.time() + self.kept + EXPIRES)

    def _end(self, number: int) -> None:
        """End the schedule before it fires again."""
        match self.way:
            case "refused store":
                _surely(lambda: asyncio.run(_fill(self.url)))
                if time.time() > self._moment(number):
                    return  # too late on a busy machine: nothing will be refused
            case "purge":
                _surely(lambda: ask(self.url, f"STREAM.PURGE.{STREAM}", {"filter": SCHEDULE}))
            case "work queue":
                _surely(lambda: asyncio.run(_take_all(self.url)))
            case _:
                return
        self.ended.append(time.time())

    def _restart(self, server: Server, number: int) -> Thread | None:
        """Restart the server if it is this slot's turn, while other things go on."""
        if number not in self.restarts:
            return None
        down, up = (self._moment(number + part) for part in (RESTARTS | OUTAGES)[self.restarts[number]])
        signum = self.chance.choice([signal.SIGTERM, signal.SIGKILL])

        def restart() -> None:
            _wait_until(down)
            server.stop(signum)
            _wait_until(up)
            server.start()

        thread = Thread(target=restart)
        thread.start()
        return thread

    def _read(self) -> None:
        """Read what was stored since the last time: two of the streams do not keep it."""

        async def read() -> None:
            async with client(self.url) as connection:
                with suppress(NotFoundError):
                    while True:
                        found = await connection.jetstream().get_msg(STREAM, self.seq + 1, SUBJECT, next=True)
                        self.seq = found.seq
                        self.held.append(self._held(found))

        _surely(lambda: asyncio.run(read()))

    def _held(self, message: RawStreamMsg) -> Held:
        assert message.data == PAYLOAD, message
        headers, stored = message.headers or {}, message.time.timestamp()
        if "Nats-Scheduler" in headers:
            return Held("schedule", stored, int(stored // self.every) * self.every)
        return Held("stand-by", stored, int(datetime.fromisoformat(headers["ce-time"]).timestamp()))

    def _row(self) -> Row:
        """Compare what the stream held with what was done."""
        slots = [[held for held in self.held if held.slot == self._moment(number)] for number in range(self.slots)]
        twice = {number for number, held in enumerate(slots) if len(held) > 1}
        # In the order of their sequences. The stand-by cannot know that the schedule will still fire.
        after = {number for number in twice if [held.by for held in slots[number]] == ["stand-by", "schedule"]}
        failed = {number for number, run in self.runs.items() if run[0] != 0}
        left_open = {number for number, held in enumerate(slots) if not held}
        lies = left_open & self.runs.keys() - failed
        by = Counter(held.by for each in slots for held in each)
        return Row(
            self.release,
            self.way,
            self.slots,
            sum(ended < self._moment(self.slots) for ended in self.ended),
            sum(number < self.slots for number in self.restarts),
            len(self.runs),
            len(failed),
            by["schedule"],
            by["stand-by"],
            len(left_open - lies),
            len(lies),
            len(after),
            len(twice - after),
            [self._named(number, slots[number]) for number in sorted(failed | twice | lies)],
            [f"{self.release} {self.way}: a schedule that was ended fired" for _ in filter(self._undead, self.held)],
            self.latest,
        )

    def _undead(self, held: Held) -> bool:
        """Tell whether a schedule that had been ended has fired: then nothing was tested."""
        ended = max((moment for moment in self.ended if moment < held.stored), default=None)
        if held.by != "schedule" or ended is None or any(ended < moment < held.stored for moment in self.started):
            return False
        # After a refused store, a restart lets the schedule fire again.
        restarts = (self._moment(number) for number in self.restarts)
        return self.way != "refused store" or not any(ended - self.every < moment < held.stored for moment in restarts)

    def _named(self, number: int, held: list[Held]) -> str:
        begin = self._moment(number)
        stored = ", ".join(f"{one.by} at {one.stored - begin:.2f} s" for one in held) or "nothing stored"
        restarted = f"; restarted {self.restarts[number]}" if number in self.restarts else ""
        run = f"; the run ended {self.runs[number]}" if number in self.runs else ""
        named = f"{self.release} {self.way}, slot {number} ({datetime.fromtimestamp(begin, UTC):%H:%M:%S})"
        return f"{named}: {stored}{run}{restarted}"


def _publish() -> tuple[int, str]:
    """Run the stand-by in this process; its status, and its outcome or what it said."""
    out, err = io.StringIO(), io.StringIO()
    handlers = {signum: signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)}
    with redirect_stdout(out), redirect_stderr(err):
        status = entry.main(["publish", "--json"])
    # The program leaves its own, which would let nobody stop this process.
    for signum, handler in handlers.items():
        signal.signal(signum, handler)
    if status in INTERRUPTED:
        sys.exit(status)
    return status, err.getvalue().strip() or json.loads(out.getvalue())["outcome"]


def _surely(do: Callable[[], object]) -> None:
    """Do it again if there was no answer in time: the machine is busy."""
    for _ in range(TRIES - 1):
        with suppress(TimeoutError, OSError, NoServersError):
            do()
            return
    do()


async def _add_consumer(url: str) -> None:
    async with client(url) as connection:
        await connection.jetstream().add_consumer(STREAM, ConsumerConfig(durable_name="api"))


async def _take_all(url: str) -> None:
    """Acknowledge everything, the schedule among it, as an API server whose consumer has no filter does."""
    async with client(url) as connection:
        pull = await connection.jetstream().pull_subscribe_bind("api", STREAM)
        while (await pull.consumer_info()).num_pending:
            for message in await pull.fetch(100, timeout=1):
                await message.ack_sync()


async def _fill(url: str) -> None:
    """Store messages until not even a small one finds room."""
    async with client(url) as connection:
        for size in FILLING:
            with suppress(ServiceUnavailableError):
                while True:
                    await connection.jetstream().publish("fill", b"x" * size)


def _wait_until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.time()))


def _go(release: str, way: str, options: argparse.Namespace) -> Row:
    return Lane(release, way, options).go()


def _all(options: argparse.Namespace) -> tuple[list[Row], list[str]]:
    """Run all lanes at the same time; their rows, and a line for each that broke off."""
    lanes = [(release, way) for release in options.releases for way in options.ways]
    rows, broken = [], []
    with ProcessPoolExecutor(len(lanes), get_context("fork")) as pool:
        going = {pool.submit(_go, *lane, options): lane for lane in lanes}
        for done in as_completed(going):
            if error := done.exception():
                broken.append(f"{going[done]} broke off: {error!r}")
                print(broken[-1], flush=True)
            else:
                rows.append(done.result())
    return sorted(rows, key=lambda row: lanes.index((row.release, row.way))), broken


def main() -> int:
    """Run it and print the table; 1 if a slot was doubled, or left open by a run that ended 0."""
    parser = argparse.ArgumentParser(description="Look for a slot that the stand-by of a schedule failed.")
    parser.add_argument("--slots", type=int, default=1000, help="of each way on each server; default %(default)s")
    parser.add_argument("--every", type=int, default=5, help="length of a slot in seconds; default %(default)s")
    parser.add_argument("--cycle", type=int, default=10, help="slots from one end to the next; default %(default)s")
    parser.add_argument("--releases", nargs="+", default=["wheel"], help="servers, such as 2.14; default: the wheel's")
    parser.add_argument("--ways", nargs="+", default=WAYS, choices=WAYS, help="default: all")
    parser.add_argument("--seed", type=int, help="of all that is random but the clock; default: a new one")
    parser.add_argument("--short", action="store_true", help="5 slots of 3 seconds, for CI")
    options = parser.parse_args()
    if options.short:
        options.slots, options.every, options.cycle = 5, 3, 4
    options.seed = random.randrange(10**6) if options.seed is None else options.seed
    for name in [name for name in os.environ if name.startswith(("NATS_", "CRYPTO_TRIGGER_"))]:
        del os.environ[name]
    began = time.monotonic()
    rows, broken = _all(options)
    python = platform.python_version()
    print(f"crypto-trigger {version('crypto-trigger')}, nats-py {version('nats-py')}, Python {python}")
    print(f"seed {options.seed}, slots of {options.every} s, {time.monotonic() - began:.0f} s in all")
    print(f"a stand-by began up to {max(row.latest for row in rows):.2f} s late\n")
    print("| " + " | ".join(HEADS) + " |")
    print("|" + " --- |" * len(HEADS))
    for row in rows:
        print("| " + " | ".join(map(str, row[: len(HEADS)])) + " |")
    for row in rows:
        for line in row.strange + row.invalid:
            print(line)
    wrong = any(row.lies or row.fired_after or row.doubled or row.invalid for row in rows)
    return 1 if wrong or broken else 0


if __name__ == "__main__":
    sys.exit(main())
