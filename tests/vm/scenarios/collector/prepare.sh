#!/bin/sh
# prepare.sh DIRECTORY: puts the packages there, and docs/collector.md, whose commands are run.
set -eu

cp target/deb/*_"$(dpkg --print-architecture)".deb docs/collector.md "$1/"
