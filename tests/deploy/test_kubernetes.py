"""k8s-cronjob.yaml and docs/kubernetes.md.

Held against the program, rendered by kubectl, validated for each Kubernetes, and run as the pods would run.
"""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import shutil
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy

import pytest
import yaml
from support import pods
from support.clocks import rfc3339, roomy
from support.pages import blocks, section, table, text
from support.patience import until
from support.ports import free_port
from support.programs import program
from support.proxy import holding
from support.shell import ROOT, do
from support.streams import put, read, stored

from crypto_trigger import __version__
from crypto_trigger.commands.server import Server
from crypto_trigger.deadline.retry import GRACE
from crypto_trigger.errors import Status
from crypto_trigger.monitoring.verdict import Level
from crypto_trigger.settings.load import SETTINGS, load
from crypto_trigger.slots.times import duration

PAGE = "docs/kubernetes.md"
PATH = ROOT / "k8s-cronjob.yaml"
TEXT = PATH.read_text()
SETUP, PUBLISHING, CHECKING = yaml.safe_load_all(TEXT)
PUBLISH, CHECK = (cronjob["spec"]["jobTemplate"] for cronjob in (PUBLISHING, CHECKING))
JOBS = {"setup": SETUP, "publish": PUBLISH, "check": CHECK}
OVERLAY = ROOT / "deploy" / "kubernetes"
GIVEN_UP = load({}, "/dev/null", {}).give_up_after.total_seconds()
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
# From the death of a node until another pod starts, as it was seen on a cluster, with tolerations of 30 seconds.
REPLACED = 83


def pod(job):
    return job["spec"]["template"]


def container(job):
    (found,) = pod(job)["spec"]["containers"]
    return found


# Against the program.


def test_the_first_line_tells_the_least_version():
    assert TEXT.startswith("# Kubernetes 1.29 or later: ")


def variables(job):
    """The variables of a job's container that have a value of their own."""
    return {entry["name"]: entry["value"] for entry in container(job)["env"] if "value" in entry}


def seconds(job):
    """The deadline of the job's program."""
    return duration(variables(job)[GIVE_UP]).total_seconds() if GIVE_UP in variables(job) else GIVEN_UP


def rules(job):
    """The actions of the Job's failure policy."""
    return {rule["action"]: rule for rule in job["spec"]["podFailurePolicy"]["rules"]}


def test_setup_fails_at_once_with_the_statuses_that_running_again_cannot_fix():
    codes = rules(SETUP)["FailJob"]["onExitCodes"]
    assert (codes["operator"], codes["containerName"]) == ("In", container(SETUP)["name"])
    assert codes["values"] == sorted(set(Status) - OTHERS)


def test_a_pod_that_was_evicted_is_replaced():
    for job in (SETUP, CHECK):
        # Kubernetes before 1.35 refuses a condition without a status.
        assert rules(job)["Ignore"] == {
            "action": "Ignore",
            "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
        }
    assert PUBLISH["spec"]["backoffLimit"] > 0
    # Failure policies ask for it.
    assert {pod(job)["spec"]["restartPolicy"] for job in JOBS.values()} == {"Never"}


def test_a_dead_node_costs_neither_its_slot_nor_later_ones():
    """With a failure policy, the pod of a dead node is not replaced until the node is back (kubernetes 1.34.1)."""
    assert "podFailurePolicy" not in PUBLISH["spec"]
    assert PUBLISHING["spec"]["concurrencyPolicy"] == CHECKING["spec"]["concurrencyPolicy"] == "Allow"
    waits = {each["key"].partition("/")[2]: each for each in pod(PUBLISH)["spec"]["tolerations"]}
    assert set(waits) == {"unreachable", "not-ready"}
    for wait in waits.values():
        assert (wait["operator"], wait["effect"], wait["tolerationSeconds"]) == ("Exists", "NoExecute", 30)
    assert REPLACED + seconds(PUBLISH) < PUBLISH["spec"]["activeDeadlineSeconds"]


def test_the_cronjobs_run_once_a_slot_and_their_jobs_end_within_it():
    every = DEFAULTS.every.total_seconds()
    assert PUBLISHING["spec"]["schedule"] == f"*/{every / 60:.0f} * * * *"
    assert (CHECKING["spec"]["schedule"]) == f"7-59/{every / 60:.0f} * * * *"
    assert every / 3 < 7 * 60 < every - CHECK["spec"]["activeDeadlineSeconds"]
    for cronjob, job in ((PUBLISHING, PUBLISH), (CHECKING, CHECK)):
        assert cronjob["spec"]["timeZone"] == "Etc/UTC"
        # The controller looks every 10 seconds.
        assert 10 <= cronjob["spec"]["startingDeadlineSeconds"] < every
        assert job["spec"]["activeDeadlineSeconds"] < every
        assert seconds(job) + STARTS < job["spec"]["activeDeadlineSeconds"]
        assert pod(job)["spec"]["terminationGracePeriodSeconds"] > GRACE


