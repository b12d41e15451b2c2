"""NATS subjects: which ones a pattern with the wildcards `*` and `>` takes. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def takes(patterns: Sequence[str], subject: str) -> bool:
    """Tell whether one of a stream's subjects, wildcards included, takes the literal `subject`."""
    tokens = subject.split(".")
    return any(capture(pattern.split("."), tokens) is not None for pattern in patterns)


def capture(pattern: Sequence[str], tokens: Sequence[str]) -> tuple[list[str], list[str]] | None:
    """Return what the wildcards `*` and the last `>` of a subject's pattern stand for, or None if it does not match."""
    wildcards: list[str] = []
    for position, part in enumerate(pattern):
        if part == ">":
            return (wildcards, list(tokens[position:])) if position < len(tokens) else None
        if position >= len(tokens) or part not in ("*", tokens[position]):
            return None
        if part == "*":
            wildcards.append(tokens[position])
    return (wildcards, []) if len(pattern) == len(tokens) else None
