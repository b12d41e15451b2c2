"""What a monitoring system makes of an answer of `check`: each format read by the rules of those who read it."""

from __future__ import annotations

import json
import re
import time
from typing import NamedTuple

from prometheus_client.parser import text_string_to_metric_families

STATUSES = ("OK", "WARNING", "CRITICAL", "UNKNOWN")
# The grammar of the Monitoring Plugins development guidelines: `'label'=value[UOM];[warn];[crit];[min];[max]`.
_NUMBER = r"-?[0-9]+(?:\.[0-9]+)?"
_RANGE = rf"@?(?:(?:{_NUMBER}|~):)?(?:{_NUMBER})?"
_ITEM = (
    rf"(?P<label>'(?:[^'=]|'')+'|[^\s'=]+)=(?P<value>{_NUMBER}|U)(?P<unit>us|ms|s|%|[KMGT]?B|c)?"
    rf"(?:;(?P<warn>{_RANGE})(?:;(?P<crit>{_RANGE})(?:;(?P<min>{_NUMBER})?(?:;(?P<max>{_NUMBER})?)?)?)?)?"
)


class Line(NamedTuple):
    """A plugin's line: its status, its text, and its performance data by label."""

    status: str
    text: str
    data: dict[str, str]


class Seen(NamedTuple):
    """The same check in three formats."""

    status: int
    text: str
    data: dict[str, str]
    json: dict
    metrics: dict[str, float]


def line(out):
    """Read a plugin's answer: one line, `SERVICE STATUS: text | performance data`."""
    assert out.endswith("\n")
    assert out[:-1].isprintable(), out
    found = re.fullmatch(r"TRIGGER (OK|WARNING|CRITICAL|UNKNOWN) - ([^|]+?)(?: \| ([^|]+))?\n", out)
    assert found, out
    return Line(found[1], found[2], performance(found[3] or ""))


def performance(text):
    """The values of performance data by label, with their unit and thresholds, as they are written."""
    found = {}
    while text:
        item = re.match(_ITEM + r"(?: +|$)", text)
        assert item, text
        quoted = item["label"].startswith("'")
        label = item["label"][1:-1].replace("''", "'") if quoted else item["label"]
        assert label not in found
        found[label] = item.group().strip().rpartition("=")[2]
        text = text[item.end() :]
    return found


def metrics(out):
    """The samples of a text in Prometheus' format, by name, with the labels that tell several of a name apart."""
    found = {}
    for family in text_string_to_metric_families(out):
        assert family.documentation.endswith(".")
        assert family.type == "gauge"
        for sample in family.samples:
            name = sample.name.removeprefix("crypto_trigger_")
            assert name != sample.name
            name += f"[{sample.labels['consumer']}]" if "consumer" in sample.labels else ""
            assert name not in found
            found[name] = sample.value
    return found


def labels(out):
    """The labels of every sample."""
    return [sample.labels for family in text_string_to_metric_families(out) for sample in family.samples]


def see(run, *argv):
    """Run `check` in its three formats, which must agree, and return all three; nothing else is printed."""
    nagios, as_json = (run("check", *argv, "--format", name) for name in ("nagios", "json"))
    before = time.time()
    prometheus = run("check", *argv, "--format", "prometheus")
    read, found, samples = line(nagios.out), json.loads(as_json.out), metrics(prometheus.out)
    assert {nagios.err, as_json.err} == {""}
    # Metrics do not say why there is no result.
    assert prometheus.err.startswith("crypto-trigger: ") is ("error" in found)
    assert prometheus.err.count("\n") == ("error" in found)
    assert {nagios.status, as_json.status, prometheus.status, samples["check_status"]} == {STATUSES.index(read.status)}
    # Written with milliseconds.
    assert before - 0.001 <= samples["check_timestamp_seconds"] <= time.time() + 0.001
    assert found["status"] == read.status
    # Every reason that the line gives is in the list of its level.
    assert found[read.status.lower()]
    return Seen(nagios.status, read.text, read.data, found, samples)
