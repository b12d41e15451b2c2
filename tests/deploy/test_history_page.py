"""What docs/history.md says and shows, held against the program; and its picture, against the command that makes it."""

import os
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree as ET

from support.clocks import roomy
from support.planted import planting, trigger
from support.shell import ROOT, console

from crypto_trigger.commands.history import history_data
from crypto_trigger.monitoring.coverage import Cadence, State
from crypto_trigger.monitoring.history import History
from crypto_trigger.monitoring.picture import mark
from crypto_trigger.slots.trigger import Stored

PAGE = (ROOT / "docs" / "history.md").read_text()
SECOND = timedelta(seconds=1)
CRON, LAPTOP = "//cron-1/worker-server", "//laptop/worker-server"


def rows(after):
    """The rows of the first table after a text, as cells without their quotes."""
    table = re.search(r"(?:^\|.*\n)+", PAGE[PAGE.index(after) :], re.MULTILINE)[0].splitlines()
    return [[cell.strip().replace("`", "") for cell in line.strip("|").split("|")] for line in table[2:]]


def test_the_page_has_the_marks_of_the_program():
    assert [(row[0], row[1]) for row in rows("Each mark of the strip")] == [(mark(state), state) for state in State]
    plain = re.search(r"gets ((?:`.`[, and]*)+)", " ".join(PAGE.split()))[1]
    assert re.findall(r"`(.)`", plain) == [mark(state, ascii_only=True) for state in State]


def test_the_page_has_the_options_of_the_program(run):
    shown = run("history", "--help").out
    for option in re.findall(r"--[a-z]+", "".join(row[0] for row in rows("## Options"))):
        assert f"{option} " in shown


def test_the_page_has_the_keys_of_the_json_object():
    now = datetime(2026, 11, 25, 10, 20, tzinfo=UTC)
    cadence = Cadence(timedelta(minutes=15), 5 * SECOND, 300 * SECOND)
    stored = Stored(1, now - 60 * SECOND, "2026-11-25T11:00:00Z", source="//h/c")
    data = history_data(History.of([stored], stored, now, timedelta(hours=1), cadence, "s", "S"))
    assert [row[0] for row in rows("`slots` is a list")] == list(data["slots"][0])
    listed = rows("`totals` has these")
    named = [name for row in listed for name in row[0].split(", ")]
    states = re.findall("|".join(State), listed[0][1])
    assert [named[0], *states, *named[1:]] == list(data["totals"])


def test_what_the_page_shows_of_a_terminal_is_what_the_program_says(installed, tmp_path):
    (block,) = re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)
    slots = roomy()
    every = timedelta(seconds=slots.every)

    def slot(back):
        return datetime.fromtimestamp(slots.turn, UTC) - (back + 1) * every

    path = os.pathsep.join([str(installed.folder / "bin"), os.environ["PATH"]])
    with planting() as planter:
        story = [
            trigger(slot(5), 0.412 * SECOND, CRON),
            trigger(slot(3), 422 * SECOND, CRON),
            trigger(slot(2), 0.388 * SECOND, CRON),
            trigger(slot(2), 9 * SECOND, CRON),
            trigger(slot(1) + 2 * every, -2 * every - 0.75 * SECOND, LAPTOP),
            trigger(slot(0), 0.571 * SECOND, CRON),
        ]
        planter.plant("crypto-stats", "crypto.update", story)
        environ = {**os.environ, **slots.settings, "PATH": path, "NATS_URL": planter.url}
        said = console(block, env=environ, cwd=tmp_path)
    time = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"
    assert re.sub(time, "TIME", said) == re.sub(time, "TIME", block)


FACTS = ("missed", "late", "surplus", "claimed", "longest gap")


def facts(path):
    """What stands below the strip of a picture, by its names, without the dates."""
    texts = [text.text or "" for text in ET.fromstring(path.read_text()).iter("{http://www.w3.org/2000/svg}text")]
    text = " ".join(" ".join(texts).replace("\xa0", " ").split()).rpartition(" slots ")[2]
    text = re.sub(r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun) \d\d \w{3}", "DAY", text)
    parts = re.split(rf" ?\b({'|'.join(FACTS)}|early|lateness|published by) ", text)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def test_the_picture_of_the_page_is_what_its_command_makes(tmp_path):
    made = tmp_path / "history.svg"
    done = subprocess.run([sys.executable, ROOT / "benchmarks" / "picture.py", made], capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    kept, new = facts(ROOT / "docs" / "history.svg"), facts(made)
    assert set(FACTS) <= set(new)
    # The rest depends on the time of the day.
    assert {name: kept[name] for name in FACTS} == {name: new[name] for name in FACTS}


def test_the_page_names_its_picture():
    assert "](history.svg)" in PAGE
