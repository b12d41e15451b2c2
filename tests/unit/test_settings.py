"""Settings: which layer wins, and what is wrong with each value."""

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support.found import HIDDEN, NATSCLI_CONTEXT, context, problems_of, settings_of, write

from crypto_trigger.settings.load import SETTINGS
from crypto_trigger.settings.values import Address, Delivery

LAYERS = {
    "flag": "--server",
    "environment": "the environment",
    "env-file": ".env line 3",
    "context": "context context.json",
    "default": "the default",
}


@pytest.mark.parametrize("first", range(len(LAYERS)), ids=LAYERS)
def test_the_first_layer_that_has_a_value_wins(first):
    below = list(LAYERS)[first:]
    context(**NATSCLI_CONTEXT)
    environ = {"NATS_CONTEXT": "context.json"} if "context" in below else {}
    if "environment" in below:
        environ["NATS_URL"] = "nats://environment:4222"
    if "env-file" in below:
        write(".env", "# servers\n\nNATS_URL=nats://env-file:4222\n")
    flags = {"servers": "nats://flag:4222"} if "flag" in below else {}
    found = settings_of(environ, **flags)
    expected = {"default": "localhost"}.get(below[0], below[0])
    assert [str(server) for server in found.servers] == [f"nats://{expected}:4222"]
    assert found.source("servers").origin == LAYERS[below[0]]


def test_an_empty_variable_is_one_that_is_not_set():
    blank = {setting.variable: "" for setting in SETTINGS}
    write(".env", "".join(f"{name}=\n" for name in blank))
    assert repr(settings_of(blank)) == repr(settings_of())
    write(".env", "CRYPTO_TRIGGER_EVERY=30m\n")
    assert settings_of({"CRYPTO_TRIGGER_EVERY": ""}).every == timedelta(minutes=30)


def test_an_empty_flag_is_a_mistake_and_not_a_missing_one():
    (problem,) = problems_of(subject="")
    assert problem.startswith("CRYPTO_TRIGGER_SUBJECT '' (from --subject) ")


def test_the_defaults_are_those_of_the_contract():
    found = settings_of()
    assert found.servers == (Address("localhost", 4222),)
    assert (found.cluster_id, found.stream, found.client_id) == ("crypto-stats", "crypto-stats", "worker-server")
    assert (found.subject, found.delivery) == ("crypto.update", Delivery.JETSTREAM)
    assert (found.every, found.early) == (timedelta(minutes=15), timedelta(seconds=5))
    assert (found.timeout, found.give_up_after) == (timedelta(seconds=5), timedelta(seconds=60))
    assert (found.backoff_base, found.backoff_max) == (timedelta(milliseconds=250), timedelta(seconds=10))
    optional = (
        "user",
        "password",
        "token",
        "creds",
        "nkey",
        "ca",
        "cert",
        "key",
        "nats_context",
        "js_domain",
        "report_file",
    )
    assert {name: getattr(found, name) for name in optional} == dict.fromkeys(optional)


def test_the_stream_is_named_after_the_cluster_unless_it_has_a_name():
    assert settings_of({"NATS_CLUSTER_ID": "mine"}).stream == "mine"
    assert settings_of({"NATS_CLUSTER_ID": "mine", "CRYPTO_TRIGGER_STREAM": "own"}).stream == "own"
    (problem,) = problems_of({"NATS_CLUSTER_ID": "my.cluster"})
    assert problem.startswith("NATS_CLUSTER_ID 'my.cluster' (from the environment) ")
    assert "CRYPTO_TRIGGER_STREAM" in problem
    found = settings_of({"NATS_CLUSTER_ID": "my.cluster", "CRYPTO_TRIGGER_STREAM": "own"})
    assert (found.cluster_id, found.stream) == ("my.cluster", "own")


