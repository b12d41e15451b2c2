"""The table of a stream with a million messages."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from bench import OURS
from tables import median, ratios, spread, table
from variants import OLDER, variants

if TYPE_CHECKING:
    import argparse

    from bench import Bench


def big_stream(bench: Bench, options: argparse.Namespace) -> bool:
    """Publish to a stream with a million messages on the subject, and to one with a few."""
    (ours,) = bench.prepare([v for v in variants() if v.name == OURS])
    number = 10_000 if options.short else 1_000_000
    crowded = ours._replace(name="crowded")
    since = time.monotonic()
    bench.run(crowded)
    # Triggers of a slot before those of the runs. Without the header they would count for the time they are stored.
    bench.broker.admin.load("crowded.update", number, OLDER)
    print(f"{number} messages loaded in {time.monotonic() - since:.1f} s")
    costs = bench.rounds(
        {"few": lambda: bench.run(ours), "many": lambda: bench.run(crowded)},
        min(40, options.rounds),
    )
    table(
        ("messages in the stream", "wall ms", "CPU ms", "wall x few"),
        [
            ("a few", f"{median(costs['few'], 'wall'):.0f}", f"{median(costs['few'], 'cpu'):.0f}", "1"),
            (
                f"{number}",
                f"{median(costs['many'], 'wall'):.0f}",
                f"{median(costs['many'], 'cpu'):.0f}",
                spread(ratios(costs["many"], costs["few"], "wall")),
            ),
        ],
    )
    return True
