"""A real systemd: process 1 of namespaces of its own, whose root is this machine's files, copied when written to."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from support.patience import until
from support.programs import program
from support.shell import do

_SYSTEMD = "/lib/systemd/systemd"
_TARGET = "booted.target"
# What a machine does when it boots, and these namespaces need not or must not do.
_LEFT_OUT = """
apt-daily-upgrade.timer apt-daily.timer dev-hugepages.mount dev-mqueue.mount dpkg-db-backup.timer e2scrub_all.timer
fstrim.timer kmod-static-nodes.service ldconfig.service logrotate.timer man-db.timer proc-sys-fs-binfmt_misc.automount
sys-fs-fuse-connections.mount sys-kernel-config.mount sys-kernel-debug.mount sys-kernel-tracing.mount
systemd-binfmt.service systemd-firstboot.service systemd-hwdb-update.service systemd-journal-catalog-update.service
systemd-journal-flush.service systemd-machine-id-commit.service systemd-modules-load.service
systemd-networkd.service systemd-pstore.service systemd-random-seed.service systemd-remount-fs.service
systemd-resolved.service systemd-sysctl.service systemd-sysusers.service systemd-timesyncd.service
systemd-tmpfiles-clean.timer systemd-tmpfiles-setup-dev.service systemd-tmpfiles-setup.service
systemd-udev-trigger.service systemd-udevd.service systemd-update-done.service systemd-update-utmp.service
"""
# Its arguments: an empty folder; folders that may be on other file systems than the root, for reading.
_BOOT = f"""
set -e
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
cd "$1/root"
for folder in "${{@:2}}"; do
    mkdir -p ".$folder"
    mount --bind "$folder" ".$folder"
    mount -o remount,bind,ro ".$folder"
done
rm -rf etc/systemd/system etc/fstab var/log/journal var/lib/systemd/timers
mkdir -p etc/systemd/system/timers.target.wants
printf '[Unit]\\nDescription=The tests\\nRequires=sysinit.target timers.target\\n' > etc/systemd/system/{_TARGET}
for unit in {" ".join(_LEFT_OUT.split())}; do ln -s /dev/null etc/systemd/system/$unit; done
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs dev
for name in null zero full random urandom tty; do touch dev/$name; mount --bind /dev/$name dev/$name; done
ln -s /proc/self/fd dev/fd
mkdir dev/shm dev/pts
mount -t devpts -o newinstance devpts dev/pts
ln -s pts/ptmx dev/ptmx
mount -t tmpfs -o mode=755 tmpfs run
mkdir -p put_old
pivot_root . put_old
umount -l put_old
mount --make-rshared /
exec {_SYSTEMD} --system --unit={_TARGET} --log-target=journal --show-status=no
"""


class Booted:
    """A running systemd. Its root, as seen from outside, is `root`; the network is this machine's."""

    def __init__(self, pid):
        self._pid = pid
        self.root = Path(f"/proc/{pid}/root")

    def do(self, *command, **options):
        """Run a command there, as root; how it ended."""
        enter = ("nsenter", "-t", self._pid, "--mount", "--uts", "--ipc", "--cgroup", "--pid")
        environ = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"}
        return do(*enter, *command, **{"env": environ, **options})

    def must(self, *command, **options):
        """Run a command there, which must succeed; returns its stdout."""
        done = self.do(*command, **options)
        assert done.status == 0, done
        return done.out

    def write(self, path, text, mode=0o644):
        target = self.root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        target.chmod(mode)

    def add_python(self):
        """Put this interpreter into /opt/python, because a sandbox may hide where it is; returns its path there."""
        self.must("mkdir", "/opt/python")
        self.must("mount", "--bind", sys.base_prefix, "/opt/python")
        self.write("/etc/ld.so.conf.d/python.conf", "/opt/python/lib\n")
        self.must("ldconfig")
        return f"/opt/python/bin/python{sys.version_info.major}.{sys.version_info.minor}"

    def shown(self, unit, name):
        """A property of a unit."""
        return self.must("systemctl", "show", "--property", name, "--value", unit).strip()


@contextmanager
def booted(*folders):
    """Boot; skips the test where that cannot be had. `folders` are there, wherever this machine has mounted them."""
    if os.geteuid() != 0:
        pytest.skip("only root can boot a systemd of its own")
    program("systemctl")
    program("nsenter")
    group = _cgroups() / f"booted-{os.getpid()}"
    with TemporaryDirectory() as folder:
        group.mkdir()
        # The whole group is ended at the end, with all that systemd has started.
        enter = f'echo $$ > {group}/cgroup.procs; exec "$@"'
        flags = ("--mount", "--uts", "--ipc", "--cgroup", "--pid", "--fork", "--kill-child", "--propagation=private")
        command = ("bash", "-c", enter, "bash", program("unshare"), *flags, "bash", "-c", _BOOT, "bash", folder)
        command += (sys.base_prefix, *(str(path) for path in folders))
        environ = {"container": "test", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
        # What it says before there is a journal.
        with Path(folder).with_suffix(".log").open("w+") as log:
            process = subprocess.Popen(
                command, env=environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
            try:
                yield _ready(process, log)
            finally:
                (group / "cgroup.kill").write_text("1")
                process.wait()
                Path(log.name).unlink()
                until(lambda: "populated 0" in (group / "cgroup.events").read_text())
                _remove(group)


def _cgroups():
    """Where the cgroups of version 2 are mounted."""
    for line in Path("/proc/mounts").read_text().splitlines():
        _, folder, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(folder)
    pytest.skip("there are no cgroups of version 2")


def _ready(process, log):
    """The systemd, once it has started everything."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    until(lambda: process.poll() is not None or children.read_text().strip())
    assert process.poll() is None, Path(log.name).read_text()
    system = Booted(int(children.read_text()))
    until(lambda: process.poll() is not None or system.do("systemctl", "is-system-running").out.strip() == "running")
    assert process.poll() is None, Path(log.name).read_text()
    return system


def _remove(group):
    for child in filter(Path.is_dir, group.iterdir()):
        _remove(child)
    group.rmdir()
