"""crontab.example: its own lines, run by real cron daemons, each on a copy of this machine."""

import json
import re
import shlex
import subprocess
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo, available_timezones

import pytest
from support.clocks import clock, rfc3339, roomy
from support.crontabs import ENV_FILE, EXAMPLE, PRINTED, PROGRAM, crontab, example
from support.machine import Machine
from support.patience import until
from support.programs import ALL, program
from support.shell import ROOT, do
from support.streams import add_stream, put, stored

from crypto_trigger.settings.load import load

DEFAULTS = load({}, "/dev/null", {})
SLOT_MINUTES = DEFAULTS.every // timedelta(minutes=1)
PAGE = (ROOT / "docs" / "scheduling.md").read_text().partition("\n## cron\n")[2].partition("\n## ")[0]
USER = "crypto-trigger"
FOLDER = str(Path(PRINTED).parent)
# The next minute has come by then.
TWO_MINUTES = 120
# The user, and the folder that it can write to.
ADD_USER = "\n".join(re.findall(r"^(?:useradd|install -d) .*", PAGE, re.MULTILINE))


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


def test_it_publishes_once_a_slot_and_checks_once_when_the_run_has_ended_and_the_grace_is_over():
    publish, check = example().mailed
    assert publish.minute == f"*/{SLOT_MINUTES}"
    first, step = map(int, re.fullmatch(r"(\d+)-59/(\d+)", check.minute).groups())
    assert step == SLOT_MINUTES
    assert DEFAULTS.give_up_after < timedelta(minutes=first) < DEFAULTS.every
    # Within a minute of the end of the grace, a difference of two clocks would decide.
    assert timedelta(minutes=first) - DEFAULTS.every / 3 > timedelta(minutes=1)


def test_no_line_needs_a_shell_but_for_the_pipe_to_the_log():
    for entry in example().mailed:
        assert re.fullmatch(r"[\w /.-]+", entry.command)


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
        self._write("refused", "nats://127.0.0.1:1", CRYPTO_TRIGGER_GIVE_UP_AFTER="1s")

    def _write(self, name, url, **settings):
        settings = {"NATS_URL": url, **settings}
        self.path(name).write_text("".join(f"{variable}={value}\n" for variable, value in settings.items()))

    def change(self, name, content):
        """Give an env file the content of another one, in one step."""
        new = self.folder / "new"
        new.write_text(self.path(content).read_text())
        new.chmod(0o600 if content == "roots" else 0o644)
        new.replace(self.path(name))

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
        """Check that the trigger was stored once, and what was printed.

        Each failed publish has printed one line, each line of a failed check one, however often it was run.
        """
        assert [message.data for message in stored(self._url, self._stream)] == [b'{"trigger":"update"}']
        patterns = {
            line: pattern.format(name=line[0], slot=self._missed) for line, pattern in PRINTED.items() if pattern
        }
        found = Counter(
            next((line for line, pattern in patterns.items() if re.fullmatch(pattern, text)), text) for text in printed
        )
        run = {line: times for line, times in self.lines_run(commands).items() if line in patterns}
        assert found == Counter({line: times if line[1] == "publish" else 1 for line, times in run.items()})


@pytest.fixture
def env_files(tmp_path, place):
    folder = tmp_path / "env"
    folder.mkdir()
    folder.chmod(0o755)
    return EnvFiles(folder, place)


def lines(entries, name, folder, minute=None, **options):
    """The crontab for an env file of this name. What its check printed last is kept in a folder.

    The check runs more often than in the example, so that it repeats itself.
    """
    publish, check = entries
    options["printed"] = f"{folder}/{name}"
    return crontab([publish], minute, **options) + crontab([check], minute or "*/5", **options)


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


def logged(machine):
    """What `logger` was given."""
    return [line.removeprefix(f"{USER}: ") for line in machine.log if line.startswith(f"{USER}: ")]


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
        return "MAILTO=root\n" + lines(example().mailed, name, FOLDER, user=USER, env_file=env_files.path(name))

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
    crontabs = {name: lines(example().logged, name, FOLDER, user=USER, env_file=env_files.path(name)) for name in names}
    # Those for the mail say nothing to anybody.
    crontabs["mailed"] = crontab(example().mailed, user=USER, env_file=env_files.path("wrong"))
    with debian(ADD_USER, put_into_cron_d(env_files, crontabs), mail_server=False) as machine:
        machine.until(lambda: env_files.ran_all(ended(machine), {*names, "wrong"}), "every line was run")
    env_files.check([command for command in ended(machine) if "logger" in command], logged(machine))
    discarded = [line for line in machine.log if "No MTA installed, discarding output" in line]
    unlogged = [command for command in ended(machine) if "logger" not in command]
    # Of the check, only the first.
    assert len(discarded) == len([command for command in unlogged if " publish " in command]) + 1


@pytest.mark.parametrize("mail_server", [True, False], ids=["by mail", "in the log"])
def test_an_incident_is_told_once_and_its_end_once(debian, env_files, mail_server):
    """However often the check runs meanwhile, and though its reason changes."""
    _, check = example().mailed if mail_server else example().logged
    env_file = env_files.path("now")
    env_files.change("now", "well")
    crontabs = {"check": "MAILTO=root\n" + crontab([check], "*/3", user=USER, env_file=env_file)}
    story = ["well", "absent", "wrong", "roots", "well", "refused", "missed", "well"]
    with debian(ADD_USER, put_into_cron_d(env_files, crontabs), mail_server=mail_server) as machine:
        for content in story:
            if content == "absent":
                env_file.unlink()
            else:
                env_files.change("now", content)
            # The first of them may have begun before the change.
            enough = len(ended(machine)) + 3
            machine.until(lambda enough=enough: len(ended(machine)) >= enough, content)
    told = [mail.body for mail in machine.mails] if mail_server else logged(machine)
    results = [re.match(r"TRIGGER (\w+) - ", text)[1] for text in told]
    assert results == ["UNKNOWN", "OK", "CRITICAL", "WARNING", "OK"]
    assert all("\n" not in text.removesuffix("\n") for text in told)


# Cron daemons of containers: what the lines print is in the daemon's own output.


def test_supercronic_logs_each_failure_once(installed, env_files, tmp_path):
    supercronic = program("supercronic")
    assert do(supercronic, "-test", EXAMPLE).status == 0
    names = {"well", "absent", "missed"}
    # It has a field for seconds in front of the minute, and one for the year at the end.
    once = f"{int(time.time() + 3) % 60} * *"
    texts = [
        lines(example().mailed, name, tmp_path, once, program=installed.program, env_file=env_files.path(name))
        for name in names
    ]
    (tmp_path / "crontab").write_text("MAILTO=root\n" + "".join(texts))
    log = tmp_path / "log"

    def logged():
        return [json.loads(line) for line in log.read_text().splitlines()]

    def commands():
        ends = ("job succeeded", *(f"error running command: exit status {status}" for status in (1, 3, 78)))
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
    texts = [lines(example().mailed, name, FOLDER, "*", env_file=env_files.path(name)) for name in ALL_NAMES]
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
