"""What `history` shows of slots that are planted on a real server: missed, late, early, surplus, claimed."""

import json
import re
from datetime import timedelta
from xml.etree import ElementTree as ET

import pytest
from support.clocks import roomy
from support.planted import Past, trigger
from support.processes import is_one_clean_line
from support.streams import add_stream, put, stored
from support.terminals import Terminal

SECOND = timedelta(seconds=1)
FAST = "//fast/worker-server"


@pytest.fixture
def story(field):
    """Twelve slots with one of everything."""
    regular = [trigger(field.slot(back), 0.4 * SECOND) for back in (13, 12, 11, 10, 1, 0)]
    field.plant(
        [
            *regular,
            # 9 is missed
            trigger(field.slot(8), 0.6 * field.every),
            trigger(field.slot(7), -0.5 * SECOND),
            trigger(field.slot(6), 2 * SECOND),
            Past(field.slot(6) + 3 * SECOND, {"ce-source": "//other"}),
            Past(field.slot(6) + 4 * SECOND, {}),
            # Stored in slot 5, and claims to be for slot 3, which is missed, as 4 is and 2.
            trigger(field.slot(3), -2 * field.every + SECOND, source=FAST),
        ]
    )
    return field


def states(answer):
    return [slot["state"] for slot in answer["slots"]]


def test_every_slot_is_told_with_what_was_stored_for_it(story, run):
    ended = run("history", "--json", "--since", f"{12 * story.slots.every}s")
    assert (ended.status, ended.err) == (0, "")
    answer = json.loads(ended.out)
    assert [slot["start"] for slot in answer["slots"]] == [story.named(back) for back in range(11, -1, -1)]
    assert states(answer) == [
        *("triggered", "triggered", "missed", "late", "triggered", "triggered"),
        *("triggered", "missed", "missed", "missed", "triggered", "triggered"),
    ]
    slots = dict(zip(range(11, -1, -1), answer["slots"], strict=True))
    assert slots[9] == {"start": story.named(9), "state": "missed", "surplus": 0}
    assert slots[8]["lateness_seconds"] == pytest.approx(0.6 * story.slots.every)
    assert slots[7]["lateness_seconds"] == pytest.approx(-0.5)
    assert slots[6]["surplus"] == 2
    assert (slots[5]["claimed"], slots[5]["source"]) == (story.named(3), FAST)
    assert [slot for back, slot in slots.items() if "claimed" in slot and back != 5] == []
    assert slots[11] == {
        "start": story.named(11),
        "state": "triggered",
        "stored": story.named(11).replace("Z", ".400Z"),
        "lateness_seconds": 0.4,
        "seq": 3,
        "source": "//worker/worker-server",
        "surplus": 0,
    }
    totals = answer["totals"]
    counts = {"slots": 12, "triggered": 7, "late": 1, "missed": 4, "overdue": 0, "pending": 0, "surplus": 2}
    assert {key: totals[key] for key in counts} == counts
    assert totals["longest_gap_seconds"] == pytest.approx(4 * story.slots.every - 0.6)
    assert totals["lateness_p50_seconds"] == 0.4
    assert totals["lateness_max_seconds"] == totals["lateness_p99_seconds"] == slots[8]["lateness_seconds"]
    assert totals["sources"] == {"//worker/worker-server": 7, FAST: 1}


def test_a_pipe_gets_a_line_for_each_slot(story, run):
    ended = run("history", "--since", f"{12 * story.slots.every}s")
    assert (ended.status, ended.err) == (0, "")
    lines = [line.split() for line in ended.out.splitlines()]
    assert [line[0] for line in lines] == [story.named(back) for back in range(11, -1, -1)]
    assert lines[2] == [story.named(9), "missed"]
    assert lines[5][5:] == ["//worker/worker-server", "surplus", "2"]
    assert lines[6][5:] == [FAST, "claims", story.named(3)]
    assert lines[11] == [story.named(0), "triggered", "+0.400s", "sequence", "12", "//worker/worker-server"]


