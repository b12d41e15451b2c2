"""JSON that programs read: valid in any encoding, its keys and numbers as they are, whatever the password."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from support.processes import PROGRAM
from support.programs import program

from crypto_trigger.commands.server import Server


def read(raw):
    """What Python and jq read from one JSON object on one line."""
    assert raw.count(b"\n") == 1
    done = subprocess.run([program("jq"), "-c", "."], input=raw, capture_output=True, timeout=30, check=True)
    found = json.loads(raw)
    assert json.loads(done.stdout) == found
    return found


def said(*argv, **environ):
    """Run the program; its status and the bytes on its stdout."""
    done = subprocess.run(
        [*PROGRAM, *argv], env={**os.environ, **environ}, capture_output=True, timeout=30, check=False
    )
    return done.returncode, done.stdout


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "koi8-r", "utf-8"])
@pytest.mark.parametrize("name", ["é", "日本", "😀", "ж"])
def test_json_is_valid_whatever_the_encoding_lacks(name, encoding):
    status, out = said("publish", "--dry-run", "--json", "--subject", f"crypto.{name}", PYTHONIOENCODING=encoding)
    assert status == 0
    assert json.loads(out.decode(encoding))["subject"] == f"crypto.{name}"
    if out.isascii() or encoding == "utf-8":
        assert read(out)["subject"] == f"crypto.{name}"


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_bytes_that_are_no_text_are_valid_json(encoding):
    argv = [*PROGRAM, "publish", "--json", "--every", b"\xff\x80"]
    done = subprocess.run(
        argv, env={**os.environ, "PYTHONIOENCODING": encoding}, capture_output=True, timeout=30, check=False
    )
    assert done.returncode == 78
    assert json.loads(done.stdout)["error"]["kind"] == "config"


WORDS = ["status", "outcome", "subject", "stream", "published", "jetstream", "version", "elapsed_ms"]


@pytest.mark.parametrize("password", WORDS)
def test_a_password_that_is_a_word_of_ours_masks_no_key_and_no_kind(password, run, monkeypatch):
    with Server(arguments=["--user", "worker", "--pass", password]) as server:
        monkeypatch.setenv("NATS_USER", "worker")
        monkeypatch.setenv("NATS_PASSWORD", password)
        monkeypatch.setenv("NATS_URL", server.url)
        assert run("setup").status == 0
        result = run("publish", "--json", "--report-file", "report.json")
        report = read(result.out.encode())
        assert read(Path("report.json").read_bytes()) == report
    assert (result.status, report["status"], report["outcome"]) == (0, 0, "published")
    assert {"delivery", "subject", "stream", "version", "elapsed_ms"} <= set(report)
    assert report["delivery"] == "jetstream"


def test_a_password_of_digits_masks_no_number(run, monkeypatch):
    monkeypatch.setenv("NATS_USER", "worker")
    monkeypatch.setenv("NATS_PASSWORD", "100000")
    with Server(arguments=["--user", "worker", "--pass", "100000"]) as server:
        monkeypatch.setenv("NATS_URL", server.url)
        assert run("setup").status == 0
        report = json.loads(run("publish", "--json", "--scheduled-at", "2026-11-23T12:00:00Z").out)
    assert (report["status"], report["seq"]) == (0, 1)


@pytest.mark.usefixtures("place")
def test_config_in_json_masks_the_value_and_not_the_keys(run, monkeypatch):
    monkeypatch.setenv("NATS_USER", "worker")
    monkeypatch.setenv("NATS_PASSWORD", "settings")
    found = read(run("config", "--json").out.encode())
    rows = {row["name"]: row for row in found["settings"]}
    assert rows["NATS_PASSWORD"]["value"] == "***"
    assert set(rows["NATS_PASSWORD"]) == {"name", "value", "origin", "meaning"}
    assert "NATS_URL" in rows
