"""A dry run finds what a publish would find before it connects, in any locale, and loads nothing that connects."""

import os
from pathlib import Path

import nkeys
import pytest
from support.certificates import Authority
from support.imports import modules_of
from support.processes import execute, is_one_clean_line

# A locale that is not UTF-8, on a Python that does nothing about it.
C_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.fixture(scope="module")
def papers(tmp_path_factory):
    """Files by name: those that fit, and those that do not."""
    folder = tmp_path_factory.mktemp("papers")
    authority = Authority(folder, "ours")
    client, other = authority.issue("client"), authority.issue("other")
    locked = authority.issue("locked", password="x")
    text, seed, bad = folder / "text", folder / "user.nk", folder / "bad.nk"
    text.write_text("no certificate\n")
    seed.write_bytes(nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER))
    # Of the right form; its third letter is part of the prefix, and none of a user's.
    bad.write_bytes(b"SUZ" + seed.read_bytes()[3:])
    return {
        "CA": authority.path,
        "CERT": client.cert,
        "KEY": client.key,
        "OTHER_KEY": other.key,
        "LOCKED_CERT": locked.cert,
        "LOCKED_KEY": locked.key,
        "TEXT": str(text),
        "SEED": str(seed),
        "BAD_SEED": str(bad),
    }


WRONG = [
    ({"NATS_CA": "TEXT"}, "NATS_CA '{TEXT}' (from the environment) holds no PEM certificate"),
    ({"NATS_CERT": "CERT", "NATS_KEY": "OTHER_KEY"}, "do not belong together"),
    ({"NATS_CERT": "LOCKED_CERT", "NATS_KEY": "LOCKED_KEY"}, "is encrypted; decrypt it with: openssl pkey"),
    ({"NATS_CERT": "TEXT", "NATS_KEY": "KEY"}, "are not a certificate and its key in PEM format"),
    ({"NATS_NKEY": "BAD_SEED"}, "NATS_NKEY '{BAD_SEED}' (from the environment) holds a seed that is not a valid nkey"),
    ({"NATS_PASSWORD": "=hunter22"}, "NATS_PASSWORD '***' (from the environment) needs NATS_USER beside it"),
    ({"NATS_URL": f"=nats://{'a' * 64}.example"}, "has a host name that cannot be resolved"),
]


@pytest.mark.parametrize(
    ("environ", "says"), WRONG, ids=lambda value: "+".join(value) if isinstance(value, dict) else None
)
@pytest.mark.parametrize("command", [("publish", "--dry-run"), ("publish",)], ids=" ".join)
def test_what_is_wrong_before_the_network_is_found(command, environ, says, papers):
    settings = {name: value[1:] if value.startswith("=") else papers[value] for name, value in environ.items()}
    ended = execute(*command, **{"NATS_URL": "nats://127.0.0.1:1", **settings})
    assert ended.status == 78
    assert is_one_clean_line(ended.err)
    assert says.format(**papers) in ended.err


def test_all_that_is_wrong_with_certificates_and_seeds_is_found_at_once(papers):
    ended = execute(
        "publish",
        "--dry-run",
        NATS_CA=papers["TEXT"],
        NATS_CERT=papers["CERT"],
        NATS_KEY=papers["OTHER_KEY"],
        NATS_NKEY=papers["BAD_SEED"],
    )
    assert ended.status == 78
    assert [line.split()[1] for line in ended.err.splitlines()] == ["NATS_CA", "NATS_CERT", "NATS_NKEY"]


COMMANDS = ["publish --dry-run", "publish", "setup", "check", "history", "listen", "config"]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_reads_each_env_file(command):
    ended = execute(*command.split(), "--env-file", "first.env", "--env-file", "second.env")
    assert ended.status == (3 if command == "check" else 78)
    assert all(f"--env-file '{name}.env' cannot be read" in ended.err + ended.out for name in ("first", "second"))


CREDS = "-----BEGIN NATS USER JWT-----\neyJ0.jwt.sig\n------END------\n-----BEGIN SEED-----\n{seed}\n------END------\n"


