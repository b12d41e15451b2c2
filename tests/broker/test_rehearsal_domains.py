"""A rehearsal with a JetStream domain: what it stores, nothing; and what it cannot know, which it says."""

import json

import pytest
from broker.test_domains import SETTINGS, held, joined
from support.clocks import roomy
from support.processes import execute, is_one_clean_line

NOTHING_PASSES = 'deny_exports: ["crypto.>"], deny_imports: ["crypto.>"]'


@pytest.mark.parametrize("domain", ["hub", "leaf"])
@pytest.mark.parametrize("passes", [True, False], ids=["the subject passes", "the subject does not pass"])
def test_a_refusal_of_another_domain_s_stream_is_told_as_what_it_may_be(passes, domain, tmp_path):
    settings = {**SETTINGS, **roomy().settings, "NATS_JS_DOMAIN": domain}
    with joined(tmp_path, "" if passes else NOTHING_PASSES) as sides:
        rehearsal = execute("publish", "--rehearse", "--json", NATS_URL=sides.hub, **settings)
        assert (held(sides.hub), held(sides.leaf)) == (0, 0)
        publish = execute("publish", NATS_URL=sides.hub, **settings)
        assert held(sides.hub) == 1
        assert held(sides.leaf) == passes
    report = json.loads(rehearsal.out)
    assert (rehearsal.status, report["would_be"]) == (0, "published")
    assert publish.status == (75 if domain == "leaf" and not passes else 0)
    if domain == "hub":
        assert rehearsal.err == ""
    else:
        assert is_one_clean_line(rehearsal.err)
        assert "whether crypto.update reaches that of leaf is not known" in rehearsal.err
        assert len(report["warnings"]) == 1
