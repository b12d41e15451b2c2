"""What Prometheus would say, as its own promtool tells: alert rules, fed with metrics that programs have written."""

from __future__ import annotations

import re
from collections import defaultdict
from datetime import UTC, datetime
from typing import NamedTuple

import yaml
from prometheus_client.parser import text_string_to_metric_families

from support.programs import program
from support.shell import ROOT, do

RULES = ROOT / "deploy" / "prometheus" / "alerts.yaml"
# A check runs every minute, and says so.
_RENEWED = "crypto_trigger_check_timestamp_seconds"
_GOT = r"alertname: \w+, time: (?P<time>\S+?), *|Labels:(?P<labels>\{.*\})\n\s*Annotations:(?P<annotations>\{.*\})"
# It evaluates every rule for every minute.
_PATIENCE = 120
_UNITS = {"d": 1440, "h": 60, "m": 1}


def promtool(*arguments, **options):
    """Run promtool; how it ended."""
    return do(program("promtool"), *arguments, timeout=_PATIENCE, **options)


class Alert(NamedTuple):
    """An alert that fires: its name, its labels, its summary and its description."""

    name: str
    labels: dict[str, str]
    summary: str
    description: str


class Prometheus:
    """Prometheus with our rules, for slots of `every` seconds.

    Time is in minutes since `began`, seconds since the epoch at which a slot begins, and so are the times in the
    metrics: promtool's clock begins at 1970.
    """

    def __init__(self, folder, began, every=900):
        self._folder, self._began, self._every = folder, began, every
        self._samples = defaultdict(dict)

    def scrape(self, instance, text, minutes):
        """Take the metrics in a text in each of these minutes. Those of a check are renewed in each."""
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                labels = ",".join(f'{name}="{_quoted(value)}"' for name, value in sample.labels.items())
                named = f'{sample.name}{{instance="{instance}",{labels}}}'
                past = self._began if sample.name.endswith(("_timestamp_seconds", "_time")) else 0
                for minute in minutes:
                    self._samples[named][minute] = 60 * minute if sample.name == _RENEWED else sample.value - past

    def alerts(self, minutes):
        """The alerts that fire, for each of these minutes."""
        groups = yaml.safe_load(RULES.read_text())["groups"]
        names = {rule["alert"] for group in groups for rule in group["rules"] if "alert" in rule}
        text = re.sub(r"\b900\b", str(self._every), RULES.read_text())
        (self._folder / "alerts.yaml").write_text(re.sub(r"\b1800s\b", f"{2 * self._every}s", text))
        last = max(minutes)
        test = {
            "rule_files": ["alerts.yaml"],
            "evaluation_interval": "1m",
            "tests": [
                {
                    "interval": "1m",
                    "input_series": [
                        {"series": name, "values": _values(found, last)} for name, found in self._samples.items()
                    ],
                    # What fires is not what is expected, and promtool tells it.
                    "alert_rule_test": [
                        {"eval_time": f"{minute}m", "alertname": name, "exp_alerts": []}
                        for minute in minutes
                        for name in sorted(names)
                    ],
                }
            ],
        }
        (self._folder / "test.yaml").write_text(yaml.safe_dump(test))
        told = promtool("test", "rules", "test.yaml", cwd=self._folder)
        found = _read(told.out + told.err)
        assert (told.status == 0) == (found == {}), told
        return {minute: found.get(minute, []) for minute in minutes}

    def slot(self, start):
        """The start of a slot as an annotation names it."""
        return datetime.fromtimestamp(start - self._began, UTC).strftime("%Y-%m-%d %H:%M:%S +0000 UTC")


def _quoted(value):
    return value.replace("\\", "\\\\").replace('"', '\\"')


def _values(found, last):
    """A series in promtool's notation; a minute without a value follows on a scrape without the series."""
    words = []
    for minute in range(last + 1):
        absent = "_" if minute - 1 not in found else "stale"
        words.append(f"{found[minute]:.3f}" if minute in found else absent)
    return " ".join(words)


def _read(text):
    """The alerts that promtool got, by minute."""
    found, minute = defaultdict(list), None
    for match in re.finditer(_GOT, text):
        if match["time"]:
            minute = sum(int(number) * _UNITS[unit] for number, unit in re.findall(r"(\d+)([dhm])", match["time"]))
        else:
            labels, annotations = _pairs(match["labels"]), _pairs(match["annotations"])
            found[minute].append(
                Alert(labels.pop("alertname"), labels, annotations["summary"], annotations["description"])
            )
    return dict(found)


def _pairs(text):
    return {name: value.replace('\\"', '"') for name, value in re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', text)}