def test_slots_before_the_first_trigger_are_left_out(story, run):
    answer = json.loads(run("history", "--json", "--since", "7d").out)
    assert answer["slots"][0]["start"] == story.named(13)
    assert answer["totals"]["slots"] == 14


def test_a_day_is_looked_at_unless_told_otherwise(field, run):
    per_day = 86400 // field.slots.every
    field.plant([trigger(field.slot(back), SECOND) for back in (per_day + 5, 0)])
    totals = json.loads(run("history", "--json").out)["totals"]
    assert per_day <= totals["slots"] <= per_day + 1
    assert (totals["triggered"], totals["missed"]) == (1, totals["slots"] - 1)


def test_the_present_slot_is_pending_until_its_grace_is_over(field, run):
    field.plant([trigger(field.slot(1), SECOND)])
    for grace, state in ((f"{field.slots.every}s", "pending"), ("1s", "overdue")):
        answer = json.loads(run("history", "--json", "--grace", grace, "--since", "1h").out)
        assert states(answer) == ["triggered", state]


def test_a_trigger_is_late_beyond_the_grace_of_a_third_of_a_slot(field, run):
    third = field.every / 3
    field.plant([trigger(field.slot(2), third - SECOND), trigger(field.slot(1), third + SECOND)])
    assert states(json.loads(run("history", "--json").out))[:2] == ["triggered", "late"]
    assert states(json.loads(run("history", "--json", "--grace", "1s").out))[:2] == ["late", "late"]


def test_triggers_of_another_cadence_count_for_the_slots_they_fall_in(field, run, monkeypatch):
    """A publisher fires three times as often: what is too much is surplus, nothing is missed."""
    field.plant([trigger(field.slot(0) - n * field.every / 3, SECOND) for n in range(12, -1, -1)])
    answer = json.loads(run("history", "--json", "--since", "1h").out)
    assert set(states(answer)) == {"triggered"}
    assert answer["totals"]["surplus"] >= 2 * (answer["totals"]["slots"] - 2)
    monkeypatch.setenv("CRYPTO_TRIGGER_EVERY", f"{field.slots.every * 60}s")
    answer = json.loads(run("history", "--json", "--since", "1s").out)
    assert answer["totals"]["slots"] == 1


def test_what_publish_stores_is_told(field, run):
    add_stream(field.url, field.stream, [field.subject], duplicate_window=1800)
    assert run("publish").status == 0
    (message,) = stored(field.url, field.stream)
    answer = json.loads(run("history", "--json").out)
    assert [(slot["start"], slot["seq"], slot["source"]) for slot in answer["slots"]] == [
        (message.headers["ce-time"], message.seq, message.headers["ce-source"])
    ]


def test_a_stream_without_triggers_has_the_present_slot_alone(place, run, monkeypatch):
    slots = roomy()
    monkeypatch.setenv("CRYPTO_TRIGGER_EVERY", f"{slots.every}s")
    add_stream(place.url, place.stream, [f"{place.stream}.>"])
    put(place.url, f"{place.stream}.other", b"", {"ce-time": "2026-01-01T00:00:00Z"})
    answer = json.loads(run("history", "--json").out)
    assert [slot["start"] for slot in answer["slots"]] == [slots.now()]
    assert answer["totals"]["sources"] == {}
    assert "lateness_p50_seconds" not in answer["totals"]


def test_quiet_prints_nothing_and_verbose_only_on_stderr(field, run):
    field.plant([trigger(field.slot(0), SECOND)])
    assert run("history", "-q") == (0, "", "")
    ended = run("history", "-v")
    assert field.url.removeprefix("nats://") in ended.err
    assert ended.out == run("history").out


# On a terminal.


def on_terminal(run, columns, *argv, encoding="utf-8", **environ):
    with Terminal(columns, encoding, **environ) as terminal:
        ended = run("history", *argv)
    assert (ended.status, ended.err) == (0, "")
    return terminal


