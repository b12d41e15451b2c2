"""Draw docs/history.svg: two days of slots in a stream of a real nats-server, as `crypto-trigger history` shows them.

What happened in these days is made up: the stream is filled with messages of the past. Everything else is real.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support.planted import planting, trigger

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.planted import Past

_ROOT = Path(__file__).parents[1]
_EVERY = timedelta(minutes=15)
_SECOND, _MINUTE, _HOUR, _DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
_CRON = "//cron-1/worker-server"
_SPARE = "//cron-2/worker-server"
_LAPTOP = "//laptop/worker-server"


def story(now: datetime) -> Iterator[Past]:
    """Yield the triggers of three days, with holes in yesterday."""
    random.seed(1)
    yesterday = now.replace(hour=0, minute=0, second=0, microsecond=0) - _DAY
    slot = yesterday - _DAY
    while slot <= now - 10 * _SECOND:
        at = slot - yesterday
        late = _SECOND * round(0.2 + random.expovariate(2), 3)
        if at == 2 * _HOUR + 30 * _MINUTE or 9 * _HOUR <= at < 10 * _HOUR + 30 * _MINUTE:
            pass  # nobody fired
        elif at == 10 * _HOUR + 30 * _MINUTE:
            yield trigger(slot, 7 * _MINUTE + 2 * _SECOND, _CRON)
        elif at == 16 * _HOUR:
            yield trigger(slot, late, _CRON)
            yield trigger(slot, late + 30 * _SECOND, _SPARE)
        elif at == 19 * _HOUR + 30 * _MINUTE:
            # Its clock is half an hour ahead.
            yield trigger(slot + 2 * _EVERY, late - 2 * _EVERY, _LAPTOP)
        else:
            yield trigger(slot, late, _SPARE if 13 * _HOUR <= at < 14 * _HOUR else _CRON)
        slot += _EVERY


def main(path: Path) -> None:
    """Write the picture to `path`."""
    with planting() as planter:
        planter.plant("crypto-stats", "crypto.update", story(datetime.now(UTC)))
        env = {name: value for name, value in os.environ.items() if not name.startswith(("NATS_", "CRYPTO_TRIGGER_"))}
        command = [sys.executable, "-m", "crypto_trigger", "history", "--since", "48h", "--quiet", "--svg", str(path)]
        subprocess.run(command, env={**env, "NATS_URL": planter.url}, check=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else _ROOT / "docs" / "history.svg")
