"""crontab.example: its own lines, run by real cron daemons, each on a copy of this machine."""

import json
import re
import shlex
import subprocess
from collections import Counter
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

import pytest
from support.clocks import clock, rfc3339, roomy
from support.crontabs import ENV_FILE, EXAMPLE, PROGRAM, crontab, example
from support.machine import Machine
from support.patience import until
from support.programs import ALL, program
from support.shell import ROOT, do
from support.streams import add_stream, put, stored

from crypto_trigger.settings import load

DEFAULTS = load({}, "/dev/null", {})
SLOT_MINUTES = DEFAULTS.every // timedelta(minutes=1)
PAGE = (ROOT / "docs" / "scheduling.md").read_text().partition("\n## cron\n")[2].partition("\n## ")[0]
PAYLOAD = b'{"trigger":"update"}'
USER = "crypto-trigger"


# The file.


def test_the_lines_are_what_cron_can_run(run):
    for entry in (*example().mailed, *example().logged):
        assert "%" not in entry.command
        assert entry.rest == ["*"] * 4
        (words,) = re.findall(rf"{PROGRAM} (.*?{ENV_FILE})", entry.command)
        assert run(*shlex.split(words), "--help").status == 0


def test_a_wrong_command_is_seen_by_its_help(run):
    assert run("publish", "--no-such-option", "--help").status == 2
    assert run("pubish", "--help").status == 2


def test_the_lines_for_the_log_are_those_for_the_mail():
    for mailed, logged in zip(*example(), strict=True):
        assert logged.minute == mailed.minute
        assert logged.command.removesuffix(" | logger -t crypto-trigger").removesuffix(" 2>&1") == mailed.command


def test_it_publishes_once_a_slot_and_checks_when_a_run_has_ended_and_after_the_grace():
    publish, check = example().mailed
    assert publish.minute == f"*/{SLOT_MINUTES}"
    first, step = map(int, re.fullmatch(r"(\d+)-59/(\d+)", check.minute).groups())
    minutes = [timedelta(minutes=minute) for minute in range(first, SLOT_MINUTES, step)]
    assert {timedelta(minutes=2), timedelta(minutes=7)} <= set(minutes)
    assert minutes[0] > DEFAULTS.give_up_after
    # Within a minute of the end of the grace, a difference of two clocks would decide.
    assert all(abs(minute - DEFAULTS.every / 3) > timedelta(minutes=1) for minute in minutes)


def test_slots_begin_at_the_same_minutes_in_every_time_zone():
    now = datetime.now(UTC)
    for name in available_timezones():
        assert now.astimezone(ZoneInfo(name)).utcoffset() % DEFAULTS.every == timedelta(0), name


# What each line prints, with one env file or another. `missed` is of a stream in which an older slot has no trigger, and
# the present one has.

CANNOT_READ = "--env-file '.*/{name}.env' cannot be read:"
REFUSED = r"nats://127.0.0.1:1: connection refused \(\d attempts?\); is the server running\?"
PRINTED = {
    ("well", "publish"): None,
    ("well", "check"): None,
    ("roots", "publish"): f"crypto-trigger: {CANNOT_READ} permission denied",
    ("roots", "check"): f"TRIGGER UNKNOWN - {CANNOT_READ} permission denied",
    ("absent", "publish"): f"crypto-trigger: {CANNOT_READ} no such file or directory",
    ("absent", "check"): f"TRIGGER UNKNOWN - {CANNOT_READ} no such file or directory",
    ("refused", "publish"): f"crypto-trigger: {REFUSED}; crypto.update for [-0-9T:]+Z was not stored",
    ("refused", "check"): f"TRIGGER CRITICAL - {REFUSED}",
    ("missed", "publish"): None,
    ("missed", "check"): r"TRIGGER WARNING - missed {slot}; [^|]+ \| [^|]+",
}


