"""Ping a monitor at the end of a run: one request that tells it of a success or a failure, with one retry.

One URL alone is called in the protocol of healthchecks (healthchecks.io/docs/http_api): POST, the report as the body,
the exit status of a failed run as the last part of the path. Two URLs are called as they are, by GET, the one after a
success and the other after a failure.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit, urlunsplit

from crypto_trigger.reporting.web import Request, WebError, ask

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crypto_trigger.reporting.report import Report

# In bytes. A healthchecks server keeps that much of a body unless it is set up otherwise (PING_BODY_LIMIT).
LARGEST_BODY = 10_000
_PING_URL, _PING_FAIL_URL = "CRYPTO_TRIGGER_PING_URL", "CRYPTO_TRIGGER_PING_FAIL_URL"
# The longest wait for one answer, in seconds.
LONGEST_TRY = 5.0
_TRIES = 2
# With status 200, healthchecks says so of a check that does not exist, and of one that is called too often.
_IGNORED = ("OK (not found)", "OK (rate limited)")
# The longest wait before the retry, in seconds, and the part of the time that is left.
_LONGEST_PAUSE, _PAUSE_PART = 0.5, 0.1


class Ping(NamedTuple):
    """What to send, and the variable that holds the URL."""

    variable: str
    request: Request


class Pinged(NamedTuple):
    """What became of a ping: a sentence, without the URL, and whether the monitor has it."""

    said: str
    ok: bool


def ping_of(known: Mapping[str, object], report: Report, body: str) -> Ping | None:
    """Return the ping for a run that ended, or None if no URL is known for it.

    `known` holds the settings that could be read; a setting whose value is wrong is missing. `body` is the report as
    JSON.
    """
    url, fail_url = known.get("ping_url"), known.get("ping_fail_url")
    if fail_url:
        chosen, variable = (fail_url, _PING_FAIL_URL) if report.status else (url, _PING_URL)
        return Ping(variable, Request("GET", str(chosen))) if chosen else None
    # If the fail URL is set, but wrong, the other URL is not one to which a status may be added.
    if not url or "ping_fail_url" not in known:
        return None
    return Ping(_PING_URL, Request("POST", healthchecks_url(str(url), report.status), _cut(body)))


def healthchecks_url(url: str, status: int) -> str:
    """Return the URL for an exit status: `/<status>` after the path, unless it is 0.

    It has no run ID (`rid`): a success whose ID is not that of the last `/start`, which a wrapper of the run may have
    sent, would leave the check started, and healthchecks would soon call it down.
    """
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{status}")) if status else url


def send(ping: Ping, seconds: float) -> Pinged:
    """Send a ping within `seconds`, with one retry if there is no connection or no answer, or for 408, 429 and 5xx."""
    until = time.monotonic() + seconds
    request = ping.request
    said = ""
    for number in range(1, _TRIES + 1):
        left = max(0.0, until - time.monotonic())
        try:
            answer = ask(request, min(LONGEST_TRY, left / (_TRIES + 1 - number)))
        except WebError as error:
            said, again = str(error), error.again
        else:
            said = f"HTTP status {answer.status}"
            if 200 <= answer.status < 300:  # noqa: PLR2004 - the successes (RFC 9110, 15.3)
                if ignored := next((text for text in _IGNORED if text in answer.begins), None):
                    said = f"the monitor answers {ignored}"
                    break
                return Pinged(f"{ping.variable} was pinged: {said}", ok=True)
            again = answer.status in (408, 429) or answer.status >= 500  # noqa: PLR2004 - server errors
            request = _within_limit(request, answer.headers.get("ping-body-limit"))
        if not again:
            break
        if number < _TRIES:
            time.sleep(min(_LONGEST_PAUSE, max(0.0, until - time.monotonic()) * _PAUSE_PART))
    tries = f" ({number} attempts)" if number > 1 else ""
    return Pinged(f"{ping.variable} could not be pinged: {said}{tries}", ok=False)


def _within_limit(request: Request, limit: str | None) -> Request:
    """Return the request with its body cut to the limit that the server has told."""
    if request.body is None or limit is None or not re.fullmatch("[0-9]{1,9}", limit):
        return request
    return request._replace(body=_cut(request.body.decode(), int(limit)))


def _cut(text: str, most: int = LARGEST_BODY) -> bytes:
    """Return the first `most` bytes of a text in UTF-8, without a part of a character at the end."""
    data = text.encode()
    return data if len(data) <= most else data[:most].decode(errors="ignore").encode()
