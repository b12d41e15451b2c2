"""Write gauges in the text format of Prometheus (prometheus.io/docs/instrumenting/exposition_formats)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crypto_trigger.settings.masking import masked

if TYPE_CHECKING:
    from collections.abc import Iterator


def label(name: str, value: str) -> str:
    """Return one label, with its value escaped and secrets in it masked."""
    escaped = masked(value).replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
    return f'{name}="{escaped}"'


def gauge(name: str, meaning: str, labels: str, value: str, *, describe: bool = True) -> Iterator[str]:
    """Yield the lines of one sample. `labels` are joined by commas; the name begins with `crypto_trigger_`.

    `describe` is false for all but the first sample of a metric with several.
    """
    name = f"crypto_trigger_{name}"
    if describe:
        yield f"# HELP {name} {meaning}"
        yield f"# TYPE {name} gauge"
    yield f"{name}{{{labels}}} {value}"
