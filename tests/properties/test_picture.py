"""The picture of a history is never wider than the terminal, and has a mark for every slot."""

from hypothesis import given, settings
from hypothesis import strategies as st
from support.histories import ago, history, texts

from crypto_trigger.monitoring.coverage import State
from crypto_trigger.monitoring.picture import MARKS, picture

QUICK = settings(max_examples=30)


@QUICK
@given(
    width=st.integers(1, 200),
    every=st.sampled_from([1, 60, 420, 900, 3600, 86400]),
    ages=st.lists(st.integers(0, 200_000), max_size=30),
    source=st.text(max_size=100),
    ascii_only=st.booleans(),
)
def test_no_line_is_wider_than_the_terminal(width, every, ages, source, ascii_only):
    messages = [ago(n, age, source=source, claimed="2030-01-01T00:00:00Z") for n, age in enumerate(ages, 1)]
    found = history(messages, every, since=min(200 * every, 200_000))
    lines = texts(found, width, ascii_only=ascii_only)
    assert max(map(len, lines)) <= width
    assert all(text.isprintable() for text in lines)
    if ascii_only:
        assert all(map(str.isascii, lines))
    drawn = "".join(part.text for line in picture(found, width) for part in line if part.style in set(State))
    assert sum(letter in MARKS for letter in drawn) >= len(found.entries)
