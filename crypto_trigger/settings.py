"""Find each setting's value, check it, freeze it, and remember where it came from.

A flag beats the environment, which beats the env file, which beats a NATS context, which beats the default. An empty
variable counts as not set. Everything that can be wrong without the network is found here, all of it at once.
"""

# No `from __future__ import annotations` here: a named tuple would compile each field's annotation from its text, on
# every run.

import os
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from enum import IntEnum
from pathlib import Path
from typing import Any, NamedTuple

from crypto_trigger import values
from crypto_trigger.errors import ConfigError
from crypto_trigger.files import read_text

_LONGEST_SHOWN = 80
_TEST_SWITCH = "CRYPTO_TRIGGER_TEST_ALL"  # the test suite's, not a setting, and no typing error either
MASK = "***"


class Layer(IntEnum):
    """Where a value can come from; the lower one wins."""

    FLAG = 0
    ENVIRONMENT = 1
    ENV_FILE = 2
    CONTEXT = 3
    DEFAULT = 4


class Setting(NamedTuple):
    """One row of the table of settings: a name in every layer, a parser, a default and a meaning."""

    attribute: str
    variable: str
    parse: Callable[[str], object]
    default: str | None
    meaning: str
    flag: str | None = None
    context_key: str | None = None
    secret: bool = False


