"""Heroku: what a build needs, the package as a dyno runs it, and days of the Scheduler's firings every 10 minutes."""

import json
import re
import shutil
import sysconfig
import tarfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import pytest
from support.programs import ALL, program
from support.shell import ROOT, do
from support.simulated import simulated
from support.streams import add_stream, stored

from crypto_trigger.settings.load import SETTINGS, load

PAGE = (ROOT / "docs" / "scheduling.md").read_text()
SECTION = re.search(r"^## Heroku\n(.*?)(?=^## )", PAGE, re.MULTILINE | re.DOTALL)[1]
DEFAULTS = load({}, "/dev/null", {})
EVERY, EARLY = DEFAULTS.every, DEFAULTS.early
FIRING = timedelta(minutes=10)
# A run takes no longer than this.
TAKES = timedelta(seconds=20)
# Stands for the interpreter that the buildpack installs, with what requirements.txt names.
TOOLS = f"{sysconfig.get_path('scripts')}:/usr/bin:/bin"
COMMAND = re.search(r"`(python -m crypto_trigger publish)`", SECTION)[1]


def test_a_build_finds_what_it_needs_and_nothing_that_stops_it():
    assert (ROOT / "requirements.txt").exists()
    # Another one beside it ends a build, and runtime.txt is no longer to be used.
    others = ("Pipfile", "Pipfile.lock", "poetry.lock", "uv.lock", "runtime.txt")
    assert [name for name in others if (ROOT / name).exists()] == []
    # A version without its patch, of those that Heroku has.
    assert re.fullmatch(r"3\.1[1-4]\n", (ROOT / ".python-version").read_text())
    assert do("bash", "-n", ROOT / "bin" / "post_compile").status == 0
    assert do(program("shellcheck"), ROOT / "bin" / "post_compile")[:2] == (0, "")


def test_the_manifest_has_the_scheduler_and_settings_of_ours():
    manifest = json.loads((ROOT / "app.json").read_text())
    assert manifest["addons"] == ["scheduler:standard"]
    assert manifest["buildpacks"] == [{"url": "heroku/python"}]
    meanings = {setting.variable: setting for setting in SETTINGS}
    assert set(manifest["env"]) <= set(meanings)
    assert {name for name, about in manifest["env"].items() if about.get("required", True)} == {"NATS_URL"}
    assert all(about["description"] for about in manifest["env"].values())


# The package on a dyno.

# What the program compiles at run time is told on stderr.
WATCHED = """
import runpy, sys
def watch(event, arguments):
    if event == "compile" and str(arguments[1]).endswith(".py"):
        print("compiled", arguments[1], file=sys.stderr)
sys.addaudithook(watch)
sys.argv = ["crypto_trigger", "publish"]
runpy.run_module("crypto_trigger", run_name="__main__", alter_sys=True)
"""


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    """The files of a dyno: built as the buildpack does, packed, and unpacked elsewhere."""
    folder = tmp_path_factory.mktemp("heroku")
    build = folder / "build"
    for name in ("bin", "crypto_trigger"):
        shutil.copytree(ROOT / name, build / name, ignore=shutil.ignore_patterns("__pycache__"))
    assert do("bin/post_compile", cwd=build, env={"PATH": TOOLS})[:3] == (0, "", "")
    with tarfile.open(folder / "slug.tar", "w") as slug:
        # Time stamps are not to matter.
        slug.add(build, "app", filter=lambda info: info.replace(mtime=0, deep=False))
    with tarfile.open(folder / "slug.tar") as slug:
        slug.extractall(folder, filter="tar")
    return folder / "app"


@pytest.fixture
def dyno(app, settings):
    """Run a command there, as the Scheduler does."""
    environ = {
        "HOME": str(app),
        "PATH": TOOLS,
        "PYTHONPATH": str(app),
        "PYTHONUNBUFFERED": "true",
        "DYNO": "scheduler.1",
    }

    def run(command):
        return do("bash", "-c", command, cwd=app, env={**environ, **settings})

    return run


def test_a_dyno_runs_the_package_from_its_source_and_compiles_nothing(dyno, app, run, place, tmp_path):
    assert run("setup").status == 0
    where = dyno('python -c "import crypto_trigger; print(crypto_trigger.__file__)"').out.strip()
    assert Path(where).is_relative_to(app)
    status, out, err = dyno(COMMAND)[:3]
    assert len(stored(place.url, place.stream)) == 1
    assert (status, out.partition(" ")[0], err) == (0, "published", "")
    (tmp_path / "watched.py").write_text(WATCHED)

    def compiled(environ=""):
        told = dyno(f"{environ} python {tmp_path}/watched.py").err.splitlines()
        return [line for line in told if line.startswith(f"compiled {app}/")]

    assert compiled() == []
    # Where Python does not find what bin/post_compile made, the watch sees it.
    assert len(compiled("PYTHONPYCACHEPREFIX=/dev/null")) > 10


