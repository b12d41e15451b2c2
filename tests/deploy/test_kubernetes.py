"""k8s-cronjob.yaml: held against the program, validated for each Kubernetes, and run as its pods would run."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy

import pytest
import yaml
from support import pods
from support.patience import until
from support.ports import free_port
from support.programs import program
from support.proxy import holding
from support.shell import ROOT, do
from support.streams import read, stored

from crypto_trigger import __version__
from crypto_trigger.errors import Status
from crypto_trigger.retry import GRACE
from crypto_trigger.server import Server
from crypto_trigger.settings import SETTINGS, load

PATH = ROOT / "k8s-cronjob.yaml"
TEXT = PATH.read_text()
SETUP, CRONJOB = yaml.safe_load_all(TEXT)
PUBLISH = CRONJOB["spec"]["jobTemplate"]
JOBS = {"setup": SETUP, "publish": PUBLISH}
# The newest one that the validator knows at the time of writing.
VERSIONS = [f"1.{minor}" for minor in range(int(re.match(r"# Kubernetes 1\.(\d+) or later", TEXT).group(1)), 38)]
DEFAULTS = load({}, "/dev/null", {})
# Those after which another run can succeed, and those of a run that a signal or a bug ended.
OTHERS = {
    Status.OK,
    Status.UNAVAILABLE,
    Status.UNKNOWN,
    Status.BUG,
    Status.INTERRUPTED,
    Status.TERMINATED,
}
GIVE_UP = "CRYPTO_TRIGGER_GIVE_UP_AFTER"
# How long Kubernetes waits before the second pod of a Job, and before the third.
PAUSES = (10, 20)
# For the image's pull, and for the start of the pods.
STARTS = 60


def pod(job):
    return job["spec"]["template"]


def container(job):
    (found,) = pod(job)["spec"]["containers"]
    return found


# Against the program.


def test_the_first_line_tells_the_least_version():
    assert TEXT.startswith("# Kubernetes 1.29 or later: ")


@pytest.mark.parametrize("job", JOBS.values(), ids=JOBS)
def test_a_job_fails_at_once_with_the_statuses_that_running_again_cannot_mend(job):
    ignored, failed = job["spec"]["podFailurePolicy"]["rules"]
    codes = failed["onExitCodes"]
    assert (failed["action"], codes["operator"], codes["containerName"]) == ("FailJob", "In", container(job)["name"])
    assert codes["values"] == sorted(set(Status) - OTHERS)
    # Kubernetes before 1.35 refuses a condition without a status.
    assert ignored == {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
    # A failure policy asks for it.
    assert pod(job)["spec"]["restartPolicy"] == "Never"


def test_the_cronjob_runs_once_a_slot_and_a_job_ends_within_it():
    spec = CRONJOB["spec"]
    every = DEFAULTS.every.total_seconds()
    assert (spec["schedule"], spec["timeZone"]) == (f"*/{every / 60:.0f} * * * *", "Etc/UTC")
    # The controller looks every 10 seconds.
    assert spec["startingDeadlineSeconds"] >= 10
    assert spec["startingDeadlineSeconds"] + PUBLISH["spec"]["activeDeadlineSeconds"] <= every


@pytest.mark.parametrize("job", JOBS.values(), ids=JOBS)
def test_the_deadline_of_a_job_leaves_room_for_the_runs_that_it_allows(job):
    spec = job["spec"]
    assert spec["backoffLimit"] == len(PAUSES)
    longest = (DEFAULTS.give_up_after.total_seconds() + 1) * (len(PAUSES) + 1) + sum(PAUSES)
    assert longest + STARTS < spec["activeDeadlineSeconds"] < DEFAULTS.every.total_seconds()
    assert pod(job)["spec"]["terminationGracePeriodSeconds"] > GRACE


def test_both_jobs_run_the_same_pod_but_for_the_command_and_the_settings_of_publish():
    setup, publish = deepcopy(pod(SETUP)), deepcopy(pod(PUBLISH))
    (one,), (other,) = setup["spec"]["containers"], publish["spec"]["containers"]
    assert (one.pop("command"), other.pop("command")) == (["crypto-trigger", "setup"], ["crypto-trigger", "publish"])
    assert one["env"] == [other["env"].pop(0)]
    assert {entry["name"] for entry in other["env"]} == {"CRYPTO_TRIGGER_K8S_JOB", "CRYPTO_TRIGGER_REPORT_FILE"}
    del one["env"], other["env"]
    assert setup == publish


def test_every_variable_is_a_setting():
    named = {entry["name"]: entry for entry in container(PUBLISH)["env"]}
    commented = set(re.findall(r"\b(?:NATS|CRYPTO_TRIGGER)_[A-Z0-9_]+", TEXT)) - {"NATS_PORT"}
    assert set(named) | commented <= {setting.variable for setting in SETTINGS}
    label = {"fieldPath": "metadata.labels['batch.kubernetes.io/job-name']"}
    assert named["CRYPTO_TRIGGER_K8S_JOB"]["valueFrom"] == {"fieldRef": label}
    # The default terminationMessagePath.
    assert named["CRYPTO_TRIGGER_REPORT_FILE"]["value"] == "/dev/termination-log"


@pytest.mark.parametrize("job", JOBS.values(), ids=JOBS)
def test_no_mesh_adds_a_proxy_that_outlives_the_run(job):
    metadata = pod(job)["metadata"]
    assert metadata["labels"]["sidecar.istio.io/inject"] == "false"
    assert metadata["annotations"] == {"sidecar.istio.io/inject": "false", "linkerd.io/inject": "disabled"}


def test_the_image_has_the_version_of_the_package():
    assert {container(job)["image"] for job in JOBS.values()} == {f"registry.example.com/crypto-trigger:{__version__}"}


@pytest.mark.parametrize("job", JOBS.values(), ids=JOBS)
def test_the_job_runs_a_command_that_parses(job, run):
    name, *arguments = container(job)["command"]
    assert name == "crypto-trigger"
    assert run(*arguments, "--help").status == 0


def test_a_report_that_names_many_servers_fits_into_the_message_of_a_pod(run, tmp_path, monkeypatch):
    hosts = [f"nats-{number}.{'.'.join(['n' * 60] * 4)}" for number in range(10, 40)]
    monkeypatch.setenv("NATS_URL", ",".join(hosts))
    result = run("publish", "--give-up-after", "2s", "--report-file", tmp_path / "report")
    assert result.status == Status.UNAVAILABLE
    text = (tmp_path / "report").read_text()
    assert len(text.encode()) <= pods.MOST_OF_A_MESSAGE
    message = json.loads(text)["error"]["message"]
    assert message.count("nats://nats-") == 8
    assert re.search(r"; and \d+ more", message)


# Validated.


@pytest.mark.parametrize("version", VERSIONS)
def test_it_is_valid_for_each_kubernetes_that_it_claims(version):
    ended = do(program("kubernetes-validate"), "--strict", "--kubernetes-version", version, PATH)
    assert (ended.status, ended.err) == (0, "")
    assert len(re.findall(r"passed for resource \w+/[\w-]+ against version", ended.out)) == 2


def test_the_validator_sees_a_wrong_field(tmp_path):
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(TEXT.replace("backoffLimit:", "backOffLimit:"))
    assert do(program("kubernetes-validate"), "--strict", "--kubernetes-version", VERSIONS[0], wrong).status == 1


def commands():
    """The commands of the page's section."""
    page = (ROOT / "docs" / "scheduling.md").read_text()
    section = page.partition("\n## Kubernetes\n")[2].partition("\n## ")[0]
    return re.search(r"```sh\n(.*?)```", section, re.DOTALL).group(1).replace("\\\n", "").splitlines()


