"""What was read of a stream: its messages of the subject, its memory and its consumers. Values."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from crypto_trigger.errors import Fact, Unusable
from crypto_trigger.slots.trigger import Reading, Stored


class Memory(NamedTuple):
    """How much of what a stream was given it still holds.

    `created` is the time it was created, if known. `since` is the time from which on it has removed nothing from its
    beginning; None if it has never removed anything there. `holes` tells that it has removed messages further on, too.
    `limits` are those of its limits by which it removes messages, in words.
    """

    created: datetime | None = None
    since: datetime | None = None
    holes: bool = False
    limits: tuple[str, ...] = ()

    def holds(self, moment: datetime) -> bool:
        """Tell whether everything that was stored since `moment` is still there."""
        if self.holes:
            return False
        return self.since is None or self.since <= max(moment, self.created or moment)

    @property
    def loss(self) -> str:
        """Why messages may be missing, in words: `removed messages (max_msgs 100)`."""
        return "has removed messages" + (f" ({', '.join(self.limits)})" if self.limits else "")


class Held(NamedTuple):
    """What the stream holds of the subject.

    `server` is the server that was asked. `reading` is the server's time and ours; None where the server does not tell
    its time (before 2.10): `now` is this host's time then. `config` is the stream's configuration, and `created` the
    time it was created, if known. `subject` is the one that messages are stored under, where the stream or the account
    maps the published one to another. `first` and `newest` are the first and the last message of the subject that are
    still there; the first is no marker of the server's own, unless there are only markers. `messages` are all since the
    start of the window, oldest first, markers included. `memory` tells how much of it all the stream still holds.
    `last_seq` is the sequence of its newest message of all subjects, 0 if it is not known. `is_clustered` tells whether
    the stream is in a cluster.
    """

    server: str
    reading: Reading | None
    now: datetime
    config: Mapping[str, Any]
    created: datetime | None
    subject: str
    first: Stored | None
    newest: Stored | None
    messages: tuple[Stored, ...]
    memory: Memory = Memory()
    last_seq: int = 0
    is_clustered: bool = False

    @property
    def answered(self) -> str:
        """What is to be known of the server that answered, for `--verbose`."""
        clock = "" if self.reading else "; it does not tell its time, so that the clock of this host decides"
        return f"{self.server} answered{clock}"

    @property
    def forgets(self) -> bool:
        """Whether the stream removes messages once they are consumed, so that what is not there may have been there."""
        return self.config.get("retention") in ("workqueue", "interest")

    def require_memory(self) -> None:
        """Raise Unusable if the stream removes messages once they are consumed."""
        if self.forgets:
            raise Unusable(
                f"{self.server}: stream {self.config.get('name')} removes messages once they are consumed (retention "
                f"{self.config.get('retention')}): which slots were missed cannot be known",
                "see the triggers as they come with: crypto-trigger listen",
                Fact.STREAM_FORGETS,
            )


class Consumer(NamedTuple):
    """What the server says of a consumer. All up to the sequence `floor` is acknowledged, given up or not its own.

    `takes` are the subjects that it takes (none: all of the stream). `paused` is the time until it goes on, or None.
    `idle` is true if nothing is to be delivered and no acknowledgement is awaited: what is beyond the floor then was
    delivered as often as the consumer allows (`max_deliver`). `acknowledges` is false with the ack policy none, `begun`
    if nothing has been delivered yet. `beyond` tells that the floor is beyond the end of the stream. Of a consumer that
    does not exist, `others` are the names of some that do, and `more` is how many there are besides.
    """

    name: str
    exists: bool = True
    takes: Sequence[str] = ()
    floor: int = 0
    paused: timedelta | None = None
    idle: bool = False
    acknowledges: bool = True
    begun: bool = True
    beyond: bool = False
    others: Sequence[str] = ()
    more: int = 0