SETTINGS = (
    Setting(
        "servers",
        "NATS_URL",
        values.servers,
        "nats://localhost:4222",
        "servers, separated by commas: nats:// or tls://, user and password percent-encoded",
        "--server",
        "url",
    ),
    Setting(
        "cluster_id",
        "NATS_CLUSTER_ID",
        values.text,
        "crypto-stats",
        "names the stream (jetstream), unless CRYPTO_TRIGGER_STREAM does; the cluster (streaming)",
    ),
    Setting(
        "client_id",
        "NATS_CLIENT_ID",
        values.text,
        "worker-server",
        "name of the connection; how the client ID begins (streaming), before - and 8 hex digits",
    ),
    Setting("context", "NATS_CONTEXT", values.text, None, "a context made by the nats CLI: its name, or a .json path"),
    Setting("user", "NATS_USER", values.secret, None, "user name; without a password it is a token", None, "user"),
    Setting("password", "NATS_PASSWORD", values.secret, None, "password", None, "password", secret=True),
    Setting("password_file", "NATS_PASSWORD_FILE", values.secret_file, None, "file that holds the password"),
    Setting("token", "NATS_TOKEN", values.secret, None, "token", None, "token", secret=True),
    Setting("token_file", "NATS_TOKEN_FILE", values.secret_file, None, "file that holds the token"),
    Setting("creds", "NATS_CREDS", values.creds_file, None, "credentials file (JWT and seed)", None, "creds"),
    Setting("nkey", "NATS_NKEY", values.nkey_file, None, "file that holds the user's nkey seed", None, "nkey"),
    Setting("ca", "NATS_CA", values.readable_file, None, "certificate authorities to trust, PEM", None, "ca"),
    Setting("cert", "NATS_CERT", values.readable_file, None, "client certificate, PEM", None, "cert"),
    Setting("key", "NATS_KEY", values.readable_file, None, "client certificate's key, PEM", None, "key"),
    Setting(
        "tls_first",
        "NATS_TLS_FIRST",
        values.boolean,
        "false",
        "TLS before anything else, for servers with handshake_first",
        None,
        "tls_first",
    ),
    Setting(
        "inbox_prefix",
        "NATS_INBOX_PREFIX",
        values.subject,
        "_INBOX",
        "where answers come in",
        None,
        "inbox_prefix",
    ),
    Setting("js_domain", "NATS_JS_DOMAIN", values.name, None, "JetStream domain", None, "jetstream_domain"),
    Setting(
        "subject",
        "CRYPTO_TRIGGER_SUBJECT",
        values.subject,
        "crypto.update",
        "subject of the trigger",
        "--subject",
    ),
    Setting(
        "stream",
        "CRYPTO_TRIGGER_STREAM",
        values.name,
        None,
        "stream that stores the trigger; NATS_CLUSTER_ID if not set",
        "--stream",
    ),
    Setting(
        "delivery",
        "CRYPTO_TRIGGER_DELIVERY",
        values.delivery,
        "jetstream",
        "how to deliver: jetstream (one per slot, stored), core (to whoever listens), streaming (NATS Streaming)",
        "--delivery",
    ),
    Setting(
        "require_subscriber",
        "CRYPTO_TRIGGER_REQUIRE_SUBSCRIBER",
        values.boolean,
        "false",
        "fail where nobody listens (core)",
        "--require-subscriber",
    ),
    Setting(
        "client_id_exact",
        "CRYPTO_TRIGGER_CLIENT_ID_EXACT",
        values.boolean,
        "false",
        "NATS_CLIENT_ID is the whole client ID (streaming): fails while another client holds it",
    ),
    Setting(
        "discover_prefix",
        "CRYPTO_TRIGGER_DISCOVER_PREFIX",
        values.subject,
        "_STAN.discover",
        "the server's discover_prefix (streaming)",
    ),
    Setting(
        "every",
        "CRYPTO_TRIGGER_EVERY",
        values.slot_length,
        "15m",
        "length of a slot: the cadence of the scheduler, or longer",
        "--every",
    ),
    Setting(
        "early",
        "CRYPTO_TRIGGER_EARLY",
        values.tolerance,
        "5s",
        "a run this close before a slot belongs to that slot",
    ),
    Setting(
        "scheduled_at",
        "CRYPTO_TRIGGER_SCHEDULED_AT",
        values.instant,
        None,
        "the time this run stands for, RFC 3339; the clock if not set",
        "--scheduled-at",
    ),
    Setting(
        "k8s_job",
        "CRYPTO_TRIGGER_K8S_JOB",
        values.text,
        None,
        "Kubernetes Job name, whose numeric tail is the scheduled minute",
    ),
    Setting(
        "timeout",
        "CRYPTO_TRIGGER_TIMEOUT",
        values.duration,
        "5s",
        "one attempt's longest wait for one answer",
        "--timeout",
    ),
    Setting(
        "give_up_after",
        "CRYPTO_TRIGGER_GIVE_UP_AFTER",
        values.duration,
        "60s",
        "the deadline for everything",
        "--give-up-after",
    ),
    Setting("backoff_base", "CRYPTO_TRIGGER_BACKOFF_BASE", values.duration, "250ms", "longest first wait for a retry"),
    Setting("backoff_max", "CRYPTO_TRIGGER_BACKOFF_MAX", values.duration, "10s", "longest wait for a retry"),
    Setting(
        "report_file",
        "CRYPTO_TRIGGER_REPORT_FILE",
        values.text,
        None,
        "file that the report of a publish is written to, as JSON",
        "--report-file",
    ),
    Setting("traceparent", "TRACEPARENT", values.text, None, "W3C trace context, sent on with the trigger"),
    Setting("tracestate", "TRACESTATE", values.text, None, "W3C trace state, sent on with the trigger"),
)
_BY_ATTRIBUTE = {setting.attribute: setting for setting in SETTINGS}
_CONTEXT_KEYS = {setting.context_key for setting in SETTINGS} - {None}
# What a context can hold besides that decides neither where we connect nor as whom.
_CONTEXT_REST = {"name", "description", "color_scheme", "jetstream_event_prefix"}


class Source(NamedTuple):
    """One setting as it was found: its text and the place it came from; `raw` is None where nothing sets it."""

    setting: Setting
    raw: str | None
    layer: Layer
    origin: str

    def __repr__(self) -> str:
        return f"{self.setting.variable}='{self.shown}' from {self.origin}"

    @property
    def shown(self) -> str:
        """The text as it may be shown: secrets and the credentials in URLs masked, control characters escaped."""
        if not self.raw:
            return ""
        if self.setting.secret:
            return MASK
        raw = values.mask_url(self.raw) if self.setting.parse is values.servers else values.mask_seed(self.raw)
        clipped = raw if len(raw) <= _LONGEST_SHOWN else raw[:_LONGEST_SHOWN] + "..."
        return clipped if clipped.isprintable() else clipped.encode("unicode_escape").decode()

    def problem(self, what: str) -> str:
        """Return the line that names the variable, the value, where it came from, and what is wrong with it."""
        return f"{self.setting.variable} '{self.shown}' (from {self.origin}) {what}"