@pytest.mark.parametrize("columns", [20, 40, 80, 200])
def test_a_terminal_gets_a_picture_that_fits(columns, story, run):
    terminal = on_terminal(run, columns, "--since", f"{12 * story.slots.every}s")
    assert max(map(len, terminal.lines)) <= columns
    marks = "".join(letter for line in terminal.lines for letter in line if letter in "■▲×")
    # Each slot, and each state in the legend.
    assert sorted(marks) == sorted("■" * 8 + "▲" * 2 + "×" * 5)
    words = " ".join(" ".join(terminal.lines).split())
    assert "of 12 slots" in words
    assert "(2 more)" in words
    assert FAST in words.replace(" ", "")


def test_a_week_has_a_row_for_each_half_day(field, run, monkeypatch):
    monkeypatch.setenv("CRYPTO_TRIGGER_EVERY", "15m")
    field.plant([trigger(field.slot(0) - timedelta(days=8), SECOND), trigger(field.slot(0), SECOND)])
    lines = on_terminal(run, 80, "--since", "7d").lines
    rows = [line for line in lines if re.match(r"(... \d\d ...|          ) (00|12):00  ", line)]
    assert len(rows) in (14, 15)
    assert sum(line.count(letter) for line in rows for letter in "■▲×·!") == 7 * 96


@pytest.mark.usefixtures("story")
def test_states_have_colors_unless_no_color_is_set(run):
    colored = on_terminal(run, 80).seen
    plain = on_terminal(run, 80, NO_COLOR="1").seen
    for color, letter in ((32, "■"), (33, "▲"), (31, "×")):
        assert re.search(rf"\x1b\[(1;)?{color}m[ ■▲×]*{letter}", colored)
    assert not re.search(r"\x1b\[[0-9;]*[34][0-9]", plain)
    assert re.sub(r"\x1b\[[0-9;]*m", "", colored) == re.sub(r"\x1b\[[0-9;]*m", "", plain)


def test_a_terminal_without_the_marks_gets_others(story, run):
    lines = on_terminal(run, 80, "--since", f"{12 * story.slots.every}s", encoding="ascii").lines
    assert "# 7 triggered   L 1 late   x 4 missed   of 12 slots" in lines


@pytest.mark.usefixtures("story")
@pytest.mark.parametrize("term", ["dumb", "DUMB"])
def test_a_dumb_terminal_gets_what_a_pipe_gets(term, run):
    terminal = on_terminal(run, 80, TERM=term)
    assert "\x1b" not in terminal.seen
    assert terminal.seen == run("history").out


@pytest.mark.usefixtures("story")
def test_a_terminal_that_asks_for_json_gets_json(run):
    assert json.loads(on_terminal(run, 80, "--json").seen)["totals"]["slots"] == 14


def test_what_others_write_into_headers_cannot_control_the_terminal(field, run):
    evil = "//h/\x1b[2J\x07\u202e\u4e2d" + "x" * 500
    field.plant([trigger(field.slot(1), SECOND, source=evil), trigger(field.slot(0), SECOND, source="")])
    terminal = on_terminal(run, 40)
    assert max(map(len, terminal.lines)) <= 40
    assert "[2J" not in terminal.seen.replace("\\x1b[2J", "")
    assert "\x07" not in terminal.seen
    assert run("history").out.replace("\n", "").isprintable()
    answer = json.loads(run("history", "--json").out)
    assert answer["slots"][0]["source"] == evil


# The SVG.


def texts(path):
    """The lines of an SVG picture: the texts at the same height, from left to right."""
    rows = {}
    for text in ET.fromstring(path.read_text()).iter("{http://www.w3.org/2000/svg}text"):
        rows.setdefault(text.get("y"), []).append((float(text.get("x")), text.text))
    return ["".join(part for _, part in sorted(row)).replace("\xa0", " ") for row in rows.values()]


