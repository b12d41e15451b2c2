"""Styled text: the lines of a picture. Values, drawn by `reporting.terminal`."""

from enum import StrEnum
from typing import NamedTuple


class Style(StrEnum):
    """What a text is, for its color."""

    PLAIN = "plain"
    TITLE = "title"
    FAINT = "faint"
    TRIGGERED = "triggered"
    LATE = "late"
    MISSED = "missed"
    OVERDUE = "overdue"
    PENDING = "pending"
    UNKNOWN = "unknown"


class Span(NamedTuple):
    """A text and its style."""

    text: str
    style: Style = Style.PLAIN


Line = tuple[Span, ...]
