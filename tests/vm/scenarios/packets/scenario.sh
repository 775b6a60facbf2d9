#!/bin/sh
# The tests with packets, on this kernel.
export TRAFFIC_MIRROR_BIN=/vm/traffic-mirror
/vm/test-packets --test-threads=1 ${TESTS:-}
