"""Read a context of the `nats` CLI: a JSON object that names servers and credentials (NATS ADR-21)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from crypto_trigger import values
from crypto_trigger.files import read_text
from crypto_trigger.masking import mask_keys, shown, shown_path

if TYPE_CHECKING:
    from collections.abc import Mapping

# The other keys of a context. They decide neither the servers nor the credentials.
_OTHER_KEYS = {"name", "description", "color_scheme", "jetstream_event_prefix"}


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


def read(path: str, keys: set[str], until: float) -> tuple[dict[str, str], list[str]]:
    """Return the values that a context has for `keys`, and a problem for each other value.

    `until` limits the time as in `files.read_text`. Raises ValueError if the file is not a context.
    """
    try:
        text = read_text(path, until)
    except ValueError as error:
        raise ValueError(f"{error} (at {shown_path(path)}); `nats context ls` shows the contexts there are") from None
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise ValueError(f"is not a NATS context: {shown_path(path)} is not a JSON object")  # noqa: TRY004 - documented
    found, problems = {}, []
    for key, value in content.items():
        if value in ("", None, False, []) or key in _OTHER_KEYS:
            continue
        try:
            found[key] = _text_of(key, value, keys)
        except ValueError as error:
            problems.append(str(error))
    return found, problems


def _text_of(key: str, value: object, keys: set[str]) -> str:
    if key not in keys:
        raise ValueError(f"uses {shown(key)}, which is not supported here; set NATS_* variables instead")
    if isinstance(value, bool):
        return "true"
    if not isinstance(value, str):
        raise ValueError(f"holds a {key} that is not text")  # noqa: TRY004 - read() expects ValueError
    if key != "url" and "://" in value and not value.startswith("file://"):
        raise ValueError(f"holds a {key} to be fetched from elsewhere, which is not supported here")
    return value.removeprefix("file://")