class Settings(NamedTuple):
    """Everything a run needs to know, checked. `repr` shows no secret; `sources` tells where each value came from."""

    servers: tuple[values.Server, ...]
    cluster_id: str
    client_id: str
    context: str | None
    user: str | None
    password: str | None
    token: str | None
    creds: values.Creds | None
    nkey: str | None
    ca: Path | None
    cert: Path | None
    key: Path | None
    tls_first: bool
    inbox_prefix: str
    js_domain: str | None
    subject: str
    stream: str
    delivery: values.Delivery
    require_subscriber: bool
    client_id_exact: bool
    discover_prefix: str
    every: timedelta
    early: timedelta
    scheduled_at: datetime | None
    k8s_job: str | None
    timeout: timedelta
    give_up_after: timedelta
    backoff_base: timedelta
    backoff_max: timedelta
    report_file: str | None
    traceparent: str | None
    tracestate: str | None
    env_file: str | None
    sources: tuple[Source, ...]
    warnings: tuple[str, ...]

    def __repr__(self) -> str:
        return f"Settings({', '.join(map(repr, self.sources))})"

    @property
    def secrets(self) -> tuple[str, ...]:
        """Every text that must appear in no output."""
        own = (self.password, self.token, self.nkey, *((self.creds.seed, self.creds.jwt) if self.creds else ()))
        urls = (part for server in self.servers for part in (server.password, server.token))
        # A user without a password is a token.
        lone_user = self.user if self.password is None else None
        return tuple(filter(None, (*own, *urls, lone_user)))

    def source(self, attribute: str) -> Source:
        """Return where a value came from."""
        return next(source for source in self.sources if source.setting.attribute == attribute)


def load(flags: Mapping[str, str | None], env_file: str | None, environ: Mapping[str, str]) -> Settings:
    """Return the settings of a run, from flags (by attribute), the environment, the env file and a NATS context.

    `env_file` None means `.env` in the working directory, if there is one. Raises ConfigError with one line for each
    value that is wrong.
    """
    found = _Finder(flags, env_file, environ)
    found.drop_weaker("password_file", "password")
    found.drop_weaker("token_file", "token")
    parsed = {source.setting.attribute: found.parse(source) for source in found.sources}
    _merge_secret_file(parsed, found, "password")
    _merge_secret_file(parsed, found, "token")
    if parsed["password"] is None:
        found.hide("user")
    if parsed["stream"] is None and "stream" not in found.broken:
        parsed["stream"] = found.default_stream()
    _check_together(parsed, found)
    if found.problems:
        known = {name: value for name, value in parsed.items() if name not in found.broken}
        raise ConfigError(*found.problems, known=known)
    return Settings(**parsed, env_file=env_file, sources=tuple(found.sources), warnings=tuple(found.warnings))


