#!/bin/sh
# shellcheck disable=SC2317 # what `check` calls
# The Ansible role, run by the real Ansible, against the installed package.

# shellcheck source=tests/vm/guest/check.sh
. ./check.sh
# shellcheck source=tests/container/guest/apt.sh
. ./apt.sh
# shellcheck source=tests/container/guest/edge.sh
. ./edge.sh
export ANSIBLE_ROLES_PATH=/usr/share/traffic-mirror/ansible ANSIBLE_NOCOLOR=1 ANSIBLE_STDOUT_CALLBACK=default

# play FILE [OPTION...]: a run of the role with this content; what it says is in /run/play
play() {
    content=$1
    shift
    ansible-playbook --inventory localhost, --connection local --extra-vars "template=$content" "$@" playbook.yml \
        >/run/play 2>&1
    status=$?
    cat /run/play
    return "$status"
}

# changed NUMBER: how many tasks have changed something in the last run
changed() {
    is "$(sed -n 's/.* changed=\([0-9]*\) .*/\1/p' /run/play)" "$1"
}

edge_up
# a host that mirrors nothing yet has the role already
mkdir -p /usr/share/traffic-mirror
cp -r packaging/ansible /usr/share/traffic-mirror/

check "check mode before the package is there" play good.toml --check
check "the first run installs the package and the file" play good.toml || conclude traffic-mirror
check "the file is live when it ends" traffic-mirror wait --timeout 0
check "and healthy" traffic-mirror status
check "a second run" play good.toml
check "changes nothing" changed 0
pid=$(systemctl show --property=MainPID --value traffic-mirror)
cp /etc/mirror.toml /run/before

check "check mode shows the plan" play other.toml --check
check "with what would change" grep -q 'filter.*other\|other.*filter' /run/play
check "and changes nothing" cmp /run/before /etc/mirror.toml
check "a bad template fails" fails play bad.toml
check "with the reason" grep -q 'destination_port' /run/play
check "before it lands" cmp /run/before /etc/mirror.toml
check "a bad template fails in check mode, too" fails play bad.toml --check
check "a good one" play other.toml
check "changes the file only" changed 1
check "is live when the run ends" traffic-mirror wait --timeout 0
check "by the same daemon" is "$(systemctl show --property=MainPID --value traffic-mirror)" "$pid"
echo >empty.toml
check "a template that gives nothing fails, since nothing would be mirrored" fails play empty.toml
check "before it lands" grep -q other /etc/mirror.toml
check "a file whose collector is dead fails the run" fails play dead.toml --extra-vars traffic_mirror_timeout=8
check "with the reason" grep -qi 'endpoint nobody' /run/play
check "unless nobody asks for health" play dead.toml --extra-vars '{"traffic_mirror_healthy": false}'
conclude traffic-mirror
