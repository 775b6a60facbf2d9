#!/bin/sh
# shellcheck disable=SC2317 # what `check` calls
# A host boots that has the package and a file: nobody starts anything, and its interfaces come later.

# shellcheck source=tests/vm/guest/check.sh
. ./check.sh
# shellcheck source=tests/vm/guest/site.sh
. ./site.sh
UNIT=traffic-mirror

property() {
    systemctl show --property="$1" --value "${2:-$UNIT}"
}

check "the service is active" is "$(property ActiveState)" active
check "it was started once" is "$(property NRestarts)" 0
check "before the machine was up" test "$(property ActiveEnterTimestampMonotonic)" -le \
    "$(property ActiveEnterTimestampMonotonic multi-user.target)"
check "the file is live" traffic-mirror wait --timeout 60
check "an interface that is missing is told" eval "traffic-mirror status | grep -i edge0; ! traffic-mirror status >/dev/null"
site_up
receiver_up
check "status is well once it is there" soon traffic-mirror status
check "what the file asks for is mirrored" copies all
check "nothing has failed" is "$(systemctl --failed --no-legend)" ""
conclude $UNIT
