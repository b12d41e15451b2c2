"""Find every place in the package where a text is made that the program may print."""

import ast
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

import crypto_trigger
from crypto_trigger import errors

HOME = Path(crypto_trigger.__file__).parent
# Texts that are not printed, or that another page shows.
ELSEWHERE = {
    "connection.credentials.user_credentials": "the form of a credentials file",
    "connection.connection._options": "a URL",
    "connection.connection._VIOLATION": "what a server says",
    "connection.connection._concerns": "what a server says",
    **{
        f"connection.faults.{name}": "read from the table itself"
        for name in (
            *("RULES", "API_RULES", "SEE_LOG", "BUSY", "_PORT", "_CLIENT_CERT", "_INBOX", "_SERVICE"),
            *("_ELECTION", "_OFFLINE", "_certificate"),
        )
    },
    "delivery.follower.config": "the description of a consumer",
    "settings.contexts._CREDS": "the form of a credentials file",
    "delivery.streaming_wire": "the row of the fault table that is used has words of its own",
    "reporting.prometheus": "Prometheus's text format: docs/check.md",
    "settings.masking": "patterns",
    "reporting.metrics.METRICS": "docs/pings-and-logs.md",
    "commands.help": "the help",
    "commands.options": "the help",
    "reporting.terminal._STYLES": "the styles of a picture",
    "reporting.terminal._log": "the beginning of every line",
    "monitoring.picture.short": "a number",
    "reporting.ping.healthchecks_url": "a URL",
    "monitoring.plugin._consumer_metrics": "docs/check.md",
    "monitoring.plugin.prometheus": "docs/check.md",
    "commands.server._GUARD": "a program",
    "settings.table": "the help, and bugs",
    "slots.trigger.source_of": "a URL",
    "settings.values.Address": "a URL",
    "settings.values._framed": "the form of a credentials file",
    "commands.history.title": "the title of the picture",
    "commands.watch._THRESHOLDS": "the help",
    "reporting.web._basic": "a header",
    "reporting.web.target": "a URL",
}
ERRORS = {
    name: kind
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, errors.TriggerError) and hasattr(kind, "status")
}
# Calls that make an error in a way of their own: the error's class, and where its texts are.
MAKERS = {
    "nonsense": errors.BadPeer,
    "_unavailable": errors.Unavailable,
    "Obstacle": errors.Unusable,
    "kind": errors.Unavailable,
}
# Calls whose texts are no messages.
SILENT = {
    *("Option", "Typer", "command", "callback"),  # the help
    *("search", "match", "fullmatch", "sub", "compile"),  # patterns
    *("_framed", "Malformed", "RuntimeError"),  # the form of a file, one reason of many, a bug
}


class Place(NamedTuple):
    """One text: where it is made, what it says, the status that it means ("" if that depends), the hint after it."""

    module: str
    line: int
    text: str
    status: str
    hint: str


def status_of(kind):
    return "130, 143" if kind is errors.Interrupted else str(int(kind.status))


# What makes a plural of the word before it.
ENDINGS = ("*s*", "*plural*")


