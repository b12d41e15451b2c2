"""Files that settings name: read in bounded time, whatever they are."""

import os
import threading
import time
from pathlib import Path

import pytest

from crypto_trigger.deadline.files import read_text
from crypto_trigger.errors import ConfigError
from crypto_trigger.settings.load import load


@pytest.fixture
def pipe():
    os.mkfifo("pipe")
    return "pipe"


def test_a_pipe_is_read_to_its_end_however_late_it_is_written(pipe):
    def write():
        with Path(pipe).open("w") as end:
            for part in ("se", "cr", "et"):
                end.write(part)
                end.flush()

    writer = threading.Timer(0.03, write)
    writer.start()
    assert read_text(pipe, time.monotonic() + 5) == "secret"
    writer.join()


def test_a_pipe_that_nobody_writes_to_does_not_hold_the_run(pipe):
    began = time.monotonic()
    with pytest.raises(ValueError, match="not written and closed"):
        read_text(pipe, began + 0.03)
    assert time.monotonic() - began < 5


def test_a_pipe_that_is_never_closed_does_not_hold_the_run(pipe):
    with Path(pipe).open("r+b", buffering=0) as end:
        end.write(b"half")
        with pytest.raises(ValueError, match="not written and closed"):
            read_text(pipe, time.monotonic() + 0.03)


def test_a_file_without_end_is_refused():
    with pytest.raises(ValueError, match="more than 64 KiB"):
        read_text("/dev/zero", time.monotonic() + 5)


def test_a_mounted_secret_may_come_from_a_pipe(pipe):
    writer = threading.Thread(target=lambda: Path(pipe).write_text("hunter22\n"))
    writer.start()
    settings = load({}, None, {"NATS_USER": "worker", "NATS_PASSWORD_FILE": pipe})
    writer.join()
    assert settings.password == "hunter22"


def test_a_certificate_from_a_pipe_is_refused(pipe):
    with pytest.raises(ConfigError, match=r"NATS_CA 'pipe' \(from the environment\) is a pipe"):
        load({}, None, {"NATS_CA": pipe})
