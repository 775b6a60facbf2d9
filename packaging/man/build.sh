#!/bin/sh
# Makes the man pages from docs/: build.sh DIRECTORY. It takes go-md2man.
set -eu
cd "$(dirname "$0")/../.."
to=$1
mkdir -p "$to"

# page SOURCE NAME SECTION SUMMARY [SYNOPSIS]
page() {
    awk -v name="$2" -v section="$3" -v summary="$4" -v synopsis="${5:-}" -f packaging/man/page.awk "docs/$1.md" |
        go-md2man | sed 's/\\fC/\\fB/g' >"$to/$2.$3"
}

page commands traffic-mirror 8 "mirror chosen traffic into GUE tunnels" \
    '**traffic-mirror** [**--config** *FILE*] [**--pin-path** *DIRECTORY*] *COMMAND*'
page file mirror.toml 5 "what traffic-mirror mirrors, and where to"
page names traffic-mirror-names 7 "names of servers in filters of traffic-mirror"
page metrics traffic-mirror-metrics 7 "metrics and alerts of traffic-mirror"
page troubleshooting traffic-mirror-troubleshooting 7 "states and reasons of traffic-mirror, with remedies"
page resolver traffic-mirror-resolver 8 "resolve the DNS names of traffic-mirror's file" \
    '**traffic-mirror-resolver** [*OPTION*]...'
page collector traffic-mirror-collector 8 "unwrap copies of traffic-mirror" \
    '**traffic-mirror-collector** **--from** *NETWORKS* [**--listen** *ADDRESS:PORT*] **--pcap** | **--tap** *NAME*'
