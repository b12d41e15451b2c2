"""Values: durations and times read as Go and RFC 3339 write them."""

from datetime import UTC, datetime, timedelta, timezone
from urllib.parse import urlsplit

import pytest
from support.found import problems_of

from crypto_trigger.settings import values
from crypto_trigger.slots import times

# What Go's time.ParseDuration makes of each.
DURATIONS = {
    "500ms": timedelta(milliseconds=500),
    "15m": timedelta(minutes=15),
    "1h30m": timedelta(minutes=90),
    "1m1h": timedelta(minutes=61),
    "1.5h": timedelta(minutes=90),
    ".5s": timedelta(milliseconds=500),
    "5.s": timedelta(seconds=5),
    "1h1m1.5s": timedelta(hours=1, minutes=1, seconds=1.5),
    "250us": timedelta(microseconds=250),
    "250\u00b5s": timedelta(microseconds=250),
    "250\u03bcs": timedelta(microseconds=250),
    "1000ns": timedelta(microseconds=1),
    "8760h": timedelta(days=365),
}


@pytest.mark.parametrize(("raw", "length"), DURATIONS.items(), ids=map(ascii, DURATIONS))
def test_a_duration_is_read_as_go_reads_it(raw, length):
    assert times.duration(raw) == length


HOSTS = {
    "http://[fe80::1%25lo]:80/x": "fe80::1%lo",
    "nats://[::1]": "::1",
    "nats://host": "host",
    "nats://": "",
}


@pytest.mark.parametrize(("url", "host"), HOSTS.items())
def test_the_zone_of_an_address_in_a_url_is_decoded(url, host):
    assert values.host_of(urlsplit(url)) == host


def test_the_url_of_a_monitor_with_an_empty_zone_is_refused():
    (problem,) = problems_of({"CRYPTO_TRIGGER_PING_URL": "http://[fe80::1%25]/x"})
    assert "has no valid host and port" in problem


def test_a_duration_is_written_in_its_shortest_form():
    lengths = [timedelta(minutes=15), timedelta(minutes=90), timedelta(milliseconds=250), timedelta()]
    assert [times.format_duration(length) for length in lengths] == ["15m", "1h30m", "250ms", "0s"]


@pytest.mark.parametrize(
    "raw",
    [
        "2026-11-23T17:45:00Z",
        "2026-11-23t17:45:00z",
        "2026-11-23 17:45:00Z",
        "2026-11-23T18:45:00+01:00",
        "2026-11-23T12:15:00.000-05:30",
        "2026-11-23T17:45:00.0000000000Z",
    ],
)
def test_a_time_is_read_as_rfc_3339_writes_it(raw):
    assert times.instant(raw) == datetime(2026, 11, 23, 17, 45, tzinfo=UTC)


def test_a_time_is_written_in_utc_to_the_second():
    moment = datetime(2026, 11, 23, 18, 45, 0, 999_999, timezone(timedelta(hours=1)))
    assert times.rfc3339(moment) == "2026-11-23T17:45:00Z"


SIZES = {
    "65536": 1 << 16,
    "64K": 1 << 16,
    "64KB": 1 << 16,
    "64KiB": 1 << 16,
    "64kib": 1 << 16,
    "16MiB": 1 << 24,
    "1g": 1 << 30,
    "2TB": 1 << 41,
    "9223372036854775807": (1 << 63) - 1,
}


@pytest.mark.parametrize(("raw", "length"), SIZES.items(), ids=SIZES)
def test_a_size_is_read_as_the_nats_cli_reads_it(raw, length):
    assert values.size(raw) == length


@pytest.mark.parametrize("raw", ["", "B", "KiB", "65535", "8388608T", "9223372036854775808", "64XB", "64 K", "1e9"])
def test_a_size_that_cannot_be_is_refused(raw):
    with pytest.raises(ValueError, match="must be "):
        values.size(raw)


def test_a_size_is_written_in_whole_units():
    assert [values.format_size(size) for size in (1 << 24, 1 << 16, 1000, 3 << 30, 0)] == [
        "16MiB",
        "64KiB",
        "1000",
        "3GiB",
        "0",
    ]
