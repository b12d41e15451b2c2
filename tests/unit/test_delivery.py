"""Delivering: what is tried again, when it ends, and what may be claimed afterwards.

The publisher is scripted, attempt by attempt, and time passes at once: a deadline of a minute takes a millisecond.
"""

import asyncio
import itertools
import random
import selectors
import signal

import pytest

from crypto_trigger.commands.ending import limits_of
from crypto_trigger.deadline import signals
from crypto_trigger.deadline.retry import GRACE, Attempt, Limits, Retry
from crypto_trigger.delivery.deliver import deliver
from crypto_trigger.delivery.draft import Draft
from crypto_trigger.errors import BadPeer, Denied, Interrupted, NoAck, Outcome, Rejected, Unavailable, Unusable
from crypto_trigger.settings.load import load
from crypto_trigger.slots.times import instant
from crypto_trigger.slots.trigger import Receipt

ACK = Receipt(outcome=Outcome.PUBLISHED, seq=7, guard="compare-and-set", server="nats://h:4222")
SETTINGS = load({}, "/dev/null", {})
DEFAULTS = limits_of(SETTINGS)
GONE = Unavailable("nats://h:4222: connection refused", "is the server running?")
LOST = NoAck("nats://h:4222: no acknowledgement within the timeout")


class Clock(asyncio.SelectorEventLoop):
    """An event loop in which the time that nothing happens in is skipped; `time()` begins at 0."""

    def __init__(self):
        self.now = 0.0
        super().__init__(Skipping(self))

    def time(self):
        return self.now


class Skipping(selectors.DefaultSelector):
    def __init__(self, clock):
        super().__init__()
        self.clock = clock

    def select(self, timeout=None):
        events = super().select(0 if timeout is not None else 1)
        if timeout and not events:
            self.clock.now += timeout
        return events


class Script:
    """A publisher whose attempts go as written: an error is raised, a receipt returned, a function called.

    What is called gets the attempt; a NoAck comes after the message has left.
    """

    AGAIN = "running it again may store it twice"

    def __init__(self, *steps):
        self.steps = steps
        self.seen = []

    def again(self):
        return self.AGAIN

    async def publish(self, draft, attempt):
        trigger = draft.fix(None)
        step = self.steps[min(len(self.seen), len(self.steps) - 1)]
        self.seen.append(trigger)
        if callable(step):
            step = await step(attempt)
        if isinstance(step, NoAck):
            attempt.sent = True
        if isinstance(step, Exception):
            raise step
        return step


def draft():
    """The trigger of a run at noon."""
    return Draft(SETTINGS, instant("2026-11-23T12:00:00Z"), "h", force=False)


class Told:
    """How a delivery went: its receipt or error, the time it took, and the waits in between."""

    def __init__(self, *steps, limits=DEFAULTS):
        self.script = Script(*steps)
        self.waits = []
        self.receipt = self.error = None
        with asyncio.Runner(loop_factory=Clock) as runner:
            try:
                self.receipt = runner.run(deliver(draft(), self.script, limits, self.waits.append))
            except (Interrupted, Unavailable, NoAck, Denied, BadPeer, Rejected, Unusable) as error:
                self.error = error
            self.elapsed = runner.get_loop().time()


async def silent(_):
    await asyncio.Event().wait()


async def silent_after_sending(attempt):
    attempt.sent = True
    await asyncio.Event().wait()


async def silent_after_a_no(attempt):
    attempt.sent = True
    attempt.sent = False
    await asyncio.Event().wait()


@pytest.fixture(autouse=True)
def _handlers():
    """No signal of another test is remembered, and the handlers that a delivery leaves behind go."""
    before = {signum: signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)}
    signals.install()
    yield
    for signum, handler in before.items():
        signal.signal(signum, handler)


def test_an_acknowledgement_ends_it():
    told = Told(ACK)
    assert (vars(told.receipt), told.waits, told.elapsed) == (vars(ACK), [], 0)


@pytest.mark.parametrize("error", [GONE, LOST], ids=lambda error: error.kind)
def test_what_may_pass_is_tried_again_with_the_very_same_trigger(error):
    told = Told(error, error, ACK)
    assert told.receipt.attempts == 3
    assert told.receipt.seq == ACK.seq
    assert len(told.script.seen) == 3
    assert all(seen is told.script.seen[0] for seen in told.script.seen)
    assert [(wait.attempt, wait.cause) for wait in told.waits] == [(1, error), (2, error)]


@pytest.mark.parametrize("kind", [Rejected, BadPeer, Denied, Unusable])
def test_a_final_error_is_not_tried_again(kind):
    told = Told(kind("nats://h:4222: no", "mend it"), ACK)
    assert len(told.script.seen) == 1
    assert (type(told.error), told.error.message, told.error.hint) == (kind, "nats://h:4222: no", "mend it")
    assert (told.error.attempts, told.elapsed) == (1, 0)


