"""The env file: read however it was written, and taken literally."""

import os
from pathlib import Path

import pytest
from support.found import problems_of, settings_of, write


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbfNATS_URL=nats://file:1\nCRYPTO_TRIGGER_SUBJECT=a.b\n",
        b"NATS_URL=nats://file:1\r\nCRYPTO_TRIGGER_SUBJECT=a.b\r\n",
        b"# a comment\n\nexport NATS_URL='nats://file:1' # why\n\n  CRYPTO_TRIGGER_SUBJECT = \"a.b\"",
        b"NATS_URL=nats://first:1\nCRYPTO_TRIGGER_SUBJECT=a.b\nNATS_URL=nats://file:1\n",
    ],
    ids=["bom", "crlf", "shell", "twice"],
)
def test_an_env_file_is_read_however_it_was_written(content):
    write(".env", content)
    write("elsewhere/settings", content)
    for env_file in (None, "elsewhere/settings"):
        found = settings_of(env_file=env_file)
        assert (str(found.servers[0]), found.subject) == ("nats://file:1", "a.b")


def test_an_env_file_is_taken_literally():
    write(".env", "NATS_PASSWORD=a${HOME}b$HOME\nNATS_TOKEN=x#y\n")
    found = settings_of({"HOME": "/root", "NATS_USER": "u"})
    assert (found.password, found.token) == ("a${HOME}b$HOME", "x#y")


def test_the_line_of_an_env_file_is_the_one_an_editor_shows():
    write(".env", "# one\n\n\n   \nCRYPTO_TRIGGER_EVERY=banana\n\nno assignment\n")
    assert [problem.partition(" is not ")[0] for problem in problems_of()] == [
        ".env line 7",
        "CRYPTO_TRIGGER_EVERY 'banana' (from .env line 5)",
    ]


@pytest.mark.parametrize(
    ("path", "content", "says"),
    [
        ("missing.env", None, "--env-file 'missing.env' cannot be read: no such file or directory"),
        (".", None, "--env-file '.' is a directory, not a file"),
        ("latin.env", b"NATS_PASSWORD=p\xe4ss\n", "--env-file 'latin.env' cannot be read: it is not UTF-8"),
        (
            None,
            b"NATS_PASSWORD=p\xe4ss\n",
            "the env file '.env' of the working directory cannot be read: it is not UTF-8",
        ),
    ],
    ids=["missing", "directory", "latin-1", "latin-1-default"],
)
def test_an_env_file_that_cannot_be_read_is_one_line(path, content, says):
    if content:
        write(path or ".env", content)
    assert problems_of(env_file=path) == (says,)


def test_a_directory_called_env_is_not_an_env_file():
    Path(".env").mkdir()
    assert repr(settings_of()) == repr(settings_of(env_file=os.devnull))
