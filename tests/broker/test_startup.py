"""What a publish loads: nothing that it does not use."""

from support.imports import modules_of
from support.streams import stored


def test_a_publish_that_succeeds_at_once_loads_no_library_for_failures_or_terminals(run, place):
    run("setup")
    status, modules = modules_of("publish")
    assert len(stored(place.url, place.stream)) == 1
    assert status == 0
    assert "nats" in modules
    assert not modules & {"pydantic", "rich", "backoff", "dotenv"}


def test_backoff_is_loaded_after_a_failure_and_rich_only_on_a_terminal():
    status, modules = modules_of("publish", "--server", "nats://127.0.0.1:1", "--give-up-after", "200ms")
    assert status == 69
    assert "backoff" in modules
    assert not modules & {"pydantic", "rich", "dotenv"}
