"""Pods of the Kubernetes manifest, run by podman as Kubernetes would run them.

What a pod asks for is either passed on or named below as something that one container by itself does not show. A field
that is neither is an error, so that no field of the manifest goes untested by mistake.
"""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING, NamedTuple

from support.images import HOST_NETWORK

if TYPE_CHECKING:
    from pathlib import Path

    from support.images import Image
    from support.shell import Ended

# The kubelet cuts the message of a terminated container here.
MOST_OF_A_MESSAGE = 4096
# The scheduler's, the kubelet's and the API server's own part.
_POD = {
    "restartPolicy",
    "automountServiceAccountToken",
    "enableServiceLinks",
    "terminationGracePeriodSeconds",
    "tolerations",
}
_CONTAINER = {"name", "image", "terminationMessagePolicy"}


class Cluster(NamedTuple):
    """What a pod refers to, and the image that it gets; `folder` is for the files of Secrets."""

    image: Image
    folder: Path
    config_maps: dict[str, dict[str, str]]
    secrets: dict[str, dict[str, str]]


class Terminated(NamedTuple):
    """How the pod's container ended, and the message that it left for `kubectl describe`."""

    ended: Ended
    message: str


def run(template, cluster, job="", name="", **environ):
    """Run a pod of this template to its end, as the container `name`. `environ` replaces what the ConfigMap says."""
    spec = template["spec"]
    (container,) = spec["containers"]
    _all_known(container, {"command", "env", "envFrom", "resources", "securityContext", "volumeMounts"} | _CONTAINER)
    _all_known(spec, {"containers", "volumes", "securityContext"} | _POD)
    program, *arguments = container["command"]
    settings = {**_variables(container, cluster, job), **environ}
    message = cluster.folder / "termination-log"
    message.write_text("")
    message.chmod(0o666)
    ended = cluster.image.podman(
        "run",
        "--rm",
        *([f"--name={name}"] if name else []),
        HOST_NETWORK,
        f"--entrypoint={json.dumps([program])}",
        *_security(spec["securityContext"], container["securityContext"]),
        *(f"--env={name}={value}" for name, value in settings.items()),
        f"--memory={container['resources']['limits']['memory'].replace('Mi', 'm')}",
        *_mounts(container, spec, cluster),
        f"--volume={message}:/dev/termination-log",
        cluster.image.name,
        *arguments,
    )
    assert container["terminationMessagePolicy"] == "FallbackToLogsOnError"
    return Terminated(ended, message.read_text() or (ended.out + ended.err if ended.status else ""))


def _variables(container, cluster, job):
    """The environment of the container. `env` has precedence over `envFrom`; KeyError for a key that must exist."""
    found = {}
    for source in container["envFrom"]:
        ((kind, reference),) = source.items()
        held = {"configMapRef": cluster.config_maps, "secretRef": cluster.secrets}[kind]
        found |= held.get(reference["name"], {}) if reference.get("optional") else held[reference["name"]]
    for entry in container["env"]:
        if "value" in entry:
            found[entry["name"]] = entry["value"]
            continue
        ((kind, reference),) = entry["valueFrom"].items()
        if kind == "fieldRef":
            assert reference == {"fieldPath": "metadata.labels['batch.kubernetes.io/job-name']"}
            found[entry["name"]] = job
        else:
            assert kind == "configMapKeyRef"
            found[entry["name"]] = cluster.config_maps[reference["name"]][reference["key"]]
    return found


def _security(pod, container):
    """The options for both security contexts; every field of them is one that is passed on."""
    assert pod["runAsNonRoot"] is True
    assert pod["seccompProfile"] == {"type": "RuntimeDefault"}  # podman's default
    assert container["capabilities"] == {"drop": ["ALL"]}
    assert container["allowPrivilegeEscalation"] is False
    assert container["readOnlyRootFilesystem"] is True
    _all_known(pod, {"runAsNonRoot", "seccompProfile", "runAsUser", "runAsGroup", "fsGroup"})
    _all_known(container, {"capabilities", "allowPrivilegeEscalation", "readOnlyRootFilesystem"})
    yield f"--user={pod['runAsUser']}:{pod['runAsGroup']}"
    yield f"--group-add={pod['fsGroup']}"
    yield from ("--cap-drop=all", "--security-opt=no-new-privileges", "--read-only", "--read-only-tmpfs=false")


def _mounts(container, spec, cluster):
    """The volumes, all of Secrets, whose files belong to root and to the group `fsGroup`."""
    volumes = {volume["name"]: volume["secret"] for volume in spec["volumes"]}
    for mount in container["volumeMounts"]:
        assert mount["readOnly"] is True
        secret = volumes[mount["name"]]
        assert secret["optional"] is True
        folder = cluster.folder / mount["name"]
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for name, content in cluster.secrets.get(secret["secretName"], {}).items():
            file = folder / name
            file.write_text(content)
            os.chown(file, 0, spec["securityContext"]["fsGroup"])
            file.chmod(secret["defaultMode"])
        yield f"--volume={folder}:{mount['mountPath']}:ro"


def _all_known(found, known):
    assert set(found) <= known, set(found) - known
