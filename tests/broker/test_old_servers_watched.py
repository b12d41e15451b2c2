"""What `check`, `history` and `listen` say of servers of other releases, from 2.9 on."""

import json

import pytest
from support.clocks import rfc3339, roomy
from support.consumers import add_consumer, fetch
from support.old_servers import find, serving
from support.plugin_answers import see
from support.streams import add_stream, put, stored

RELEASES = ("2.9", "2.10", "2.11", "2.12", "2.14")
STRICT = ("--consumer", "api", "--consumer-warn", "0s", "--consumer-critical", "0s")


@pytest.fixture(params=RELEASES)
def release(request):
    return request.param


@pytest.fixture
def old(release, place, monkeypatch):
    """A stream on a server of that release, with the triggers of two slots, and none of the slot between them."""
    slots = roomy()
    with serving(find(release)) as server:
        monkeypatch.setenv("NATS_URL", server.url)
        for name, value in slots.settings.items():
            monkeypatch.setenv(name, value)
        add_stream(server.url, place.stream, [f"{place.stream}.>"])
        present = slots.turn - slots.every
        for number in (2, 0):
            put(server.url, f"{place.stream}.other", b"{}")
            put(server.url, place.subject, b"{}", {"ce-time": rfc3339(present - number * slots.every)})
        yield place._replace(url=server.url), slots


def test_check_names_the_slot_without_a_trigger(run, release, old):
    place, slots = old
    seen = see(run, "--since", f"{3 * slots.every}s", "--missed-critical", "9")
    assert len(stored(place.url, place.stream)) == 4
    assert seen.status == 1
    assert seen.json["missed"] == [rfc3339(slots.turn - 2 * slots.every)]
    # Without the server's time, the clock of this host counts, and says nothing of itself.
    assert ("skew_seconds" in seen.json) == ("skew" in seen.data) == (release != "2.9")


def test_history_shows_each_slot(run, old):
    _, slots = old
    result = run("history", "--json", "--since", f"{3 * slots.every}s")
    assert (result.status, result.err) == (0, "")
    found = json.loads(result.out)["slots"]
    assert [slot["start"] for slot in found] == [rfc3339(slots.turn - number * slots.every) for number in (3, 2, 1)]
    assert [slot.get("seq") for slot in found] == [2, None, 4]
    assert found[1]["state"] == "missed"


def test_listen_tells_what_is_stored_and_what_comes(run, old):
    place, slots = old
    result = run("listen", "--json", "--since", "1h", "--count", 2, "--for", "20s")
    begins = [rfc3339(slots.turn - number * slots.every) for number in (3, 1)]
    assert (result.status, result.err) == (0, "")
    assert [json.loads(line)["slot"] for line in result.out.splitlines()] == begins
    assert [json.loads(line)["seq"] for line in result.out.splitlines()] == [2, 4]
    assert len(stored(place.url, place.stream)) == 4


def test_a_new_consumer_is_not_asked_for_the_triggers_before_it(run, old):
    place, _ = old
    add_consumer(place.url, place.stream, "api", deliver_policy="new", filter_subject=place.subject)
    assert see(run, *STRICT).json["consumers"] == [{"name": "api", "unacknowledged": 0, "state": "OK"}]
    put(place.url, place.subject, b"{}")
    assert see(run, *STRICT).json["consumers"][0]["unacknowledged"] == 1
    fetch(place.url, place.stream, "api", 1, (0,))
    assert see(run, *STRICT).json["consumers"] == [{"name": "api", "unacknowledged": 0, "state": "OK"}]
