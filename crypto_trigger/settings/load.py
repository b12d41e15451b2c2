"""Find the value of each setting, check it, and remember where it came from.

The order of precedence is: flag, environment, env file, NATS context, default. An empty variable counts as not set.
Every problem that can be found without the network is found here, all of them in one run, within a time limit.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, assert_never

from crypto_trigger.deadline import files
from crypto_trigger.errors import ConfigError
from crypto_trigger.settings import masking, values
from crypto_trigger.settings.setting import Layer, Setting, Source
from crypto_trigger.settings.table import SETTINGS, Settings
from crypto_trigger.slots import times

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from crypto_trigger.settings.contexts import Value
    from crypto_trigger.settings.env_file import Entry

__all__ = ["SETTINGS", "Settings", "explain", "load"]

# The time limit for reading all files together, in seconds, if the deadline does not come first.
_READ_SECONDS = 5.0
# In bytes. A longer value is refused before it is parsed.
_LONGEST_VALUE = 8192
_TEST_SWITCH = "CRYPTO_TRIGGER_TEST_ALL"  # for the test suite; neither a setting nor a typing error
_MOST_WARNINGS = 10
_ENV_FILE = ".env"
# The flags that give credentials, the strongest first, and what each takes the place of.
_CREDENTIAL_FLAGS = {
    "user": ("creds", "nkey", "token", "token_file"),
    "creds": ("user", "password", "password_file", "nkey", "token", "token_file"),
}
_BY_ATTRIBUTE = {setting.attribute: setting for setting in SETTINGS}
_CONTEXT_KEYS = {setting.context_key for setting in SETTINGS if setting.context_key}


def load(
    flags: Mapping[str, str | None],
    env_files: str | Sequence[str] | None,
    environ: Mapping[str, str],
    began: float | None = None,
    seconds: float | None = None,
) -> Settings:
    """Return the settings of a run, from flags (by attribute), the environment, the env file and a NATS context.

    `env_files` are paths, or one path; of two files with the same variable the later one counts. None means `.env` in
    the working directory, if there is one. `began` is when the run began, as a time of
    `time.monotonic()`. Reading the files ends after `seconds` (None: 5), or at the deadline, which counts from `began`.
    Raises ConfigError with one line for each value that is wrong.
    """
    paths = (env_files,) if isinstance(env_files, str) else tuple(env_files or ())
    found = _Finder(flags, paths, environ, time.monotonic() if began is None else began, seconds)
    for attribute in ("password", "token"):
        found.drop_weaker(f"{attribute}_file", attribute)
    parsed = {attribute: found.parse(source) for attribute, source in found.sources.items()}
    for attribute in ("password", "token"):
        _merge_secret_file(parsed, found, attribute)
    if parsed["password"] is None:
        found.hide_user()
    _prefer_flags(parsed, found)
    for attribute, problem in check(parsed, found.sources):
        if attribute not in found.broken:
            found.wrong(found.sources[attribute], problem)
    if found.problems:
        known = {name: value for name, value in parsed.items() if name not in found.broken}
        raise ConfigError(*found.problems, known={**known, "sources": tuple(found.sources.values())})
    parsed["servers"] = _encrypted(parsed)
    sources, warnings = tuple(found.sources.values()), tuple(found.warnings)
    return Settings({**parsed, "sources": sources, "warnings": warnings, "env_files": paths})


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


class _Finder:
    """Reads the layers once, collects their problems, and finds the source of each setting."""

    def __init__(
        self,
        flags: Mapping[str, str | None],
        paths: Sequence[str],
        environ: Mapping[str, str],
        began: float,
        seconds: float | None,
    ) -> None:
        self._problems: list[tuple[Source | None, str]] = []
        self._warnings: list[tuple[Source | None, str]] = []
        self.broken: set[str] = set()
        self._flags = flags
        self._environ = environ
        self._file: dict[str, Entry] = {}
        self._lines: list[tuple[str, str]] = []
        self._context: Mapping[str, Value] = {}
        self._context_origin = ""
        self._latest = self._until = time.monotonic() + (_READ_SECONDS if seconds is None else seconds)
        self._bound_by_deadline(began)
        self._read_env_files(paths, began)
        self._read_context(self._find(_BY_ATTRIBUTE["nats_context"]))
        for setting in SETTINGS:
            self._keep_secrets(setting)
        self.sources = {setting.attribute: self._find(setting) for setting in SETTINGS}
        for setting in SETTINGS:
            if setting.default_of and self.sources[setting.attribute].raw is None:
                other = self.sources[setting.default_of]
                self.sources[setting.attribute] = Source(setting, other.raw, other.layer, other.setting.variable)
        self._warn_of_unknown()

    def parse(self, source: Source) -> Any:  # noqa: ANN401 - each setting has a type of its own
        """Return the value of a setting, or None where it is not set or is wrong."""
        setting, raw = source.setting, source.raw
        if raw is None:
            return None
        try:
            text = values.bounded(raw, _LONGEST_VALUE)
            # Of backticks in an env file, it is said already that they are quotes for others.
            told = source.layer == Layer.ENV_FILE and text.startswith("`")
            if not (setting.verbatim or source.inline or told):
                values.check_quotes(text)
            if setting.reads and not source.inline:
                text = files.read_text(values.path(text), self._until)
            if setting.reads:
                masking.keep(masking.secrets_of_file(text))
            return setting.parse(text)
        except ValueError as error:
            if setting.ignorable:
                self._warnings.append((source, f"{error}; it is ignored"))
                self.sources[setting.attribute] = Source(setting, None, Layer.DEFAULT, "ignored")
            elif setting.default_of and source.origin == _BY_ATTRIBUTE[setting.default_of].variable:
                self._wrong_as_default(setting, str(error))
            else:
                self.wrong(source, str(error))
            return None

    def wrong(self, source: Source, what: str) -> None:
        """Note what is wrong with a value."""
        self._problems.append((source, what))
        self.broken.add(source.setting.attribute)

    def drop_weaker(self, mounted: str, direct: str) -> None:
        """Ignore the file of a secret, without reading it, where the secret itself takes precedence."""
        file, text = self.sources[mounted], self.sources[direct]
        if file.raw is not None and text.raw is not None and text.layer < file.layer:
            self.sources[mounted] = Source(file.setting, None, Layer.DEFAULT, f"{text.setting.variable} comes first")

    @property
    def problems(self) -> list[str]:
        """A line for each problem. They are written at the end, when all secrets are known: a long value is cut."""
        return [what if source is None else source.problem(what) for source, what in self._problems]

    @property
    def warnings(self) -> list[str]:
        """A line for each warning, written at the end as the problems are."""
        return [what if source is None else source.problem(what) for source, what in self._warnings]

    def hide_user(self) -> None:
        """Mark the user name as a secret: without a password it is a token."""
        source = self.sources["user"]
        if source.raw is None:
            return
        masking.keep(raw for raw, _ in self._texts(source.setting))
        self.sources["user"] = Source(source.setting, source.raw, source.layer, source.origin, secret=True)

    def _texts(self, setting: Setting) -> Iterator[tuple[str, bool]]:
        """Yield what each layer says of a setting, in force or not, and whether it is the content of a file."""
        outer = self._flags.get(setting.attribute), self._environ.get(setting.variable)
        yield from ((_decoded(raw), False) for raw in outer if raw)
        yield from ((text, False) for name, text in self._lines if name == setting.variable)
        if setting.context_key and (value := self._context.get(setting.context_key)):
            yield value.text, value.inline

    def _keep_secrets(self, setting: Setting) -> None:
        """Keep what is secret in the texts of a setting out of all output."""
        is_address = setting.parse is values.servers
        for text, inline in self._texts(setting):
            if inline:
                masking.keep(masking.secrets_of_file(text))
            else:
                masking.keep(masking.secrets_in(text, is_secret=setting.secret, is_address=is_address))

    def _find(self, setting: Setting) -> Source:
        flag = self._flags.get(setting.attribute)
        if flag is not None:
            return Source(setting, _decoded(flag), Layer.FLAG, setting.flag or "")
        if raw := self._environ.get(setting.variable):
            return Source(setting, _decoded(raw), Layer.ENVIRONMENT, "the environment")
        if (entry := self._file.get(setting.variable)) and entry.value:
            return Source(setting, entry.value, Layer.ENV_FILE, entry.origin)
        if setting.context_key and (value := self._context.get(setting.context_key)):
            inline = value.inline
            return Source(setting, value.text, Layer.CONTEXT, self._context_origin, secret=inline, inline=inline)
        return Source(setting, setting.default, Layer.DEFAULT, "the default")

    def _bound_by_deadline(self, began: float) -> None:
        """Limit the reading by the deadline, as far as the layers that are read so far give one."""
        # An invalid duration is reported later.
        with suppress(ValueError):
            length = times.duration(self._find(_BY_ATTRIBUTE["give_up_after"]).raw or "")
            self._until = min(self._latest, began + length.total_seconds())

    def _read_env_files(self, paths: Sequence[str], began: float) -> None:
        if not paths and not os.path.lexists(_ENV_FILE):
            return
        from crypto_trigger.settings import env_file

        for path in paths or (_ENV_FILE,):
            entries, problems, lines = env_file.read(path, self._until, asked_for=bool(paths))
            self._file |= entries
            self._lines += lines
            self._problems += ((None, problem) for problem in problems)
            self._bound_by_deadline(began)

    def _wrong_as_default(self, setting: Setting, what: str) -> None:
        """Note that a valid value is not valid for the setting that it is the default of."""
        other = self.sources[setting.default_of or ""]
        if other.setting.attribute not in self.broken:
            self.wrong(other, f"{what}; set {setting.variable} to name the {setting.attribute} otherwise")
        self.broken.add(setting.attribute)

    def _read_context(self, source: Source) -> None:
        try:
            name = values.text(source.raw or "")
            values.check_quotes(name)
        except ValueError:
            return  # not set, or reported later
        from crypto_trigger.settings import contexts

        try:
            path = contexts.path_of(name, self._environ)
            reader = contexts.Reader(path, _CONTEXT_KEYS, self._environ, self._until)
        except ValueError as error:
            self.wrong(source, str(error))
            return
        self._context, self._context_origin = reader.found, f"context {masking.shown_path(path)}"
        # A value of a layer that takes precedence over the context counts, even if the context's is wrong.
        counts = {setting.context_key for setting in SETTINGS if self._find(setting).layer < Layer.CONTEXT}
        for key, problem in reader.problems.items():
            if key not in counts:
                self.wrong(source, problem)

    def _warn_of_unknown(self) -> None:
        known = {setting.variable for setting in SETTINGS} | {_TEST_SWITCH}
        seen = dict.fromkeys(self._environ, "the environment")
        seen |= {name: entry.origin for name, entry in self._file.items()}
        # Kubernetes sets CRYPTO_TRIGGER_SERVICE_HOST, CRYPTO_TRIGGER_PORT... for a Service of that name.
        linked = ("CRYPTO_TRIGGER_SERVICE_", "CRYPTO_TRIGGER_PORT")
        unknown = sorted(
            name
            for name in seen
            if name.startswith("CRYPTO_TRIGGER_") and name not in known and not name.startswith(linked)
        )
        for name in unknown[:_MOST_WARNINGS]:
            from difflib import get_close_matches

            # All names have the same beginning, so a suggestion must be similar in the rest, too.
            close = get_close_matches(name, known, 1, cutoff=0.85)
            meant = f"; did you mean {close[0]}?" if close else ""
            warning = f"{masking.shown(name)} (from {seen[name]}) is not a setting and is ignored{meant}"
            self._warnings.append((None, warning))
        if len(unknown) > _MOST_WARNINGS:
            number = len(unknown) - _MOST_WARNINGS
            self._warnings.append((None, f"{number} more variables are not settings and are ignored"))


def _decoded(raw: str) -> str:
    """Return a text of the command line or the environment, decoded as UTF-8 in any locale if it is valid UTF-8."""
    if raw.isascii():
        return raw
    try:
        return os.fsencode(raw).decode()
    except UnicodeError:
        return raw


def _merge_secret_file(parsed: dict[str, Any], found: _Finder, attribute: str) -> None:
    """Use the secret from a file in place of the variable, unless the variable takes precedence."""
    direct, mounted = found.sources[attribute], found.sources[f"{attribute}_file"]
    if mounted.raw is None:
        return
    if direct.raw is not None and direct.layer == mounted.layer:
        found.wrong(mounted, f"is set beside {direct.setting.variable}; keep one of the two")
    else:
        parsed[attribute] = parsed[mounted.setting.attribute]


def _prefer_flags(parsed: dict[str, Any], found: _Finder) -> None:
    """Drop the credentials of weaker layers, those in the servers' URLs too, if a flag gives credentials.

    Without this, a user and a password of the environment would be sent in place of the credentials file on the command
    line, wherever the server asks for no signature.
    """
    given = next((name for name in _CREDENTIAL_FLAGS if found.sources[name].layer == Layer.FLAG), None)
    if given is None:
        return
    for attribute in _CREDENTIAL_FLAGS[given]:
        source = found.sources[attribute]
        if source.layer != Layer.FLAG and source.raw is not None:
            origin = f"{found.sources[given].setting.flag} comes first"
            found.sources[attribute] = Source(source.setting, None, Layer.DEFAULT, origin)
            parsed[attribute] = None
    if found.sources["servers"].layer != Layer.FLAG and parsed["servers"]:
        parsed["servers"] = tuple(server.anonymous for server in parsed["servers"])


def _encrypted(parsed: Mapping[str, Any]) -> tuple[values.Address, ...]:
    """Return the servers, all with TLS if one of them or a TLS setting asks for it: all may get the same password."""
    servers: tuple[values.Address, ...] = parsed["servers"]
    wanted = parsed["ca"] or parsed["cert"] or parsed["tls_first"] or any(server.tls for server in servers)
    return tuple(server._replace(tls=True) for server in servers) if wanted else servers


_LONE_USER = (
    "needs NATS_PASSWORD or NATS_PASSWORD_FILE beside it: alone it is a token, which a list of processes would show; "
    "set NATS_TOKEN for that"
)
# The attribute of a setting, and what is wrong with its value.
Problem = tuple[str, str]


def check(known: Mapping[str, Any], sources: Mapping[str, Source]) -> Iterator[Problem]:
    """Yield the problems, at most one for each setting.

    `known` holds each setting's value by attribute: None where the setting is not set, or where its value is wrong by
    itself. `sources` tells these two cases apart.
    """
    for short, long in (("give_up_after", "every"), ("early", "every")):
        if None not in (known[short], known[long]) and known[short] >= known[long]:
            yield short, f"must be shorter than {_named(sources[long])}"
    base, most = known["backoff_base"], known["backoff_max"]
    if None not in (base, most) and base > most:
        yield "backoff_base", f"must not be longer than {_named(sources['backoff_max'])}"
    yield from _check_delivery(known)
    if sources["user"].layer == Layer.FLAG and {sources["password"].raw, sources["password_file"].raw} == {None}:
        yield "user", _LONE_USER
    # The password may come from its own variable or from a file.
    password = "password_file" if sources["password_file"].raw is not None else "password"
    needs = (("cert", "key"), ("key", "cert"), (password, "user"), ("ping_fail_url", "ping_url"))
    for one, needed in needs:
        if known[one] is not None and sources[needed].raw is None:
            yield one, f"needs {sources[needed].setting.variable} beside it"


def _named(source: Source) -> str:
    return f"{source.setting.variable} '{source.shown}' (from {source.origin})"


def _check_delivery(known: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield the problems of settings that do not fit the delivery."""
    delivery: values.Delivery | None = known["delivery"]
    match delivery:
        case values.Delivery.CORE | None:
            pass
        case values.Delivery.JETSTREAM:
            yield from _check_subscriber(known)
        case values.Delivery.STREAMING:
            yield from _check_subscriber(known)
            yield from _check_streaming_names(known)
        case _:
            assert_never(delivery)


def _check_subscriber(known: Mapping[str, Any]) -> Iterator[Problem]:
    if known["require_subscriber"]:
        yield (
            "require_subscriber",
            f"needs CRYPTO_TRIGGER_DELIVERY=core; {known['delivery']} stores the trigger for later subscribers",
        )


def _check_streaming_names(known: Mapping[str, Any]) -> Iterator[Problem]:
    for attribute, parse in (
        ("client_id", values.check_client_id),
        ("cluster_id", values.name),
        ("subject", values.check_channel),
    ):
        if known[attribute] is not None:
            try:
                parse(known[attribute])
            except ValueError as error:
                yield attribute, str(error)