class _Finder:
    """The layers, read once; what is wrong with them; and the way from a setting to its source."""

    def __init__(self, flags: Mapping[str, str | None], env_file: str | None, environ: Mapping[str, str]) -> None:
        self.problems: list[str] = []
        self.warnings: list[str] = []
        self.broken: set[str] = set()
        self._flags = flags
        self._environ = environ
        self._file = self._read_env_file(env_file)
        self._context: dict[str, str] = {}
        self._context_origin = ""
        context = self._find(_BY_ATTRIBUTE["context"])
        if context.raw:
            self._read_context(context)
        self.sources = [self._find(setting) for setting in SETTINGS]
        self._warn_of_unknown()

    def _find(self, setting: Setting) -> Source:
        flag = self._flags.get(setting.attribute)
        if flag is not None:
            return Source(setting, flag, Layer.FLAG, setting.flag or "")
        if raw := self._environ.get(setting.variable):
            return Source(setting, raw, Layer.ENVIRONMENT, "the environment")
        if (entry := self._file.get(setting.variable)) and entry[0]:
            return Source(setting, entry[0], Layer.ENV_FILE, entry[1])
        if setting.context_key and (raw := self._context.get(setting.context_key)):
            return Source(setting, raw, Layer.CONTEXT, self._context_origin)
        return Source(setting, setting.default, Layer.DEFAULT, "the default")

    def source(self, attribute: str) -> Source:
        return next(source for source in self.sources if source.setting.attribute == attribute)

    def parse(self, source: Source) -> Any:  # noqa: ANN401 - each setting has a type of its own
        if source.raw is None:
            return None
        try:
            return source.setting.parse(source.raw)
        except ValueError as error:
            self.wrong(source, str(error))
            return None

    def wrong(self, source: Source, what: str) -> None:
        self.problems.append(source.problem(what))
        self.broken.add(source.setting.attribute)

    def drop_weaker(self, mounted: str, direct: str) -> None:
        """Do not even read a secret's file where a stronger layer has the secret itself."""
        file, text = self.source(mounted), self.source(direct)
        if file.raw is not None and text.raw is not None and text.layer < file.layer:
            self.sources[self.sources.index(file)] = file._replace(
                raw=None, layer=Layer.DEFAULT, origin=f"{text.setting.variable} comes first"
            )

    def hide(self, attribute: str) -> None:
        """Treat a value as a secret: a user name without a password is a token."""
        source = self.source(attribute)
        setting = source.setting._replace(secret=True)
        self.sources[self.sources.index(source)] = source._replace(setting=setting)

    def default_stream(self) -> str | None:
        """Name the stream after the cluster, as the old system's users know it."""
        cluster = self.source("cluster_id")
        index = self.sources.index(self.source("stream"))
        self.sources[index] = Source(_BY_ATTRIBUTE["stream"], cluster.raw, cluster.layer, "NATS_CLUSTER_ID")
        try:
            return values.name(cluster.raw or "")
        except ValueError as error:
            if "cluster_id" not in self.broken:
                self.wrong(cluster, f"{error}; set CRYPTO_TRIGGER_STREAM to name the stream otherwise")
            return None

    def _read_env_file(self, path: str | None) -> dict[str, tuple[str | None, str]]:
        if path is None:
            # A directory of that name is somebody's virtual environment, not ours to complain about.
            if not os.path.lexists(".env") or Path(".env").is_dir():
                return {}
            shown = ".env"
        else:
            shown = path
        from io import StringIO

        from dotenv.parser import parse_stream

        try:
            # Node's dotenv, which wrote these files, expands no ${NAME}; neither do we.
            bindings = list(parse_stream(StringIO(read_text(shown))))
        except ValueError as error:
            asked = f"--env-file '{shown}'" if path is not None else "the env file '.env' of the working directory"
            self.problems.append(f"{asked} {error}")
            return {}
        entries: dict[str, tuple[str | None, str]] = {}
        for binding in bindings:
            text = binding.original.string
            # The parser counts a binding from the blank lines before it.
            line = binding.original.line + text[: len(text) - len(text.lstrip())].count("\n")
            origin = f"{shown} line {line}"
            if binding.error:
                self.problems.append(f"{origin} is not NAME=value; correct it, or put # before it")
            elif binding.key:
                entries[binding.key] = (binding.value, origin)
        return entries

    def _read_context(self, source: Source) -> None:
        import json

        name = source.raw or ""
        if name.endswith(".json"):
            path = Path(values.expand(name))
        elif {"/", "\\"} & set(name) or ".." in name:
            self.wrong(
                source, "is no context name; give a name that `nats context ls` shows, or a path to a .json file"
            )
            return
        else:
            base = self._environ.get("XDG_CONFIG_HOME") or values.expand("~/.config")
            path = Path(base, "nats", "context", f"{name}.json")
        try:
            text = read_text(str(path))
        except ValueError as error:
            self.wrong(source, f"{error} (at {path}); `nats context ls` shows the contexts there are")
            return
        try:
            content = json.loads(text)
        except ValueError:
            content = None
        if not isinstance(content, dict):
            self.wrong(source, f"is not a NATS context: {path} is not a JSON object")
            return
        self._context_origin = f"context {path}"
        for key, value in content.items():
            self._take_from_context(source, key, value)

    def _take_from_context(self, source: Source, key: str, value: object) -> None:
        if value in ("", None, False, []) or key in _CONTEXT_REST:
            return
        if key not in _CONTEXT_KEYS:
            self.wrong(source, f"uses {key}, which is not supported here; set NATS_* variables instead")
        elif isinstance(value, bool):
            self._context[key] = "true"
        elif not isinstance(value, str):
            self.wrong(source, f"holds a {key} that is not text")
        elif key != "url" and "://" in value and not value.startswith("file://"):
            self.wrong(source, f"holds a {key} to be fetched from elsewhere, which is not supported here")
        else:
            self._context[key] = value.removeprefix("file://")

    def _warn_of_unknown(self) -> None:
        known = {setting.variable for setting in SETTINGS} | {_TEST_SWITCH}
        seen = dict.fromkeys(self._environ, "the environment") | {name: at for name, (_, at) in self._file.items()}
        for name, origin in sorted(seen.items()):
            # Kubernetes sets CRYPTO_TRIGGER_SERVICE_HOST, CRYPTO_TRIGGER_PORT... for a Service of that name.
            linked = name.startswith(("CRYPTO_TRIGGER_SERVICE_", "CRYPTO_TRIGGER_PORT"))
            if name.startswith("CRYPTO_TRIGGER_") and name not in known and not linked:
                from difflib import get_close_matches

                # The names share their beginning, which alone makes none of them the one that was meant.
                close = get_close_matches(name, known, 1, cutoff=0.85)
                meant = f"; did you mean {close[0]}?" if close else ""
                self.warnings.append(f"{name} (from {origin}) is not a setting and is ignored{meant}")