@pytest.mark.parametrize(
    ("raw", "servers"),
    [
        ("nats://h", [Address("h", 4222)]),
        ("nats://h:4333/", [Address("h", 4333)]),
        ("tls://h", [Address("h", 4222, tls=True)]),
        ("nats://[::1]:4333", [Address("::1", 4333)]),
        ("nats://a, nats://b:1 ,nats://c", [Address("a"), Address("b", 1), Address("c")]),
        ("nats://a, tls://b:1 ,nats://c", [Address("a", tls=True), Address("b", 1, tls=True), Address("c", tls=True)]),
        ("localhost:4333", [Address("localhost", 4333)]),
        ("[::1]:4333,h", [Address("::1", 4333), Address("h")]),
        ("u:p@h:4333", [Address("h", 4333, user="u", password="p")]),
        ("nats://u:p@h", [Address("h", user="u", password="p")]),
        ("nats://u:p%40%2F%2C@h", [Address("h", user="u", password="p@/,")]),
        ("nats://u%3A:p@ss@h", [Address("h", user="u:", password="p@ss")]),
        ("nats://u:@h", [Address("h", user="u", password="")]),
        ("nats://tok%2Fen@h", [Address("h", token="tok/en")]),
        (",nats://a,, ,b,", [Address("a"), Address("b")]),
        ("nats://[fe80::1%25lo]:4333", [Address("fe80::1%lo", 4333)]),
        ("u:p@[fe80::1%25Eth0.1]", [Address("fe80::1%Eth0.1", user="u", password="p")]),
        ("[fe80::1%lo]", [Address("fe80::1%lo")]),
    ],
)
def test_a_list_of_servers_is_read_as_nats_writes_it(raw, servers):
    assert list(settings_of({"NATS_URL": raw}).servers) == servers


VALUES = [
    ("NATS_TLS_FIRST", "tls_first", "TRUE", True),
    ("NATS_TLS_FIRST", "tls_first", "off", False),
    ("NATS_INBOX_PREFIX", "inbox_prefix", "_INBOX.mine", "_INBOX.mine"),
    ("NATS_JS_DOMAIN", "js_domain", "hub", "hub"),
    ("NATS_CLIENT_ID", "client_id", "büro 1", "büro 1"),
    ("CRYPTO_TRIGGER_SUBJECT", "subject", "crypto.ünicode", "crypto.ünicode"),
    ("CRYPTO_TRIGGER_EVERY", "every", "1h30m", timedelta(minutes=90)),
    ("CRYPTO_TRIGGER_TIMEOUT", "timeout", "250ms", timedelta(milliseconds=250)),
    (
        "CRYPTO_TRIGGER_SCHEDULED_AT",
        "scheduled_at",
        "2026-11-23T18:45:00+01:00",
        datetime(2026, 11, 23, 17, 45, tzinfo=UTC),
    ),
    ("CRYPTO_TRIGGER_K8S_JOB", "k8s_job", "x-1", "x-1"),
    ("CRYPTO_TRIGGER_REPORT_FILE", "report_file", "/dev/termination-log", "/dev/termination-log"),
    ("TRACESTATE", "tracestate", "a=b", "a=b"),
    ("NATS_USER", "user", "u\r\n", "u"),
    ("NATS_TOKEN", "token", " t \n\n", " t "),
    ("NATS_TOKEN", "token", '"t"', '"t"'),
]


@pytest.mark.parametrize(("variable", "attribute", "raw", "value"), VALUES, ids=lambda value: str(value)[:30])
def test_a_value_is_parsed_once_and_frozen(variable, attribute, raw, value):
    assert getattr(settings_of({variable: raw}), attribute) == value


