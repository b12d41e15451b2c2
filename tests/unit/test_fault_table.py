"""The table of faults: equal to the page that shows it, and with an answer to everything that is foreseen.

Run as a program it writes the tables of the page anew: python tests/unit/test_fault_table.py
"""

import inspect
import json
import socket
import ssl
from pathlib import Path

import nats.aio.errors
import nats.errors
import nats.js.errors
import pytest

from crypto_trigger.connection.faults import API_RULES, RULES
from crypto_trigger.connection.faults import explain as explain_with_names
from crypto_trigger.connection.phases import ConnectionLost, Phase, Violation
from crypto_trigger.errors import BrokerError, ConfigError, NoAck, Rejected, Unavailable

PAGE = Path(__file__).parents[2] / "docs" / "faults.md"
WHEN = {
    Phase.CONNECT: "connecting",
    Phase.ASK: "asking JetStream",
    Phase.JOIN: "joining NATS Streaming",
    Phase.LISTEN: "listening",
    Phase.PUBLISH: "publishing",
    Phase.CONFIRM: "confirming",
}


def when(phase):
    for name, whole in (("any time", Phase.ANY), ("before sending", Phase.BEFORE), ("sent", Phase.SENT)):
        if phase == whole:
            return name
    return ", ".join(name for part, name in WHEN.items() if part & phase)


def verdict(error):
    return [f"`{error.__name__}`", str(int(error.status)), "yes" if error.retryable else "no"]


# What the page has in the place of the names.
SHOWN = {
    "subject": "*the subject*",
    "stream": "*the stream*",
    "cluster": "*the cluster*",
    "who": "*the credentials and where they came from*",
    "check": "check these credentials",
    "setup": "crypto-trigger setup",
    "running": "is the server running?",
    "trust": "NATS_CA is not set: set it to a file with",
}


def explain(error, phase, where):
    return explain_with_names(error, phase, where, dict.fromkeys(SHOWN, "x"))


def line(says, hint):
    own = "*its own words*"
    said = (f"{says}{own}" if says.endswith(": ") else says or own).format_map(SHOWN)
    return f"{said}; {hint.format_map(SHOWN)}" if hint else said


def shown(exception):
    module = exception.__module__
    ours = module == "builtins" or module.startswith("crypto_trigger.")
    return f"`{'' if ours else f'{module}.'}{exception.__name__}`"


def rows():
    """The rows of both tables, as the page has them."""
    for rule in RULES:
        texts = f": {', or '.join(rule.texts)}" if rule.texts else ""
        yield [
            f"{', '.join(map(shown, rule.exceptions))}{texts}",
            when(rule.phase),
            *verdict(rule.error),
            line(rule.says, rule.hint),
        ]
    for api in API_RULES:
        texts = f": {', or '.join(api.texts)}" if api.texts else ""
        yield [f"{api.err_code}{texts}", *verdict(api.error), line(api.says, api.hint)]


def tables():
    """Both tables in Markdown."""
    heads = (
        ["what nats-py or the server says", "when", "our error", "status", "tried again", "what the line says"],
        ["JetStream's `err_code`", "our error", "status", "tried again", "what the line says"],
    )
    bodies = list(rows())
    text = []
    for head, body in ((heads[0], bodies[: len(RULES)]), (heads[1], bodies[len(RULES) :])):
        lines = [head, ["---"] * len(head), *body]
        text.append("\n".join("| " + " | ".join(cells) + " |" for cells in lines))
    return text


def on_the_page():
    """The tables' rows that the page has, in its order, cell by cell."""
    for row in PAGE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        if row.startswith("|") and cells[0][:1] in ("`", *"0123456789") and not cells[0].startswith("`err"):
            yield cells


def test_the_page_shows_the_tables_row_for_row():
    assert list(on_the_page()) == list(rows()), (
        f"write it anew with: python {Path(__file__).relative_to(PAGE.parents[1])}"
    )


def made(kind):
    """An instance of an exception class, with as many arguments as it insists on."""
    for count in range(5):
        try:
            error = kind(*([1] * count))
            str(error)
        except TypeError:
            continue
        return error
    pytest.fail(f"{kind} takes no arguments that are known here")


def classes(module):
    return [kind for kind in vars(module).values() if inspect.isclass(kind) and issubclass(kind, Exception)]


FORESEEN = [
    *(made(kind) for module in (nats.errors, nats.js.errors, nats.aio.errors) for kind in classes(module)),
    *(kind() for kind in OSError.__subclasses__() if kind.__module__ in ("builtins", "socket", "ssl")),
    OSError(5, "Input/output error"),
    TimeoutError(),
    TimeoutError(),
    ConnectionRefusedError(111, "Connection refused"),
    ConnectionResetError("Connection lost"),
    BrokenPipeError(),
    socket.gaierror(-2, "Name or service not known"),
    ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number"),
    ssl.SSLEOFError(),
    ssl.SSLZeroReturnError(),
    ConnectionLost(""),
    ConnectionLost("nats: something the server said"),
    Violation('nats: permissions violation for publish to "a"'),
    Violation('nats: permissions violation for subscription to "a"'),
]
# What a parser lets out when the other side speaks something else.
PARSERS = [
    ValueError("not enough values to unpack (expected 2, got 1)"),
    json.JSONDecodeError("Expecting value", "", 0),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    TypeError("'NoneType' object is not subscriptable"),
    AttributeError("'list' object has no attribute 'get'"),
    KeyError("message"),
    IndexError("list index out of range"),
    OverflowError("date value out of range"),
]


