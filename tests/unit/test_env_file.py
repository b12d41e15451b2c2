"""The env file: read however it was written, and taken literally."""

import os
from pathlib import Path

import pytest
from support.found import HIDDEN, problems_of, settings_of, write


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


# Several files.


def test_of_several_env_files_the_later_one_wins_variable_by_variable():
    write("base.env", "NATS_URL=nats://base:1\nCRYPTO_TRIGGER_SUBJECT=of.base\nNATS_TOKEN=x\n")
    write("secret.env", "\nCRYPTO_TRIGGER_SUBJECT=of.secret\nNATS_TOKEN=\n")
    write(".env", "NATS_CLIENT_ID=ignored\n")
    found = settings_of(env_file=["base.env", "secret.env"])
    assert (str(found.servers[0]), found.subject, found.token) == ("nats://base:1", "of.secret", None)
    assert found.source("servers").origin == "base.env line 1"
    assert found.source("subject").origin == "secret.env line 2"
    assert found.client_id == "worker-server"
    assert settings_of(env_file=["secret.env", "base.env"]).subject == "of.base"


def test_what_is_wrong_with_any_of_several_env_files_is_found_at_once():
    write("wrong.env", "nonsense here\n")
    assert problems_of(env_file=["missing.env", "wrong.env", ""]) == (
        "--env-file 'missing.env' cannot be read: no such file or directory",
        "wrong.env line 1 is not NAME=value; correct it, or put # before it",
        "--env-file '' cannot be read: no such file or directory",
    )


# Lines.


@pytest.mark.parametrize("line", ["NATS_URL", "export NATS_URL", "export", f"{HIDDEN}", "NATS_URL # =x", "'NATS_URL'"])
def test_a_line_without_an_equals_sign_is_refused_and_not_shown(line):
    write("some.env", f"\n# a comment\nNATS_USER='in\ntwo lines'\nNATS_PASSWORD=x\n{line}\r\nNATS_CLUSTER_ID=x\n")
    assert problems_of(env_file="some.env") == ("some.env line 6 is not NAME=value; correct it, or put # before it",)


@pytest.mark.parametrize("mark", ["\ufeff", "\u200b"], ids=["bom", "zero-width-space"])
def test_a_name_with_an_invisible_character_is_refused(mark):
    write("joined.env", f"NATS_USER=u\n{mark}NATS_PASSWORD=x\n")
    (problem,) = problems_of(env_file="joined.env")
    assert problem.startswith("joined.env line 2 has an invisible character in its name")


@pytest.mark.parametrize("value", ["`nats://h`", "`nats://h", "`", " `x` # why"])
def test_a_value_that_begins_with_a_backtick_is_refused(value):
    write(".env", f"NATS_USER=u\nNATS_PASSWORD={value}\n")
    (problem,) = problems_of()
    assert problem.startswith(".env line 2 has a value that begins with a backtick")


def test_backticks_around_a_value_are_one_problem():
    write(".env", "CRYPTO_TRIGGER_SUBJECT=`crypto.update`\n")
    (problem,) = problems_of()
    assert problem.startswith(".env line 1 has a value that begins with a backtick")


def test_a_backtick_in_quotes_or_in_the_value_of_another_program_is_none_of_ours():
    write(".env", "NATS_TOKEN='`x`'\nGREETING=`it's \"here\"`\nNATS_USER=a`b`\nNATS_PASSWORD=x\n")
    assert (settings_of().token, settings_of().user) == ("`x`", "a`b`")
    write(".env", "PRIVATE_KEY=`first line\nNATS_URL=second line`\n")
    assert ".env line 1 has a value that begins with a backtick" in problems_of()[0]


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