def test_a_bug_is_not_tried_again_and_stays_what_it_is():
    async def broken(_):
        raise KeyError("bug")

    with pytest.raises(KeyError, match="bug"):
        Told(broken, ACK)


ENDS = {
    "acknowledged": (ACK, True),
    "refused": (Denied("nats://h:4222: the server refuses the credentials"), Denied),
    "deadline": (silent, Unavailable),
    "deadline-after-sending": (silent_after_sending, NoAck),
    "deadline-after-a-no": (silent_after_a_no, Unavailable),
}
ORDERS = [order for length in range(4) for order in itertools.product((GONE, LOST), repeat=length)]


@pytest.mark.parametrize("end", ENDS)
def test_once_an_attempt_may_have_arrived_only_an_acknowledgement_says_otherwise(end):
    for before in ORDERS:
        step, verdict = ENDS[end]
        told = Told(*before, step)
        if verdict is True:
            assert told.receipt.attempts == len(before) + 1
            continue
        expected = NoAck if LOST in before else verdict
        assert type(told.error) is expected, before
        assert told.error.attempts == len(before) + 1
        if expected is NoAck:
            assert told.error.perhaps
            assert told.error.hint.endswith(Script.AGAIN)


def test_the_verdict_tells_both_what_was_sent_and_what_came_last():
    told = Told(LOST, Denied("nats://h:4222: the server refuses the credentials", "check NATS_USER"))
    assert told.error.message == (
        "nats://h:4222: no acknowledgement within the timeout (2 attempts); "
        "then: nats://h:4222: the server refuses the credentials"
    )
    assert told.error.hint == Script.AGAIN


def test_a_run_that_never_got_an_answer_says_how_long_it_waited():
    told = Told(silent, limits=Limits(7, 0.25, 10))
    assert told.elapsed == 7
    assert (type(told.error), told.error.message) == (Unavailable, "no answer in 7s")


# Waiting.


def test_it_goes_on_until_the_deadline_and_never_past_it():
    told = Told(GONE)
    assert type(told.error) is Unavailable
    assert told.error.message == f"nats://h:4222: connection refused ({len(told.script.seen)} attempts)"
    # An attempt that began in the last tenth of a second would be cut short, perhaps after it was sent.
    assert 59.9 <= told.elapsed <= 60


def test_waits_are_random_between_nothing_and_twice_the_last_bound():
    random.seed(1)
    seen = [Told(GONE, limits=Limits(1000, 0.25, 10)).waits for _ in range(12)]
    for attempt in range(10):
        bound = min(0.25 * 2**attempt, 10)
        waits = [run[attempt].wait for run in seen]
        assert all(0 <= wait <= bound for wait in waits)
        assert min(waits) < bound / 2 < max(waits)


def test_a_wait_leaves_half_of_the_time_that_is_left():
    told = Told(GONE, limits=Limits(1, 100, 100))
    assert all(wait.wait <= wait.left / 2 for wait in told.waits)
    assert len(told.waits) > 2


def test_the_limits_are_those_of_the_settings():
    environ = {
        "CRYPTO_TRIGGER_GIVE_UP_AFTER": "9s",
        "CRYPTO_TRIGGER_BACKOFF_BASE": "1ms",
        "CRYPTO_TRIGGER_BACKOFF_MAX": "2ms",
    }
    assert vars(limits_of(load({}, "/dev/null", environ))) == vars(Limits(9, 0.001, 0.002))
    assert vars(Limits(60, 0.25, 10)) == vars(DEFAULTS)


# Signals.


def signalled(signum, then, *, sent):
    async def step(attempt):
        attempt.sent = sent
        signal.raise_signal(signum)
        return await then(attempt)

    return step


async def answering_in_time(_):
    await asyncio.sleep(GRACE / 2)
    return ACK


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM], ids=lambda signum: signum.name)
@pytest.mark.parametrize(
    ("before", "sent", "elapsed", "last", "perhaps"),
    [
        ((), False, 0, "", False),
        ((), True, GRACE, "", True),
        ((LOST,), False, None, f" after 2 attempts; last: {LOST.message}", True),
        ((GONE,), False, None, f" after 2 attempts; last: {GONE.message}", False),
    ],
    ids=["before-sending", "after-sending", "after-an-attempt-that-was-sent", "after-one-that-was-not"],
)
def test_a_signal_ends_it_and_tells_what_may_be_claimed(signum, before, sent, elapsed, last, perhaps):
    told = Told(*before, signalled(signum, silent, sent=sent), ACK)
    assert type(told.error) is Interrupted
    assert told.error.exit_status == 128 + signum
    assert told.error.message == f"interrupted by {signum.name}{last}"
    assert told.error.perhaps is perhaps
    assert len(told.script.seen) == len(before) + 1
    if elapsed is not None:
        assert told.elapsed == elapsed


def test_an_answer_that_is_due_when_the_signal_comes_still_counts():
    told = Told(signalled(signal.SIGTERM, answering_in_time, sent=True))
    assert vars(told.receipt) == vars(ACK)