def test_the_setup_has_time_for_the_runs_that_it_allows():
    assert SETUP["spec"]["backoffLimit"] == len(PAUSES)
    longest = (seconds(SETUP) + 1) * (len(PAUSES) + 1) + sum(PAUSES)
    assert longest + STARTS < SETUP["spec"]["activeDeadlineSeconds"]


def test_a_check_gives_one_answer():
    assert CHECK["spec"]["backoffLimit"] == 0


def test_the_jobs_run_the_same_pod_but_for_the_command_and_the_settings():
    found = []
    for name, job in JOBS.items():
        template = deepcopy(pod(job))
        (one,) = template["spec"]["containers"]
        assert one.pop("command") == ["crypto-trigger", name]
        url, *others = one.pop("env")
        assert url["name"] == "NATS_URL"
        assert {entry["name"] for entry in others} == {
            "setup": set(),
            "publish": {"CRYPTO_TRIGGER_K8S_JOB", GIVE_UP, "CRYPTO_TRIGGER_REPORT_FILE"},
            "check": {GIVE_UP},
        }[name]
        assert template["metadata"]["labels"].pop("app.kubernetes.io/component") == name
        template["spec"].pop("tolerations", None)
        found.append((template, url))
    assert found[0] == found[1] == found[2]


def test_what_belongs_together_has_the_same_labels():
    owners = (SETUP, PUBLISHING, CHECKING)
    for (name, job), owner in zip(JOBS.items(), owners, strict=True):
        wanted = {"app.kubernetes.io/name": "crypto-trigger", "app.kubernetes.io/component": name}
        assert owner["metadata"]["labels"] == job["metadata"]["labels"] == wanted
        assert wanted.items() <= pod(job)["metadata"]["labels"].items()


def test_argo_cd_replaces_the_setup_at_each_sync():
    """https://argo-cd.readthedocs.io/en/stable/user-guide/resource_hooks/."""
    assert SETUP["metadata"]["annotations"] == {
        "argocd.argoproj.io/hook": "Sync",
        "argocd.argoproj.io/hook-delete-policy": "BeforeHookCreation",
    }


def test_every_variable_is_a_setting():
    named = {entry["name"]: entry for entry in container(PUBLISH)["env"]}
    overlay = (OVERLAY / "kustomization.yaml").read_text()
    commented = set(re.findall(r"\b(?:NATS|CRYPTO_TRIGGER)_[A-Z0-9_]+", TEXT + overlay)) - {"NATS_PORT"}
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
    assert validated(PATH, version) == 3


def validated(path, version):
    """How many documents of a file are valid; none is not."""
    ended = do(program("kubernetes-validate"), "--strict", "--kubernetes-version", version, path)
    assert (ended.status, ended.err) == (0, "")
    return len(re.findall(r"passed for resource \w+/[\w-]+ against version", ended.out))


def test_the_validator_sees_a_wrong_field(tmp_path):
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(TEXT.replace("backoffLimit:", "backOffLimit:"))
    assert do(program("kubernetes-validate"), "--strict", "--kubernetes-version", VERSIONS[0], wrong).status == 1


# Rendered by kubectl, as the page says.


def kubectl():
    """The path of a kubectl that the page asks for; Debian 12 has an older one, which cannot render an overlay."""
    path = program("kubectl")
    wanted = int(re.search(r"kubectl 1\.(\d+)", text(PAGE))[1])
    told = json.loads(do(path, "version", "--client", "-o", "json").out)["clientVersion"]["gitVersion"]
    if int(re.match(r"v1\.(\d+)\.", told)[1]) < wanted:
        pytest.skip(f"kubectl 1.{wanted} is not installed")
    return path


def lines(first):
    """The command lines of the page's block whose first command begins with these words."""
    (found,) = (block for block in blocks(PAGE) if block.kind == "sh" and block.text.startswith(first))
    return found.commands


@pytest.fixture
def overlay(tmp_path):
    """The folder that the page's command makes beside a clone."""
    clone = tmp_path / "crypto-trigger"
    clone.mkdir()
    for name in ("k8s-cronjob.yaml", "kustomization.yaml"):
        shutil.copy(ROOT / name, clone)
    shutil.copytree(OVERLAY, clone / OVERLAY.relative_to(ROOT))
    *_, copied = lines("docker build")
    assert do("bash", "-euc", copied, cwd=clone).status == 0
    return tmp_path / copied.rpartition("../")[2]


