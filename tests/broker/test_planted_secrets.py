"""A secret is not printed where it is repeated: wherever it was set, right or wrong, and however the run ends."""

import base64
import hashlib
import json
import os
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import patch
from urllib.parse import quote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support import examples  # noqa: F401 - how they draw
from support.found import creds
from support.monitors import Monitor
from support.scripted import Scripted, info

from crypto_trigger.commands.ending import Run
from crypto_trigger.deadline import signals
from crypto_trigger.settings import masking

# So much of a secret tells it from everything else that is printed.
PART = 8
QUICK = {"CRYPTO_TRIGGER_TIMEOUT": "200ms", "CRYPTO_TRIGGER_GIVE_UP_AFTER": "300ms"}


class Planted:
    """Where a secret is set: the environment, files of the working directory, and words of the command line."""

    def __init__(self, environ=None, files=None, words=()):
        self.environ, self.files, self.words = environ or {}, files or {}, words


def in_context(secret, **content):
    return Planted({"NATS_CONTEXT": "context.json"}, {"context.json": json.dumps(content), "secret": secret})


def in_env_file(text):
    return Planted({}, {".env": text})


def encoded(secret):
    return quote(secret, safe="")


PLACES = {
    "password": lambda s: Planted({"NATS_USER": "u", "NATS_PASSWORD": s}),
    "password without a user": lambda s: Planted({"NATS_PASSWORD": s}),
    "token": lambda s: Planted({"NATS_TOKEN": s}),
    "token that a file comes beside": lambda s: Planted({"NATS_TOKEN": s, "NATS_TOKEN_FILE": "missing"}),
    "user alone": lambda s: Planted({"NATS_USER": s}),
    "password of a URL": lambda s: Planted({"NATS_URL": f"nats://u:{encoded(s)}@127.0.0.1:1"}),
    "token of a URL": lambda s: Planted({"NATS_URL": f"nats://{encoded(s)}@127.0.0.1:1"}),
    "second of the URLs": lambda s: Planted({"NATS_URL": f"nats://127.0.0.1:1,nats://u:{encoded(s)}@127.0.0.1:1"}),
    "URL with a wrong port": lambda s: Planted({"NATS_URL": f"nats://u:{encoded(s)}@h:x"}),
    "URL with a wrong scheme": lambda s: Planted({"NATS_URL": f"http://u:{encoded(s)}@h"}),
    "URL with half a scheme": lambda s: Planted({"NATS_URL": f"nats:u:{encoded(s)}@h"}),
    "URL without a host": lambda s: Planted({"NATS_URL": f"nats://u:{encoded(s)}"}),
    "URL that is not encoded": lambda s: Planted({"NATS_URL": f"nats://u:{s}@h"}),
    "URL in the place of a context": lambda s: Planted({"NATS_CONTEXT": f"nats://u:{encoded(s)}@h"}),
    "URL of a flag": lambda s: Planted(words=("--server", f"nats://u:{encoded(s)}@127.0.0.1:1")),
    "URL of a short flag": lambda s: Planted(words=(f"-snats://{encoded(s)}@127.0.0.1:1",)),
    "URL that is overridden": lambda s: Planted(
        {"NATS_URL": f"nats://u:{encoded(s)}@h"}, words=("--server", "nats://127.0.0.1:1")
    ),
    "ping URL": lambda s: Planted({"CRYPTO_TRIGGER_PING_URL": f"http://127.0.0.1:1/{encoded(s)}"}),
    "user of a ping URL": lambda s: Planted({"CRYPTO_TRIGGER_PING_URL": f"http://u:{encoded(s)}@127.0.0.1:1/x"}),
    "ping URL without a scheme": lambda s: Planted({"CRYPTO_TRIGGER_PING_URL": f"h/{encoded(s)}"}),
    "fail URL alone": lambda s: Planted({"CRYPTO_TRIGGER_PING_FAIL_URL": f"http://h/{encoded(s)}"}),
    "env file": lambda s: in_env_file(f"NATS_TOKEN='{s}'\n"),
    "env file that another beats": lambda s: Planted(
        {},
        {"a.env": f"NATS_TOKEN={s}\n", "b.env": "NATS_TOKEN=another\n"},
        ("--env-file", "a.env", "--env-file", "b.env"),
    ),
    "env file, overridden": lambda s: Planted({"NATS_TOKEN": "another"}, {".env": f"NATS_TOKEN='{s}'\n"}),
    "env file, overridden by a later line": lambda s: in_env_file(f"NATS_TOKEN='{s}'\nNATS_TOKEN=another\n"),
    "env file, a quote that is not closed": lambda s: in_env_file(f'NATS_TOKEN="{s}\n'),
    "env file, a line without =": lambda s: in_env_file(f"NATS_TOKEN {s}\n"),
    "env file, in backticks": lambda s: in_env_file(f"NATS_TOKEN=`{s}`\n"),
    "env file, a byte order mark before the name": lambda s: in_env_file(f"\n\ufeffNATS_TOKEN={s}\n"),
    "env file, a remark": lambda s: in_env_file(f"#NATS_TOKEN={s}\n"),
    "environment, in quotes": lambda s: Planted({"NATS_TOKEN": f'"{s}"'}),
    "env file that is refused": lambda s: in_env_file(f"NATS_TOKEN={s}\nX={' ' * 300}\n"),
    "password file": lambda s: Planted({"NATS_USER": "u", "NATS_PASSWORD_FILE": "secret"}, {"secret": s + "\n"}),
    "token file": lambda s: Planted({"NATS_TOKEN_FILE": "secret"}, {"secret": s + "\r\n"}),
    "password in the place of a credentials file": lambda s: Planted({"NATS_CREDS": "secret"}, {"secret": s}),
    "JWT of a credentials file": lambda s: Planted({"NATS_CREDS": "secret"}, {"secret": creds(jwt=s)}),
    "seed of a wrong credentials file": lambda s: Planted({"NATS_CREDS": "secret"}, {"secret": creds(seed=s)}),
    "wrong nkey file": lambda s: Planted({"NATS_NKEY": "secret"}, {"secret": s}),
    "context, password": lambda s: in_context(s, user="u", password=s),
    "context, token": lambda s: in_context(s, token=s),
    "context, overridden token": lambda s: Planted(
        {"NATS_TOKEN": "another", "NATS_CONTEXT": "context.json"}, {"context.json": json.dumps({"token": s})}
    ),
    "context, user alone": lambda s: in_context(s, user=s),
    "context, URL": lambda s: in_context(s, url=f"nats://u:{encoded(s)}@127.0.0.1:1"),
    "context, wrong URL": lambda s: in_context(s, url=f"u:{encoded(s)}@h:x"),
    "context, JWT without a seed": lambda s: in_context(s, user_jwt=s),
    "context, from a file": lambda s: in_context(s, token="file://secret"),
    "context, embedded": lambda s: in_context(s, token=f"data:;base64,{base64.b64encode(s.encode()).decode()}"),
    "context, beside what is not supported": lambda s: in_context(s, token=s, socks_proxy="h"),
    "context that is no JSON": lambda s: Planted(
        {"NATS_CONTEXT": "context.json"}, {"context.json": f'{{"token": "{s}",}}'}
    ),
}
# Those that a line of a file holds. A quote of its own would end the value there.
OF_ONE_LINE = [place for place in PLACES if "env file" in place or "no JSON" in place or "credentials" in place]