BAD = [
    *(
        ("NATS_URL", raw, says)
        for raw, says in (
            ("foo:bar", "no valid host and port"),
            ("http://h", "must be nats://host:port"),
            ("ws://h:80", "WebSocket"),
            ("nats://", "no valid host and port"),
            ("nats://h:0", "no valid host and port"),
            ("nats://h:65536", "no valid host and port"),
            ("nats://[::1", "no valid host and port"),
            ("nats://two words", "no valid host and port"),
            (f"nats://{'a' * 64}.example", "cannot be resolved"),
            (f"nats://{'a.' * 127}a", "cannot be resolved"),
            ("nats://a..b", "cannot be resolved"),
            ("nats://ü" + "ü" * 60, "cannot be resolved"),
            ("nats://${HOST}:4222", "variables are not expanded here"),
            ("nats://h:$PORT", "variables are not expanded here"),
            (",", "names no server; it must be nats://host:port"),
            (" , ", "names no server; it must be nats://host:port"),
            ("nats://[fe80::1%25]", "no valid host and port"),
            ("nats://h/path", "has more text after the port"),
            ("nats://h?tls=1", "has more text after the port"),
        )
    ),
    *(
        ("CRYPTO_TRIGGER_TIMEOUT", raw, "duration")
        for raw in ("banana", "5", "-5s", "1y", "5 s", "5S", "1h30", "1,5s", ".s")
    ),
    *(
        ("CRYPTO_TRIGGER_TIMEOUT", raw, "more than 0s and at most 8760h")
        for raw in ("0s", "8760h1ms", f"{'9' * 400}h", "1ns")
    ),
    ("CRYPTO_TRIGGER_EVERY", "1500ms", "whole number of seconds"),
    *(
        ("CRYPTO_TRIGGER_SCHEDULED_AT", raw, "RFC 3339")
        for raw in (
            "yesterday",
            "2026-11-23",
            "2026-11-23T12:00:00",
            "2026-11-23T12:00Z",
            "20261123T120000Z",
            "1763899200",
        )
    ),
    *(
        ("CRYPTO_TRIGGER_SCHEDULED_AT", raw, "is not a date and time that exists")
        for raw in (
            "2026-02-30T00:00:00Z",
            "2026-11-23T12:00:60Z",
            "2026-11-23T12:00:00+25:00",
            "0001-01-01T00:00:00+01:00",
        )
    ),
    *(("CRYPTO_TRIGGER_SUBJECT", raw, "empty part") for raw in ("a..b", ".a", "a.")),
    *(("CRYPTO_TRIGGER_SUBJECT", raw, "wildcard") for raw in ("crypto.*", "crypto.>", "*")),
    *(("CRYPTO_TRIGGER_SUBJECT", raw, "blank") for raw in ("a b", "a\tb", "a\r\nPUB x 0")),
    ("CRYPTO_TRIGGER_SUBJECT", "$JS.API.x", "starts with $"),
    ("CRYPTO_TRIGGER_SUBJECT", "ü" * 128, "longer than 255 bytes"),
    *(("CRYPTO_TRIGGER_STREAM", raw, "NATS name") for raw in ("a.b", "a b", "a*", "a/b", "a\\b", ">")),
    ("NATS_JS_DOMAIN", "a.b", "NATS name"),
    ("NATS_CLIENT_ID", "a\nb", "control character"),
    ("NATS_CLIENT_ID", "a\x1b[2Jb", "control character"),
    ("NATS_TLS_FIRST", "maybe", "true or false"),
    *(("CRYPTO_TRIGGER_DELIVERY", raw, "jetstream") for raw in ("pigeon", "JetStream")),
    *((name, "/nowhere/x", "no such file") for name in ("NATS_CREDS", "NATS_NKEY", "NATS_CA", "NATS_PASSWORD_FILE")),
    *((name, ".", "is a directory") for name in ("NATS_CREDS", "NATS_TOKEN_FILE", "NATS_CA")),
]


@pytest.mark.parametrize("quote", ['"', "'", "`"])
@pytest.mark.parametrize("setting", [row for row in SETTINGS if not row.verbatim], ids=lambda row: row.variable)
def test_a_value_in_quotes_is_refused_and_says_so(setting, quote):
    environ = {setting.variable: f"{quote}{setting.default or 'x'}{quote}"}
    if setting.ignorable:
        (warning,) = settings_of(environ).warnings
        assert warning.startswith(f"{setting.variable} '")
        assert "is in quotes, which are part of it" in warning
        return
    (problem,) = problems_of(environ)
    assert problem.startswith(f"{setting.variable} '")
    assert "(from the environment) is in quotes, which are part of it" in problem


