#!/bin/sh
# shellcheck disable=SC2317 # what `check` calls
# The Puppet module, run by the real Puppet, against the installed package.

# shellcheck source=tests/vm/guest/check.sh
. ./check.sh
# shellcheck source=tests/container/guest/apt.sh
. ./apt.sh
# shellcheck source=tests/container/guest/edge.sh
. ./edge.sh

# play FILE [OPTION...]: a run of the module with this content; what it says is in /run/play. 0: nothing had to change, 2: done.
play() {
    content=$1
    shift
    puppet apply --detailed-exitcodes --color=false --modulepath packaging/puppet "$@" \
        --execute "class { 'traffic_mirror': config => file('/test/$content'), ${PARAMETERS:-} }" >/run/play 2>&1
    status=$?
    cat /run/play
    echo "exit code $status"
    return "$status"
}

# gives CODE COMMAND...: the command ends with this code
gives() {
    wanted=$1
    shift
    "$@"
    is "$?" "$wanted"
}

edge_up

check "the first run installs the package and the file" gives 2 play good.toml || conclude traffic-mirror
check "the file is live when it ends" traffic-mirror wait --timeout 0
check "and healthy" traffic-mirror status
check "a second run changes nothing" gives 0 play good.toml
pid=$(systemctl show --property=MainPID --value traffic-mirror)
cp /etc/mirror.toml /run/before
check "a run without effect shows the change" play other.toml --noop --show_diff
check "of the file" grep -q '^+name = "other"' /run/play
check "and changes nothing" cmp /run/before /etc/mirror.toml
check "a bad template fails" fails gives 2 play bad.toml
check "before it lands" cmp /run/before /etc/mirror.toml
check "a good one" gives 2 play other.toml
check "is live when the run ends" traffic-mirror wait --timeout 0
check "by the same daemon" is "$(systemctl show --property=MainPID --value traffic-mirror)" "$pid"
PARAMETERS="timeout => 8"
check "a file whose collector is dead fails the run" fails gives 2 play dead.toml
check "with the reason" grep -qi 'endpoint nobody' /run/play
PARAMETERS="healthy => false"
check "unless nobody asks for health" play dead.toml

# --- a file with a secret
{ echo 'seed = "never-to-be-shown"'; cat good.toml; } >secret.toml
printf 'class { "traffic_mirror": config => Sensitive(file("/test/secret.toml")), mode => "0600" }\n' >secret.pp
check "a file with a seed" eval "puppet apply --show_diff --modulepath packaging/puppet secret.pp >/run/play 2>&1"
check "is there" cmp secret.toml /etc/mirror.toml
check "and shown nowhere" fails grep -r never-to-be-shown /run/play /var/cache/puppet/state /var/cache/puppet/reports
conclude traffic-mirror
