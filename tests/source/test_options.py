"""Options are made from the table of settings, and their help says what the table says."""

import re
from pathlib import Path

import pytest

import crypto_trigger
from crypto_trigger.commands import options
from crypto_trigger.settings import table
from crypto_trigger.settings.load import SETTINGS, Settings, load
from crypto_trigger.settings.masking import masked
from crypto_trigger.settings.setting import Group, Setting
from crypto_trigger.settings.values import Delivery, text

COMMANDS = ["publish", "setup", "config", "check"]
HEADINGS = {
    "publish": [*Group.ALL, "Trial run", "Other", "Example"],
    "setup": [*Group.ALL, "Stream", "Trial run", "Other", "Example"],
    "config": [*Group.ALL, "Other", "Example"],
    "check": [*Group.ALL, "Missed slots", "Consumers", "Other", "Example"],
}


def sections(shown):
    """The options that a command's help lists, by heading."""
    parts = re.split(r"^([\w ]+):\n", shown, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


@pytest.mark.parametrize("command", COMMANDS)
def test_help_groups_the_options_and_ends_in_an_example(run, command):
    shown = run(command, "--help").out
    found = sections(shown)
    assert list(found) == HEADINGS[command]
    assert found["Example"].startswith(f"  crypto-trigger {command} ")
    for setting in SETTINGS:
        if setting.flag and command in (setting.commands or COMMANDS):
            words = " ".join(found[setting.group].split())
            assert f"{setting.flag} " in words
            assert f"{setting.meaning} [env var: {setting.variable}" in words
        elif setting.flag:
            assert f"{setting.flag} " not in shown


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_each_default(run, command):
    words = " ".join(run(command, "--help").out.split())
    for default in ("nats://localhost:4222", "crypto.update", "NATS_CLUSTER_ID", "jetstream", "5s", "60s", "15m"):
        assert f"default: {default}]" in words


def test_every_example_in_a_help_parses(run):
    for command in [(), ("publish",), ("setup",), ("check",), ("config",), ("demo",)]:
        example = run(*command, "--help").out.rpartition("Example:\n  crypto-trigger ")[2].split()
        assert example
        assert run(*example, "--help").status == 0


def test_every_meaning_is_made_of_sentences():
    for setting in SETTINGS:
        assert re.fullmatch(r"[A-Z].*\.", setting.meaning), setting.variable


def test_the_fields_of_the_settings_are_the_rows_of_the_table():
    assert [setting.attribute for setting in SETTINGS] == list(Settings.__annotations__)[3:]
    assert len({setting.variable for setting in SETTINGS}) == len(SETTINGS)


def test_a_row_added_to_the_table_is_an_option_of_the_command(monkeypatch):
    row = Setting(
        Group.OUTPUT, "CRYPTO_TRIGGER_COLOR", text, "red", "A color.", "--color", metavar="NAME", commands=("config",)
    )
    row.attribute = "color"
    monkeypatch.setattr(table, "SETTINGS", (*table.SETTINGS, row))
    taken = {}
    command = options.with_settings(config_like(taken))
    assert list(command.__signature__.parameters)[-2:] == ["color", "own"]
    command(**dict.fromkeys(command.__signature__.parameters) | {"color": "blue"})
    assert taken["color"] == "blue"


def config_like(taken):
    def config(own: str, **flags: str) -> None:
        taken.update(flags, own=own)

    return config


def test_a_switch_is_handed_on_as_text(run):
    result = run("publish", "--dry-run", "--require-subscriber")
    assert result.status == 78
    assert "CRYPTO_TRIGGER_REQUIRE_SUBSCRIBER 'true' (from --require-subscriber) " in result.err
    assert run("publish", "--dry-run").status == 0


def test_a_bad_flag_of_every_setting_is_named_by_its_flag(run):
    for setting in SETTINGS:
        if setting.flag and not setting.is_switch:
            result = run("publish", "--dry-run", setting.flag, "")
            assert result.status == 78
            assert f"{setting.variable} '' (from {setting.flag}) " in result.err


def test_no_secret_has_a_flag():
    """A flag shows in the list of processes."""
    assert [setting.variable for setting in SETTINGS if setting.secret and setting.flag] == []


def test_every_secret_of_the_table_is_kept_out_of_all_output():
    environ = {row.variable: f"hidden-{row.attribute}" for row in SETTINGS if row.secret}
    environ |= {name: f"https://monitor/{value}" for name, value in environ.items() if name.endswith("_URL")}
    load({}, "/dev/null", {**environ, "NATS_USER": "worker"})
    assert {masked(secret) for secret in environ.values()} == {"***"}


def test_every_setting_is_read_somewhere():
    package = Path(crypto_trigger.__file__).parent
    code = "".join(path.read_text() for path in package.rglob("*.py") if path.name != "table.py")
    # A secret's file stands in for the secret.
    names = [row.attribute for row in SETTINGS if not row.attribute.endswith(("password_file", "token_file"))]
    unread = [name for name in names if not re.search(rf"[.\"]{name}\b", code)]
    assert unread == []


def test_the_deliveries_are_named_where_one_is_chosen():
    (meaning,) = (setting.meaning for setting in SETTINGS if setting.attribute == "delivery")
    page = (Path(__file__).parents[2] / "docs" / "report.md").read_text()
    (row,) = (line for line in page.splitlines() if line.startswith("| `delivery` |"))
    for delivery in Delivery:
        assert delivery in meaning
        assert f"`{delivery}`" in row
