"""A rehearsal on servers of other releases, and on a cluster: the trigger can be stored after it."""

import json
import os
from unittest.mock import patch
from uuid import uuid4

import pytest
from support.cluster import Cluster
from support.old_servers import find, serving
from support.patience import until
from support.processes import execute
from support.programs import ALL
from support.streams import stored

RELEASES = ["2.9", "2.10", "2.11", "2.12", "2.14"]
SURE = {"CRYPTO_TRIGGER_TIMEOUT": "5s", "CRYPTO_TRIGGER_GIVE_UP_AFTER": "20s"}
SLOT = ("--scheduled-at", "2026-11-23T12:00:00Z")


def rehearse_and_publish(url, *replicas):
    """Rehearse twice, publish, rehearse again; what the three rehearsals said a publish would be."""
    name = f"t{uuid4().hex[:12]}"
    where = ("--server", url, "--stream", name, "--subject", f"{name}.update", "--env-file", os.devnull)
    # In a cluster that has just begun, the leader may not know all servers yet.
    until(lambda: execute("setup", *where, *replicas, **SURE).status == 0, "the stream is set up")
    found = []
    for flags in (("--rehearse",), ("--rehearse",), (), ("--rehearse",)):
        ended = execute("publish", "--json", *flags, *where, *SLOT, **SURE)
        assert ended.status == 0, ended.err
        found.append(json.loads(ended.out))
    first, second, published, third = found
    (message,) = stored(url.partition(",")[0], name)
    assert message.headers["Nats-Msg-Id"] == published["msg_id"]
    assert published["outcome"] == "published"
    assert [report["would_be"] for report in (first, second, third)] == ["published", "published", "duplicate"]


@pytest.mark.parametrize("release", RELEASES)
def test_the_trigger_is_stored_after_a_rehearsal(release):
    with serving(find(release)) as server:
        rehearse_and_publish(server.url)


@pytest.mark.parametrize("release", ["2.10", "2.11"])
def test_the_trigger_is_stored_after_a_rehearsal_in_a_stream_of_three_copies(release):
    """These servers note the msg id of a message that they refuse: the trigger of that msg id would be lost."""
    path = find(release)
    with patch("crypto_trigger.commands.server.program", lambda: path), Cluster() as cluster:
        rehearse_and_publish(cluster.urls, "--replicas", "3")


def test_the_trigger_is_stored_after_a_rehearsal_in_a_stream_of_three_copies_of_this_release():
    if not ALL:
        pytest.skip("it starts a cluster of its own: it runs with CRYPTO_TRIGGER_TEST_ALL=1")
    with Cluster() as cluster:
        rehearse_and_publish(cluster.urls, "--replicas", "3")
