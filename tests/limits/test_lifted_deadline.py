"""An attempt that has reached what its deadline is for: the deadline is lifted, and counts anew when it fails."""

import asyncio

import pytest

from crypto_trigger.deadline.retry import GaveUp, Limits, Retry
from crypto_trigger.errors import Unavailable

LIMITS = Limits(0.15, 0.001, 0.02)


def test_an_attempt_may_last_longer_than_the_deadline_once_it_is_lifted():
    retry = Retry(Limits(0.02, 0.001, 0.02))

    async def work(attempt):
        retry.lift()
        assert attempt.left() == float("inf")
        await asyncio.sleep(0.05)
        return "done"

    assert asyncio.run(retry.run(work)) == "done"


def test_the_deadline_counts_anew_after_it():
    retry = Retry(LIMITS)
    ended = []

    async def work(attempt):
        if attempt.number == 1:
            raise Unavailable("before")
        if attempt.number == 2:
            retry.lift()
            assert retry.last is None
            await asyncio.sleep(LIMITS.give_up_after + 0.01)
            ended.append(asyncio.get_running_loop().time())
        if attempt.number == 3:
            assert 0.1 < attempt.left() < LIMITS.give_up_after
        raise Unavailable(f"attempt {attempt.number}")

    async def measured():
        with pytest.raises(GaveUp) as caught:
            await retry.run(work)
        return caught.value, asyncio.get_running_loop().time() - ended[0]

    error, seconds = asyncio.run(measured())
    assert error.attempts > 3
    assert "before" not in error.error().message
    assert seconds < 2 * LIMITS.give_up_after


def test_attempts_that_fail_soon_after_it_wait_longer_and_longer(monkeypatch):
    """A server that accepts every connection and ends it at once is not asked hundreds of times a second."""
    monkeypatch.setattr("backoff.full_jitter", lambda wait: wait)
    waits = []
    retry = Retry(Limits(0.5, 0.002, 10.0), waits.append)

    async def work(attempt):
        retry.lift()
        if attempt.number == 5:
            return
        raise Unavailable("again")

    asyncio.run(retry.run(work))
    assert [wait.wait for wait in waits] == [0.002, 0.004, 0.008, 0.016]
    assert all(wait.left == pytest.approx(0.5, abs=0.1) for wait in waits)


def test_after_one_that_lasted_the_waits_are_short_again(monkeypatch):
    monkeypatch.setattr("backoff.full_jitter", lambda wait: wait)
    waits = []
    retry = Retry(Limits(0.5, 0.002, 0.008), waits.append)

    async def work(attempt):
        if attempt.number == 5:
            return
        if attempt.number == 3:
            retry.lift()
            await asyncio.sleep(0.012)
        raise Unavailable("again")

    asyncio.run(retry.run(work))
    assert [wait.wait for wait in waits] == [0.002, 0.004, 0.002, 0.004]
