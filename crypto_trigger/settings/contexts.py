"""Read a context of the `nats` CLI: a JSON object that names servers and credentials (NATS ADR-21)."""

from __future__ import annotations

import base64
import json
import re
from typing import TYPE_CHECKING, Any, Final

from crypto_trigger.deadline.files import read_text
from crypto_trigger.settings import values
from crypto_trigger.settings.masking import keep, mask_keys, secrets_in, secrets_of_file, shown, shown_path

if TYPE_CHECKING:
    from collections.abc import Mapping

# The keys that decide neither the servers nor the credentials of a publisher.
OTHER_KEYS = {"name", "description", "color_scheme", "jetstream_event_prefix"}
# The keys that the `nats` CLI takes for secrets, for paths of files with secrets, and for other paths. In the first two
# it accepts references: `env://NAME` and others (jsm.go, `natscontext`).
JWT_AND_SEED = {"user_jwt", "user_seed"}
SECRETS = {"password", "token", *JWT_AND_SEED}
SECRET_FILES = {"creds", "nkey"}
_FILES = {"cert", "key", "ca"}
_REFERENCE = r"(?i)(file|env|data|op|nsc):(.*)"
UNSUPPORTED = {
    "nsc": "save the credentials with nsc generate creds, and name that file in creds",
    "jetstream_api_prefix": "name a domain in jetstream_domain",
    "socks_proxy": "connections are direct",
}
_ELSEWHERE = "holds a {} to be fetched from elsewhere, which is not supported here; save it in a file"
_CREDS = """-----BEGIN NATS USER JWT-----
{}
------END NATS USER JWT------
-----BEGIN USER NKEY SEED-----
{}
------END USER NKEY SEED------
"""


class Value:
    """The text that a context has for a setting. If it is `inline`, it is the content of a file and not its path."""

    def __init__(self, text: str, *, inline: bool = False) -> None:
        self.text: Final = text
        self.inline: Final = inline


def path_of(name: str, environ: Mapping[str, str]) -> str:
    """Return the path of a context: for a name, the file of the `nats` CLI; for a path to a `.json` file, that file.

    Raises ValueError for a text that is neither.
    """
    if name.endswith(".json"):
        return values.path(name)
    if {"/", "\\"} & set(name) or ".." in name or mask_keys(name) != name:
        raise ValueError("is no context name; give a name that `nats context ls` shows, or a path to a .json file")
    base = environ.get("XDG_CONFIG_HOME") or values.path("~/.config")
    return f"{base}/nats/context/{values.path(name)}.json"


class Reader:
    """Reads one context. `found` has the values for the keys that were asked for, `problems` what is wrong, by key."""

    def __init__(self, path: str, keys: set[str], environ: Mapping[str, str], until: float) -> None:
        """Read a file. `until` limits the time as in `files.read_text`. Raises ValueError if it is not a context."""
        self.found: dict[str, Value] = {}
        self.problems: dict[str, str] = {}
        self._environ = environ
        self._until = until
        for key, value in _json_object(path, until).items():
            if value in ("", None, False, []) or key in OTHER_KEYS:
                continue
            keep(secrets_in(str(value), is_secret=key in SECRETS, is_address=key == "url"))
            try:
                self.found[key] = self._value(key, value, keys)
            except ValueError as error:
                self.problems["creds" if key in JWT_AND_SEED else key] = str(error)
        self._join_jwt_and_seed()

    def _join_jwt_and_seed(self) -> None:
        """Put a user's JWT and seed into the form of a credentials file, which counts before them."""
        jwt, seed = self.found.pop("user_jwt", None), self.found.pop("user_seed", None)
        if not (jwt or seed) or {"creds", "nkey"} & {*self.found, *self.problems}:
            return
        if jwt and seed:
            self.found["creds"] = Value(_CREDS.format(jwt.text, seed.text), inline=True)
        else:
            self.problems["creds"] = "holds user_jwt or user_seed without the other, which is not supported here"

    def _value(self, key: str, value: object, keys: set[str]) -> Value:
        if key not in keys | SECRETS:
            hint = UNSUPPORTED.get(key, "set NATS_* variables in place of NATS_CONTEXT")
            raise ValueError(f"uses {shown(key)}, which is not supported here; {hint}")
        if isinstance(value, bool):
            return Value("true")
        if not isinstance(value, str):
            raise ValueError(f"holds a {key} that is not text")  # noqa: TRY004 - callers expect ValueError
        if key in SECRETS:
            return Value(self._content(key, value) or value)
        bare = re.sub("(?i)^file://", "", value)
        if key in SECRET_FILES and bare == value and (content := self._content(key, value)):
            return Value(content, inline=True)
        if key in SECRET_FILES | _FILES:
            if "://" in bare:
                raise ValueError(_ELSEWHERE.format(key))
            return Value(bare)
        return Value(value)

    def _content(self, key: str, reference: str) -> str:
        """Return what a reference leads to, without line ends after it; an empty text for what is no reference."""
        found = re.fullmatch(_REFERENCE, reference, re.DOTALL)
        if not found:
            return ""
        scheme, rest = found[1].lower(), found[2].removeprefix("//")
        try:
            match scheme:
                case "file":
                    content = self._read(key, rest)
                case "env":
                    content = self._environ[rest]
                case "data":
                    content = _decoded(rest)
                case _:
                    raise ValueError(_ELSEWHERE.format(key))
        except KeyError:
            raise ValueError(f"holds a {key} in an environment variable that is not set") from None
        if not content.strip():
            raise ValueError(f"holds a {key} from {scheme}: that is empty")
        keep(secrets_of_file(content))
        return content.rstrip("\r\n")

    def _read(self, key: str, path: str) -> str:
        try:
            return read_text(values.path(path), self._until)
        except ValueError as error:
            raise ValueError(f"holds a {key} in a file that {error}") from None


def _json_object(path: str, until: float) -> dict[str, Any]:
    try:
        text = read_text(path, until)
    except ValueError as error:
        raise ValueError(f"{error} (at {shown_path(path)}); `nats context ls` shows the contexts there are") from None
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        texts = re.findall(r'"(?:' + "|".join(SECRETS) + r')"\s*:\s*"?([^"\n]*)', text)
        keep(secret for found in texts for secret in secrets_in(found, is_secret=True))
        keep(secret for found in re.findall('"([^"]*@[^"]*)"', text) for secret in secrets_in(found, is_address=True))
        raise ValueError(f"is not a NATS context: {shown_path(path)} is not a JSON object")  # noqa: TRY004 - documented
    return content


def _decoded(rest: str) -> str:
    """Return the text in the rest of a `data:` URI, which the `nats` CLI writes with `--embed`."""
    header, comma, encoded = rest.partition(",")
    try:
        if comma and "base64" in header.split(";"):
            return base64.b64decode(encoded, validate=True).decode()
    except ValueError:
        pass
    raise ValueError("holds data: that is not text in base64")
