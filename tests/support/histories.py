"""Histories of planted triggers, and the lines of their pictures."""

from __future__ import annotations

from datetime import timedelta

from crypto_trigger.monitoring.coverage import Cadence
from crypto_trigger.monitoring.history import History
from crypto_trigger.monitoring.picture import picture
from crypto_trigger.slots.times import instant
from crypto_trigger.slots.trigger import Stored

NOW = instant("2026-11-23T18:04:15Z")


def history(messages, every=900, since=86400, now=NOW, subject="crypto.update"):
    cadence = Cadence(timedelta(seconds=every), timedelta(seconds=5), timedelta(seconds=every) / 3)
    first = min(messages, key=lambda message: message.seq, default=None)
    return History.of(messages, first, now, timedelta(seconds=since), cadence, subject, "crypto-stats")


def texts(found, width=80, **more):
    return ["".join(part.text for part in line) for line in picture(found, width, **more)]


def ago(seq, seconds, **more):
    return Stored(seq, NOW - timedelta(seconds=seconds), **more)
