"""Every message of a publish is dropped, doubled or late, in both ways: the status is true each time."""

from itertools import count

import pytest
from support.proxy import Fault, Proxy, Tamper, Way
from support.truth import publish_through, slots_of

TIMEOUT, LATE = "300ms", 0.5


@pytest.fixture(scope="module")
def ways_on(server, stranger):
    """The proxy; and where the next connection leads: to a server that refuses us, or to the same one again."""
    with Proxy(server.url) as proxy:
        yield proxy, {"ends there": stranger, "goes on": Fault()}


@pytest.mark.parametrize("then", ["ends there", "goes on"])
@pytest.mark.parametrize("what", ["drop", "double", "late"])
@pytest.mark.parametrize(
    ("way", "fewest"),
    # CONNECT, PING, SUB, PUB, HPUB; INFO, PONG, MSG, MSG.
    [(Way.TO_SERVER, 5), (Way.TO_CLIENT, 4)],
    ids=["to the server", "to the client"],
)
def test_a_message_that_is_lost_doubled_or_late_never_makes_the_status_lie(
    run, ways_on, place, way, fewest, what, then
):
    proxy, thens = ways_on
    with slots_of(proxy, place) as slots:
        for index in count():
            tamper = Tamper(way, what, index, late=LATE)
            result, _ = publish_through(
                run, proxy, slots, tamper, then=thens[then], timeout=TIMEOUT, give_up_after="20s"
            )
            if then == "goes on" or not tamper.struck:
                assert result.status == 0, f"{tamper}: {result}"
            if not tamper.struck:
                break
        assert index >= fewest
