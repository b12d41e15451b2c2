"""A server whose clock goes back, which no real one can be made to do here: a relay rewrites the times it tells.

nats-server is a static Go program, which libfaketime does not reach.
"""

from __future__ import annotations

import json
import re
from datetime import datetime

from support.proxy import Fault, Way, messages

_SEQUENCE = re.compile(rb"\r\nNats-Sequence: (\d+)\r\n")
_TIME = re.compile(rb"\r\nNats-Time-Stamp: ([^\r]+)\r\n")


class ClockBack(Fault):
    """The server's clock went back by `by` after it had stored the message with the sequence `after`.

    So its time (`ts`), and the times of the messages that it stored later, are earlier by that than they really are.
    """

    def __init__(self, by, after):
        self._by = by
        self._after = after

    async def filter(self, way, chunks, over):  # noqa: ARG002 - as the faults have it
        if way is Way.TO_SERVER:
            async for chunk in chunks:
                yield chunk
            return
        async for message in messages(chunks):
            yield self._told(message)

    def _told(self, message):
        if message.startswith(b"MSG "):
            return self._told_json(message)
        return self._told_headers(message) if message.startswith(b"HMSG ") else message

    def _told_json(self, message):
        line, _, rest = message.partition(b"\r\n")
        try:
            content = json.loads(rest)
        except ValueError:
            return message
        if not isinstance(content, dict):
            return message
        for holder, name, seq in (
            (content, "ts", None),
            (content.get("message", {}), "time", content.get("message", {}).get("seq")),
        ):
            if name in holder and (seq is None or seq > self._after):
                holder[name] = self._earlier(holder[name])
                self.struck = True
        body = json.dumps(content).encode()
        *head, _ = line.split(b" ")
        return b" ".join([*head, str(len(body)).encode()]) + b"\r\n" + body + b"\r\n"

    def _told_headers(self, message):
        """Rewrite the time of a message of a batch (direct get). The new text is as long as the old one."""
        seq, time = _SEQUENCE.search(message), _TIME.search(message)
        if not (seq and time) or int(seq[1]) <= self._after:
            return message
        told = self._earlier(time[1].decode()).encode()
        self.struck = True
        start, end = time.span(1)
        return message[:start] + told[: end - start - 1].ljust(end - start - 1, b"0") + b"Z" + message[end:]

    def _earlier(self, text):
        return (datetime.fromisoformat(text) - self._by).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
