"""Writing for a limited time: what is written, in which order, and what happens where nobody reads."""

import errno
import fcntl
import os
import pty
import threading
import time
from contextlib import suppress
from io import StringIO
from pathlib import Path

import pytest

from crypto_trigger.deadline import signals, streams
from crypto_trigger.deadline.streams import Writer, send

LONG = 30.0


@pytest.fixture
def pipe():
    """A small pipe: the end to read, and a text stream over the end to write."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    with open(writing, "w", encoding="ascii") as stream:  # noqa: PTH123 - a descriptor
        yield reading, stream
        with suppress(OSError):
            os.close(reading)


def read(descriptor, count):
    seen = b""
    while len(seen) < count:
        seen += os.read(descriptor, count - len(seen))
    return seen.decode()


def test_a_text_longer_than_the_pipe_is_written_whole_to_a_reader(pipe):
    reading, stream = pipe
    text = "0123456789" * 10_000
    seen = []
    reader = threading.Thread(target=lambda: seen.append(read(reading, len(text))))
    reader.start()
    Writer(stream).write(text, LONG)
    reader.join()
    assert seen == [text]


def test_what_was_not_read_in_time_still_comes_first(pipe):
    reading, stream = pipe
    writer = Writer(stream)
    first = "a" * 5000
    with pytest.raises(TimeoutError):
        writer.write(first, 0.0)
    assert writer.is_busy
    # Dropped: there is no room for it in time.
    with pytest.raises(TimeoutError):
        writer.write("b" * 10, 0.0)
    assert read(reading, 5000) == first
    writer.write("c" * 10, LONG)
    assert read(reading, 10) == "c" * 10
    assert not writer.is_busy


def test_an_abandoned_stream_takes_everything_at_once(pipe):
    _, stream = pipe
    writer = Writer(stream)
    with pytest.raises(TimeoutError):
        writer.write("a" * 5000, 0.0)
    writer.abandon()
    writer.write("b" * 5000, 0.0)
    assert Path(f"/proc/self/fd/{stream.fileno()}").readlink() == Path(os.devnull)


def test_a_terminal_that_does_not_tell_its_width_has_eighty_columns(monkeypatch):
    def refuse(_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    ours, theirs = pty.openpty()
    with open(theirs, "w", encoding="ascii") as terminal:  # noqa: PTH123 - a descriptor
        assert os.get_terminal_size(theirs).columns == 0
        assert Writer(terminal).width == 80
        # It is gone between two looks at it.
        monkeypatch.setattr(os, "get_terminal_size", refuse)
        assert Writer(terminal).width == 80
    os.close(ours)


def test_a_signal_ends_the_wait(pipe, monkeypatch):
    _, stream = pipe
    monkeypatch.setattr(signals, "_came", True)
    monkeypatch.setattr(streams, "LEAST", 0.05)
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        Writer(stream).write("a" * 5000, LONG)
    assert streams.LEAST <= time.monotonic() - began < LONG / 2


def test_a_reader_that_has_gone_is_an_error_of_its_own(pipe):
    reading, stream = pipe
    os.close(reading)
    with pytest.raises(BrokenPipeError):
        Writer(stream).write("a", LONG)
    with pytest.raises(BrokenPipeError):
        send(stream.fileno(), b"a", LONG)


def test_where_no_thread_is_to_be_had_the_text_is_written_all_the_same(pipe, monkeypatch):
    def refuse(_):
        raise RuntimeError("can't start new thread")

    reading, stream = pipe
    monkeypatch.setattr(threading.Thread, "start", refuse)
    Writer(stream).write("abc", LONG)
    assert read(reading, 3) == "abc"


def test_a_character_that_the_encoding_lacks_is_escaped(pipe):
    reading, stream = pipe
    writer = Writer(stream)
    writer.write("é", LONG)
    assert read(reading, 4) == r"\xe9"
    assert writer.takes("e")
    assert not writer.takes("é")


def test_a_stream_without_a_descriptor_is_written_to_as_it_is():
    stream = StringIO()
    writer = Writer(stream)
    writer.write("é\udcff", LONG)
    writer.write("b", LONG)
    assert stream.getvalue() == "é\\udcffb"
    assert not writer.is_terminal
    writer.abandon()
    writer.write("c", LONG)
    assert stream.getvalue() == "é\\udcffb"


def test_no_stream_takes_everything():
    Writer(None).write("a", LONG)