def test_the_pages_command_sets_the_image_of_both_jobs():
    program("kubectl")
    (command,) = (line for line in commands() if "kubectl set image" in line)
    offline, pipe, rest = command.partition(" | ")
    assert (pipe, rest) == (" | ", "kubectl apply -f -")
    ended = do("bash", "-c", offline.replace("registry.example.com", "registry.test"), cwd=ROOT)
    assert (ended.status, ended.err) == (0, "")
    one, other = yaml.safe_load_all(ended.out)
    images = [container(one)["image"], container(other["spec"]["jobTemplate"])["image"]]
    assert images == [f"registry.test/crypto-trigger:{__version__}"] * 2


def test_the_pages_commands_create_what_the_manifest_refers_to(tmp_path):
    program("kubectl")
    (tmp_path / "nats-secret.env").write_text("NATS_USER=some\nNATS_PASSWORD=pw\n")
    created = []
    for command in commands():
        if command.startswith("kubectl create "):
            ended = do("bash", "-c", f"{command} --dry-run=client -o yaml", cwd=tmp_path)
            assert ended.status == 0, ended
            created.append(yaml.safe_load(ended.out))
    found = {one["kind"]: (one["metadata"]["name"], set(one["data"])) for one in created}
    assert found == {
        "ConfigMap": ("crypto-trigger", {"NATS_URL"}),
        "Secret": ("crypto-trigger", {"NATS_USER", "NATS_PASSWORD"}),
    }
    referred, optional = container(PUBLISH)["envFrom"]
    assert referred == {"configMapRef": {"name": "crypto-trigger"}}
    assert optional == {"secretRef": {"name": "crypto-trigger", "optional": True}}


# Run.


@pytest.fixture
def cluster(image, place, tmp_path):
    """What the pods refer to: the ConfigMap of the test's own place, and no Secret."""
    config = {
        "NATS_URL": place.url,
        "CRYPTO_TRIGGER_STREAM": place.stream,
        "CRYPTO_TRIGGER_SUBJECT": place.subject,
        "CRYPTO_TRIGGER_TIMEOUT": "1s",
        GIVE_UP: "3s",
    }
    return pods.Cluster(image, tmp_path, {"crypto-trigger": config}, {})