def rendered(overlay):
    """What the page's command applies."""
    (command,) = lines("kubectl apply")
    assert command.startswith("kubectl apply --force -k ../")
    command = command.replace("kubectl apply --force -k", f"{kubectl()} kustomize")
    ended = do("bash", "-euc", command, cwd=overlay.parent / "crypto-trigger")
    assert (ended.status, ended.err) == (0, "")
    return ended.out


def kinds(documents):
    return sorted(document["kind"] for document in documents)


def named(documents, kind):
    """The documents of a kind by their names, without the hash that kustomize adds."""
    return {
        re.sub(r"-[a-z0-9]{10}$", "", found["metadata"]["name"]): found for found in documents if found["kind"] == kind
    }


def templates(documents):
    """The Jobs, and the Jobs of the CronJobs, by the command that they run."""
    jobs = [*named(documents, "Job").values()]
    jobs += (cronjob["spec"]["jobTemplate"] for cronjob in named(documents, "CronJob").values())
    return {container(job)["command"][1]: job for job in jobs}


def in_force(overlay):
    """Put every line of the example in force, and the files beside it that it names."""
    path = overlay / "kustomization.yaml"
    path.write_text(re.sub(r"^( *)# (?=[ -]|[a-z]\w+:$)", r"\1", path.read_text(), flags=re.MULTILINE))
    (overlay / "nats-secret.env").write_text("NATS_USER=some\nNATS_PASSWORD=pw\n")
    (overlay / "nats.creds").write_text("creds\n")


def test_the_example_of_an_overlay_sets_image_namespace_and_settings(overlay):
    path = overlay / "kustomization.yaml"
    changed = {"newName: registry.example.com": "newName: registry.test", 'newTag: "0.1.0"': 'newTag: "7.8.9"'}
    for old, new in changed.items():
        assert path.read_text().count(old) == 1
        path.write_text(path.read_text().replace(old, new))
    documents = [*yaml.safe_load_all(rendered(overlay))]
    assert kinds(documents) == ["ConfigMap", "CronJob", "CronJob", "Job"]
    assert {document["metadata"]["namespace"] for document in documents} == {"prices"}
    (config,) = named(documents, "ConfigMap").values()
    assert set(config["data"]) == {"NATS_URL"}
    for name, job in templates(documents).items():
        assert container(job)["image"] == "registry.test/crypto-trigger:7.8.9"
        own, secret = container(job)["envFrom"]
        assert own == {"configMapRef": {"name": config["metadata"]["name"]}}
        assert secret == {"secretRef": {"name": "crypto-trigger", "optional": True}}
        url = container(job)["env"][0]["valueFrom"]["configMapKeyRef"]
        assert url == {"name": config["metadata"]["name"], "key": "NATS_URL"}
        assert pod(job)["spec"]["securityContext"] == pod(JOBS[name])["spec"]["securityContext"]


def test_without_an_overlay_the_clone_is_applied_as_it_is(overlay):
    assert "`kubectl apply --force -k .`" in text(PAGE)
    ended = do(kubectl(), "kustomize", overlay.parent / "crypto-trigger")
    documents = [*yaml.safe_load_all(ended.out)]
    assert templates(documents) == {name: job if name != "setup" else SETUP for name, job in JOBS.items()}


def test_every_line_of_the_example_can_be_put_in_force(overlay, run, monkeypatch):
    in_force(overlay)
    documents = [*yaml.safe_load_all(rendered(overlay))]
    assert kinds(documents) == ["ConfigMap", "CronJob", "CronJob", "Job", "NetworkPolicy", "Secret", "Secret"]
    secrets = {name: found["metadata"]["name"] for name, found in named(documents, "Secret").items()}
    for job in templates(documents).values():
        assert container(job)["envFrom"][1]["secretRef"]["name"] == secrets["crypto-trigger"]
        assert pod(job)["spec"]["volumes"][0]["secret"]["secretName"] == secrets["crypto-trigger-files"]
    (config,) = named(documents, "ConfigMap").values()
    for name, value in {**config["data"], **variables(templates(documents)["publish"])}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("CRYPTO_TRIGGER_REPORT_FILE")
    ended = run("publish", "--dry-run")
    assert (ended.status, ended.err) == (0, "")


@pytest.mark.parametrize("version", [VERSIONS[0], VERSIONS[-1]])
def test_the_overlay_is_valid_for_the_first_and_the_last_kubernetes(overlay, version, tmp_path):
    in_force(overlay)
    (tmp_path / "rendered.yaml").write_text(rendered(overlay))
    assert validated(tmp_path / "rendered.yaml", version) == 7


def test_the_network_policy_is_about_our_pods_and_allows_dns_and_nats():
    policy = yaml.safe_load((OVERLAY / "network-policy.yaml").read_text())
    for job in JOBS.values():
        assert policy["spec"]["podSelector"]["matchLabels"].items() <= pod(job)["metadata"]["labels"].items()
    ports = {(each["protocol"], each["port"]) for rule in policy["spec"]["egress"] for each in rule["ports"]}
    assert ports == {("UDP", 53), ("TCP", 53), ("TCP", 4222)}
    assert policy["spec"]["policyTypes"] == ["Egress"]


