"""The alert rules for Prometheus: promtool accepts them, and their metrics are those that are really written."""

import re
from datetime import timedelta

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from support.clocks import rfc3339, roomy
from support.consumers import add_consumer
from support.promtool import RULES, promtool
from support.shell import ROOT
from support.streams import add_stream, put, stored

from crypto_trigger.errors import Status
from crypto_trigger.monitoring.verdict import Level
from crypto_trigger.settings.load import load

TESTS = ROOT / "tests" / "deploy" / "alerts_test.yaml"
DEFAULTS = load({}, "/dev/null", {})
EVERY = int(DEFAULTS.every.total_seconds())
ALL = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
ALERTS = [rule for rule in ALL if "alert" in rule]
# Of other programs: kube-state-metrics (its docs/metrics/workload/cronjob-metrics.md), Prometheus.
OTHERS = {
    "kube_cronjob_status_last_successful_time",
    "kube_cronjob_status_last_schedule_time",
    "kube_cronjob_created",
    "kube_cronjob_spec_suspend",
    "ALERTS",
}


def severity(rule):
    return rule["labels"]["severity"]


def metrics(text):
    """The names of the metrics in a text, but for those that a rule records."""
    return set(re.findall(r"\b(?:crypto_trigger|kube|node)_\w+|\bALERTS\b", re.sub(r"\w+:\w+:\w+", "", text)))


# Promtool.


def test_promtool_finds_nothing_wrong_with_the_rules():
    done = promtool("check", "rules", "--lint=all", "--lint-fatal", RULES)
    assert done.status == 0, done


def test_each_alert_names_its_slot_when_something_is_wrong_and_is_quiet_when_all_is_well():
    done = promtool("test", "rules", TESTS)
    assert done.status == 0, done


def test_every_alert_is_one_that_is_seen_to_fire():
    seen = {
        (test["alertname"], alert["exp_labels"]["severity"])
        for scenario in yaml.safe_load(TESTS.read_text())["tests"]
        for test in scenario.get("alert_rule_test", ())
        for alert in test["exp_alerts"]
    }
    wanted = {(rule["alert"], severity(rule)) for rule in ALERTS if "{{" not in severity(rule)}
    templated = {rule["alert"] for rule in ALERTS if "{{" in severity(rule)}
    assert len(wanted) > 8
    assert seen == wanted | {(name, level) for name in templated for level in ("warning", "critical")}


# What the rules are about.


@pytest.fixture
def slots(place, monkeypatch):
    """A stream that takes the triggers of slots of which the present one lasts a while."""
    found = roomy()
    for name, value in found.settings.items():
        monkeypatch.setenv(name, value)
    add_stream(place.url, place.stream, [place.subject])
    return found


def start(slots, ago):
    """When a slot began: the present one, or one so many slots ago; in seconds since the epoch."""
    return slots.turn - (ago + 1) * slots.every


def test_every_metric_in_the_rules_is_one_that_is_written(slots, run, place, tmp_path, monkeypatch):
    monkeypatch.setenv("CRYPTO_TRIGGER_METRICS_FILE", str(tmp_path / "crypto-trigger.prom"))
    put(place.url, place.subject, b"", {"ce-time": rfc3339(start(slots, 2))})
    add_consumer(place.url, place.stream, "api-server")
    assert run("publish").status == 0
    assert len(stored(place.url, place.stream)) == 2
    check = ("check", "--consumer", "api-server", "--format", "prometheus", "--output-file")
    assert run(*check, tmp_path / "crypto-trigger-check.prom").status == Level.WARNING
    written = {
        sample.name
        for path in tmp_path.glob("*.prom")
        for family in text_string_to_metric_families(path.read_text())
        for sample in family.samples
    }
    named = metrics(RULES.read_text())
    assert len(named & written) > 5
    assert named == named & written | OTHERS


def test_check_writes_which_slot_was_missed_last(slots, run, place):
    def missed_last():
        out = run("check", "--since", f"{6 * slots.every}s", "--format", "prometheus").out
        name = "crypto_trigger_window_newest_missed_slot_timestamp_seconds"
        return [family.samples[0].value for family in text_string_to_metric_families(out) if family.name == name]

    for ago in (5, 3, 0):
        put(place.url, place.subject, b"", {"ce-time": rfc3339(start(slots, ago))})
    assert missed_last() == [start(slots, 1)]
    put(place.url, place.subject, b"", {"ce-time": rfc3339(start(slots, 1))})
    assert missed_last() == [start(slots, 2)]
    for ago in (2, 4):
        put(place.url, place.subject, b"", {"ce-time": rfc3339(start(slots, ago))})
    assert missed_last() == []


def test_the_numbers_in_the_rules_are_those_of_the_default_slots():
    text = "\n".join(rule["expr"] for rule in ALL)
    numbers = {int(number) for number in re.findall(r"(?<![\w\[])\d+(?![\w\]])", text)}
    assert numbers == {EVERY, EVERY * 2 // 3, EVERY // 3, int(DEFAULTS.early.total_seconds()), 0, 2}
    assert set(re.findall(r"\b\d+s\b", text)) == {f"{2 * EVERY}s"}


def test_an_alert_that_is_late_or_failed_comes_while_its_slot_can_be_filled():
    """Ten minutes after the slot began, and two more for those that wait."""
    waits = {rule["alert"]: rule.get("for", "0m") for rule in ALERTS}
    assert timedelta(minutes=int(waits["CryptoTriggerLate"].removesuffix("m")), seconds=600) < DEFAULTS.every
    assert waits["CryptoTriggerRunFailed"] == waits["CryptoTriggerNotConsumed"] == "2m"


def test_the_statuses_that_an_alert_names_are_those_of_the_program():
    (rule,) = [rule for rule in ALERTS if rule["alert"] == "CryptoTriggerRunFailed"]
    again, _, hopeless = rule["annotations"]["description"].partition("may succeed")
    named = [{int(number) for number in re.findall(r"\b\d\d\b", text)} for text in (again, hopeless)]
    assert named == [
        {Status.UNAVAILABLE, Status.UNKNOWN},
        {Status.REJECTED, Status.PROTOCOL, Status.DENIED, Status.CONFIG},
    ]
    (rule,) = [rule for rule in ALERTS if rule["alert"] == "CryptoTriggerCheckNotOk"]
    levels = re.findall(r"if eq \$value (\d)\.0 \}\}([A-Z]+)", rule["annotations"]["summary"])
    assert [(int(value), name) for value, name in levels] == [(1, Level.WARNING.name), (2, Level.CRITICAL.name)]
    assert f"{{{{ else }}}}{Level.UNKNOWN.name}{{{{ end }}}}" in rule["annotations"]["summary"]


def test_the_cronjobs_in_the_rules_are_ours():
    documents = yaml.safe_load_all((ROOT / "k8s-cronjob.yaml").read_text())
    cronjobs = [document for document in documents if document["kind"] == "CronJob"]
    patterns = {pattern for rule in ALL for pattern in re.findall(r'cronjob="(.*?)"', rule["expr"])}
    assert patterns == {cronjob["metadata"]["name"] for cronjob in cronjobs}
    told = "".join(rule["annotations"]["description"] for rule in ALERTS)
    components = set(re.findall(r"app.kubernetes.io/component=(\w+)", told))
    assert components == {cronjob["metadata"]["labels"]["app.kubernetes.io/component"] for cronjob in cronjobs}
