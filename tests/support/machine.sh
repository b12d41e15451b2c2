#!/bin/sh
# A copy of this machine for one test: its own processes, and folders of the system in which files can be replaced.
#
# Usage: unshare --mount --pid --fork --kill-child --mount-proc sh machine.sh SCRIPT FOLDER...
#
# Runs SCRIPT, a file of shell commands, of which the last starts a daemon in the background. When stdin ends, stops the
# daemon, waits for all that it has started, and ends everything. Each FOLDER can be reached by every user, even if it is in
# a private one.
set -eu

script=$1
shift
mount -t tmpfs -o mode=755 none /mnt

# The other folders above them may hold what is private.
for folder in "$@"; do
    mkdir -p "/mnt/reach$folder"
    mount --bind "$folder" "/mnt/reach$folder"
done
for folder in "$@"; do
    mkdir -p "$folder"
    above=/
    for part in $(echo "$folder" | tr / ' '); do
        above=${above%/}/$part
        # The folder itself, or one that is not open to others.
        [ "$above" != "$folder" ] || break
        case $(stat -c %A "$above") in
            *[xt]) ;;
            *) mount -t tmpfs -o mode=755 none "$above"; break ;;
        esac
    done
done

# A folder of links to the real files. Those of /dev are devices.
for folder in /etc /dev /opt /usr/sbin /var/lib; do
    mkdir -p "/mnt/real$folder"
    mount --rbind "$folder" "/mnt/real$folder"
    [ "$folder" = /dev ] || mount -o remount,bind,ro "/mnt/real$folder"
    mount -t tmpfs -o mode=755 none "$folder"
    find "/mnt/real$folder" -mindepth 1 -maxdepth 1 -exec ln -s -t "$folder" {} +
done

rm /dev/shm
mkdir -m 1777 /dev/shm

# The users and the crontabs are the copy's own.
for file in passwd group shadow gshadow; do
    rm -f "/etc/$file" "/etc/$file-"
    cp -p "/mnt/real/etc/$file" "/etc/$file"
done
rm -f /etc/.pwd.lock /etc/subuid* /etc/subgid* /etc/crontab /etc/cron.d
mkdir /etc/cron.d
: >/etc/crontab
mount -t tmpfs -o mode=755 none /run
mount -t tmpfs -o mode=755 none /var/spool/cron
mkdir -m 1730 /var/spool/cron/crontabs
chgrp crontab /var/spool/cron/crontabs

for folder in "$@"; do
    mkdir -p "$folder"
    mount --bind "/mnt/reach$folder" "$folder"
done

# shellcheck source=/dev/null
. "$script"

echo ready
read -r _ || :
# Stopped, it starts nothing more; what it has started may need it.
kill -STOP $!
alive() {
    count=0
    for process in /proc/[0-9]*; do
        { read -r status <"$process/stat"; } 2>/dev/null || continue
        case $status in *") Z "*) ;; *) count=$((count + 1)) ;; esac
    done
}
# This shell and the daemon are left.
while alive && [ "$count" -gt 2 ]; do sleep 0.02; done