def numbers(documents, every):
    """What depends on the length of a slot, as the page's table has it."""
    cronjobs = named(documents, "CronJob")
    publishing, checking = cronjobs["crypto-trigger"]["spec"], cronjobs["crypto-trigger-check"]["spec"]
    job = publishing["jobTemplate"]
    return [
        every,
        publishing["schedule"],
        str(publishing["startingDeadlineSeconds"]),
        str(job["spec"]["activeDeadlineSeconds"]),
        variables(job)[GIVE_UP],
        checking["schedule"],
        str(checking["startingDeadlineSeconds"]),
    ]


def test_the_page_has_the_numbers_for_other_slots(overlay):
    rows = table(section(PAGE, "What a slot gets").partition("**Slots of another length**")[2])
    ours, short, long = ([cell.strip("`") for cell in column] for column in zip(*rows.values(), strict=True))
    assert ours == numbers([SETUP, PUBLISHING, CHECKING], "15m")
    in_force(overlay)
    assert short == numbers([*yaml.safe_load_all(rendered(overlay))], "5m")
    for every, _, starting, active, give_up, *_ in (ours, short, long):
        slot = duration(every).total_seconds()
        assert duration(give_up).total_seconds() + STARTS < int(active) < slot
        assert int(starting) < slot
    assert long[1::4] == ["0 * * * *", "25 * * * *"]


def test_a_job_by_hand_stands_for_the_present_slot(run, tmp_path, monkeypatch):
    (command,) = lines("kubectl -n prices create job")
    (tmp_path / "kubectl").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (tmp_path / "kubectl").chmod(0o755)
    *_, name, origin = do("bash", "-euc", command, env={"PATH": f"{tmp_path}:/usr/bin:/bin"}).out.splitlines()
    assert origin == f"--from=cronjob/{PUBLISHING['metadata']['name']}"
    slots = roomy()
    for variable, value in {**slots.settings, "CRYPTO_TRIGGER_K8S_JOB": name}.items():
        monkeypatch.setenv(variable, value)
    ended = run("publish", "--dry-run", "--json")
    assert (ended.status, ended.err) == (0, "")
    assert json.loads(ended.out)["scheduled_at"] == slots.now()


def test_kubectl_knows_every_command_of_the_page():
    path = kubectl()
    written = [each for block in blocks(PAGE) for each in block.commands]
    written += re.findall(r"`(kubectl [^`]+)`", text(PAGE))
    found = [line for line in written if line.startswith("kubectl ") and len(shlex.split(line)) > 2]
    assert len(found) > 6
    for line in found:
        ended = do("bash", "-euc", f"{line.replace('kubectl', path, 1)} --help")
        assert (ended.status, ended.err) == (0, ""), line


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
    soon = {GIVE_UP: "3s"}
    with holding(place.url, b"HPUB " + place.subject.encode()) as hold, ThreadPoolExecutor() as pool:
        running = pool.submit(pods.run, pod(PUBLISH), cluster, name, node, NATS_URL=hold.url, **{GIVE_UP: "60s"})
        until(lambda: stored(place.url, place.stream), "a stored trigger", seconds=60)
        assert cluster.image.podman("kill", "--signal=KILL", node).status == 0
        lost = running.result(timeout=60)
    second, third = (pods.run(pod(PUBLISH), cluster, name, **soon) for _ in range(2))
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
    failed = pods.run(pod(PUBLISH), cluster, job_name(0), **{GIVE_UP: "3s"}, **environ)
    assert failed.ended.status == status
    assert failed.ended.out == ""
    assert failed.ended.err.count("\n") == 1
    assert words in failed.ended.err
    assert words in report(failed)["error"]["message"]


def test_the_line_of_a_check_that_is_not_ok_is_the_message_of_its_pod(cluster, place):
    assert pods.run(pod(SETUP), cluster).ended.status == 0
    slots = roomy()
    for ago in (3, 1, 0):
        start = rfc3339(slots.turn - (ago + 1) * slots.every)
        put(place.url, place.subject, b"", {"ce-time": start})
    missed = rfc3339(slots.turn - 3 * slots.every)
    found = pods.run(pod(CHECK), cluster, **slots.settings)
    assert found.ended.status == Level.WARNING
    assert found.message.startswith(f"TRIGGER WARNING - missed {missed};")
    assert found.message == found.ended.out
    put(place.url, place.subject, b"", {"ce-time": missed})
    assert pods.run(pod(CHECK), cluster, **slots.settings).ended.status == Level.OK