@pytest.mark.parametrize("error", FORESEEN, ids=lambda error: f"{type(error).__module__}.{type(error).__name__}")
def test_every_foreseen_exception_means_something_in_every_phase(error):
    for phase in WHEN:
        meaning = explain(error, phase, "nats://here:4222")
        assert isinstance(meaning, BrokerError), phase
        assert meaning.message.startswith("nats://here:4222: ")
        assert not meaning.message.endswith(": ")
        # Before anything was sent there is no doubt.
        assert not (phase & Phase.BEFORE and isinstance(meaning, NoAck)), phase


@pytest.mark.parametrize("phase", [Phase.CONNECT, Phase.ASK, Phase.PUBLISH], ids=WHEN.get)
@pytest.mark.parametrize("error", PARSERS, ids=lambda error: type(error).__name__)
def test_what_a_parser_lets_out_speaks_of_the_other_side(error, phase):
    meaning = explain(error, phase, "here")
    assert isinstance(meaning, BrokerError)
    assert isinstance(meaning, NoAck) == (phase == Phase.PUBLISH)


@pytest.mark.parametrize("error", [ZeroDivisionError(), NameError(), ImportError(), MemoryError()], ids=repr)
def test_an_exception_of_a_kind_nobody_foresaw_stays_what_it_is(error):
    assert all(explain(error, phase, "here") is error for phase in WHEN)


@pytest.mark.parametrize("error", [Rejected("no"), NoAck("perhaps"), ConfigError("wrong")], ids=repr)
def test_an_error_of_ours_stays_what_it_is(error):
    assert all(explain(error, phase, "here") is error for phase in WHEN)


@pytest.mark.parametrize(
    ("code", "phase", "meaning"),
    [
        (400, Phase.PUBLISH, Rejected),
        (400, Phase.ASK, Rejected),
        (500, Phase.PUBLISH, NoAck),
        (503, Phase.PUBLISH, NoAck),
        (503, Phase.ASK, Unavailable),
    ],
)
def test_an_err_code_nobody_foresaw_is_judged_by_its_class(code, phase, meaning):
    error = nats.js.errors.APIError(code=code, err_code=99999, description="new in some later server")
    found = explain(error, phase, "here")
    assert type(found) is meaning
    assert "99999: new in some later server" in found.message


@pytest.mark.parametrize("codes", [(400, -7), (400, 0), (True, 10071), (400, "10071"), (None, 10071)])
@pytest.mark.parametrize(("phase", "meaning"), [(Phase.ASK, Unavailable), (Phase.PUBLISH, NoAck)])
def test_codes_that_jetstream_does_not_have_prove_nothing(codes, phase, meaning):
    error = nats.js.errors.APIError(code=codes[0], err_code=codes[1], description="'odd'\nwords")
    found = explain(error, phase, "here")
    assert type(found) is meaning
    assert found.message.endswith("'odd'\\nwords")
    assert "APIError" not in found.message


@pytest.mark.parametrize("rule", API_RULES, ids=lambda rule: str(rule.err_code))
def test_no_err_code_leaves_a_row_of_the_table_unreached(rule):
    for text in rule.texts or ("x",):
        error = nats.js.errors.APIError(code=500, err_code=rule.err_code, description=text)
        assert type(explain(error, Phase.PUBLISH, "here")) is rule.error
        # Before anything was sent there is no doubt.
        assert type(explain(error, Phase.ASK, "here")) is (Unavailable if rule.error is NoAck else rule.error)


@pytest.mark.parametrize(
    "text",
    [
        "no space left on device",
        "error opening msg block file: open /data/1.blk: input/output error",
        "maximum messages exceeded: no space left on device",
        "Maximum Bytes Exceeded",
        "message too large",
        "",
    ],
)
def test_only_the_words_of_a_limit_say_that_a_stream_is_full(text):
    error = nats.js.errors.APIError(code=503, err_code=10077, description=text)
    found = explain(error, Phase.PUBLISH, "here")
    assert type(found) is NoAck
    assert found.message.endswith(f": {text}" if text else "in stream x")


def test_no_row_of_the_table_is_hidden_by_one_above_it():
    for number, rule in enumerate(RULES):
        above = [
            other
            for other in RULES[:number]
            if rule.phase & other.phase == rule.phase
            and all(issubclass(kind, other.exceptions) for kind in rule.exceptions)
            and (not other.texts or (rule.texts and all(any(t in text for t in other.texts) for text in rule.texts)))
        ]
        assert not above, f"{rule} never counts: {above}"


if __name__ == "__main__":
    page = PAGE.read_text(encoding="utf-8")
    parts = page.split("\n\n")
    fresh = iter(tables())
    PAGE.write_text("\n\n".join(next(fresh) if part.startswith("|") else part for part in parts).rstrip() + "\n")
