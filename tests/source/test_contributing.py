"""CONTRIBUTING.md: its picture of the rooms is the one that the imports are held to, and the places it names exist."""

import re
from pathlib import Path

from source.test_layers import FLOORS

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "CONTRIBUTING.md").read_text()
# Where the names of modules begin in a row of the picture; what the floors are for is to the left.
COLUMN = 24


def picture():
    (block,) = (
        found for found in re.findall(r"^```\w*\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE) if "__main__" in found
    )
    return block.splitlines()


def test_the_picture_has_each_module_on_its_floor():
    drawn = [set(line[COLUMN:].split()) for line in picture()]
    assert drawn == [set(floor) for floor in FLOORS]


def test_the_files_that_it_names_exist():
    named = re.findall(r"`((?:[\w.-]+/)+[\w.-]+|\w+\.(?:py|md|toml|yml))`", TEXT)
    folders = (ROOT, ROOT / "crypto_trigger", ROOT / ".github" / "workflows")
    assert len(named) > 10
    assert [name for name in named if not any((folder / name).exists() for folder in folders)] == []


def test_it_is_one_page():
    assert len(TEXT.splitlines()) <= 120