@pytest.mark.parametrize("command", ["publish --dry-run", "publish", "setup", "check", "history", "config"])
def test_what_is_wrong_with_files_is_found_beside_wrong_values(command, papers, tmp_path):
    bad = tmp_path / "bad.creds"
    bad.write_text(CREDS.format(seed=Path(papers["BAD_SEED"]).read_text()))
    ended = execute(
        *command.split(),
        NATS_URL="nats://127.0.0.1:1",
        NATS_CA=papers["TEXT"],
        NATS_CERT=papers["CERT"],
        NATS_KEY=papers["OTHER_KEY"],
        NATS_PASSWORD="hunter22",
        NATS_CREDS=bad,
        NATS_NKEY="/nowhere",
        CRYPTO_TRIGGER_EVERY="banana",
    )
    assert ended.status == (3 if command == "check" else 78)
    wrong = ["NATS_CA", "NATS_CERT", "NATS_PASSWORD", "NATS_CREDS", "NATS_NKEY", "CRYPTO_TRIGGER_EVERY"]
    assert [name for name in wrong if f"{name} '" not in ended.out + ended.err] == []
    assert "Traceback" not in ended.err


def test_a_wrong_time_does_not_hide_a_wrong_file(papers):
    ended = execute("publish", "--dry-run", "--scheduled-at", "2999-01-01T00:00:00Z", NATS_CA=papers["TEXT"])
    assert ended.status == 78
    assert [line.split()[1] for line in ended.err.splitlines()] == ["CRYPTO_TRIGGER_SCHEDULED_AT", "NATS_CA"]


def test_a_wrong_address_does_not_hide_a_wrong_file(papers):
    ended = execute("publish", "--dry-run", NATS_URL="foo:bar", NATS_CA=papers["TEXT"])
    assert ended.status == 78
    assert [line.split()[1] for line in ended.err.splitlines()] == ["NATS_URL", "NATS_CA"]


def test_a_variable_in_an_address_of_an_env_file_is_named_as_what_it_is(tmp_path):
    env_file = tmp_path / "settings.env"
    env_file.write_text("HOST=localhost\nNATS_URL=nats://${HOST}:4222\n")
    ended = execute("publish", "--dry-run", "--env-file", env_file)
    assert ended.status == 78
    assert is_one_clean_line(ended.err)
    assert "NATS_URL 'nats://${HOST}:4222'" in ended.err
    assert "variables are not expanded here" in ended.err


def test_certificates_that_fit_pass_and_nothing_that_connects_is_loaded(papers, monkeypatch):
    for name, paper in {"NATS_CA": "CA", "NATS_CERT": "CERT", "NATS_KEY": "KEY", "NATS_NKEY": "SEED"}.items():
        monkeypatch.setenv(name, papers[paper])
    status, modules = modules_of("publish", "--dry-run")
    assert status == 0
    assert {"ssl", "nkeys"} <= modules
    assert not modules & {"nats", "asyncio"}


@pytest.mark.parametrize("how", ["environment", "flag", "env file"])
def test_text_in_utf_8_is_taken_in_a_locale_that_is_not(how, tmp_path):
    env_file = tmp_path / "settings.env"
    env_file.write_text(
        "NATS_CLIENT_ID=büro\nCRYPTO_TRIGGER_SUBJECT=crypto.größe\n" if how == "env file" else "", "utf-8"
    )
    environ = {"NATS_CLIENT_ID": "büro", "CRYPTO_TRIGGER_SUBJECT": "crypto.größe"} if how == "environment" else {}
    flags = ("--subject", "crypto.größe") if how == "flag" else ()
    report = tmp_path / "größe.json"
    ended = execute(
        "publish", "--dry-run", "--env-file", env_file, "--report-file", report, *flags, **C_LOCALE, **environ
    )
    assert (ended.status, ended.err) == (0, "")
    assert r"to crypto.gr\xf6\xdfe for " in ended.out
    assert '"subject": "crypto.größe"' in report.read_text("utf-8")


def test_a_file_whose_name_is_not_ascii_is_found_in_the_c_locale(tmp_path):
    secret = tmp_path / "geheimnis-größe"
    secret.write_text("token")
    ended = execute("publish", "--dry-run", NATS_TOKEN_FILE=secret, **C_LOCALE)
    assert (ended.status, ended.err) == (0, "")


def test_bytes_that_are_no_utf_8_are_said_to_be_so():
    ended = execute("publish", "--dry-run", NATS_CLIENT_ID=b"b\xfcro".decode(errors="surrogateescape"))
    assert ended.status == 78
    assert "holds bytes that are not UTF-8" in ended.err
