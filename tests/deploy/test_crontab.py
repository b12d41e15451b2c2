"""crontab.example: its own lines, run by real cron daemons, each on a copy of this machine."""

import json
import re
import shlex
import subprocess
import time
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
USER = "crypto-trigger"
# The next minute has come by then.
TWO_MINUTES = 120
ADD_USER = next(line for line in PAGE.splitlines() if line.startswith("useradd "))


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


# What each line of the example prints, by its env file and its command. `missed` is of a stream in which an older slot
# has no trigger, and the present one has one.

CANNOT_READ = "--env-file '.*/{name}.env' cannot be read:"
WRONG = r"NATS_URL '.+' \(from .*/{name}.env line 1\) has no valid host and port; .+"
REFUSED = r"nats://127.0.0.1:1: connection refused \(\d+ attempts?\); is the server running\?"
PRINTED = {
    ("well", "publish"): None,
    ("well", "check"): None,
    ("roots", "publish"): f"crypto-trigger: {CANNOT_READ} permission denied; nothing was published",
    ("roots", "check"): f"TRIGGER UNKNOWN - {CANNOT_READ} permission denied",
    ("absent", "publish"): f"crypto-trigger: {CANNOT_READ} no such file or directory; nothing was published",
    ("absent", "check"): f"TRIGGER UNKNOWN - {CANNOT_READ} no such file or directory",
    ("wrong", "publish"): f"crypto-trigger: {WRONG}; nothing was published",
    ("wrong", "check"): f"TRIGGER UNKNOWN - {WRONG}",
    ("refused", "publish"): f"crypto-trigger: {REFUSED}; crypto.update for [-0-9T:]+Z was not stored",
    ("refused", "check"): f"TRIGGER CRITICAL - {REFUSED}",
    ("missed", "publish"): None,
    ("missed", "check"): r"TRIGGER WARNING - missed {slot}; [^|]+ \| [^|]+",
}
ALL_NAMES = {name for name, _ in PRINTED}


class EnvFiles:
    """An env file for each name but `absent`, in a folder."""

    def __init__(self, folder, place):
        slots = roomy()
        present = slots.turn - slots.every
        self.folder, self._url, self._stream = folder, place.url, f"{place.stream}-well"
        self._missed = rfc3339(present - 2 * slots.every)
        for name in ("well", "missed"):
            stream, subject = f"{place.stream}-{name}", f"{place.subject}.{name}"
            add_stream(place.url, stream, [subject], duplicate_window=1800)
            names = {"CRYPTO_TRIGGER_STREAM": stream, "CRYPTO_TRIGGER_SUBJECT": subject}
            self._write(name, place.url, **names, **slots.settings)
        for ago in (3, 1, 0):
            put(place.url, f"{place.subject}.missed", b"", {"ce-time": rfc3339(present - ago * slots.every)})
        self._write("roots", place.url)
        self.path("roots").chmod(0o600)
        self._write("wrong", "nats://127.0.0.1:422222")
        self._write("refused", "nats://127.0.0.1:1", CRYPTO_TRIGGER_GIVE_UP_AFTER="3s")

    def _write(self, name, url, **settings):
        settings = {"NATS_URL": url, **settings}
        self.path(name).write_text("".join(f"{variable}={value}\n" for variable, value in settings.items()))

    def path(self, name):
        return self.folder / f"{name}.env"

    def lines_run(self, commands):
        """How often each line was run, if these commands were."""
        found = Counter()
        for command in commands:
            verb, name = re.search(rf"/crypto-trigger (\w+) [^|;]*{self.folder}/([\w.-]+)\.env", command).groups()
            found[name, verb] += 1
        return found

    def ran_all(self, commands, names=ALL_NAMES):
        """Whether each line was run with each of the env files."""
        return {line for line in PRINTED if line[0] in names} <= set(self.lines_run(commands))

    def check(self, commands, printed):
        """Check that the trigger was stored once, each failed line printed one line per run, and no other any."""
        assert [message.data for message in stored(self._url, self._stream)] == [b'{"trigger":"update"}']
        patterns = {
            line: pattern.format(name=line[0], slot=self._missed) for line, pattern in PRINTED.items() if pattern
        }
        found = Counter(
            next((line for line, pattern in patterns.items() if re.fullmatch(pattern, text)), text) for text in printed
        )
        assert found == Counter({line: times for line, times in self.lines_run(commands).items() if line in patterns})


@pytest.fixture
def env_files(tmp_path, place):
    folder = tmp_path / "env"
    folder.mkdir()
    folder.chmod(0o755)
    return EnvFiles(folder, place)


# Debian's cron. Its clock is another one and fast, which its jobs do not see: cron makes their environment.

FAST = 60


@pytest.fixture
def debian(tmp_path, installed, env_files):
    """Run Debian's cron on a machine after these commands. It begins at minute 14."""
    program("cron")
    day = datetime.now().astimezone() + timedelta(days=2)
    fast = {**clock(timedelta(0)), "FAKETIME": f"@{day:%Y-%m-%d} 10:14:57 x{FAST}"}
    set_to = " ".join(f"{name}={shlex.quote(value)}" for name, value in fast.items())

    def machine(*commands, **options):
        script = [f"ln -s {installed.folder} /opt/crypto-trigger", *commands, f"env {set_to} cron -f -L 15 &"]
        return Machine(tmp_path, "\n".join(script), [installed.folder, env_files.folder], **options)

    return machine


def ended(machine):
    """The commands of ours that Debian's cron has run to their end, by its log."""
    return re.findall(r"\) END \((?:\[\d+\] )?(.*/crypto-trigger .*)\)$", "\n".join(machine.log), re.MULTILINE)