# Stand for the commands of Heroku and git: what they are asked is told on stderr, `heroku run` runs it here.
ELSEWHERE = """
heroku() { echo "heroku $*" >&2; if [ "$1" = run ]; then shift; "$@"; fi; }
git() { echo "git $*" >&2; }
"""


def test_the_commands_of_the_page_set_up_the_stream_from_a_dyno(dyno, place):
    (block,) = re.findall(r"```sh\n(.*?)```", SECTION, re.DOTALL)
    status, out, err = dyno(f"{ELSEWHERE}{block}")[:3]
    assert (status, err) == (0, block)
    assert out.startswith(f"stream {place.stream} created on ")
    assert stored(place.url, place.stream) == []
    (config_vars,) = re.findall(r"^heroku config:set (.*)", block, re.MULTILINE)
    known = {setting.variable for setting in SETTINGS}
    assert {name for name, _, _ in (word.partition("=") for word in config_vars.split())} <= known


def test_a_run_names_a_config_var_that_is_wrong(dyno, settings):
    status, out, err = dyno(f"CRYPTO_TRIGGER_EVERY=banana {COMMAND}")[:3]
    assert (status, out) == (78, "")
    assert err.startswith("crypto-trigger: CRYPTO_TRIGGER_EVERY 'banana' ")
    assert err.count("\n") == 1
    del settings["NATS_URL"]
    assert "nats://localhost:4222" in dyno("python -m crypto_trigger config").out


# The Scheduler.


def firings(days, seed):
    """Moments of firings, each with how many runs it has; some are early, late, doubled or lost."""
    lots = Random(seed)
    first = datetime(2026, 3, 2, tzinfo=UTC) + FIRING * lots.random()
    found = []
    for number in range(int(timedelta(days=days) / FIRING)):
        if lots.random() < 0.05:
            continue  # lost
        away = lots.expovariate(1 / 8)  # seconds
        if lots.random() < 0.05:
            away = lots.uniform(60, 900)  # so late that the next one may come before it
        elif lots.random() < 0.1:
            away = -lots.uniform(0, 20)
        moment = first + number * FIRING + timedelta(seconds=away)
        doubled = lots.random()
        found.append((moment, 2 if doubled < 0.05 else 1))  # twice at once
        if 0.05 <= doubled < 0.15:
            found.append((moment + timedelta(seconds=lots.uniform(1, 240)), 1))
    return sorted((clear_of_a_turn(moment), runs) for moment, runs in found)


def clear_of_a_turn(moment):
    """The moment, or one a little before it, so that no slot begins during the run."""
    left = EVERY - timedelta(seconds=(moment + EARLY).timestamp() % EVERY.total_seconds())
    return moment - TAKES if left < TAKES else moment


def slot_of(moment):
    seconds = (moment + EARLY).timestamp() // EVERY.total_seconds() * EVERY.total_seconds()
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@pytest.mark.parametrize(
    "days", [0.25, pytest.param(7, marks=pytest.mark.skipif(not ALL, reason="a simulated week takes two minutes"))]
)
def test_every_slot_that_a_firing_reaches_gets_one_trigger(days, place, tmp_path):
    add_stream(place.url, place.stream, [place.subject], duplicate_window=1800)
    told, reached = [], []
    with simulated(place.url, tmp_path) as host:
        for moment, runs in firings(days, seed=days):
            new = slot_of(moment) not in reached
            reached += [slot_of(moment)] * new
            ended = host.publish(moment, runs)
            assert [(status, err) for status, _, err in ended] == [(0, "")] * runs, (moment, ended)
            outcomes = sorted(out.split()[0] for _, out, _ in ended)
            assert outcomes == sorted(["published" if new else "duplicate:", "duplicate:"][:runs]), (moment, ended)
            told += outcomes
    held = [message.headers["ce-time"] for message in stored(place.url, place.stream)]
    assert held == reached
    assert told.count("published") == len(reached)
    # Not every slot was reached: a lost or late run may leave one out. Most were, and there were more runs than slots.
    slots = timedelta(days=days) / EVERY
    assert 0.8 * slots < len(reached) < len(told)
