"""A connection that is reset while nats-py writes: the next attempt does not pay for it."""

from support.processes import Process, beginning_with
from support.scripted import Scripted, info

# The loop hears of the RST in the turn in which nats-py's flusher writes: by chance, so that it is brought about.
RESET_AT_THE_FIRST_WRITELINES = """
import asyncio.selector_events as events
transport = events._SelectorSocketTransport
honest = transport.writelines
def writelines(self, data):
    transport.writelines = honest
    self._fatal_error(ConnectionResetError("reset"))
    honest(self, data)
transport.writelines = writelines
"""


def test_a_reset_in_the_turn_of_a_write_costs_the_next_attempt_nothing(tmp_path):
    def script(talk):
        if len(server.talks) == 1:
            talk.welcome()
            talk.listen()
        else:
            talk.say(info())
            talk.hear(b"PING\r\n")
            talk.say(b"-ERR 'Authorization Violation'\r\n")
            talk.listen()

    early = beginning_with(tmp_path, RESET_AT_THE_FIRST_WRITELINES)
    with Scripted(script) as server:
        settings = {"TIMEOUT": "20s", "GIVE_UP_AFTER": "25s", "BACKOFF_BASE": "1ms", "BACKOFF_MAX": "1ms"}
        ended = Process(
            "publish",
            NATS_URL=server.url,
            **{f"CRYPTO_TRIGGER_{name}": value for name, value in settings.items()},
            **early,
        ).end()
    assert len(server.talks) == 2
    assert ended.status == 77
    assert ended.seconds < 10
