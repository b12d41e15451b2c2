"""The demo: each command against a temporary server, and a publish that fails because no server is there."""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import socket
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from crypto_trigger.commands.ending import limits_of
from crypto_trigger.commands.history import show_history
from crypto_trigger.commands.listen import Bounds, Listener
from crypto_trigger.commands.server import Server
from crypto_trigger.commands.setup import setup_line
from crypto_trigger.deadline import signals
from crypto_trigger.deadline.retry import Attempt, GaveUp, Limits, Retry
from crypto_trigger.delivery.deliver import deliver
from crypto_trigger.delivery.draft import Draft
from crypto_trigger.delivery.follower import Follower
from crypto_trigger.delivery.jetstream import Publisher
from crypto_trigger.delivery.reading import Inspection, Reader
from crypto_trigger.delivery.setup import StreamSetup
from crypto_trigger.delivery.subscriber import Subscriber
from crypto_trigger.errors import BrokerError, Interrupted, Status, Unavailable
from crypto_trigger.monitoring.coverage import State
from crypto_trigger.monitoring.history import History
from crypto_trigger.monitoring.plugin import Answer, nagios
from crypto_trigger.monitoring.verdict import Thresholds, examine, window_length
from crypto_trigger.monitoring.window import looking_back
from crypto_trigger.reporting.report import Report, verdict
from crypto_trigger.reporting.words import report_line
from crypto_trigger.settings.load import load
from crypto_trigger.settings.values import Address
from crypto_trigger.slots.times import format_duration

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from crypto_trigger.reporting.terminal import Output
    from crypto_trigger.settings.load import Settings

T = TypeVar("T")
# How long the subscriber of the demo waits for the trigger, and then for another one, in seconds.
_FIRST_SECONDS, _NEXT_SECONDS = 1.0, 0.05
# How long `demo --stay` tries to connect again: its server runs, or it has ended.
_STAY_LIMITS = Limits(give_up_after=0.5, backoff_base=0.1, backoff_max=0.1)


def run(output: Output, port: int) -> None:
    """Run each command and show its answer. Raises a TriggerError if a command fails that should not."""
    with Server(port, guarded=True) as server:
        output.answer(f"A throw-away nats-server listens on {server.url}; it is removed at the end.", {})
        asyncio.run(_run(output, _settings(server.url)))
    output.answer(
        "\nThat was all: no process and no file is left.\n"
        f"Next, a server for development: {_program()} demo --stay\n"
        f"Or your own server: NATS_URL=nats://your-server:4222 {_program()} setup",
        {},
    )


def stay(output: Output, port: int) -> None:
    """Keep a server with the stream set up, and print every trigger that arrives, until SIGINT or SIGTERM.

    Raises Unavailable if the server ends before that.
    """
    # Once the server is up, a signal is the ordinary end.
    with Server(port, guarded=True) as server, suppress(Interrupted, signals.Signalled):
        asyncio.run(_stay(output, _settings(server.url)))
    output.answer("stopped; no process and no file is left", {})


async def _run(output: Output, settings: Settings) -> None:
    now = datetime.now(UTC)
    received: list[str] = []
    patience = settings.give_up_after.total_seconds()
    async with Subscriber(settings).open(Attempt(1, lambda: patience)) as messages:
        await _set_up(output, settings)
        await _publish(output, settings, now, "crypto-trigger publish")
        await _publish(output, settings, now, "crypto-trigger publish        # again, in the same slot")
        with suppress(TimeoutError):
            while True:
                arrival = await asyncio.wait_for(messages.next(), _NEXT_SECONDS if received else _FIRST_SECONDS)
                received.append(f"{arrival.payload.decode()} on {arrival.subject}")
    output.answer(f"\nWhat a subscriber received: {', '.join(received) or 'nothing'}", {})
    await _check(output, settings)
    await _history(output, settings)
    with socket.socket() as taken:
        # Bound but not listening: no other program can take the port, and every connection is refused.
        taken.bind(("127.0.0.1", 0))
        nowhere = Address("127.0.0.1", taken.getsockname()[1])
        impatient = settings.replaced(servers=(nowhere,), give_up_after=timedelta(milliseconds=500))
        await _publish(output, impatient, now, f"crypto-trigger publish --server {nowhere} --give-up-after 500ms")


