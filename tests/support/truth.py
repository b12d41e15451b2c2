"""What the stream really holds of each slot, set against what an exit status claims."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import NamedTuple

import nats

from support.claims import lie_about_slot

PAYLOAD = b'{"trigger":"update"}'


class Held(NamedTuple):
    """What the stream holds of one message."""

    msg_id: str
    data: bytes


class Slots:
    """One slot after the other, each later than all before it, and what a stream holds of the one in hand."""

    def __init__(self, proxy, place):
        self.now = ""
        self._proxy = proxy
        self._subject = place.subject
        self._stream = place.stream
        self._marker = f"{place.subject}.marker"
        self._times = (datetime(2020, 1, 1, tzinfo=UTC) + timedelta(minutes=15) * n for n in count())
        self._seen = 0
        self._held = []
        self._client = proxy.call(nats.connect(place.url))
        self._js = self._client.jetstream()
        subjects = [self._subject, self._marker]
        proxy.call(self._js.add_stream(name=self._stream, subjects=subjects, duplicate_window=1800))

    def close(self):
        self._proxy.call(self._client.close())

    def fresh(self):
        """Go on to a slot that nothing was published for; returns its start."""
        self.now = next(self._times).strftime("%Y-%m-%dT%H:%M:%SZ")
        self._held = []
        return self.now

    def held(self):
        """Return every message stored since the slot was taken in hand.

        A stream stores in the order of arrival: once a message of ours is stored, all that came before it are.
        """
        self._held += self._proxy.call(self._look())
        return self._held

    def lie(self, status):
        """Return what is wrong with a status, in view of what the stream holds of the slot; nothing if it is true."""
        return lie_about_slot(status, self.held(), Held(f"{self._subject}:{self.now}", PAYLOAD))

    async def _look(self):
        last = (await self._js.publish(self._marker, b"")).seq
        between, self._seen = range(self._seen + 1, last), last
        stored = [await self._js.get_msg(self._stream, seq=seq) for seq in between]
        return [Held((message.headers or {}).get("Nats-Msg-Id", ""), message.data) for message in stored]


@contextmanager
def slots_of(proxy, place):
    """The slots of a new stream at `place`."""
    slots = Slots(proxy, place)
    try:
        yield slots
    finally:
        slots.close()


class Trial(NamedTuple):
    """One publish through a fault: its result, and how often the program connected."""

    result: object
    connections: int


def publish_through(run, proxy, slots, *faults, then=None, **settings):
    """Publish for a fresh slot by way of the faults.

    Raises AssertionError if the status lies, or if a run after it, without faults, does not make it one trigger.
    """
    flags = [part for name, value in settings.items() for part in (f"--{name.replace('_', '-')}", value)]
    slot = slots.fresh()
    with proxy.route(*faults, then=then) as route:
        result = run("publish", "--server", route.url, "--scheduled-at", slot, *flags)
    assert not (lie := slots.lie(result.status)), f"{lie}: {faults}: {result}"
    if result.status == 0:
        return Trial(result, route.connections)
    again = run("publish", "--scheduled-at", slot)
    assert again.status == 0, f"{faults}: {again}"
    assert not (lie := slots.lie(again.status)), f"run again, {lie}: {faults}: {result}, {again}"
    return Trial(result, route.connections)
