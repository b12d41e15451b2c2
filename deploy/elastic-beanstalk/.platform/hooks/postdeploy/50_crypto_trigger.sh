#!/bin/bash
# Installs crypto-trigger and its timers on an instance, or brings them up to date. Elastic Beanstalk runs this as root in
# the folder of the application, after each deployment and, by the hook in confighooks, after each change of properties.
set -euo pipefail

bundle=crypto-trigger # the wheel, requirements.txt and the units
home=/opt/crypto-trigger
env_file=/etc/crypto-trigger.env
ping_file=/etc/crypto-trigger.curl # a file, because a URL on the command line shows in ps
units=/etc/systemd/system

fail() {
    echo "crypto-trigger: $*" >&2
    exit 1
}

# Platforms for other languages than Python have only a Python that is too old.
find_python() {
    local version
    for version in 3.14 3.13 3.12 3.11; do
        command -v "python$version" && return
    done
    return 1
}

# The properties that are settings of the program, as an env file. Those of the application are not passed on.
read_settings='
import json, sys
for name, value in sorted(json.load(sys.stdin).items()):
    if name.startswith(("NATS_", "CRYPTO_TRIGGER_")):
        print(name, json.dumps(value, ensure_ascii=False), sep="=")
'
read_ping_url='
import json, sys
print(json.load(sys.stdin).get("TRIGGER_CHECK_PING_URL", ""))
'

python=$(find_python) || { dnf install -y -q python3.12 && python=$(find_python); } || fail "there is no Python 3.11 or later"
[[ -x $home/bin/pip ]] || "$python" -m venv "$home"
"$home/bin/pip" install -q --disable-pip-version-check --require-hashes -r "$bundle/requirements.txt"
"$home/bin/pip" install -q --disable-pip-version-check --no-deps --no-index --force-reinstall "$bundle"/*.whl

# The new settings come into force only if they are right, with the deadline of the unit, which wins.
deadline=$(sed -n 's/^Environment=CRYPTO_TRIGGER_GIVE_UP_AFTER=//p' "$bundle/crypto-trigger.service")
umask 077
trap 'rm -f "$env_file.new"' EXIT
properties=$(/opt/elasticbeanstalk/bin/get-config environment) || fail "get-config does not tell the environment"
"$home/bin/python" -c "$read_settings" <<<"$properties" >"$env_file.new"
grep -q '^NATS_URL=' "$env_file.new" ||
    fail "the environment property NATS_URL is missing; set it with: eb setenv NATS_URL=nats://host:4222"
CRYPTO_TRIGGER_GIVE_UP_AFTER=$deadline "$home/bin/crypto-trigger" publish --dry-run --quiet --env-file "$env_file.new" ||
    fail "the settings are wrong; correct the environment property with: eb setenv"
mv "$env_file.new" "$env_file"

install -m 0644 -t "$units" "$bundle"/crypto-trigger*.{service,timer}
ping_url=$("$home/bin/python" -c "$read_ping_url" <<<"$properties")
if [[ $ping_url ]]; then
    echo "url = \"$ping_url\"" >"$ping_file"
    install -D -m 0644 "$bundle/ping.conf" "$units/crypto-trigger-check.service.d/ping.conf"
else
    rm -rf "$ping_file" "$units/crypto-trigger-check.service.d"
fi
systemctl daemon-reload
systemctl enable --quiet --now crypto-trigger.timer crypto-trigger-check.timer