class EnvFiles:
    """The env files, in a folder; `slot` is the one that was missed."""

    def __init__(self, folder, place):
        slots = roomy()
        present = slots.turn - slots.every
        self.folder, self.slot = folder, rfc3339(present - 2 * slots.every)
        self._url, self._streams = place.url, {name: f"{place.stream}-{name}" for name in ("well", "missed")}
        for name, stream in self._streams.items():
            add_stream(place.url, stream, [f"{stream}.update"], duplicate_window=1800)
            self._write(
                name, NATS_URL=place.url, CRYPTO_TRIGGER_STREAM=stream, CRYPTO_TRIGGER_SUBJECT=f"{stream}.update"
            )
        for ago in (3, 1, 0):
            put(place.url, f"{self._streams['missed']}.update", b"", {"ce-time": rfc3339(present - ago * slots.every)})
        self._write("roots", NATS_URL=place.url)
        self._write("refused", NATS_URL="nats://127.0.0.1:1", CRYPTO_TRIGGER_GIVE_UP_AFTER="300ms")
        self.path("roots").chmod(0o600)

    def _write(self, name, **settings):
        settings |= roomy().settings
        self.path(name).write_text("".join(f"{variable}={value}\n" for variable, value in settings.items()))

    def path(self, name):
        return self.folder / f"{name}.env"

    def runs(self, name, command, commands):
        """Those of the commands that are a line with this env file."""
        return [each for each in commands if re.search(rf" {command} [^|;]*{re.escape(str(self.path(name)))}", each)]

    def each_told_once(self, printed, commands, names=None):
        """Check that each run of a line that fails printed its one line, and that no other run printed anything.

        `commands` are those that were run, for all lines with these env files (or with all).
        """
        expected, found = Counter(), Counter()
        patterns = {}
        for (name, command), pattern in PRINTED.items():
            if names is None or name in names:
                runs = self.runs(name, command, commands)
                assert runs, (name, command)
                if pattern:
                    patterns[name, command] = pattern.format(name=name, slot=self.slot)
                    expected[name, command] = len(runs)
        for text in printed:
            found[next((line for line, pattern in patterns.items() if re.fullmatch(pattern, text)), text)] += 1
        assert found == expected

    def all_run(self, commands, names=None):
        """Whether each line was run with each env file."""
        return all(self.runs(*line, commands) for line in PRINTED if names is None or line[0] in names)

    def stored(self):
        """The payloads that the stream of `well` holds."""
        return [message.data for message in stored(self._url, self._streams["well"])]


@pytest.fixture
def env_files(tmp_path, place):
    folder = tmp_path / "env"
    folder.mkdir()
    folder.chmod(0o755)
    return EnvFiles(folder, place)


# Debian's cron. Its clock is another one and fast, which its jobs do not see: cron makes their environment.

FAST = 120


@pytest.fixture
def debian(tmp_path, installed):
    """Run Debian's cron on a machine after these commands; it takes some seconds from minute 14 to minute 17."""
    program("cron")
    day = datetime.now().astimezone() + timedelta(days=2)
    fast = {**clock(timedelta(0)), "FAKETIME": f"@{day:%Y-%m-%d} 10:14:57 x{FAST}"}
    set_to = " ".join(f"{name}={shlex.quote(value)}" for name, value in fast.items())

    def machine(*commands, folders=(), **options):
        script = [f"ln -s {installed.folder} /opt/crypto-trigger", *commands, f"env {set_to} cron -f -L 15 &"]
        return Machine(tmp_path, "\n".join(script), [installed.folder, *folders], **options)

    return machine


def ended(machine):
    """The commands that Debian's cron has run to their end, by its log."""
    return re.findall(r"\) END \((?:\[\d+\] )?(.*)\)$", "\n".join(machine.log), re.MULTILINE)


def put_into_cron_d(folder, files):
    """A command that copies these crontabs to /etc/cron.d."""
    (folder / "cron.d").mkdir()
    for name, text in files.items():
        (folder / "cron.d" / name).write_text(text)
    return f"cp {folder}/cron.d/* /etc/cron.d"


def test_debian_s_cron_runs_the_example_as_the_page_installs_it_and_mails_nothing(debian, env_files):
    (block,) = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    user, env_file, *others = block.splitlines()
    edit = f"cat {env_files.path('well')} >>{ENV_FILE}"
    with debian(user, env_file, edit, *others, folders=[env_files.folder]) as machine:
        machine.until(lambda: {"publish", "check"} <= commands(ended(machine)), "both lines were run")
    assert env_files.stored() == [PAYLOAD]
    assert machine.mails == []
    assert [line for line in machine.log if "error" in line or (f"({USER}) CMD" not in line and " CMD " in line)] == []


def commands(runs):
    return {re.search(r"/crypto-trigger (\w+) ", run)[1] for run in runs}


