"""`setup` in an account with limits: `--max-bytes`, what a dry run finds, and what to do about a refusal."""

import json
import re
from contextlib import contextmanager

import pytest
from support.processes import execute, is_one_clean_line
from support.shell import ROOT
from support.streams import add_stream, put, stored

from crypto_trigger.commands.server import Server

MEBIBYTE = 1 << 20
LIMITS = """
accounts {{
  A {{ jetstream: {{ {limits} }}, users: [
    {{ user: all, password: all }}
    {{ user: some, password: pw, permissions: {{ publish: {{ deny: [{denied}] }} }} }}
  ] }}
}}
"""


@contextmanager
def account(folder, limits, denied=""):
    """A server whose account has these limits; yields the URL for a user who may do all, and for one who may not."""
    config = folder / "server.conf"
    config.write_text(LIMITS.format(limits=limits, denied=denied))
    with Server(arguments=("-c", str(config))) as server:
        yield tuple(server.url.replace("://", f"://{user}@") for user in ("all:all", "some:pw"))


REQUIRED = "max_bytes_required: true"
GIVE = "give it one with: crypto-trigger setup --max-bytes 1MiB"


@pytest.mark.parametrize("flags", [(), ("--dry-run",)], ids=["setup", "dry run"])
def test_an_account_that_demands_max_bytes_gets_it_by_the_command_of_the_line(flags, place, tmp_path):
    with account(tmp_path, REQUIRED) as (url, _):
        refused = execute("setup", *flags, NATS_URL=url)
        assert stored(url, place.stream) is None
        assert (refused.status, refused.out) == (78, "")
        assert is_one_clean_line(refused.err)
        assert GIVE in refused.err
        assert "max" in refused.err.partition(";")[0]
        command = refused.err.strip().partition("crypto-trigger setup ")[2].split()
        dry = execute("setup", *command, "--dry-run", NATS_URL=url)
        assert stored(url, place.stream) is None
        created = execute("setup", *command, NATS_URL=url)
        assert execute("publish", NATS_URL=url).status == 0
        assert len(stored(url, place.stream)) == 1
        again = execute("setup", *command, NATS_URL=url)
    assert [ended.status for ended in (dry, created, again)] == [0, 0, 0]
    assert "max_bytes 1MiB" in dry.out
    assert "max_bytes 1MiB" in created.out
    assert "left to its owner" not in again.out


def test_the_page_about_setup_shows_what_it_says(place, tmp_path):
    page = (ROOT / "docs" / "setup.md").read_text(encoding="utf-8")
    (written,) = (block for block in re.findall(r"```console\n(.*?)```", page, re.DOTALL) if "max_bytes" in block)
    with account(tmp_path, REQUIRED) as (url, _):
        refused = execute("setup", "--dry-run", NATS_URL=url)
        assert stored(url, place.stream) is None
        host = url.rpartition("@")[2]
    said = refused.err.replace(host, "localhost:4222")
    assert written == f"$ crypto-trigger setup --dry-run; echo $?\n{said}{refused.status}\n"


def test_the_bytes_that_the_line_asks_for_hold_all_triggers(place, tmp_path):
    with account(tmp_path, REQUIRED) as (url, _):
        refused = execute("setup", "--dry-run", "--every", "1m", "--give-up-after", "5s", NATS_URL=url)
        assert stored(url, place.stream) is None
    # 7 days of a trigger a minute, each with about 500 bytes.
    assert "--max-bytes 10MiB" in refused.err


OVER = {
    "more than a stream may have": (
        f"disk_max_stream_bytes: {MEBIBYTE}",
        "the account allows a stream 1MiB, not 5MiB (max_bytes); ask for less with --max-bytes",
    ),
    "more than the account has": (
        f"max_file: {3 * MEBIBYTE}",
        "the account has 3MiB of storage, too little for 5MiB; ask for less with --max-bytes",
    ),
}


@pytest.mark.parametrize(("limits", "says"), OVER.values(), ids=OVER)
def test_a_dry_run_says_what_the_account_would_refuse(limits, says, place, tmp_path):
    with account(tmp_path, limits) as (url, _):
        dry, real = (execute("setup", "--max-bytes", "5MiB", *flags, NATS_URL=url) for flags in (("--dry-run",), ()))
        assert stored(url, place.stream) is None
        fits = execute("setup", "--max-bytes", "1MiB", "--dry-run", NATS_URL=url)
    assert (dry.status, real.status, fits.status) == (78, 78, 0)
    assert says in dry.err
    assert "ask for less with --max-bytes" in real.err
    assert is_one_clean_line(dry.err)
    assert is_one_clean_line(real.err)


def test_a_dry_run_says_that_the_account_has_all_its_streams(place, tmp_path):
    with account(tmp_path, "max_streams: 1") as (url, _):
        add_stream(url, "OTHER", ["other"])
        dry, real = (execute("setup", *flags, NATS_URL=url) for flags in (("--dry-run",), ()))
        assert stored(url, place.stream) is None
    assert (dry.status, real.status) == (78, 78)
    assert "the account has all the streams that it may have, 1; remove one, or store the triggers in" in dry.err
    assert "remove one, or store the triggers in an existing one: --stream NAME" in real.err


def test_what_other_streams_have_reserved_counts(place, tmp_path):
    with account(tmp_path, f"max_file: {3 * MEBIBYTE}") as (url, _):
        add_stream(url, "OTHER", ["other"], max_bytes=2 * MEBIBYTE)
        dry, real = (execute("setup", "--max-bytes", "2M", *flags, NATS_URL=url) for flags in (("--dry-run",), ()))
        assert stored(url, place.stream) is None
    assert (dry.status, real.status) == (78, 78)
    assert "the account has 3MiB of storage, 2MiB of it reserved, too little for 2MiB" in dry.err


def test_without_permission_to_ask_for_the_limits_a_dry_run_goes_on(place, tmp_path):
    with account(tmp_path, REQUIRED, '"$JS.API.INFO"') as (url, some):
        dry = execute("setup", "--dry-run", NATS_URL=some)
        refused = execute("setup", NATS_URL=some)
        assert stored(url, place.stream) is None
    assert (dry.status, dry.err) == (0, "")
    assert refused.status == 78
    assert GIVE in refused.err


def test_replicas_are_in_the_command_of_the_line(place, tmp_path):
    with account(tmp_path, REQUIRED) as (url, _):
        refused = execute("setup", "--replicas", "1", "--dry-run", NATS_URL=url)
        assert stored(url, place.stream) is None
    assert "crypto-trigger setup --max-bytes 1MiB --replicas 1" in refused.err


def test_an_existing_stream_keeps_its_limit_and_its_messages(run, place):
    add_stream(place.url, place.stream, [place.subject], duplicate_window=120, max_bytes=10 * MEBIBYTE)
    put(place.url, place.subject, b"x" * 100_000)
    ended = run("setup", "--update", "--max-bytes", "64KiB", "--json")
    assert len(stored(place.url, place.stream)) == 1
    answer = json.loads(ended.out)
    assert [change["name"] for change in answer["differences"]] == ["duplicate_window"]
    assert {"name": "max_bytes", "found": "10MiB", "created": "64KiB"} in answer["notes"]


@pytest.mark.parametrize("size", ["", "0", "-1", "63KiB", "many", "1.5MiB", "16 MiB", "9EiB", "1" * 30, "\u0661MiB"])
def test_a_size_that_cannot_be_is_a_wrong_command_line(size, run, place):
    ended = run("setup", "--max-bytes", size)
    assert stored(place.url, place.stream) is None
    assert (ended.status, ended.out) == (2, "")
    assert "--max-bytes" in ended.err