def _merge_secret_file(parsed: dict[str, Any], found: _Finder, attribute: str) -> None:
    """Let a mounted secret stand in for the variable: the one from the stronger layer wins."""
    file_value = parsed.pop(f"{attribute}_file")
    direct, mounted = found.source(attribute), found.source(f"{attribute}_file")
    if mounted.raw is None:
        return
    if direct.raw is not None and direct.layer == mounted.layer:
        found.wrong(mounted, f"is set beside {direct.setting.variable}; keep one of the two")
    else:
        parsed[attribute] = file_value


def _check_together(parsed: Mapping[str, Any], found: _Finder) -> None:
    """Check what only two values together can get wrong."""

    def both(first: str, second: str) -> tuple[Any, Any] | None:
        pair = parsed[first], parsed[second]
        return pair if None not in pair else None

    for short, long in (("give_up_after", "every"), ("early", "every")):
        if (pair := both(short, long)) and pair[0] >= pair[1]:
            other = found.source(long)
            found.wrong(
                found.source(short),
                f"must be shorter than {other.setting.variable} '{other.shown}' (from {other.origin})",
            )
    if (pair := both("backoff_base", "backoff_max")) and pair[0] > pair[1]:
        other = found.source("backoff_max")
        found.wrong(
            found.source("backoff_base"),
            f"must not be longer than {other.setting.variable} '{other.shown}' (from {other.origin})",
        )
    _check_delivery(parsed, found)
    for one, missing in (("cert", "key"), ("key", "cert")):
        if parsed[one] is not None and found.source(missing).raw is None:
            found.wrong(found.source(one), f"needs {_BY_ATTRIBUTE[missing].variable} beside it")


def _check_delivery(parsed: Mapping[str, Any], found: _Finder) -> None:
    """Check what a delivery asks of other settings."""
    delivery = parsed["delivery"]
    if delivery not in (values.Delivery.CORE, None) and parsed["require_subscriber"]:
        found.wrong(
            found.source("require_subscriber"),
            f"needs CRYPTO_TRIGGER_DELIVERY=core; {delivery} stores the trigger for subscribers to come",
        )
    if delivery is not values.Delivery.STREAMING:
        return
    for attribute, check in (
        ("client_id", values.check_client_id),
        ("cluster_id", values.name),
        ("subject", values.check_channel),
    ):
        if attribute not in found.broken:
            try:
                check(parsed[attribute])
            except ValueError as error:
                found.wrong(found.source(attribute), str(error))


def explain(settings: Settings) -> Sequence[Mapping[str, str]]:
    """Return a row for each setting: `name`, `value` (masked if secret), `origin`, `meaning`."""
    return [
        {
            "name": source.setting.variable,
            "value": source.shown,
            "origin": source.origin if source.raw is not None else "not set",
            "meaning": source.setting.meaning,
        }
        for source in settings.sources
    ]
