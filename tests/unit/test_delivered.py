"""What the reply subject of a JetStream message says, in both of its forms (ADR-15)."""

from datetime import UTC, datetime

import pytest

from crypto_trigger.delivery.follower import Delivered

STORED = 1_795_000_000_123_456_789
AT = datetime(2026, 11, 18, 11, 6, 40, 123456, UTC)
WANTED = Delivered("S", "c", 7, 3, AT)


@pytest.mark.parametrize(
    "reply",
    [
        f"$JS.ACK.S.c.1.7.3.{STORED}.0",
        f"$JS.ACK.hub.ACC0UNT.S.c.1.7.3.{STORED}.0",
        f"$JS.ACK._.ACC0UNT.S.c.1.7.3.{STORED}.0.r4nd0m",
    ],
    ids=["short", "with a domain", "with a token more"],
)
def test_both_forms_say_the_same(reply):
    assert Delivered.parse(reply) == WANTED


def test_a_time_just_before_a_slot_stays_there():
    """nats-py makes a float of the nanoseconds, which rounds it to the beginning of the slot."""
    (stored,) = [Delivered.parse("$JS.ACK.S.c.1.7.3.1795000499999999999.0").stored_at]
    assert stored == datetime(2026, 11, 18, 11, 14, 59, 999999, UTC)


@pytest.mark.parametrize(
    "reply", ["", "$JS.ACK", "$JS.ACK.S.c.1.7.3", f"$JS.ACK.S.c.1.7.3.{STORED}.0.1", "$JS.ACK.S.c.1.a.b.c.0"]
)
def test_anything_else_says_nothing(reply):
    assert Delivered.parse(reply) is None
