"""Whatever the settings hold: the run is refused with 78 or goes ahead, and a secret among them is not printed."""

import json
import os
from pathlib import Path
from unittest.mock import patch
from urllib.parse import quote

from hypothesis import example, given, settings
from hypothesis import strategies as st
from support import examples  # noqa: F401 - how they draw

from crypto_trigger.errors import ConfigError
from crypto_trigger.settings.load import SETTINGS, load
from crypto_trigger.settings.masking import mask_url

# Part of every planted secret, and of nothing else.
CORE = "q7Zx-Planted-9Kv"
REPORT = "report.json"
# Where a report goes is fixed: a test writes nowhere else.
VARIABLES = sorted({setting.variable for setting in SETTINGS} - {"CRYPTO_TRIGGER_REPORT_FILE"})
# Those that every command below takes.
FLAGS = ["--server", "--subject", "--stream", "--delivery", "--timeout", "--give-up-after", "--every"]

# What a process can be given: any bytes but NUL, which Python shows as surrogates where they are not UTF-8.
BYTES = st.binary(max_size=40).map(lambda raw: os.fsdecode(raw.replace(b"\0", b"")))
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40)
ODD = st.sampled_from([
    *("", " ", "\x1b[2J", "\n", "-", ".", "/", "*", ">", "..", "~", "$HOME", "[/]", "[bold]", "\u202ex", "a" * 70000),
    *("nats://", "nats://[::1", "tls://h:99999", "nats://a,,nats://b", "0s", "1h1h", "9" * 400 + "h"),
    "2026-02-30T00:00:00Z",
])  # fmt: skip
JUNK = TEXT | BYTES | ODD
SECRET = st.builds(lambda before, after: before + CORE + after, TEXT | BYTES, TEXT | BYTES)
# A password in a URL, right or wrong in everything around it, alone or in a list.
URL = st.builds(
    lambda scheme, user, secret, host: f"{scheme}{user}:{quote(secret, errors='surrogateescape')}@{host}",
    st.sampled_from(["nats://", "tls://", "nats:", "http://", "", "nats:/", "//"]),
    TEXT,
    SECRET,
    st.sampled_from(["h", "h:4222", "", "[::1", "h:x", "h/p", "h,nats://u@g", "h,nats://g", "h,tls://u:p@g:1"]),
)
# A monitor's URL, right or wrong, with the secret anywhere in it.
PING_URL = st.builds(
    lambda scheme, host, path: f"{scheme}{host}/{path}",
    st.sampled_from(["https://", "http://", "ftp://", "", "https:/"]),
    st.sampled_from(["h", "h:8000", "u:p@h", "h:x", "[::1", "${H}", CORE]),
    SECRET | SECRET.map(lambda secret: quote(secret, errors="surrogateescape")),
)
SECRETS = st.fixed_dictionaries(
    {},
    optional={
        "NATS_PASSWORD": SECRET,
        "NATS_TOKEN": SECRET,
        "NATS_URL": URL,
        "NATS_USER": SECRET,
        "CRYPTO_TRIGGER_PING_URL": PING_URL,
        "CRYPTO_TRIGGER_PING_FAIL_URL": PING_URL,
        "CRYPTO_TRIGGER_LOG_FORMAT": st.sampled_from(["text", "json"]),
    },
)
# A user is no secret, unless there is no password: then it is a token.
ENVIRONMENT = st.builds(
    lambda junk, secrets: junk | (secrets if "NATS_PASSWORD" not in junk | secrets else _without_user(secrets)),
    st.dictionaries(st.sampled_from(VARIABLES), JUNK, max_size=4),
    SECRETS,
)
LINES = st.lists(
    st.builds(
        lambda name, quoting, value, end: f"{name}={quoting}{value}{quoting}{end}",
        st.sampled_from([*VARIABLES, "export NATS_URL", "OTHER", "CRYPTO_TRIGGER_X"]),
        st.sampled_from(["", "'", '"']),
        JUNK,
        st.sampled_from(["\n", "\r\n", "", "\n\n# remark\n"]),
    ),
    max_size=5,
).map(lambda lines: "".join(lines).encode(errors="surrogateescape"))
ENV_FILE = st.one_of(
    st.none(),
    st.binary(max_size=300),
    LINES,
    st.builds(
        lambda lines, quoting, secret: lines + f"\nNATS_PASSWORD={quoting}{secret}".encode(errors="surrogateescape"),
        LINES,
        st.sampled_from(["", "'", '"']),
        SECRET,
    ),
    st.just(b"NATS_TOKEN=" + b"x" * 1_000_000 + CORE.encode()),
)
PUBLISH = ["publish", "--dry-run"]
COMMAND = st.sampled_from([PUBLISH, [*PUBLISH, "--json"], [*PUBLISH, "-v"], ["config"], ["config", "--json"]])