def ends_well(stack, repeated):
    del stack
    return ["publish", "--dry-run"], {"NATS_CLIENT_ID": repeated}


def wrong_setting(stack, repeated):
    del stack
    return ["publish", "--dry-run"], {"NATS_JS_DOMAIN": f"{repeated} x"}


def wrong_file(stack, repeated):
    del stack
    return ["publish"], {"NATS_CA": repeated}


def wrong_word(stack, repeated):
    del stack
    return ["publish", repeated], {}


def wrong_option(stack, repeated):
    del stack
    return ["check", f"--{repeated}"], {}


def wrong_value(stack, repeated):
    del stack
    return ["history", "--since", repeated], {}


def refused(stack, repeated):
    def script(talk):
        talk.say(info())
        talk.hear(b"PING\r\n")
        talk.say(f"-ERR '{repeated}'\r\n".encode(errors="replace"))

    server = stack.enter_context(Scripted(script))
    return ["publish"], {"NATS_URL": server.url, **QUICK}


def nobody_there(stack, repeated):
    del stack
    return ["publish", "-v"], {"NATS_CLIENT_ID": repeated, "CRYPTO_TRIGGER_STREAM": "s", **QUICK}


def bug(stack, repeated):
    stack.enter_context(patch.object(Run, "draft_trigger", side_effect=KeyError(repeated)))
    return ["publish"], {}


