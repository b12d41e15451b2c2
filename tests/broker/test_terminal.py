"""What a terminal shows: whole words, whole errors, at any width."""

import os
import re

import pytest
from support.terminals import on_terminal

from crypto_trigger.settings.load import SETTINGS

CONTROLS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
# Longer than any of the terminals, and every word of it shorter.
CAUSE = "nats://127.0.0.1:1: connection refused"
HINT = "is the server running?"


@pytest.mark.parametrize("columns", [40, 80])
def test_an_error_that_is_longer_than_the_terminal_is_not_broken_by_us(columns):
    status, seen, _ = on_terminal(
        columns, "stderr", "publish", "--server", "nats://127.0.0.1:1", CRYPTO_TRIGGER_GIVE_UP_AFTER="700ms"
    )
    assert status == 69
    (error,) = [CONTROLS.sub("", part) for part in re.split(r"[\r\n]+", seen) if "crypto-trigger: " in part]
    assert len(error) > columns
    assert error.startswith(f"crypto-trigger: {CAUSE} (")
    assert HINT in error
    assert error.endswith("was not stored")


@pytest.mark.parametrize("columns", [30, 40, 80])
def test_the_moving_line_is_cut_to_the_terminal_at_a_word(columns):
    _, seen, _ = on_terminal(
        columns, "stderr", "publish", "--server", "nats://127.0.0.1:1", CRYPTO_TRIGGER_GIVE_UP_AFTER="700ms"
    )
    frames = {CONTROLS.sub("", part).strip() for part in re.split(r"[\r\n]+", seen) if "attempt" in part}
    frames = {frame for frame in frames if not frame.startswith("crypto-trigger")}
    assert frames
    whole = f"attempt 1 failed: {CAUSE}; next in 0.1s, giving up in 1s"
    for frame in frames:
        glyph, said = frame.split(" ", 1)
        assert len(frame) <= columns
        words, dots = said.removesuffix(" ...").split(), said.endswith(" ...")
        assert dots or len(said) >= len(whole) - 1
        # Every word but those with a number in it is one of the whole line's.
        assert {word for word in words if not re.search(r"\d", word)} <= set(whole.split())
        assert glyph not in words


@pytest.mark.parametrize("columns", [40, 80])
def test_config_fits_the_terminal_and_breaks_at_words_alone(columns, run):
    status, seen, _ = on_terminal(columns, "stdout", "config")
    assert status == 0
    lines = seen.replace("\r\n", "\n").splitlines()
    assert max(map(len, lines)) <= columns
    assert " ".join(seen.split()) == " ".join(run("config").out.split())
    # A setting begins its line, and nothing else does.
    assert [line.split()[0] for line in lines if not line.startswith(" ")] == [row.variable for row in SETTINGS]


def test_a_value_that_is_longer_than_the_terminal_is_left_whole_to_be_copied():
    url = "nats://a-host-with-a-long-name.in-a-long-domain.example.com:4222"
    _, seen, _ = on_terminal(40, "stdout", "config", NATS_URL=url)
    assert url in seen


def test_config_in_a_pipe_has_name_value_and_origin_of_a_setting_on_one_line(run, monkeypatch):
    monkeypatch.setenv("NATS_URL", "nats://h:1," * 6 + "nats://h:1")
    lines = run("config").out.splitlines()
    assert len(lines) == 2 * len(SETTINGS)
    assert lines[0] == f"NATS_URL = {os.environ['NATS_URL']}  (the environment)"
    assert f"    {SETTINGS[0].meaning}" == lines[1]
