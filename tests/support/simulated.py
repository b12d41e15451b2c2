"""Days that pass in seconds: the program's clock and the server's are both set, to any moment of the past."""

from __future__ import annotations

import os
import re
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from math import ceil

from support.clocks import clock
from support.forks import Fork, fork_server
from support.proxy import Fault, Proxy, Way, messages

# In the answers of STREAM.INFO and STREAM.MSG.GET; the fraction of the second stays as it is.
_SERVER_TIME = re.compile(rb'(?<=(?:"ts|ime)":")[\d-]+T[\d:]+(?=(\.\d+)?Z")')


class _ServerTime(Fault):
    """What a server says of its time, and of the time it stored a message at, is off by what was set at that time."""

    def __init__(self):
        self._set = [(datetime.min.replace(tzinfo=UTC), timedelta())]

    def set(self, offset):
        self._set.append((datetime.now(UTC), offset))

    async def filter(self, way, chunks, over):  # noqa: ARG002 - nothing is held
        if way is Way.TO_SERVER:
            async for chunk in chunks:
                yield chunk
            return
        async for message in messages(chunks):
            yield _SERVER_TIME.sub(self._moved, message)

    def _moved(self, found):
        moment = datetime.fromisoformat(f"{found[0].decode()}{(found[1] or b'').decode()}Z")
        offset = next(offset for since, offset in reversed(self._set) if since <= moment)
        return (moment + offset).strftime("%Y-%m-%dT%H:%M:%S").encode()


class Simulated:
    """A host and a server whose clocks are set together."""

    def __init__(self, server_time, fork_server, file, url):
        self._server_time = server_time
        self._fork_server = fork_server
        self._file = file
        self._settings = {**os.environ, **_faked(file), "NATS_URL": url}

    def publish(self, moment, times=1):
        """Run `publish` at a moment, `times` times at once; status, stdout and stderr of each run."""
        # It is this moment or up to a second later when the runs begin.
        offset = timedelta(seconds=ceil(moment.timestamp() - time.time()))
        self._server_time.set(offset)
        self._file.write_text(f"{offset.total_seconds():+.0f}")
        runs = [Fork(["publish"], self._settings, self._fork_server) for _ in range(times)]
        return [(run.wait(), *run.communicate()) for run in runs]


@contextmanager
def simulated(url, folder):
    """A host at a server, whose clocks are set for each run."""
    file = folder / "clock"
    file.write_text("+0")
    server_time = _ServerTime()
    with Proxy(url) as proxy, proxy.route(then=server_time) as route, fork_server(**_faked(file)) as forks:
        yield Simulated(server_time, forks, file, route.url)


def _faked(file):
    settings = clock(timedelta())
    del settings["FAKETIME"]
    # Read anew for each look at the clock.
    return {**settings, "FAKETIME_TIMESTAMP_FILE": str(file), "FAKETIME_NO_CACHE": "1"}
