"""A host without descriptors or threads to spare: one clean line and a true status, never a traceback."""

import json
import shutil
import sys

import pytest
from support.processes import PROGRAM, Process, beginning_with, execute, is_one_clean_line
from support.programs import program
from support.streams import add_stream, stored

SURE = {"CRYPTO_TRIGGER_TIMEOUT": "2s", "CRYPTO_TRIGGER_GIVE_UP_AFTER": "4s"}
NOT_STORED = {65, 69, 77, 78}


@pytest.fixture
def streamed(place):
    add_stream(place.url, place.stream, [place.subject], duplicate_window=1800)
    return place


def judge(ended, place):
    """The status is true, and what there is to say is one line."""
    held = len(stored(place.url, place.stream))
    assert "Traceback" not in ended.err
    assert ended.status in {0, 75, *NOT_STORED}
    if ended.status == 0:
        assert held == 1
    elif ended.status in NOT_STORED:
        assert held == 0
    if ended.status:
        assert is_one_clean_line(ended.err)
        assert ended.err.startswith("crypto-trigger: ")


# Three are stdin, stdout and stderr; an event loop takes three, a connection one, reading a file one.
@pytest.mark.parametrize("limit", [4, 5, 6, 7, 8])
@pytest.mark.parametrize("delivery", ["jetstream", "core"])
def test_few_descriptors_end_in_one_line(delivery, limit, streamed):
    command = (shutil.which("sh"), "-c", f'ulimit -n {limit}; exec "$@"', "sh", *PROGRAM)
    ended = Process("publish", "--delivery", delivery, command=command, **SURE).end()
    if delivery == "jetstream":
        judge(ended, streamed)
    assert "Traceback" not in ended.err
    assert ended.status != 70
    if ended.status:
        assert is_one_clean_line(ended.err)
        assert "descriptor" in ended.err or "too many open files" in ended.err.lower()


def test_few_descriptors_are_named_in_the_report(streamed):
    command = (shutil.which("sh"), "-c", 'ulimit -n 6; exec "$@"', "sh", *PROGRAM)
    ended = Process("publish", "--json", command=command, **SURE).end()
    judge(ended, streamed)
    report = json.loads(ended.out)
    assert (report["status"], report["outcome"] == "bug") == (ended.status, False)


@pytest.mark.parametrize("command", ["publish", "check"])
def test_a_host_without_dev_is_no_lack_of_descriptors(command, streamed):
    """A chroot, or a container's root without its mounts."""
    bare = (program("unshare"), "--mount", "sh", "-c", 'mount -t tmpfs none /dev && exec "$@"', "sh")
    if Process(command=(*bare, "true")).end().status != 0:
        pytest.skip("a mount namespace is not permitted here")
    if command == "check":
        execute("publish", **SURE)
    ended = Process(command, command=(*bare, *PROGRAM), **SURE).end()
    assert (ended.status, ended.err) == (0, "")
    assert len(stored(streamed.url, streamed.stream)) == 1


NO_THREADS = """
import threading
def start(self):
    raise RuntimeError("can't start new thread")
threading.Thread.start = start
"""


@pytest.mark.parametrize("delivery", ["jetstream", "core"])
def test_no_thread_for_the_name_lookup_ends_in_one_line(delivery, streamed, tmp_path):
    """The name is looked up all the same, or one line says why not."""
    url = streamed.url.replace("127.0.0.1", "localhost")
    ended = execute("publish", "--delivery", delivery, NATS_URL=url, **beginning_with(tmp_path, NO_THREADS), **SURE)
    if delivery == "jetstream":
        judge(ended, streamed)
    assert ended.status in {0, 69}
    assert "Traceback" not in ended.err
    if ended.status:
        assert is_one_clean_line(ended.err)
        assert "localhost" in ended.err
        assert "thread" in ended.err


def test_no_thread_is_needed_for_an_address(streamed, tmp_path):
    ended = execute("publish", **beginning_with(tmp_path, NO_THREADS), **SURE)
    assert len(stored(streamed.url, streamed.stream)) == 1
    assert (ended.status, ended.err) == (0, "")


def test_the_limit_on_descriptors_is_what_the_tests_say():
    """`ulimit` in a shell limits the program. Otherwise the tests above would prove nothing."""
    code = "import resource; print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
    command = (shutil.which("sh"), "-c", 'ulimit -n 6; exec "$@"', "sh", sys.executable, "-c", code)
    assert Process(command=command).end().out == "6\n"
