"""The table of settings: options, their help, `config` and the table of docs/settings.md are made from its rows.

To add a setting, add a field to `Settings`, with its row in place of a default value.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from crypto_trigger.deadline import files
from crypto_trigger.settings import values
from crypto_trigger.settings.setting import Group, Setting, row
from crypto_trigger.slots import times

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime, timedelta
    from pathlib import Path

    from crypto_trigger.settings.setting import Source


def _pem_file(raw: str) -> Path:
    return files.regular_file(values.path(raw))


def _web_address(raw: str) -> str:
    from crypto_trigger.settings import web_address  # few runs need it

    return web_address.parse(raw)


class Settings:
    """The checked settings of a run, which cannot be changed. `sources` says where each value came from.

    The rows below are the table, not defaults: `load` gives every attribute its value. `repr` shows no secret.
    """

    sources: tuple[Source, ...]
    warnings: tuple[str, ...]
    env_files: tuple[str, ...]
    servers: tuple[values.Address, ...] = row(
        Group.CONNECTION,
        "NATS_URL",
        values.servers,
        "nats://localhost:4222",
        "Servers, separated by commas: nats:// or tls://, user and password percent-encoded. One tls:// or any TLS "
        "setting asks TLS of all of them.",
        "--server",
        short="-s",
        metavar="URL",
        context_key="url",
    )
    cluster_id: str = row(
        Group.MESSAGE,
        "NATS_CLUSTER_ID",
        values.label,
        "crypto-stats",
        "Names the stream, unless CRYPTO_TRIGGER_STREAM does; with delivery streaming, the cluster.",
    )
    client_id: str = row(
        Group.CONNECTION,
        "NATS_CLIENT_ID",
        values.label,
        "worker-server",
        "Name of the connection; with delivery streaming, the client ID begins with it.",
    )
    nats_context: str | None = row(
        Group.CONNECTION,
        "NATS_CONTEXT",
        values.text,
        None,
        "A context made by the nats CLI: its name, or the path of a .json file.",
        "--context",
        metavar="NAME",
    )
    user: str | None = row(
        Group.CONNECTION,
        "NATS_USER",
        values.secret,
        None,
        "User name; without a password it is a token, as in the nats CLI, and refused as a flag.",
        "--user",
        metavar="NAME",
        context_key="user",
        verbatim=True,
    )
    password: str | None = row(
        Group.CONNECTION,
        "NATS_PASSWORD",
        values.secret,
        None,
        "Password of NATS_USER.",
        context_key="password",
        secret=True,
        verbatim=True,
    )
    password_file: str | None = row(
        Group.CONNECTION,
        "NATS_PASSWORD_FILE",
        values.mounted_secret,
        None,
        "File that holds the password, such as a mounted secret.",
        metavar="PATH",
        reads=True,
    )
    token: str | None = row(
        Group.CONNECTION, "NATS_TOKEN", values.secret, None, "Token.", context_key="token", secret=True, verbatim=True
    )
    token_file: str | None = row(
        Group.CONNECTION,
        "NATS_TOKEN_FILE",
        values.mounted_secret,
        None,
        "File that holds the token.",
        metavar="PATH",
        reads=True,
    )
    creds: values.Creds | None = row(
        Group.CONNECTION,
        "NATS_CREDS",
        values.creds,
        None,
        "Credentials file: JWT and seed.",
        "--creds",
        context_key="creds",
        metavar="PATH",
        reads=True,
    )
    nkey: str | None = row(
        Group.CONNECTION,
        "NATS_NKEY",
        values.nkey_seed,
        None,
        "File that holds the user's nkey seed.",
        context_key="nkey",
        metavar="PATH",
        reads=True,
    )
    ca: Path | None = row(
        Group.CONNECTION,
        "NATS_CA",
        _pem_file,
        None,
        "File of the certificate authorities to trust, PEM; the system's if not set.",
        metavar="PATH",
        context_key="ca",
    )
    cert: Path | None = row(
        Group.CONNECTION,
        "NATS_CERT",
        _pem_file,
        None,
        "File of the client certificate, PEM.",
        metavar="PATH",
        context_key="cert",
    )
    key: Path | None = row(
        Group.CONNECTION,
        "NATS_KEY",
        _pem_file,
        None,
        "File of the client certificate's key, PEM, not encrypted.",
        metavar="PATH",
        context_key="key",
    )
    tls_first: bool = row(
        Group.CONNECTION,
        "NATS_TLS_FIRST",
        values.boolean,
        "false",
        "TLS before anything else, for servers with handshake_first.",
        context_key="tls_first",
    )
    inbox_prefix: str = row(
        Group.CONNECTION,
        "NATS_INBOX_PREFIX",
        values.subject,
        "_INBOX",
        "Subject that the inboxes for answers begin with.",
        context_key="inbox_prefix",
    )
    js_domain: str | None = row(
        Group.CONNECTION, "NATS_JS_DOMAIN", values.name, None, "JetStream domain.", context_key="jetstream_domain"
    )
    subject: str = row(
        Group.MESSAGE,
        "CRYPTO_TRIGGER_SUBJECT",
        values.subject,
        "crypto.update",
        "Subject of the trigger.",
        "--subject",
        metavar="NAME",
    )
    stream: str = row(
        Group.MESSAGE,
        "CRYPTO_TRIGGER_STREAM",
        values.name,
        None,
        "Stream that stores the trigger.",
        "--stream",
        metavar="NAME",
        default_of="cluster_id",
    )
    delivery: values.Delivery = row(
        Group.MESSAGE,
        "CRYPTO_TRIGGER_DELIVERY",
        values.delivery,
        "jetstream",
        "How to deliver: jetstream (stored, one per slot), core (to whoever listens) or streaming (NATS Streaming).",
        "--delivery",
        metavar="NAME",
    )
    require_subscriber: bool = row(
        Group.MESSAGE,
        "CRYPTO_TRIGGER_REQUIRE_SUBSCRIBER",
        values.boolean,
        "false",
        "With delivery core: fail where nobody listens.",
        "--require-subscriber",
        commands=("publish",),
    )
    guard: values.Guard = row(
        Group.MESSAGE,
        "CRYPTO_TRIGGER_GUARD",
        values.guard,
        "compare-and-set",
        "With delivery jetstream, what keeps a slot single: compare-and-set (and the msg id), or msg-id alone, for "
        "subjects that other streams copy.",
        "--guard",
        metavar="NAME",
        commands=("publish",),
    )
    client_id_exact: bool = row(
        Group.CONNECTION,
        "CRYPTO_TRIGGER_CLIENT_ID_EXACT",
        values.boolean,
        "false",
        "With delivery streaming: NATS_CLIENT_ID is the whole client ID. Otherwise - and 8 hex digits are added to it.",
    )
    discover_prefix: str = row(
        Group.CONNECTION,
        "CRYPTO_TRIGGER_DISCOVER_PREFIX",
        values.subject,
        "_STAN.discover",
        "With delivery streaming: where servers take connect requests.",
    )
    every: timedelta = row(
        Group.TIME,
        "CRYPTO_TRIGGER_EVERY",
        times.slot_length,
        "15m",
        "Length of a slot: the cadence of the scheduler, or longer.",
        "--every",
        metavar="DURATION",
    )
    early: timedelta = row(
        Group.TIME,
        "CRYPTO_TRIGGER_EARLY",
        times.tolerance,
        "5s",
        "A run this close before a slot belongs to that slot.",
    )
    scheduled_at: datetime | None = row(
        Group.TIME,
        "CRYPTO_TRIGGER_SCHEDULED_AT",
        times.instant,
        None,
        "The time this run stands for, RFC 3339; the present time if not set.",
        "--scheduled-at",
        metavar="TIME",
        commands=("publish",),
    )
    k8s_job: str | None = row(
        Group.TIME,
        "CRYPTO_TRIGGER_K8S_JOB",
        values.text,
        None,
        "Kubernetes Job name, whose numeric tail is the scheduled minute.",
    )
    timeout: timedelta = row(
        Group.TIME,
        "CRYPTO_TRIGGER_TIMEOUT",
        times.duration,
        "5s",
        "Longest wait of one attempt for one answer.",
        "--timeout",
        metavar="DURATION",
    )
    give_up_after: timedelta = row(
        Group.TIME,
        "CRYPTO_TRIGGER_GIVE_UP_AFTER",
        times.duration,
        "60s",
        "Deadline for everything; shorter than CRYPTO_TRIGGER_EVERY.",
        "--give-up-after",
        metavar="DURATION",
    )
    backoff_base: timedelta = row(
        Group.TIME,
        "CRYPTO_TRIGGER_BACKOFF_BASE",
        times.duration,
        "250ms",
        "Longest first wait for a retry; doubles each time, with full jitter.",
    )
    backoff_max: timedelta = row(
        Group.TIME, "CRYPTO_TRIGGER_BACKOFF_MAX", times.duration, "10s", "Longest wait for a retry."
    )
    report_file: str | None = row(
        Group.OUTPUT,
        "CRYPTO_TRIGGER_REPORT_FILE",
        values.path,
        None,
        "File that the report of a publish is written to, as JSON.",
        "--report-file",
        metavar="PATH",
        commands=("publish",),
    )
    metrics_file: str | None = row(
        Group.OUTPUT,
        "CRYPTO_TRIGGER_METRICS_FILE",
        values.path,
        None,
        "File of metrics about the last publish, for the textfile collector of Prometheus's node exporter.",
        "--metrics-file",
        metavar="PATH",
        commands=("publish",),
    )
    ping_url: str | None = row(
        Group.OUTPUT,
        "CRYPTO_TRIGGER_PING_URL",
        _web_address,
        None,
        "URL of a monitor that each publish calls at its end, in the protocol of healthchecks.",
        secret=True,
    )
    ping_fail_url: str | None = row(
        Group.OUTPUT,
        "CRYPTO_TRIGGER_PING_FAIL_URL",
        _web_address,
        None,
        "URL that a publish calls if it failed; CRYPTO_TRIGGER_PING_URL is then called only after a success. Both are "
        "called as they are, by GET.",
        secret=True,
    )
    log_format: values.LogFormat = row(
        Group.OUTPUT,
        "CRYPTO_TRIGGER_LOG_FORMAT",
        values.log_format,
        "text",
        "Format of what is written to stderr: text, or json (one object per line).",
    )
    traceparent: str | None = row(
        Group.MESSAGE,
        "TRACEPARENT",
        values.traceparent,
        None,
        "W3C trace context, sent on with the trigger; an invalid one is ignored.",
        ignorable=True,
    )
    tracestate: str | None = row(
        Group.MESSAGE,
        "TRACESTATE",
        values.tracestate,
        None,
        "W3C trace state, sent on with the trigger; an invalid one is ignored.",
        ignorable=True,
    )

    def __init__(self, found: Mapping[str, Any]) -> None:
        """Take the value of each attribute."""
        vars(self).update(found)

    def __setattr__(self, name: str, _: object) -> None:
        raise AttributeError(f"{name}: settings cannot be changed")

    def replaced(self, **changes: Any) -> Self:  # noqa: ANN401 - each setting has a type of its own
        """Return settings with other values for some attributes."""
        return type(self)({**vars(self), **changes})

    def __repr__(self) -> str:
        return f"Settings({', '.join(map(repr, self.sources))})"

    def source(self, attribute: str) -> Source:
        """Return the source of a value."""
        return next(source for source in self.sources if source.setting.attribute == attribute)

    def named_by(self, attribute: str) -> Source:
        """Return the source of a value: that of the setting that it is taken from, if it is not set itself."""
        source = self.source(attribute)
        other = source.setting.default_of and self.source(source.setting.default_of)
        return other if other and source.origin == other.setting.variable else source

    def credentials_in_force(self, address: values.Address) -> str:
        """Describe in words which credentials are sent to a server, and where they came from. Shows no secret."""
        from crypto_trigger.settings.credentials import in_force

        return in_force(self, address)


SETTINGS: tuple[Setting, ...] = tuple(row for row in vars(Settings).values() if isinstance(row, Setting))