def put_into_cron_d(env_files, crontabs):
    """A command that puts these files into /etc/cron.d."""
    folder = env_files.folder / "cron.d"
    folder.mkdir()
    for name, text in crontabs.items():
        (folder / name).write_text(text)
    return f"cp {folder}/* /etc/cron.d"


def test_debian_s_cron_runs_the_example_as_the_page_installs_it_and_mails_nothing(debian, env_files):
    before, after = (block.splitlines() for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL))
    edit = f"cat {env_files.path('well')} >>{ENV_FILE}"
    with debian(*before, edit, *after) as machine:
        machine.until(lambda: len({command.split(" --")[0] for command in ended(machine)}) == 2, "both lines were run")
    commands = [command.replace(ENV_FILE, str(env_files.path("well"))) for command in ended(machine)]
    env_files.check(commands, [mail.body for mail in machine.mails])
    assert set(re.findall(r" \((.+?)\) CMD ", "\n".join(machine.log))) == {USER}
    assert [line for line in machine.log if "error" in line] == []


def test_debian_s_cron_mails_each_failure_once_and_in_one_line(debian, env_files):
    def text(name):
        return "MAILTO=root\n" + crontab(example().mailed, user=USER, env_file=env_files.path(name))

    crontabs = {name: text(name) for name in ALL_NAMES}
    # A file of this name is not read.
    crontabs["with.dot"] = text("with.dot")
    crontabs["percent"] = f"*/15 * * * * {USER} echo 10\\%; echo 20%; echo 30\n"
    with debian(ADD_USER, put_into_cron_d(env_files, crontabs)) as machine:
        machine.until(lambda: env_files.ran_all(ended(machine)), "every line was run")
    percent = [mail for mail in machine.mails if "echo 10" in mail.subject]
    assert {mail.body for mail in percent} == {"10%\n20\n"}
    mails = [mail for mail in machine.mails if mail not in percent]
    env_files.check(ended(machine), [mail.body.removesuffix("\n") for mail in mails])
    assert {mail.to for mail in mails} == {"root"}
    assert "with.dot" not in "".join(ended(machine))


def test_without_a_mail_server_the_lines_for_the_log_tell_it_each_failure_once(debian, env_files):
    names = {"well", "missed", "absent"}
    crontabs = {name: crontab(example().logged, user=USER, env_file=env_files.path(name)) for name in names}
    # Those for the mail say nothing to anybody.
    crontabs["mailed"] = crontab(example().mailed, user=USER, env_file=env_files.path("wrong"))
    with debian(ADD_USER, put_into_cron_d(env_files, crontabs), mail_server=False) as machine:
        machine.until(lambda: env_files.ran_all(ended(machine), {*names, "wrong"}), "every line was run")
    lines = [line.removeprefix(f"{USER}: ") for line in machine.log if line.startswith(f"{USER}: ")]
    env_files.check([command for command in ended(machine) if "logger" in command], lines)
    discarded = [line for line in machine.log if "No MTA installed, discarding output" in line]
    assert len(discarded) == len([command for command in ended(machine) if "logger" not in command])


# Cron daemons of containers: what the lines print is in the daemon's own output.


def test_supercronic_logs_each_failure_once(installed, env_files, tmp_path):
    supercronic = program("supercronic")
    assert do(supercronic, "-test", EXAMPLE).status == 0
    names = {"well", "absent", "missed"}
    # It has a field for seconds in front of the minute, and one for the year at the end.
    once = f"{int(time.time() + 3) % 60} * *"
    texts = [
        crontab(example().mailed, once, program=installed.program, env_file=env_files.path(name)) for name in names
    ]
    (tmp_path / "crontab").write_text("MAILTO=root\n" + "".join(texts))
    log = tmp_path / "log"

    def logged():
        return [json.loads(line) for line in log.read_text().splitlines()]

    def commands():
        ends = ("job succeeded", "error running command: exit status 78")
        return [line["job.command"] for line in logged() if line["msg"] in ends]

    with log.open("w") as file:
        process = subprocess.Popen(
            [supercronic, "-json", tmp_path / "crontab"], env={"PATH": "/usr/bin:/bin"}, stdout=file, stderr=file
        )
    try:
        until(lambda: env_files.ran_all(commands(), names), "every line was run", TWO_MINUTES)
    finally:
        process.terminate()
        process.wait()
    env_files.check(commands(), [line["msg"] for line in logged() if "channel" in line])


@pytest.mark.skipif(not ALL, reason="it waits for the next minute; CRYPTO_TRIGGER_TEST_ALL=1 runs it")
def test_busybox_crond_prints_each_failure_once(installed, env_files, tmp_path):
    busybox = program("busybox")
    assert "\ncrond\n" in do(busybox, "--list").out, "busybox-static has crond, Debian's busybox has not"
    texts = [crontab(example().mailed, "*", env_file=env_files.path(name)) for name in ALL_NAMES]
    (env_files.folder / "crontab").write_text("".join(texts))
    script = f"""\
ln -s {installed.folder} /opt/crypto-trigger
{ADD_USER}
mkdir /run/crontabs
cp {env_files.folder}/crontab /run/crontabs/{USER}
cp crontab.example /run/crontabs/root
ln -s {env_files.path("well")} {ENV_FILE}
{busybox} crond -f -c /run/crontabs &"""

    def commands():
        return re.findall(rf"USER {USER} pid +\d+ cmd (.*)", "\n".join(machine.log))

    with Machine(tmp_path, script, [installed.folder, env_files.folder]) as machine:
        machine.until(lambda: env_files.ran_all(commands()), "every line was run", TWO_MINUTES)
    env_files.check(commands(), [line for line in machine.said.splitlines() if line != "ready"])
    assert [line for line in machine.log if "parse error" in line or "can't" in line] == []
