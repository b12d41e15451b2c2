"""75: what the line says of running again, which is true only of what guards the slot."""

import json
import re
from contextlib import ExitStack
from urllib.parse import urlsplit

import pytest
from support.clocks import roomy
from support.lossy import LosesAcks, LosesPongs
from support.processes import execute, is_one_clean_line
from support.proxy import Proxy
from support.restricted import restricted_to
from support.streaming_double import StreamingDouble
from support.streams import add_stream, stored
from support.subscribers import Subscriber

SHORT = {
    "CRYPTO_TRIGGER_TIMEOUT": "400ms",
    "CRYPTO_TRIGGER_GIVE_UP_AFTER": "1500ms",
    "CRYPTO_TRIGGER_BACKOFF_BASE": "50ms",
    "CRYPTO_TRIGGER_BACKOFF_MAX": "100ms",
}


def publish(url, fault, *flags, slots=None):
    """Run `publish` by way of a fault that no connection escapes."""
    slots = slots or roomy()
    userinfo = urlsplit(url).netloc.rpartition("@")[0]
    with Proxy(url) as proxy, proxy.route(fault, then=fault) as route:
        through = route.url.replace("://", f"://{userinfo}@" if userinfo else "://")
        ended = execute("publish", "--json", *flags, NATS_URL=through, **SHORT, **slots.settings)
    assert fault.struck
    assert json.loads(ended.out)["status"] == ended.status
    return ended


def hint(ended):
    return json.loads(ended.out)["error"]["hint"]


@pytest.fixture
def restricted(place):
    """Makes a server on which a user may publish the subject and whatever else; its admin's place, the user's URL."""
    with ExitStack() as stack:

        def start(*more, window=120):
            admin, user = stack.enter_context(restricted_to(place.subject, *more))
            add_stream(admin, place.stream, [place.subject], duplicate_window=window)
            return place._replace(url=admin), user

        yield start


@pytest.mark.parametrize(("window", "written"), [(120, "2m"), (1800, "30m")])
def test_without_permission_to_read_the_line_names_the_duplicate_window(window, written, place, restricted):
    admin, url = restricted(f"$JS.API.STREAM.INFO.{place.stream}", window=window)
    ended = publish(url, LosesAcks())
    assert len(stored(admin.url, place.stream)) == 1
    assert ended.status == 75
    assert f"within the stream's duplicate window ({written})" in hint(ended)
    assert f"within the stream's duplicate window ({written})" in ended.err
    assert "cannot double" in ended.err


def test_without_permission_to_ask_for_the_window_the_line_has_no_number(place, restricted):
    admin, url = restricted()
    ended = publish(url, LosesAcks())
    assert len(stored(admin.url, place.stream)) == 1
    assert ended.status == 75
    assert "within the stream's duplicate window" in hint(ended)
    assert "duplicate window (" not in ended.err


def test_with_permission_to_read_running_again_cannot_double(place):
    add_stream(place.url, place.stream, [place.subject], duplicate_window=1800)
    ended = publish(place.url, LosesAcks())
    # The second attempt reads that the trigger is stored.
    assert len(stored(place.url, place.stream)) == 1
    assert ended.status == 0


def test_with_permission_to_read_the_line_says_that_running_again_cannot_double(place):
    slots = roomy()
    add_stream(place.url, place.stream, [place.subject], duplicate_window=1800)
    with Proxy(place.url) as proxy, proxy.route(LosesAcks()) as route:
        # One connection, and no server after it.
        ended = execute("publish", "--json", NATS_URL=route.url, **SHORT, **slots.settings)
    assert len(stored(place.url, place.stream)) == 1
    assert ended.status == 75
    assert "cannot double" in hint(ended)
    assert "duplicate window" not in ended.err
    again = execute("publish", "--json", **slots.settings)
    assert len(stored(place.url, place.stream)) == 1
    assert (again.status, json.loads(again.out)["outcome"]) == (0, "duplicate")


def test_core_may_double_and_says_so(place):
    with Subscriber(place.url, place.subject) as subscriber:
        ended = publish(place.url, LosesPongs(), "--delivery", "core")
        assert len(subscriber.heard()) > 1
    assert ended.status == 75
    assert "cannot double" not in ended.err
    assert re.search(r"\bmay\b.*\b(double|twice|again)\b", hint(ended))


def test_streaming_may_double_and_says_so(place):
    with StreamingDouble() as server:
        server.loses += ["ack"] * 50
        ended = execute(
            "publish", "--json", "--delivery", "streaming", NATS_URL=server.url, **SHORT, **roomy().settings
        )
        assert server.count(place.subject) > 1
    assert ended.status == 75
    assert is_one_clean_line(ended.err)
    assert "cannot double" not in ended.err
    assert re.search(r"\bmay\b.*\b(double|twice|again)\b", hint(ended))


def test_the_line_of_a_75_names_the_slot_that_may_be_stored(place, restricted):
    _, url = restricted()
    slots = roomy()
    slot = slots.now()
    ended = publish(url, LosesAcks(), slots=slots)
    assert ended.status == 75
    assert is_one_clean_line(ended.err)
    assert f"{place.subject} for {slot} may be stored" in ended.err