@pytest.mark.parametrize("source", ["flag", "env-file", "context"])
def test_it_is_refused_in_every_layer(source):
    write(".env", "NATS_URL='\"nats://h\"'\n" if source == "env-file" else "")
    context(**{**NATSCLI_CONTEXT, "url": '"nats://h"'})
    flags = {"servers": '"nats://h"'} if source == "flag" else {}
    (problem,) = problems_of({"NATS_CONTEXT": "context.json"} if source == "context" else {}, **flags)
    assert "is in quotes, which are part of it" in problem


def test_a_user_and_a_password_in_quotes_are_taken_as_they_are():
    found = settings_of({"NATS_USER": '"u"', "NATS_PASSWORD": "'p'\n"})
    assert (found.user, found.password) == ('"u"', "'p'")


@pytest.mark.parametrize("raw", ["\n", "\r\n\n"])
def test_a_secret_of_line_ends_alone_is_refused(raw):
    assert problems_of({"NATS_TOKEN": raw}) == ("NATS_TOKEN '***' (from the environment) is empty",)


# Of an address that cannot be read, only what is no password.
SHOWN = {
    "foo:bar": "foo:***",
    "nats://[::1": "nats://***",
    "nats://two words": "nats://two***",
    "nats://h:$PORT": "nats://h:***",
    "nats://h/path": "nats://h***",
    "nats://h?tls=1": "nats://h***",
}


def test_a_password_without_its_host_is_not_shown():
    (problem,) = problems_of({"NATS_URL": "nats://[::1]:4222,nats://worker:pass:word"})
    assert problem.startswith("NATS_URL 'nats://[::1]:4222,nats://worker:***' (from the environment) has no valid host")


def test_a_secret_file_is_not_even_read_where_a_stronger_layer_has_the_secret():
    Path(".env").write_text("NATS_PASSWORD_FILE=/nowhere\n")
    assert settings_of({"NATS_USER": "worker", "NATS_PASSWORD": "hunter22"}).password == "hunter22"


def test_early_may_be_none_at_all():
    assert settings_of({"CRYPTO_TRIGGER_EARLY": "0s"}).early == timedelta(0)


@pytest.mark.parametrize(("variable", "raw", "says"), BAD, ids=lambda value: repr(value)[:40])
def test_a_bad_value_is_one_line_with_its_variable_value_and_origin(variable, raw, says):
    (problem,) = problems_of({variable: raw})
    shown = SHOWN.get(raw) or (raw.encode("unicode_escape").decode() if not raw.isprintable() else raw)
    shown = shown if len(shown) <= 80 else shown[:80] + "..."
    assert problem.startswith(f"{variable} '{shown}' (from the environment) ")
    assert says in problem
    assert problem.isprintable()


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({"CRYPTO_TRIGGER_EVERY": "1m", "CRYPTO_TRIGGER_GIVE_UP_AFTER": "1m"}, "CRYPTO_TRIGGER_GIVE_UP_AFTER '1m'"),
        (
            {"CRYPTO_TRIGGER_EVERY": "30s"},
            (
                "CRYPTO_TRIGGER_GIVE_UP_AFTER '60s' (from the default) must be shorter than "
                "CRYPTO_TRIGGER_EVERY '30s' (from the environment)"
            ),
        ),
        ({"CRYPTO_TRIGGER_EARLY": "15m"}, "CRYPTO_TRIGGER_EARLY '15m'"),
        (
            {"CRYPTO_TRIGGER_BACKOFF_BASE": "11s"},
            (
                "CRYPTO_TRIGGER_BACKOFF_BASE '11s' (from the environment) must not be longer than "
                "CRYPTO_TRIGGER_BACKOFF_MAX '10s' (from the default)"
            ),
        ),
        ({"NATS_CERT": __file__}, "NATS_CERT '"),
        ({"NATS_KEY": __file__}, "NATS_KEY '"),
        ({"NATS_PASSWORD": "p"}, "NATS_PASSWORD '***' (from the environment) needs NATS_USER beside it"),
        ({"NATS_PASSWORD_FILE": __file__}, "NATS_PASSWORD_FILE '"),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, dict) else None,
)
def test_what_two_values_get_wrong_together_is_one_line(environ, says):
    (problem,) = problems_of(environ)
    assert problem.startswith(says)


