"""A scripted server that answers JetStream's questions by their subject, in whatever order they come."""

from __future__ import annotations

import json
from datetime import UTC, datetime

NO_MESSAGE = {"error": {"code": 404, "err_code": 10037, "description": "no message found"}}
WINDOW = 1800 * 10**9


def stream_info(**changes):
    """What a stream's leader says of it."""
    config = {"name": "S", "subjects": ["crypto.update"], "duplicate_window": WINDOW}
    return {
        "type": "io.nats.jetstream.api.v1.stream_info_response",
        "config": config,
        "created": "2026-01-01T00:00:00Z",
        "state": {"messages": 0, "first_seq": 0, "last_seq": 0},
        "ts": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        **changes,
    }


def jetstream(ack, *, last=NO_MESSAGE, greeting=None):
    """A script: the stream's information, the subject's last message, and `ack` for the trigger.

    `ack` is a value to be sent as JSON, or is called with the talk and the inbox.
    """

    def script(talk):
        talk.welcome(**(greeting or {}))
        while True:
            subject, inbox = talk.asked()
            if ".STREAM.INFO." in subject:
                talk.answer(inbox, stream_info())
            elif ".STREAM.MSG.GET." in subject:
                talk.answer(inbox, {"type": "io.nats.jetstream.api.v1.stream_msg_get_response", **last})
            elif subject.endswith("STREAM.NAMES"):
                talk.answer(inbox, {"streams": ["S"]})
            elif ".API." in subject:
                talk.no_responders(inbox)
            elif callable(ack):
                ack(talk, inbox)
            else:
                talk.answer(inbox, json.dumps(ack).encode())

    return script
