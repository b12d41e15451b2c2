"""Help at each width of a terminal: whole sentences, whole words, and an example that a shell takes."""

import re
import shlex

import pytest

from crypto_trigger.commands.help import Entry, page

COMMANDS = ["publish", "setup", "check", "history", "listen", "config", "demo"]
WIDTHS = [1, 40, 57, 69, 70, 80, 100, 200]


@pytest.fixture(autouse=True)
def _no_columns(monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)


def helped(run, monkeypatch, columns, *command):
    monkeypatch.setenv("COLUMNS", str(columns))
    result = run(*command, "--help")
    assert result.status == 0
    assert result.err == ""
    return result.out


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)], ids=" ".join)
def test_a_help_has_the_same_words_at_each_width(run, monkeypatch, command):
    words = helped(run, monkeypatch, 200, *command).replace("\\\n", "").split()
    for columns in WIDTHS:
        shown = helped(run, monkeypatch, columns, *command)
        assert shown.replace("\\\n", "").split() == words
        assert max(map(len, shown.splitlines())) <= min(max(columns, 40), 100)
        assert "..." not in shown
        assert "-h, --help" in shown


@pytest.mark.parametrize("columns", [40, 80, 200])
@pytest.mark.parametrize("command", COMMANDS)
def test_each_option_is_told_in_whole_sentences(run, monkeypatch, command, columns):
    shown = helped(run, monkeypatch, columns, command)
    options = shown.partition(":\n  -")[2].rpartition("\n\nExample:")[0]
    assert options
    for entry in re.split(r"\n+(?:[A-Z][\w ]+:\n)?(?=  -)", options):
        text = " ".join(entry.split())
        # Names, perhaps what they take, sentences, perhaps where the value comes from.
        assert re.fullmatch(r"[-\w, ]*?( [A-Z]+)? ?[A-Z].*\.( \[(env var|default): [^\]]+\])?", text), text


@pytest.mark.parametrize("columns", [40, 60, 80, 200])
@pytest.mark.parametrize("command", COMMANDS)
def test_an_example_can_be_copied_from_a_terminal_of_each_width(run, monkeypatch, command, columns):
    example = helped(run, monkeypatch, columns, command).rpartition("Example:\n")[2]
    words = shlex.split(example)
    assert words[:2] == ["crypto-trigger", command]
    assert run(*words[1:], "--help").status == 0


def test_an_address_longer_than_a_line_is_not_broken():
    address = "https://example.com/" + 60 * "x"
    assert address in page("x", f"See {address} for more.", [], "", 40)


def test_the_program_names_its_commands_in_the_order_of_their_use(run, monkeypatch):
    shown = helped(run, monkeypatch, 80)
    commands = re.search(r"^Commands:\n((?:  .*\n)+)", shown, re.MULTILINE)[1]
    assert re.findall(r"^  (\w+) +[A-Z]", commands, re.MULTILINE) == COMMANDS
    assert all(line.endswith(".") for line in commands.splitlines())


def test_a_default_stays_beside_its_word():
    entry = Entry("--subject NAME", "Subject.", "[env var: CRYPTO_TRIGGER_SUBJECT; default: crypto.update]")
    for columns in range(40, 101):
        assert "default: crypto.update]" in page("x", "", [("Message", [entry])], "", columns)


def test_a_long_name_has_a_line_of_its_own():
    entries = [Entry("--a", "Short."), Entry(f"--{'long' * 9}", "Text.")]
    lines = page("x", "", [("All", entries)], "", 80).splitlines()
    assert lines[-3:] == [f"  --a{' ' * 27}Short.", f"  --{'long' * 9}", f"{' ' * 32}Text."]
