"""Numbers of many runs as Markdown: medians, ratios, tables, budgets."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from process import Cost


def quantiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the median, the 10th and the 90th percentile."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    tenths = statistics.quantiles(values, n=10, method="inclusive")
    return statistics.median(values), tenths[0], tenths[8]


def ratios(one: Sequence[Cost], other: Sequence[Cost], what: str) -> list[float]:
    """Return the ratio of each round."""
    return [getattr(a, what) / getattr(b, what) for a, b in zip(one, other, strict=True)]


def spread(values: Sequence[float], form: str = ".2f") -> str:
    """Return a median with its 10th and 90th percentile."""
    middle, low, high = (format(value, form) for value in quantiles(values))
    return f"{middle} ({low}-{high})"


def median(costs: Sequence[Cost], what: str) -> float:
    """Return the median of one cost."""
    return statistics.median(getattr(cost, what) for cost in costs)


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a Markdown table."""
    cells = [list(map(str, row)) for row in (head, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    cells.insert(1, ["-" * width for width in widths])
    print()
    for row in cells:
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |")
    print()


def budget(what: str, value: float, most: float, unit: str = "") -> bool:
    """Print whether a budget holds, and return it."""
    holds = value <= most
    print(f"* {what}: {value:.2f}{unit}, budget {most:g}{unit}: {'holds' if holds else 'MISSED'}")
    return holds
