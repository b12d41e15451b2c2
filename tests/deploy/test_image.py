"""The Dockerfile: checked by hadolint, built by buildah, and run as an operator's runtime would run it."""

import json
import os
import re
import shlex
import shutil
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest
from support import images
from support.ports import free_port
from support.programs import program
from support.shell import ROOT, do
from support.streams import stored

from crypto_trigger import __version__

DOCKERFILE = (ROOT / "Dockerfile").read_text()
# What the program makes of the base image. The base is not ours.
MOST_OF_OUR_LAYERS = 45_000_000
OUR_LAYERS = 3
# How many modules there are beside Python's own tests, and those whose bytecode is missing, or is compared with the
# source when it is loaded: the second word of the file is not 1 (PEP 552).
MODULES = """
import sys, sysconfig
from importlib.util import cache_from_source
from pathlib import Path
roots = [sysconfig.get_path("stdlib", vars={"installed_base": sys.base_prefix}), sys.prefix]
paths = [path for root in roots for path in Path(root).rglob("*.py") if not {"test", "tests"} & set(path.parts)]
modules = {path: Path(cache_from_source(path)) for path in paths}
bad = [path for path, cache in modules.items() if not cache.exists() or cache.read_bytes()[4:8] != bytes([1, 0, 0, 0])]
print(len(modules), *bad)
"""
# Who runs the program, and where it can write.
CONFINEMENT = """
import os
status = dict(line.split(":\\t", 1) for line in open("/proc/self/status").read().splitlines())
print(os.getuid(), os.getgid(), os.getpid(), *(status[name] for name in ("CapEff", "CapBnd", "NoNewPrivs", "Seccomp")))
for place in ("/x", "/tmp/x", "/opt/crypto-trigger/x"):
    try:
        open(place, "w")
    except OSError as error:
        print(error.strerror)
"""


@pytest.fixture
def settings(place):
    return {"NATS_URL": place.url, "CRYPTO_TRIGGER_STREAM": place.stream, "CRYPTO_TRIGGER_SUBJECT": place.subject}


@pytest.fixture
def ready(image, settings):
    """Settings of a stream that the image's own `setup` has made."""
    assert image.run("setup", **settings).status == 0
    return settings


def ignored():
    """The lines of .dockerignore that let a file through, without the mark."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in lines
    return [line.removeprefix("!") for line in lines if line.startswith("!")]


# The files themselves.


def test_hadolint_has_nothing_to_say():
    ended = do(program("hadolint"), "--failure-threshold", "style", ROOT / "Dockerfile")
    assert ended == (0, "", "")


def test_the_builder_gets_what_the_package_is_built_from_and_nothing_else():
    copied = set(re.findall(r"^COPY (\S+) /source", DOCKERFILE, re.MULTILINE))
    assert copied == {".", "requirements.txt"}
    assert sorted(ignored()) == ["LICENSE", "README.md", "crypto_trigger", "pyproject.toml", "requirements.txt"]
    assert [name for name in ignored() if not (ROOT / name).exists()] == []


def test_the_labels_agree_with_the_package():
    labels = dict(re.findall(r'org\.opencontainers\.image\.(\w+)="((?:[^"\\]|\\.)*)"', DOCKERFILE))
    project = (ROOT / "pyproject.toml").read_text()
    assert (labels["title"], labels["version"]) == ("crypto-trigger", __version__)
    assert f'description = "{labels["description"]}"\n' in project
    assert f'license = "{labels["licenses"]}"\n' in project


# The image.


def test_the_image_says_what_it_is_and_how_it_runs(image):
    found = image.inspect()["Config"]
    labels = {key.rpartition(".")[2]: value for key, value in found["Labels"].items()}
    assert (found["User"], found["Entrypoint"], found["Cmd"]) == (
        "65532:65532",
        ["/opt/crypto-trigger/bin/crypto-trigger"],
        ["publish"],
    )
    assert (labels["title"], labels["name"]) == ("crypto-trigger", "localhost/python")


def test_it_publishes_one_trigger_without_a_place_to_write_to_and_says_nothing_else(image, ready, place):
    first, second = image.run(**ready), image.run("publish", **ready)
    (message,) = stored(place.url, place.stream)
    assert message.data == b'{"trigger":"update"}'
    assert (first.status, first.err, first.out.partition(" ")[0]) == (0, "", "published")
    assert (second.status, second.err, second.out.partition(":")[0]) == (0, "", "duplicate")


def test_it_really_is_confined(image):
    first, *others = image.run("-c", CONFINEMENT, options=["--entrypoint=python3"]).out.splitlines()
    assert first == f"65532 65532 1 {0:016} {0:016} 1 2"
    assert others == ["Read-only file system"] * 3


def test_no_module_is_compiled_at_run_time(image, ready):
    refused = {"NATS_URL": f"nats://127.0.0.1:{free_port()}", "CRYPTO_TRIGGER_GIVE_UP_AFTER": "1s"}
    ping = {"CRYPTO_TRIGGER_PING_URL": f"http://127.0.0.1:{free_port()}"}
    runs = [
        (["publish"], {}, 0),
        (["publish", "--json"], ping, 0),
        (["publish"], refused, 69),
        (["setup"], {}, 0),
        (["check"], {}, 0),
        (["history"], {}, 0),
        (["listen", "--count", "1", "--since", "1h"], {}, 0),
        (["publish", "--help"], {}, 0),
    ]
    assert [modules_compiled(image, command, status, {**ready, **more}) for command, more, status in runs] == [[]] * 8


def test_the_list_of_modules_compiled_at_run_time_sees_all_of_them_where_no_bytecode_is_found(image, ready):
    assert len(modules_compiled(image, ["publish"], 0, {**ready, "PYTHONPYCACHEPREFIX": "/nowhere"})) > 100


def modules_compiled(image, command, status, environ):
    """The modules that a run loads from their source, as Python tells it."""
    ended = image.run(*command, **environ, PYTHONVERBOSE=1)
    assert ended.status == status, ended.out
    loaded = re.findall(r"^# code object from '?([^'\n]+)", ended.err, re.MULTILINE)
    assert len(loaded) > 80
    return [path for path in loaded if not path.endswith(".pyc")]


def test_all_bytecode_is_there_and_is_never_compared_with_the_source(image):
    ended = image.run("-c", MODULES, options=["--entrypoint=/opt/crypto-trigger/bin/python3"])
    number, *bad = ended.out.split()
    assert (bad, ended.err) == ([], "")
    assert int(number) > 1000


def test_it_needs_no_shell(image, ready, tmp_path):
    (tmp_path / "nothing").write_text("")
    without = [f"--volume={tmp_path / 'nothing'}:{shell}:ro" for shell in ("/usr/bin/dash", "/usr/bin/bash")]
    assert image.run("-c", "true", options=[*without, "--entrypoint=/bin/sh"]).status == 126
    assert image.run("publish", options=without, **ready).status == 0


def test_it_holds_no_pip_no_source_tree_and_no_settings_of_the_build(image):
    code = """
