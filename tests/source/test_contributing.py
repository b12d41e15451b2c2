"""CONTRIBUTING.md: the packages it names are those that the imports are held to, and the places it names exist."""

import re
from pathlib import Path

from source.test_layers import ARROWS, TOP

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "CONTRIBUTING.md").read_text()


def test_the_picture_has_each_package():
    (block,) = (
        found for found in re.findall(r"^```\w*\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE) if "__main__" in found
    )
    drawn = [line.split()[0].removesuffix("/").removesuffix(".py") for line in block.splitlines()[1:]]
    assert sorted(drawn) == sorted({*ARROWS, *TOP} - {"__init__"})


def test_the_table_has_the_arrows():
    written = TEXT.partition("| package | imports from |")[2].partition("\n\n")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", written, re.MULTILINE))
    every = set(ARROWS)
    named = {
        package: every - {package} if said == "all others" else set(re.findall(r"`(\w+)`", said))
        for package, said in rows.items()
    }
    assert named == ARROWS


def test_the_files_that_it_names_exist():
    named = re.findall(r"`((?:[\w.-]+/)+[\w.-]+|\w+\.(?:py|md|toml|yml))`", TEXT)
    folders = (ROOT, ROOT / "crypto_trigger", ROOT / ".github" / "workflows")
    assert len(named) > 10
    assert [name for name in named if not any((folder / name).exists() for folder in folders)] == []


def test_it_is_one_page():
    assert len(TEXT.splitlines()) <= 120