def _without_user(secrets):
    return {name: value for name, value in secrets.items() if name != "NATS_USER"}


# `run` forgets what was printed before; the environment and both files are made anew for every example.
@settings(
    derandomize=True,
    max_examples=300,
)
@example(
    command=["publish", "--dry-run"],
    environment={"NATS_URL": f"nats:u:{CORE}@h,nats://x@g"},
    env_file=None,
    flags={},
)
@given(
    command=COMMAND,
    environment=ENVIRONMENT,
    env_file=ENV_FILE,
    flags=st.dictionaries(st.sampled_from(FLAGS), JUNK, max_size=2),
)
def test_no_settings_crash_a_run_or_let_a_secret_out(run, command, environment, env_file, flags):
    report = Path(REPORT)
    report.unlink(missing_ok=True)
    Path(".env").unlink(missing_ok=True)
    if env_file is not None:
        Path(".env").write_bytes(env_file)
    with patch.dict(os.environ, environment | {"CRYPTO_TRIGGER_REPORT_FILE": REPORT}):
        result = run(*command, *(f"{name}={value}" for name, value in flags.items()))
    assert result.status in (0, 78)
    assert all(letter.isprintable() or letter == "\n" for letter in result.out + result.err)
    written = report.read_text() if report.exists() else ""
    assert CORE not in result.out + result.err + written
    if command[0] == "publish":
        assert json.loads(written)["status"] == result.status


PASSWORD = st.builds(lambda before, after: quote(before + CORE + after, safe=""), *[st.text(max_size=8)] * 2)
# Ways to break an address. None of them makes the password a host name.
BREAKS = [
    "{scheme}{user}:{password}@{host}",
    "{scheme}{user}:{password}",
    "{user}:{password}@{host}",
    "{user}:{password}",
    "{scheme}{user}:{password}{host}",
    "{scheme}:{password}@{host}",
    "{scheme}{user}:{password}@",
    "{scheme}{user}:{password}/{host}",
    "{scheme}{user}:{password} @{host}",
    "{scheme[0]}:{user}:{password}",
    "{scheme[0]}//{user}:{password}",
    "{scheme}{user}:{password}?tls=1",
    "{scheme}{host}",
    "{host}",
]
ADDRESS = st.builds(
    lambda broken, scheme, user, password, host: broken.format(scheme=scheme, user=user, password=password, host=host),
    st.sampled_from(BREAKS),
    st.sampled_from(["nats://", "tls://", "http://", "NATS://"]),
    st.sampled_from(["worker", "u", "a b", "me@example.org", "", "[", "x" * 70]),
    PASSWORD,
    st.sampled_from(["h", "h:4222", "[::1]:4222", "h:x", "${HOST}", "", "h" * 70]),
)


@settings(max_examples=300, derandomize=True)
@given(st.lists(ADDRESS, min_size=1, max_size=4).map(",".join))
def test_a_password_in_any_position_of_a_list_of_urls_is_never_shown(raw):
    assert CORE not in mask_url(raw)
    try:
        said = repr(load({}, os.devnull, {"NATS_URL": raw}))
    except ConfigError as error:
        said = str(error)
    assert CORE not in said