from pathlib import Path
print(*[path for path in ("/pip", "/source", "/program", "/etc/pip.conf") if Path(path).exists()])
found = {path.name.partition("-")[0] for path in Path("/opt/crypto-trigger").glob("lib/*/site-packages/*.dist-info")}
print(*sorted(found & {"pip", "setuptools", "hatchling", "crypto_trigger", "nats_py"}))
"""
    assert image.run("-c", code, options=["--entrypoint=python3"]).out == "\ncrypto_trigger nats_py\n"


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT], ids=lambda signum: signum.name)
def test_a_signal_ends_it_as_pid_1(signum, image):
    """It waits for a server that does not answer. The kernel drops a signal for which PID 1 has no handler."""
    name = f"signalled-{uuid4().hex[:8]}"
    with socket.create_server(("127.0.0.1", 0)) as silent, ThreadPoolExecutor() as pool:
        url = f"nats://127.0.0.1:{silent.getsockname()[1]}"
        running = pool.submit(image.run, "publish", options=[f"--name={name}"], NATS_URL=url)
        silent.settimeout(60)
        connection, _ = silent.accept()
        with connection:
            processes = images.must(image.podman("top", name, "pid", "state", "comm")).out.splitlines()[1:]
            assert [line.split()[0] for line in processes] == ["1"]
            images.must(image.podman("kill", f"--signal={signum.name}", name))
            ended = running.result(timeout=20)
    assert ended.status == 128 + signum
    assert re.fullmatch(rf"crypto-trigger: interrupted by {signum.name}.* was not stored\n", ended.err)
    assert image.podman("ps", "--all", "--quiet", f"--filter=name={name}").out == ""


def test_only_the_last_layer_changes_with_the_program_and_none_with_other_files(image, tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for name in ("Dockerfile", ".dockerignore", *ignored()):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy2
        copy(ROOT / name, source / name)
    (source / ".env").write_text("NATS_PASSWORD=pw\n")
    (source / "crypto_trigger" / "__pycache__").mkdir(exist_ok=True)
    (source / "crypto_trigger" / "__pycache__" / "other.pyc").write_text("compiled")
    (source / "docs").mkdir()
    (source / "docs" / "page.md").write_text("changed")
    same, said = image.again(source)
    assert same.inspect()["Id"] == image.inspect()["Id"], said
    with (source / "crypto_trigger" / "__init__.py").open("a") as file:
        file.write("# changed\n")
    changed, said = image.again(source)
    before, after = image.inspect()["RootFS"]["Layers"], changed.inspect()["RootFS"]["Layers"]
    assert (before[:-1], before[-1] == after[-1]) == (after[:-1], False)
    assert "Collecting" not in said  # pip has fetched no library


def test_our_layers_are_small(image):
    (*layers,) = json.loads(images.must(image.podman("history", "--format=json", image.name)).out)
    sizes = [layer["size"] for layer in layers if layer["size"]]
    assert sum(sizes[:OUR_LAYERS]) < MOST_OF_OUR_LAYERS


def test_the_pages_commands_build_the_image_and_run_it(image, ready, tmp_path, place):
    """With buildah and podman for Docker, which takes the same options. Nothing is pushed: there is no registry."""
    (tmp_path / "docker").write_text(
        f"""#!/bin/sh
        kind=$1
        shift
        case $kind in
            build) exec {shlex.join([*images.buildah(image.folder), *images.here(image.folder)])} "$@" ;;
            run) exec podman {shlex.join(images.storage(image.folder))} run {images.HOST_NETWORK} "$@" ;;
        esac
        """
    )
    (tmp_path / "docker").chmod(0o755)
    page = (ROOT / "docs" / "scheduling.md").read_text().partition("\n## Container image\n")[2]
    build, push, run = re.search(r"```sh\n(.*?)```", page, re.DOTALL).group(1).splitlines()
    name = build.split()[3]
    assert push == f"docker push {name}"
    assert name == f"registry.example.com/crypto-trigger:{__version__}"
    environ = {**image.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    images.must(do("sh", "-c", build, cwd=ROOT, env=environ, timeout=300))
    settings = " ".join(f"--env {key}={value}" for key, value in ready.items())
    run, replaced = re.subn(r"--env NATS_URL=\S+", settings, run)
    assert replaced == 1
    ended = do("sh", "-c", run, env=environ)
    assert len(stored(place.url, place.stream)) == 1
    assert (ended.status, ended.err) == (0, "")
