# shellcheck shell=sh
# Checks of a scenario: a line each. To be sourced.

failures=0

# check WHAT COMMAND...: fails if the command does, and then shows what it says; if not, only lines such as "note: it".
check() {
    claim=$1
    shift
    if "$@" >/run/check 2>&1; then
        echo "ok $claim"
        sed -n 's/^note: /   /p' /run/check
    else
        failures=$((failures + 1))
        echo "FAILED $claim"
        echo "    $*"
        tail -n 20 /run/check | sed 's/^/    /'
        return 1
    fi
}

# For `check`: the opposite of a command.
fails() {
    ! "$@"
}

# For `check`: is LEFT RIGHT
is() {
    echo "$1, and it should be $2"
    [ "$1" = "$2" ]
}

# For `check`: until COMMAND... succeeds, within 30 s.
soon() {
    latest=$(($(date +%s) + 30))
    until "$@"; do
        [ "$(date +%s)" -lt "$latest" ] || return 1
        sleep 0.2
    done
}

# conclude UNIT: ends the scenario; if a check has failed, with the last that the unit has said.
conclude() {
    [ "$failures" = 0 ] && exit
    journalctl --no-pager --lines=200 --unit="$1"
    exit 1
}