def test_every_bad_value_is_found_at_once_each_on_a_line_of_its_own(run):
    Path(".env").write_text("CRYPTO_TRIGGER_TIMEOUT=soon\nnonsense here\n")
    os.environ["NATS_URL"] = "foo:bar"
    result = run("publish", "--every", "banana")
    assert result.status == 78
    assert result.out == ""
    lines = result.err.splitlines()
    assert len(lines) == 4
    assert all(line.startswith("crypto-trigger: ") for line in lines)
    for words in (
        ".env line 2 is not NAME=value",
        "NATS_URL 'foo:***' (from the environment)",
        "CRYPTO_TRIGGER_EVERY 'banana' (from --every)",
        "CRYPTO_TRIGGER_TIMEOUT 'soon' (from .env line 1)",
    ):
        assert sum(words in line for line in lines) == 1, words


# Typing errors.


def test_a_variable_that_is_no_setting_is_warned_about_with_a_suggestion():
    write(".env", "CRYPTO_TRIGGER_SUBJET=x\n")
    found = settings_of({"CRYPTO_TRIGGER_GIVEUP_AFTER": "1m", "CRYPTO_TRIGGER_QQQQ": HIDDEN})
    ignored = "is not a setting and is ignored"
    assert found.warnings == (
        f"CRYPTO_TRIGGER_GIVEUP_AFTER (from the environment) {ignored}; did you mean CRYPTO_TRIGGER_GIVE_UP_AFTER?",
        f"CRYPTO_TRIGGER_QQQQ (from the environment) {ignored}",
        f"CRYPTO_TRIGGER_SUBJET (from .env line 1) {ignored}; did you mean CRYPTO_TRIGGER_SUBJECT?",
    )


def test_what_others_set_is_not_warned_about():
    kubernetes = {"CRYPTO_TRIGGER_SERVICE_HOST": "10.0.0.1", "CRYPTO_TRIGGER_PORT_80_TCP": "tcp://10.0.0.1:80"}
    assert settings_of({**kubernetes, "NATS_PORT": "tcp://10.0.0.1:4222", "PATH": "/bin"}).warnings == ()


def test_config_explains_every_setting(run, monkeypatch):
    result = run("config", "--json")
    rows = json.loads(result.out)["settings"]
    assert [row["name"] for row in rows] == [setting.variable for setting in SETTINGS]
    assert all(row["meaning"] and row["origin"] for row in rows)
    monkeypatch.setenv("NATS_USER", "worker")
    monkeypatch.setenv("NATS_PASSWORD", HIDDEN)
    table = run("config").out
    assert HIDDEN not in table
    for setting in SETTINGS:
        assert setting.variable in table
        assert setting.meaning in table


def test_a_user_name_in_a_comment_is_no_secret(run, tmp_path):
    file = tmp_path / "env"
    file.write_text("NATS_CLIENT_ID=worker-server\n#NATS_USER=worker\n")
    assert "NATS_CLIENT_ID = worker-server" in run("config", "--env-file", file).out


def test_settings_cannot_be_changed():
    found = settings_of()
    with pytest.raises(AttributeError):
        found.subject = "other"
    assert (found.replaced(subject="other").subject, found.subject) == ("other", "crypto.update")
