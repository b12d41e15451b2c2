"""Whatever a server says, at whatever moment: the run ends in time, prints no control characters, claims nothing."""

import time

from hypothesis import example, given, settings
from hypothesis import strategies as st
from support import examples  # noqa: F401 - how they draw
from support.scripted import Scripted, info

DEADLINE = 0.4
# What a busy machine may add.
BUSY = 2.0
SCHEDULED = "2026-11-23T12:00:00Z"
ESCAPES = b"\x1b[2J\x1b]0;owned\x07\x9b31m\r\x08\x00"

JUNK = st.one_of(
    st.binary(max_size=200),
    st.text(max_size=100).map(str.encode),
    st.sampled_from([ESCAPES, b"", b"'", b"{}", b"[]", b"\r\n", b"9" * 30, b"\xff\xfe", "\u202e\u2028".encode()]),
)
SAYINGS = st.builds(
    lambda verb, junk, times, end: verb + junk * times + end,
    st.sampled_from([b"", b"INFO ", b"INFO {", b"-ERR '", b"-ERR ", b"+OK", b"PONG\r\n", b"MSG a 1 ", b"HMSG x 1 5 "]),
    JUNK,
    st.sampled_from([1, 1, 1, 20_000]),
    st.sampled_from([b"", b"\r\n", b"'\r\n", b"}\r\n", b"\n"]),
)


def greet(talk, saying):
    talk.say(saying)


def answer_connect(talk, saying):
    talk.say(info())
    talk.hear(b"PING\r\n")
    talk.say(saying)


def answer_reading(talk, saying):
    talk.welcome()
    talk.asked()
    talk.say(saying)


def reply_to_reading(talk, saying):
    talk.welcome()
    talk.answer(talk.asked()[1], saying)


def acknowledge(talk, saying):
    talk.welcome()
    talk.empty_stream()
    talk.asked()
    talk.say(saying)


def reply_to_trigger(talk, saying):
    talk.welcome()
    talk.empty_stream()
    talk.answer(talk.asked()[1], saying)


BEFORE_SENDING = (greet, answer_connect, answer_reading, reply_to_reading)
AFTER_SENDING = (acknowledge, reply_to_trigger)


def publish_at(run, moment, saying, *, stay):
    """Publish to a server that says this at that moment; returns the result and the seconds it took."""

    def script(talk):
        moment(talk, saying)
        if stay:
            talk.listen()

    with Scripted(script) as server:
        began = time.monotonic()
        result = run(
            "publish", "-s", server.url, "--scheduled-at", SCHEDULED, "--timeout", "100ms", "--give-up-after", "400ms"
        )
        return result, time.monotonic() - began


# `run` forgets what was printed before, and nothing else is shared between examples.
@settings(derandomize=True, max_examples=80)
@example(moment=greet, saying=b"INFO " + ESCAPES + b"\r\n", stay=True)
@example(moment=answer_connect, saying=b"-ERR '" + ESCAPES + b"'\r\n", stay=True)
@example(moment=answer_connect, saying=b"-ERR '" + b"x" * 1_000_000, stay=True)
@example(moment=answer_reading, saying=b"-ERR '" + ESCAPES + b"'\r\n", stay=False)
@example(moment=acknowledge, saying=b"-ERR '" + ESCAPES + b"'\r\n", stay=False)
@example(moment=acknowledge, saying=b"-ERR '" + b"x" * 1_000_000 + b"'\r\n", stay=True)
@example(moment=reply_to_trigger, saying=b'{"error":{"code":400,"description":"\\u001b[2J\\u0007"}}', stay=True)
@given(moment=st.sampled_from(BEFORE_SENDING + AFTER_SENDING), saying=SAYINGS, stay=st.booleans())
def test_no_server_makes_a_run_hang_or_claim_or_print_control_characters(run, moment, saying, stay):
    result, seconds = publish_at(run, moment, saying, stay=stay)
    # Nothing was sent: no doubt is left. It was sent, and nothing that was said is an acknowledgement.
    allowed = (69, 76, 77, 78) if moment in BEFORE_SENDING else (65, 69, 75, 76, 77, 78)
    assert result.status in allowed
    assert seconds < DEADLINE + 1 + BUSY
    assert all(letter.isprintable() or letter == "\n" for letter in result.out + result.err)
    assert result.err.count("\n") == 1
    assert len(result.err) < 2000