def words(node):
    """The text of a string expression, with what is filled in as `*name*`; None for any other expression."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        text = ""
        for part in node.values:
            own = part.value if isinstance(part, ast.Constant) else f"*{named(part.value)}*"
            # Markdown needs something between a filled-in part and the next one or a word.
            apart = (text.endswith("*") and re.match(r"\*|[A-Za-z]{2}", own)) or (
                text[-1:].isalpha() and own.startswith("*") and own not in ENDINGS
            )
            text += f" {own}" if apart else own
        return text
    return None


# What a page calls an expression whose last name does not say it.
NAMES = {
    "_CREDENTIALS[-1]": "NATS_NKEY",
    "_GUARDS.get(report.guard or '', '')": "guard",
    "_dotted(LEAST_VERSION)": "least version",
    "_later(report)": "later trigger",
    "_moment(report.superseded_by)": "later slot",
    "_named(missed)": "slots",
    "_named(sources['backoff_max'])": "the other setting",
    "_named(sources[long])": "the other setting",
    "_place(report)": "place",
    "_show('max_age', max_age)": "length",
    "_slot(report)": "subject for slot",
    "_tried(report)": "after N attempts",
    "' '.join(map(repr, bad))": "characters",
    "'' if consumer_critical else ' (one slot)'": "(one slot)",
    "'' if consumer_warn else ' (the grace)'": "(the grace)",
    "(error.strerror or 'unknown error').lower()": "reason",
    "', '.join(Delivery)": "jetstream, core, streaming",
    "', '.join(FORMATS)": "nagios, json, prometheus",
    "', '.join(_CREDENTIALS[:-1])": "NATS_USER and NATS_PASSWORD, NATS_TOKEN, NATS_CREDS",
    "', '.join(report.servers or ())": "servers",
    "', '.join(received) or 'nothing'": "triggers",
    "PAYLOAD.decode()": "payload",
    "answer.level.name": "level",
    "approximate(max(held.now - oldest.stored_at, timedelta(0)))": "time",
    "approximate(slot.start - message.stored_at)": "time",
    "arrival.payload.decode()": "payload",
    "consumer.name": "consumer",
    "note.name": "property",
    "difference.name": "property",
    "_moment(report.scheduled_at)": "slot",
    "row['name']": "name",
    "seen[name]": "origin",
    "settings.servers[0]": "server",
    "backlog.unacknowledged - 1": "number",
    "close[0]": "setting",
    "config['mirror'].get('name')": "other stream",
    "error.verify_message": "reason",
    "f' ({note.effect})' if note.effect else ''": "effect",
    "f' | {data}' if data else ''": "performance data",
    "held.config.get('name')": "stream",
    "int(Status.OK)": "0",
    "shlex.quote(sys.executable)": "python",
    "sys.executable": "python",
    "known['delivery']": "delivery",
    "len(unknown) - _MOST_WARNINGS": "number",
    "lines[-1]": "last line of its log",
    "named.subject": "other subject",
    "reason.lower()": "reason",
    "refused[1]": "status",
    "self._progress()": "N triggers arrived on subject",
    "self.config.get('name')": "stream",
    "self.config.get('retention')": "retention",
    "setup_line(done)": "answer",
    "str(slot).removeprefix(day)": "slot",
    "time.monotonic() - self._lost_at": "seconds",
    "transform.get('src') or '>'": "subject",
    "transform['dest']": "other subject",
    "type(error).__name__": "exception",
}


def named(node):
    """A short name for what an expression fills in: its last name."""
    source = ast.unparse(node)
    if source in NAMES:
        return NAMES[source]
    match node:
        case ast.Call(ast.Name("command_line"), _):
            source = "command"
        case ast.Call(ast.Name("_place" | "_differences" as function), _):
            source = function
        case ast.Call(_, [ast.expr() as inner, *_]) if not isinstance(inner, ast.Constant):
            source = named(inner)
        case ast.Call(inner, _) | ast.BinOp(inner, _, _) | ast.IfExp(_, inner, _) | ast.BoolOp(_, [inner, *_]):
            source = named(inner)
        case ast.Subscript(_, ast.Constant(str(key))):
            source = key
        case ast.Subscript(inner, _):
            source = named(inner)
        case ast.Name(name) | ast.Attribute(_, name):
            source = name
        case ast.Constant(value):
            source = str(value)
        case _:
            source = "text"
    return source.strip("_").replace("_", " ").lower()


def is_message(text):
    """Whether a text has a word of its own, and another one or something filled in beside it."""
    own = re.sub(r"\*[^*]*\*", "", text)
    whole = re.sub(r"\*[^*]*\*", "x", text)
    return bool(re.search("[A-Za-z]{2}", own) and re.search(r"[\w,;:.)'/]\s+[\w(`$#'-]|^[,;]?\s+[\w(]|\w\s+$", whole))


def last_name(node):
    return node.id if isinstance(node, ast.Name) else getattr(node, "attr", "")


def kind_of(call):
    """The class of the error that a call makes, or None."""
    name = last_name(call.func)
    return ERRORS.get(name) or MAKERS.get(name)


class _Finder:
    """Walks one module and notes its places."""

    def __init__(self, module, tree):
        self.places = []
        self._module = module
        self._taken = set()
        self._walk(tree, ())

    def _walk(self, node, above):
        if self._is_silent(node):
            return
        if isinstance(node, ast.Call):
            self._take_error(node)
        text = words(node)
        if text is not None and id(node) not in self._taken and self._counts(text, above):
            self._add(node, text, self._status(above))
        for field, child in ast.iter_fields(node):
            if field not in ("annotation", "returns"):
                for each in child if isinstance(child, list) else [child]:
                    if isinstance(each, ast.AST):
                        self._walk(each, (*above, node))

    def _is_silent(self, node):
        """Whether nothing within a tree is printed, or another page shows it."""
        if isinstance(node, ast.Call):
            return last_name(node.func) in SILENT
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            return node.name == "__repr__" or f"{self._module}.{node.name}" in ELSEWHERE
        if isinstance(node, (ast.Assign, ast.AnnAssign)):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            first = getattr(target, "elts", [target])[0]
            return f"{self._module}.{last_name(first)}" in ELSEWHERE
        return isinstance(node, ast.Compare) or (isinstance(node, ast.Module) and self._module in ELSEWHERE)

    def _take_error(self, node):
        """Take the message and the hint of an error together."""
        kind = kind_of(node)
        texts = node.args[1:] if kind is errors.Interrupted else node.args
        message = words(texts[0]) if kind and texts else None
        if message is not None:
            hint = (words(texts[1]) or "") if len(texts) > 1 and kind is not errors.ConfigError else ""
            self._taken |= {id(text) for text in texts[:2]}
            self._add(node, message, status_of(kind), hint)

    def _counts(self, text, above):
        return not isinstance(above[-1], (ast.Expr, ast.JoinedStr)) and is_message(text)

    def _status(self, above):
        """The status of the error that a text is a part of."""
        kinds = [kind for node in reversed(above) if isinstance(node, ast.Call) and (kind := kind_of(node))]
        return status_of(kinds[0]) if kinds else ""

    def _add(self, node, text, status, hint=""):
        self.places.append(Place(self._module, node.lineno, text.strip("\n"), status, hint))


@cache
def places(home=HOME):
    """Every text that the program may print, in the order of the modules and their lines."""
    found = []
    for path in sorted(home.rglob("*.py")):
        parts = path.relative_to(home).with_suffix("").parts
        module = ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)
        found += sorted(_Finder(module, ast.parse(path.read_text())).places, key=lambda place: place.line)
    return found
