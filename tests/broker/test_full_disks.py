"""A server whose disk is full: it says that it could not store the trigger, and other replicas may have stored it."""

import json
import os
import subprocess
from contextlib import contextmanager, suppress
from unittest.mock import patch

import pytest
from support.cluster import Cluster
from support.old_servers import find, serving
from support.patience import until
from support.processes import execute, is_one_clean_line
from support.programs import ALL
from support.proxy import Proxy, Recorded, Way
from support.streams import add_stream, put, stored

SUBJECT = "crypto.update"
SETTINGS = {
    "CRYPTO_TRIGGER_STREAM": "S",
    "CRYPTO_TRIGGER_SUBJECT": SUBJECT,
    "CRYPTO_TRIGGER_TIMEOUT": "1s",
    "CRYPTO_TRIGGER_GIVE_UP_AFTER": "3s",
}
FIRST, SECOND = "2026-11-23T12:00:00Z", "2026-11-23T12:15:00Z"
# Until 2.12 a server tells that its disk is full; later ones say nothing.
TELL = ["2.9", "2.10", "2.11", "2.12"]
# A page of memory, and less than what a trigger takes, headers included, in bytes.
_PAGE, _TRIGGER = 4096, 200


@contextmanager
def small_disk(folder):
    """A folder on a disk of its own of one megabyte."""
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True, text=True, check=False
    )
    if mounted.returncode and not (ALL and os.getuid() == 0):
        pytest.skip(f"no file system can be mounted: {mounted.stderr.strip()}")
    assert mounted.returncode == 0, mounted.stderr
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def fill(disk, url):
    """Leave no room for a trigger on the disk that stream S of the server is stored on."""
    with (disk / "filler").open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(_PAGE))
    (messages,) = disk.rglob("S/msgs/1.blk")
    # There is room to the end of the file's last page.
    left = -messages.stat().st_size % _PAGE
    if left > _TRIGGER:
        put(url, "crypto.fill", bytes(left - _TRIGGER))


def config(folder, further=""):
    """A configuration in which the size of the disk sets no limit."""
    path = folder / "server.conf"
    path.write_text(f"jetstream {{ max_file_store: 10GB{further} }}")
    return path


def publish(url, slot):
    ended = execute("publish", "--json", "--scheduled-at", slot, NATS_URL=url, **SETTINGS)
    return ended, json.loads(ended.out)


def triggers(url):
    """The slots of the triggers that the stream holds."""
    return tuple(message.headers["ce-time"] for message in stored(url, "S") if message.subject == SUBJECT)


@pytest.mark.parametrize("release", [*TELL, "2.15"])
def test_one_server_whose_disk_is_full_may_have_stored_the_trigger(release, tmp_path):
    arguments = ["-sd", str(tmp_path / "disk"), "-c", str(config(tmp_path))]
    with small_disk(tmp_path / "disk") as disk, serving(find(release), arguments=arguments) as server:
        add_stream(server.url, "S", ["crypto.*"], duplicate_window=1800)
        assert publish(server.url, FIRST)[0].status == 0
        fill(disk, server.url)
        ended, report = publish(server.url, SECOND)
        held = triggers(server.url)
    # 2.9 keeps it in memory, and gives it to whoever reads.
    assert (ended.status, held) in {(75, (FIRST,)), (75, (FIRST, SECOND)), (0, (FIRST, SECOND))}
    assert is_one_clean_line(ended.err) == (ended.status == 75)
    if release in TELL and ended.status == 75:
        assert report["attempts"] > 1
        assert "could not store the message in stream S: write " in ended.err
        assert "no space left on device" in ended.err


@pytest.mark.parametrize("release", ["2.11", "2.12"])
def test_a_leader_whose_disk_is_full_and_whose_replicas_store_the_trigger(release, tmp_path):
    program = find(release)
    home = tmp_path / "n1"
    (home / "jetstream").mkdir(parents=True)
    # The messages go to the small disk, and the log of the cluster's agreement does not.
    with (
        small_disk(home / "jetstream" / "$G") as disk,
        patch("crypto_trigger.commands.server.program", lambda: program),
    ):

        def further(name):
            return [
                "-c",
                str(config(tmp_path, ", sync_interval: always")),
                *(["-sd", str(home)] if name == "n1" else []),
            ]

        with Cluster(3, further) as cluster:
            full, other, _ = cluster.nodes
            cluster.recover()
            add_stream(full.url, "S", ["crypto.*"], duplicate_window=1800, num_replicas=3)
            cluster.recover("S")
            cluster.lead("S", full)
            assert publish(full.url, FIRST)[0].status == 0
            fill(disk, full.url)
            said = Recorded(Way.TO_CLIENT)
            with Proxy(full.url) as proxy, proxy.route(then=said) as route:
                ended, report = publish(route.url, SECOND)
            cluster.lead("S", other)
            until(lambda: triggers(other.url) == (FIRST, SECOND), "the replicas hold the trigger")
            again, told = publish(other.url, SECOND)
            assert triggers(other.url) == (FIRST, SECOND)
    assert b"no space left on device" in said.data
    # 0 where another replica has become the leader before the deadline.
    assert (ended.status, report["outcome"]) in {(75, "unknown"), (0, "duplicate")}
    assert report["attempts"] > 1
    if ended.status:
        assert "no space left on device" in ended.err
        assert "discard" not in ended.err
    assert (again.status, told["outcome"]) == (0, "duplicate")