def test_the_picture_is_written_as_svg(story, run, tmp_path):
    path = tmp_path / "history.svg"
    ended = run("history", "--since", f"{12 * story.slots.every}s", "--svg", path)
    assert (ended.status, ended.err) == (0, "")
    assert len(ended.out.splitlines()) == 12
    lines = texts(path)
    assert any(re.search(r"■ 7 triggered +▲ 1 late +× 4 missed +of 12 slots", line) for line in lines)
    marks = "".join(letter for line in lines for letter in line if letter in "■▲×")
    assert sorted(marks) == sorted("■" * 8 + "▲" * 2 + "×" * 5)
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_picture_replaces_what_the_file_held(field, run, tmp_path):
    field.plant([trigger(field.slot(0), SECOND)])
    path = tmp_path / "history.svg"
    path.write_text("x" * 10**6)
    assert run("history", "-q", "--svg", path) == (0, "", "")
    assert path.read_text().rstrip().endswith("</svg>")
    assert set(re.findall(r"[a-z]+://[^\"')\s]+", path.read_text())) == {
        "http://www.w3.org/2000/svg",  # the name of the format
        "https://www.textualize.io",  # rich, in a comment
    }
    assert list(tmp_path.glob("*history.svg*")) == [path]


@pytest.mark.parametrize("name", ["missing/history.svg", "", ".", "a\0b"])
def test_a_picture_that_cannot_be_written_is_78(name, field, run, tmp_path):
    field.plant([trigger(field.slot(0), SECOND)])
    ended = run("history", "--svg", f"{tmp_path}/{name}" if name else "")
    assert (ended.status, ended.out) == (78, "")
    assert is_one_clean_line(ended.err)
    assert "--svg" in ended.err


# What is no history.


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("--since", "soon"), "is not a duration"),
        (("--since", "-1h"), "is not a duration"),
        (("--since", "0s"), "must be more than 0s"),
        (("--since", "8760h", "--every", "1s", "--give-up-after", "500ms"), "more than 100000 slots"),
        (("--grace", "1d"), "longer than a slot"),
        (("--grace", "x\x1b[2J"), "is not a duration"),
        (("--format", "json"), "No such option"),
    ],
)
def test_a_wrong_command_line_is_2(argv, said, run, monkeypatch):
    monkeypatch.setenv("CRYPTO_TRIGGER_EARLY", "0s")
    ended = run("history", *argv)
    assert (ended.status, ended.out) == (2, "")
    assert said in ended.err
    assert ended.err.replace("\n", "").isprintable()


@pytest.mark.parametrize("delivery", ["core", "streaming"])
def test_deliveries_that_store_nothing_to_be_read_are_78(delivery, run):
    ended = run("history", "--delivery", delivery, "--server", "nats://127.0.0.1:1")
    assert (ended.status, ended.out) == (78, "")
    assert is_one_clean_line(ended.err)
    assert "CRYPTO_TRIGGER_DELIVERY=jetstream" in ended.err


@pytest.mark.parametrize("retention", ["workqueue", "interest"])
def test_a_stream_whose_messages_go_when_they_are_consumed_is_78(retention, place, run):
    add_stream(place.url, place.stream, [place.subject], retention=retention)
    ended = run("history")
    assert (ended.status, ended.out) == (78, "")
    assert is_one_clean_line(ended.err)
    assert retention in ended.err
    assert "cannot be known" in ended.err


def test_no_stream_is_78_with_the_command_that_creates_it(place, run):
    ended = run("history", "--json")
    assert ended.status == 78
    assert json.loads(ended.out)["error"]["hint"].startswith("create it with: crypto-trigger setup")
    assert place.stream in ended.err


def test_no_server_is_69(run):
    ended = run("history", "--server", "nats://127.0.0.1:1", "--give-up-after", "300ms")
    assert (ended.status, ended.out) == (69, "")
    assert is_one_clean_line(ended.err)


def test_the_help_says_the_defaults(run):
    words = " ".join(run("history", "--help").out.split())
    assert "--since DURATION How far back to look. [default: 24h]" in words
    assert "[default: a third of a slot]" in words