def job_name(ago):
    """The name that the CronJob's controller gives to the Job of a slot that began so many slots before this one."""
    minutes = int(DEFAULTS.every.total_seconds() // 60)
    return f"crypto-trigger-{(int(time.time()) // 60 // minutes - ago) * minutes}"


def report(pod):
    """The report in the pod's message, which Kubernetes shows as a whole."""
    assert len(pod.message.encode()) <= pods.MOST_OF_A_MESSAGE
    return json.loads(pod.message)


def test_three_pods_of_one_job_store_one_trigger_also_if_the_first_is_lost_before_it_knows(cluster, place):
    """The node of the first one is lost: it is killed once its trigger is stored and not yet acknowledged."""
    assert pods.run(pod(SETUP), cluster).ended.status == 0
    name = job_name(ago=1)  # the pods start late, in the next slot
    node = f"lost-{place.stream}"
    with holding(place.url, b"HPUB " + place.subject.encode()) as hold, ThreadPoolExecutor() as pool:
        running = pool.submit(pods.run, pod(PUBLISH), cluster, name, node, NATS_URL=hold.url, **{GIVE_UP: "60s"})
        until(lambda: stored(place.url, place.stream), "a stored trigger", seconds=60)
        assert cluster.image.podman("kill", "--signal=KILL", node).status == 0
        lost = running.result(timeout=60)
    second, third = (pods.run(pod(PUBLISH), cluster, name) for _ in range(2))
    (message,) = stored(place.url, place.stream)
    slot = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(int(name.rpartition("-")[2]) * 60))
    assert message.headers["Nats-Msg-Id"] == f"{place.subject}:{slot}"
    assert (lost.ended.status, lost.message) == (128 + signal.SIGKILL, "")
    assert [each.ended.status for each in (second, third)] == [0, 0]
    assert [report(each)["outcome"] for each in (second, third)] == ["duplicate"] * 2
    assert {report(each)["scheduled_at"] for each in (second, third)} == {slot}


def test_credentials_come_from_the_secret_and_files_from_the_other_one(cluster):
    with Server(arguments=["--user", "some", "--pass", "pw"]) as server:
        refused = pods.run(pod(SETUP), cluster, NATS_URL=server.url)
        cluster.secrets["crypto-trigger"] = {"NATS_USER": "some"}
        cluster.secrets["crypto-trigger-files"] = {"password": "pw"}
        by_file = {"NATS_URL": server.url, "NATS_PASSWORD_FILE": "/etc/crypto-trigger/password"}
        assert pods.run(pod(SETUP), cluster, **by_file).ended.status == 0
        published = pods.run(pod(PUBLISH), cluster, job_name(0), **by_file)
        stream = cluster.config_maps["crypto-trigger"]["CRYPTO_TRIGGER_STREAM"]
        held = asyncio.run(read(server.url, stream, user="some", password="pw"))
    assert len(held) == 1
    assert report(published)["outcome"] == "published"
    assert refused.ended.status == Status.DENIED


FAULTS = {
    "no server": ({"NATS_URL": f"nats://127.0.0.1:{free_port()}"}, Status.UNAVAILABLE, "connection refused"),
    "a service of another namespace": (
        {"NATS_URL": "nats://nats.no-such-namespace:4222"},
        Status.UNAVAILABLE,
        "nats://nats.no-such-namespace:4222: ",
    ),
    "a file that the Secret has not": (
        {"NATS_CREDS": "/etc/crypto-trigger/nats.creds"},
        Status.CONFIG,
        "NATS_CREDS '/etc/crypto-trigger/nats.creds' (from the environment) cannot be read: no such file",
    ),
    "a file that the program may not read": (
        {"NATS_PASSWORD_FILE": "/etc/shadow", "NATS_USER": "some"},
        Status.CONFIG,
        "NATS_PASSWORD_FILE '/etc/shadow' (from the environment) cannot be read: permission denied",
    ),
    "a wrong duration": (
        {"CRYPTO_TRIGGER_EVERY": "15"},
        Status.CONFIG,
        "CRYPTO_TRIGGER_EVERY '15' (from the environment) is not a duration",
    ),
}


@pytest.mark.parametrize(("environ", "status", "words"), FAULTS.values(), ids=FAULTS)
def test_a_wrong_setting_is_one_line_in_the_pods_log_and_in_its_message(environ, status, words, cluster):
    failed = pods.run(pod(PUBLISH), cluster, job_name(0), **environ)
    assert failed.ended.status == status
    assert failed.ended.out == ""
    assert failed.ended.err.count("\n") == 1
    assert words in failed.ended.err
    assert words in report(failed)["error"]["message"]