async def _stay(output: Output, settings: Settings) -> None:
    started = time.monotonic()
    await _set_up(output, settings)
    output.answer(
        f"\nListening. In another terminal: NATS_URL={settings.servers[0]} {_program()} publish\n"
        f"A second publish in the same {format_duration(settings.every)} stores nothing, and nothing is shown here; "
        "with --force it stores another trigger.\n"
        "Ctrl-C stops the server and removes its data.\n",
        {},
    )
    source = Follower(settings, started, None)
    try:
        bounds = Bounds(None, None, started)
        await Listener(source, settings.subject, bounds, _STAY_LIMITS, output, output.detail).run()
    except Unavailable as error:
        raise Unavailable(
            f"{settings.servers[0]}: the demo's nats-server has ended",
            "start it again with: crypto-trigger demo --stay",
        ) from error


async def _set_up(output: Output, settings: Settings) -> None:
    output.answer("\n$ crypto-trigger setup", {})
    attempt = StreamSetup(settings, None, update=False)
    done = await _done(settings, attempt, attempt.error)
    output.answer(f"{setup_line(done)}\n(status 0)", {})


async def _publish(output: Output, settings: Settings, now: datetime, command: str) -> None:
    output.answer(f"\n$ {command}", {})
    draft = Draft(settings, now, socket.gethostname(), force=False)
    try:
        receipt = await deliver(draft, Publisher(settings), limits_of(settings))
    except BrokerError as error:
        report, before = Report.now(*verdict(error), 0).with_error(error), "crypto-trigger: "
    else:
        report, before = Report.now(receipt.outcome, Status.OK, 0).with_receipt(receipt), ""
    signals.resume()
    said = report_line(report.with_settings(settings).with_trigger(draft.trigger))
    output.answer(f"{before}{said}\n(status {report.status})", {})


async def _check(output: Output, settings: Settings) -> None:
    output.answer("\n$ crypto-trigger check", {})
    since, cadence = looking_back(settings, "1h", None)
    thresholds = Thresholds(1, 2, cadence.grace, cadence.every)
    since = window_length(since, settings.every, thresholds)
    held, consumers = await _done(settings, Inspection(settings, since, ()))
    result = examine(held, consumers, since, cadence, thresholds)
    answer = Answer(result.level, result.findings, settings.stream, settings.subject, result)
    output.answer(f"{nagios(answer)}\n(status {int(result.level)})", {})


async def _history(output: Output, settings: Settings) -> None:
    output.answer("\n$ crypto-trigger history", {})
    since, cadence = looking_back(settings, "24h", None)
    held = await _done(settings, Reader(settings, since + settings.every + settings.early))
    found = History.of(held.messages, held.first, held.now, since, cadence, held.subject, settings.stream)
    show_history(found, output, None)
    late = "; late, because the demo did not start when the slot began" if State.LATE in found.counts else ""
    output.answer(f"(status 0{late})", {})


async def _done(
    settings: Settings, work: Callable[[Attempt], Awaitable[T]], error: Callable[[GaveUp], Exception] = GaveUp.error
) -> T:
    """Return what the first successful attempt returns. Raises what `error` makes of the failures."""
    try:
        done = await Retry(limits_of(settings)).run(work)
    except GaveUp as end:
        raise error(end) from end.last
    signals.resume()
    return done


def _program() -> str:
    """Return the words that start this program in another terminal: its name if it is on PATH."""
    started = Path(sys.argv[0]).absolute()
    if started.name == "__main__.py":
        return f"{shlex.quote(sys.executable)} -m crypto_trigger"
    found = shutil.which(started.name)
    is_found = found is not None and Path(found).resolve() == started.resolve()
    return started.name if is_found or not started.exists() else shlex.quote(str(started))


def _settings(url: str) -> Settings:
    """Return the default settings with this server. The environment and a .env file do not apply to the demo."""
    return load({"servers": url}, os.devnull, {})