def test_a_second_signal_waits_for_no_answer():
    async def again(attempt):
        await asyncio.sleep(0.5)
        signal.raise_signal(signal.SIGINT)
        return await answering_in_time(attempt)

    told = Told(signalled(signal.SIGTERM, again, sent=True))
    assert (told.error.exit_status, told.elapsed) == (143, 0.5)


@pytest.mark.parametrize("failure", [GONE, LOST, Denied("nats://h:4222: no")], ids=lambda error: error.kind)
def test_after_a_signal_nothing_is_tried_again(failure):
    async def failing(_):
        await asyncio.sleep(0)
        return failure

    told = Told(signalled(signal.SIGTERM, failing, sent=True), ACK)
    assert len(told.script.seen) == 1
    assert told.error.exit_status == 143
    assert told.error.perhaps == (failure is LOST)


def test_a_signal_between_two_attempts_ends_the_wait():
    waits = []

    def on_wait(wait):
        waits.append(wait)
        signal.raise_signal(signal.SIGTERM)

    script = Script(GONE, ACK)
    with asyncio.Runner(loop_factory=Clock) as runner, pytest.raises(Interrupted):
        runner.run(deliver(draft(), script, DEFAULTS, on_wait))
    assert len(script.seen) == len(waits) == 1


def test_a_signal_never_moves_the_deadline_away():
    told = Told(signalled(signal.SIGTERM, silent, sent=True), limits=Limits(GRACE / 4, 0.25, 10))
    assert told.elapsed == GRACE / 4


def test_after_the_verdict_a_signal_changes_nothing():
    Told(ACK)
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.raise_signal(signum)
    # It only shortens the wait for a reader.
    assert signals.came()


def test_anything_can_be_tried_again():
    failures = iter([GONE, LOST])

    async def work(_):
        for failure in failures:
            raise failure
        return "done"

    with asyncio.Runner(loop_factory=Clock) as runner:
        retry = Retry(DEFAULTS)
        assert runner.run(retry.run(work)) == "done"
    assert retry.attempts == 3


def test_a_share_leaves_as_much_for_what_comes_after():
    attempt = Attempt(1, lambda: 12.0)
    assert [attempt.share(parts) for parts in (1, 2, 3)] == [6.0, 4.0, 3.0]


def test_what_was_spent_before_counts():
    settings = load({}, "/dev/null", {"CRYPTO_TRIGGER_GIVE_UP_AFTER": "9s"})
    assert limits_of(settings, 2.5).left == 6.5
    assert limits_of(settings, 20).left == 0
    told = Told(silent, limits=Limits(7, 0.25, 10, spent=3))
    assert (told.elapsed, told.error.message) == (4, "no answer in 7s")


def cut_short(error):
    error.cut_short = True
    return error


def test_an_attempt_that_the_deadline_cuts_short_does_not_hide_what_came_before():
    wrong = NoAck("nats://h:4222: the acknowledgement is of JetStream domain leaf")
    short = cut_short(NoAck("nats://h:4222: no acknowledgement within the timeout"))
    told = Told(wrong, short, silent_after_sending, limits=Limits(2, 0.25, 10))
    assert told.error.message.startswith("nats://h:4222: the acknowledgement is of JetStream domain leaf (")
    hurried = cut_short(Unavailable("nats://h:4222: no answer within the timeout"))
    assert Told(GONE, hurried, limits=Limits(2, 0.25, 10)).error.message.startswith(f"{GONE.message} (")
    assert Told(hurried, limits=Limits(2, 0.25, 10)).error.message.startswith(f"{hurried.message} (")


def test_a_publisher_that_fixes_no_slot_is_a_bug():
    class Careless(Script):
        async def publish(self, *_):
            return ACK

    with asyncio.Runner(loop_factory=Clock) as runner, pytest.raises(RuntimeError, match="had not fixed"):
        runner.run(deliver(draft(), Careless(), DEFAULTS))


def test_a_signal_that_came_before_the_first_attempt_ends_it():
    signals.postpone()
    signal.raise_signal(signal.SIGTERM)
    told = Told(silent)
    assert (told.error.exit_status, told.elapsed) == (143, 0)


def test_a_run_that_never_got_an_answer_names_the_server_it_waited_for():
    async def waiting(attempt):
        attempt.where = "nats://h:4222"
        await asyncio.Event().wait()

    assert Told(waiting, limits=Limits(7, 0.25, 10)).error.message == "nats://h:4222: no answer in 7s"
    told = Told(signalled(signal.SIGTERM, waiting, sent=False))
    assert told.error.message == "interrupted by SIGTERM while waiting for nats://h:4222"


def test_what_an_attempt_has_found_counts_where_the_time_ends_before_it_is_raised():
    async def found(attempt):
        attempt.failure = BadPeer("nats://h:4222: the server's certificate does not verify")
        await asyncio.Event().wait()

    told = Told(found, limits=Limits(1, 0.25, 10))
    assert (type(told.error), told.error.exit_status) == (BadPeer, 76)
