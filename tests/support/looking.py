"""Slots as `check` and `history` look at them: an hour of quarters of an hour, at one time."""

from __future__ import annotations

from datetime import timedelta

from crypto_trigger.monitoring.coverage import Cadence, Window, entries
from crypto_trigger.slots.times import instant

EARLY, EVERY = 5, 900
QUARTER = Cadence(timedelta(seconds=EVERY), timedelta(seconds=EARLY), timedelta(minutes=5))
HOUR = timedelta(hours=1)
NOW = instant("2026-11-23T18:04:15Z")


def look(messages, first=None, now=NOW, since=HOUR, cadence=QUARTER):
    window = Window.before(now, since, cadence)
    return entries(messages, first or next(iter(messages), None), window, now, cadence)
