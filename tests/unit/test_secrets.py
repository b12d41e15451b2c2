"""Secrets and the files that hold them: read as they were written, and never shown."""

import os
from pathlib import Path

import pytest
from support.found import HIDDEN, SEED, context, creds, problems_of, settings_of, write

from crypto_trigger.settings.load import explain

SECRETS = {
    "NATS_PASSWORD": ("topsecret", "topsecret"),
    "NATS_TOKEN": ("topsecret", "topsecret"),
    "NATS_URL": ("nats://worker:topsecret@h", "topsecret"),
    "NATS_URL token": ("nats://topsecret@h", "topsecret"),
    "NATS_URL second": ("nats://a,nats://worker:topsecret@b", "topsecret"),
    "NATS_URL escaped": ("nats://worker:top%2Fsecret@h", "secret@"),
    "NATS_USER alone": ("topsecret", "topsecret"),
    "NATS_USER short": ("topse", "topse"),
    "NATS_PASSWORD short": ("topse", "topse"),
    "NATS_PASSWORD_FILE": ("secret.txt", "topsecret"),
    "NATS_TOKEN_FILE": ("secret.txt", "topsecret"),
    "NATS_NKEY": ("nkey.txt", SEED),
    "NATS_CREDS": ("creds.txt", SEED),
}


@pytest.mark.parametrize(("raw", "secret"), SECRETS.values(), ids=SECRETS)
def test_no_secret_is_shown_by_any_look_at_the_settings(raw, secret, request, run, monkeypatch):
    write("secret.txt", "topsecret\n")
    write("nkey.txt", SEED + "\n")
    write("creds.txt", creds())
    variable = request.node.callspec.id.partition(" ")[0]
    if "PASSWORD" in variable:
        monkeypatch.setenv("NATS_USER", "worker")
    monkeypatch.setenv(variable, raw)
    found = settings_of(os.environ)
    seen = [repr(found), repr(found.sources), str(explain(found))]
    result = run("config", "--json")
    assert result.status == 0
    seen += [result.out, result.err]
    assert not [text for text in seen if secret in text]


@pytest.mark.parametrize("between", ["/", "@", ",", "#", "?", ":", " ", "[", "%", "\\", ",nats://", "\x1b"])
def test_a_password_with_odd_characters_in_the_url_is_never_shown(between, run, monkeypatch):
    monkeypatch.setenv("NATS_URL", f"nats://worker:{HIDDEN}{between}{HIDDEN}@h:4222")
    result = run("config", "--json")
    assert HIDDEN not in result.out + result.err
    assert result.status in (0, 78)


@pytest.mark.parametrize("variable", ["NATS_NKEY", "NATS_CREDS"])
def test_a_seed_given_in_the_place_of_its_file_is_not_shown(variable):
    (problem,) = problems_of({variable: SEED})
    assert SEED not in problem
    assert problem.startswith(f"{variable} '***' (from the environment) ")


def test_the_text_of_a_bad_line_in_the_env_file_is_not_shown():
    write(".env", f'NATS_URL=nats://h\nNATS_PASSWORD="{HIDDEN}\n')
    (problem,) = problems_of()
    assert problem == ".env line 2 is not NAME=value; correct it, or put # before it"


@pytest.mark.parametrize("end", ["", "\n", "\r\n"], ids=["bare", "lf", "crlf"])
def test_a_mounted_secret_is_read_without_its_line_end(end):
    path = write("secret", f" p@ss word{end}")
    assert settings_of({"NATS_USER": "u", "NATS_PASSWORD_FILE": path}).password == " p@ss word"
    assert settings_of({"NATS_TOKEN_FILE": path}).token == " p@ss word"


@pytest.mark.parametrize(("content", "says"), [("", "empty file"), ("\n", "empty file"), (b"\xff\xfe", "not UTF-8")])
def test_a_mounted_secret_that_holds_none_is_refused(content, says):
    (problem,) = problems_of({"NATS_TOKEN_FILE": write("secret", content)})
    assert says in problem