def bug_of_a_check(stack, repeated):
    stack.enter_context(patch("crypto_trigger.delivery.reading.Inspection", side_effect=KeyError(repeated)))
    return ["check", "--format", "prometheus"], {"CRYPTO_TRIGGER_STREAM": "s"}


def signal(stack, repeated):
    def came(*_, **__):
        raise signals.Signalled(15)

    stack.enter_context(patch.object(Run, "draft_trigger", came))
    return ["publish"], {"NATS_CLIENT_ID": repeated}


ENDS = [ends_well, wrong_setting, wrong_file, wrong_word, wrong_option, wrong_value, refused, nobody_there, bug]
ENDS += [bug_of_a_check, signal]
FORMS = {"as it is": str, "encoded": encoded, "in a longer text": lambda secret: f"{'y' * 40}{secret}"}


def secret_of(number, length, odd):
    """Letters and digits that nothing else has, and characters among them that are written in other ways elsewhere."""
    plain = base64.b32encode(hashlib.sha512(str(number).encode()).digest()).decode().strip("=").lower()[:length]
    plain = f"7{plain}"  # a part of a web address that has no digit may be a word
    third = len(plain) // 3
    return f"{plain[:third]}{odd}{plain[third:]}"


def parts(secret):
    return [secret[start : start + PART] for start in range(len(secret) - PART + 1)]


@pytest.fixture(scope="module")
def monitor():
    with Monitor() as running:
        yield running


@settings(derandomize=True, max_examples=250)
@example("password of a URL", wrong_setting, "as it is", "text", 1, 14, "")
@example("ping URL", wrong_setting, "in a longer text", "json", 1, 100, "")
@given(
    place=st.sampled_from([*PLACES]),
    end=st.sampled_from(ENDS),
    form=st.sampled_from([*FORMS]),
    log_format=st.sampled_from(["text", "json"]),
    number=st.integers(0, 999),
    length=st.integers(10, 100),
    odd=st.sampled_from(["", "é", " ", "/", "@", ":", ",", "%", "'", "\\", "\x1b", "\n"]),
)
def test_a_secret_is_not_printed_where_it_is_repeated(run, monitor, place, end, form, log_format, number, length, odd):
    if place in OF_ONE_LINE and odd in "'\\\x1b\n ":
        odd = ""
    secret = secret_of(number, length, odd)
    for path in Path().iterdir():
        path.unlink()
    planted = PLACES[place](secret)
    for name, content in planted.files.items():
        Path(name).write_text(content, newline="")
    monitor.asked.clear()
    with ExitStack() as stack:
        stack.enter_context(patch.object(masking, "_kept", ()))
        words, environ = end(stack, FORMS[form](secret))
        stack.enter_context(
            patch.dict(
                os.environ,
                {
                    "CRYPTO_TRIGGER_REPORT_FILE": "report.json",
                    "CRYPTO_TRIGGER_METRICS_FILE": "metrics.prom",
                    "CRYPTO_TRIGGER_LOG_FORMAT": log_format,
                    "NATS_URL": "nats://127.0.0.1:1",
                    **monitor.environ,
                    **environ,
                    **planted.environ,
                },
            )
        )
        result = run(*words, *planted.words)
    told = [result.out, result.err, *(asked.body.decode() for asked in monitor.asked)]
    told += [Path(name).read_text() for name in ("report.json", "metrics.prom") if Path(name).exists()]
    assert result.out + result.err
    plain = secret.replace(odd, " ") if odd else secret
    for part in parts(plain):
        if " " not in part:
            assert not [text for text in told if part in text], (part, secret)