def test_debian_s_cron_mails_each_failure_once_and_in_one_line(debian, env_files, tmp_path):
    names = {name for name, _ in PRINTED}
    crontabs = {
        name: "MAILTO=root\n" + crontab(example().mailed, user=USER, env_file=env_files.path(name)) for name in names
    }
    # A file of this name is not read.
    crontabs["with.dot"] = crontab(example().mailed, user=USER, env_file=env_files.path("with.dot"))
    crontabs["percent"] = rf"*/15 * * * * {USER} echo 10\%; echo 20%; echo 30" "\n"
    made = put_into_cron_d(tmp_path, crontabs)
    with debian(f"useradd --system {USER}", made, folders=[env_files.folder, tmp_path / "cron.d"]) as machine:
        machine.until(lambda: env_files.all_run(ended(machine)), "every line was run")
    assert env_files.stored() == [PAYLOAD]
    percent = [mail for mail in machine.mails if "echo 10" in mail.subject]
    assert {mail.body for mail in percent} == {"10%\n20\n"}
    mails = [mail for mail in machine.mails if mail not in percent]
    assert {mail.to for mail in mails} == {"root"}
    env_files.each_told_once([mail.body.removesuffix("\n") for mail in mails], ended(machine))
    assert env_files.runs("with.dot", r"\w+", ended(machine)) == []


def test_without_a_mail_server_the_lines_for_the_log_tell_it_each_failure_once(debian, env_files, tmp_path):
    names = {"well", "missed", "absent"}
    crontabs = {name: crontab(example().logged, user=USER, env_file=env_files.path(name)) for name in names}
    # Says nothing to anybody.
    crontabs["mailed"] = crontab(example().mailed, user=USER, env_file=env_files.path("refused"))
    made = put_into_cron_d(tmp_path, crontabs)
    folders = [env_files.folder, tmp_path / "cron.d"]
    with debian(f"useradd --system {USER}", made, folders=folders, mail_server=False) as machine:
        machine.until(lambda: env_files.all_run(ended(machine), {*names, "refused"}), "every line was run")
    assert env_files.stored() == [PAYLOAD]
    lines = [line.removeprefix(f"{USER}: ") for line in machine.log if line.startswith(f"{USER}: ")]
    env_files.each_told_once(lines, ended(machine), names)
    discarded = [line for line in machine.log if "No MTA installed, discarding output" in line]
    assert len(discarded) == len(env_files.runs("refused", r"\w+", ended(machine)))


# Cron daemons of containers, which have no mail: what the lines print is in the daemon's own output.


def test_supercronic_logs_each_failure_once(installed, env_files, tmp_path):
    supercronic = program("supercronic")
    assert do(supercronic, "-test", EXAMPLE).status == 0
    names = {"well", "absent", "missed"}
    # It has a field for seconds in front of the minute, and one for the year at the end.
    texts = [
        crontab(example().mailed, "*/5 * *", program=installed.program, env_file=env_files.path(name)) for name in names
    ]
    (tmp_path / "crontab").write_text("MAILTO=root\n" + "".join(texts))
    log = tmp_path / "log"

    def logged():
        return [json.loads(line) for line in log.read_text().splitlines()]

    def runs():
        return [
            line["job.command"]
            for line in logged()
            if line["msg"] in ("job succeeded", "error running command: exit status 78")
        ]

    with log.open("w") as file:
        process = subprocess.Popen([supercronic, "-json", tmp_path / "crontab"], stdout=file, stderr=file)
    try:
        until(lambda: env_files.all_run(runs(), names), "every line was run")
    finally:
        process.terminate()
        process.wait()
    assert env_files.stored() == [PAYLOAD]
    env_files.each_told_once([line["msg"] for line in logged() if "channel" in line], runs(), names)


@pytest.mark.skipif(not ALL, reason="it waits for the next minute; CRYPTO_TRIGGER_TEST_ALL=1 runs it")
def test_busybox_crond_prints_each_failure_once(installed, env_files, tmp_path):
    busybox = program("busybox")
    assert "\ncrond\n" in do(busybox, "--list").out, "busybox-static has crond, Debian's busybox has not"
    texts = [
        crontab(example().mailed, "*", env_file=env_files.path(name)) for name in sorted({name for name, _ in PRINTED})
    ]
    (tmp_path / "crontab").write_text("MAILTO=root\n" + "".join(texts))
    script = f"""\
ln -s {installed.folder} /opt/crypto-trigger
useradd --system {USER}
mkdir /run/crontabs
cp {tmp_path}/crontab /run/crontabs/{USER}
cp crontab.example /run/crontabs/root
{busybox} crond -f -d 5 -c /run/crontabs &"""
    folders = [installed.folder, env_files.folder, tmp_path]

    def runs():
        return re.findall(rf"^crond: USER {USER} pid +\d+ cmd (.*)", machine.said, re.MULTILINE)

    with Machine(tmp_path, script, folders) as machine:
        machine.until(lambda: env_files.all_run(runs()), "every line was run", seconds=90)
    print(machine.said)
    assert env_files.stored() == [PAYLOAD]
    env_files.each_told_once([line for line in machine.said.splitlines() if not line.startswith("crond: ")], runs())