@pytest.mark.parametrize("kind", ["PASSWORD", "TOKEN"])
def test_of_a_secret_and_its_file_the_stronger_layer_wins(kind):
    path = write("secret", "mounted")
    attribute = kind.lower()
    direct, mounted = f"NATS_{kind}", f"NATS_{kind}_FILE"
    user = {"NATS_USER": "u"}
    write(".env", f"{direct}=direct\n")
    assert getattr(settings_of({**user, mounted: path}), attribute) == "mounted"
    write(".env", f"{mounted}={path}\n")
    assert getattr(settings_of({**user, direct: "direct"}), attribute) == "direct"
    Path(".env").unlink()
    (problem,) = problems_of({**user, direct: "direct", mounted: path})
    assert problem == f"{mounted} '{path}' (from the environment) is set beside {direct}; keep one of the two"
    written = context(**{attribute: "of the context"})
    assert getattr(settings_of({**user, "NATS_CONTEXT": written, mounted: path}), attribute) == "mounted"


# Credential files.


@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["lf", "crlf"])
def test_credential_files_are_read_with_any_line_end(end):
    found = settings_of({"NATS_CREDS": write("creds", creds(end=end)), "NATS_NKEY": write("nkey", f"{SEED}{end}{end}")})
    assert (found.creds.jwt, found.creds.seed, found.nkey) == ("eyJ0.jwt.sig", SEED, SEED)


ODD_CREDS = {
    "other words": "-----BEGIN USER JWT-----\n{jwt}\n---END JWT---\n\n----- SEED -----\n{seed}\n----- END -----\n",
    "comments": "# SUPER secret\n-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n"
    "****** IMPORTANT ******\nNKEY Seed printed below\n-----BEGIN USER NKEY SEED-----\n{seed}\n------END------\n",
    "blanks": "---BEGIN---\n  {jwt} \n---END---\n---BEGIN---\n\t{seed}\t\n---END---",
    "public key": "---JWT---\n{jwt}\n---END---\n---SEED---\n{seed}\nUABC\n---END---",
}


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["lf", "crlf", "cr"])
@pytest.mark.parametrize("form", ODD_CREDS)
def test_credentials_are_found_whatever_stands_around_them(form, end):
    content = ODD_CREDS[form].format(jwt="eyJ0.jw-t_.sig", seed=SEED).replace("\n", end)
    found = settings_of({"NATS_CREDS": write("creds", content.encode())})
    assert (found.creds.jwt, found.creds.seed) == ("eyJ0.jw-t_.sig", SEED)


@pytest.mark.parametrize(
    "form", ["{seed}\nUABC\n", "# of worker\n\n{seed}", "SUPER\n---SEED---\n{seed}\n---END---\nUABC\n"]
)
def test_a_seed_is_found_whatever_stands_around_it(form):
    assert settings_of({"NATS_NKEY": write("nkey", form.format(seed=SEED))}).nkey == SEED


@pytest.mark.parametrize(
    ("variable", "content", "says"),
    [
        ("NATS_CREDS", SEED, "NATS USER JWT"),
        ("NATS_CREDS", "-----JWT-----\neyJ0.jwt.sig\n", "USER NKEY SEED"),
        ("NATS_CREDS", f"eyJ0.jwt.sig\n{SEED}\n", "NATS USER JWT"),
        ("NATS_CREDS", "-----BEGIN NATS USER JWT-----\neyJ0.jw\nt.sig\n------END-----\n" + SEED, "NATS USER JWT"),
        ("NATS_CREDS", creds().partition("-----BEGIN USER")[0], "USER NKEY SEED"),
        ("NATS_CREDS", creds(seed="SUSHORT"), "USER NKEY SEED"),
        ("NATS_CREDS", "", "NATS USER JWT"),
        ("NATS_CREDS", b"\xff", "not UTF-8"),
        ("NATS_NKEY", "UABC", "no user nkey seed"),
        ("NATS_NKEY", SEED.replace("SU", "SA"), "no user nkey seed"),
    ],
    ids=[
        "seed-alone",
        "jwt-alone",
        "no-markers",
        "two-lines",
        "no-seed",
        "bad-seed",
        "empty",
        "binary",
        "public-key",
        "account-seed",
    ],
)
def test_a_file_that_holds_no_credentials_is_refused_by_name(variable, content, says):
    path = write("file", content)
    (problem,) = problems_of({variable: path})
    assert problem.startswith(f"{variable} '{path}' (from the environment) ")
    assert says in problem


def test_paths_may_begin_with_the_home_directory_and_hold_variables(monkeypatch):
    write("certs/ca.pem", "x")
    monkeypatch.setenv("CERTS", "certs")
    assert settings_of({"NATS_CA": "~/$CERTS/ca.pem"}).ca.samefile("certs/ca.pem")
